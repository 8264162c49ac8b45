"""Agents of self-hosted endpoints: their ids as tokens hold them, and where they are reached."""

import hashlib
from dataclasses import dataclass, field
from urllib.parse import quote, unquote, urlsplit

from xzpipe.core.endpoint import Endpoint, parse_endpoint
from xzpipe.errors import UsageError

BASE_EXAMPLE = "https://HOST:8004/mcp_endpoint/health?key=…"
HEALTH = "/health"
REFUSED_WORDS = ("key", "call")  # anywhere in an address (wire.md §3)


def hashed(agent_id: str) -> str:
    """An agent's id as consoles put it into tokens: its MD5 in hex (wire.md §3).

    It hides nothing, since ids can be guessed, nor need it: the token is encrypted. MD5 there, and
    ECB around it, are the choice of those who made the consoles, not ours.
    """
    return hashlib.md5(agent_id.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True, slots=True)
class Base:
    """Where an endpoint server is, and the key of its tokens; what the console keeps as
    `server.mcp_endpoint`. `scheme` is ws or wss, `prefix` the path above `/mcp/` and `/call/`."""

    scheme: str
    netloc: str = field(repr=False)  # may begin with a password
    prefix: str
    key: str = field(repr=False)

    def tool_side(self, token: str) -> Endpoint:
        """Where the servers of the agent with this token connect to."""
        quoted = quote(token, safe="")  # in base64, the same signs as Java's URLEncoder
        return Endpoint(f"{self.scheme}://{self.netloc}{self.prefix}/mcp/?token={quoted}")

    def call_side(self, token: str) -> Endpoint:
        """Where they are called from."""
        return self.tool_side(token).call_side


def parse_base(text: str, origin: str) -> Base:
    """The base that a user gave; `origin` says where. Raises `UsageError`.

    The prefix is the whole path, but for `/health` and a slash at its end. The key is what stands
    behind `key=`, where a `+` is a plus, as Java reads it.
    """
    looks_like = f"it looks like {BASE_EXAMPLE}"
    try:
        parts = urlsplit(parse_endpoint(text, origin).url)
    except UsageError:
        what = "expected an address with a host, that begins with https, http, wss or ws"
        raise UsageError(f"{origin}: {what}", looks_like) from None
    keys = [part[4:] for part in parts.query.split("&") if part.startswith("key=")]
    if not keys or not keys[0]:
        raise UsageError(f"{origin}: the address has no key", looks_like)
    prefix = parts.path.rstrip("/").removesuffix(HEALTH).rstrip("/")
    return Base(parts.scheme, parts.netloc, prefix, unquote(keys[0]))


def refused_word(text: str) -> str:
    """A word in an address, or a part of one, for which a xiaozhi-server without a console would
    ignore that address; empty if there is none."""
    return next((word for word in REFUSED_WORDS if word in text.lower()), "")
