"""Endpoint addresses: what they are made of, and how they are shown without their secrets."""

import json
import re
from base64 import urlsafe_b64decode
from dataclasses import dataclass, field
from urllib.parse import parse_qs, quote, unquote, urlencode, urlsplit, urlunsplit

from xzpipe.errors import UsageError

SCHEMES = {"ws": "ws", "wss": "wss", "http": "ws", "https": "wss"}
EXAMPLE = "wss://api.xiaozhi.me/mcp/?token=…"
SERVER = "{server}"  # in an address: the name of the server that a link is for
MASK = "***"
MIN_SECRET = 6  # characters; a shorter token is in variables and in log lines by chance

_SECRET_VALUE = re.compile(  # in a query, percent-encoded or not, and in JSON
    r"((?:token|key)(?:=|%3D|\\?[\"']\s*:\s*\\?[\"']))[^&\s\"'<>\\]+", re.IGNORECASE
)
_CREDENTIALS = re.compile(r"(Authorization\W{1,4}(?:Bearer|Basic)\s+)[^\s\"',]+", re.IGNORECASE)
# bounded, and not begun inside a word: else its time is quadratic
_JWT = re.compile(r"(?<![\w-])eyJ[\w-]{8,1000}\.[\w-]+(?:\.[\w-]*)?")
_USERINFO = re.compile(r"(?<=://)[^/?#\s]+@")
_NO_HOST = re.compile(r"[\s\"'<>\x00-\x1f\x7f-\x9f]")
_URL_SAFE = "%/:=&?~#+!$,;@()*[]"  # what stays as the user wrote it


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that can be dialled. `url` holds the token; `str(endpoint)` does not."""

    url: str = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """Every form in which the token could show up somewhere; none of a very short token, nor
        of what is no URL, which will not be dialled."""
        try:
            query = urlsplit(self.url).query
        except ValueError:
            return ()
        raw = [part.partition("=")[2] for part in query.split("&") if part.startswith("token=")]
        plain = [unquote(token) for token in raw]
        forms = {*raw, *plain, *(quote(token, safe="") for token in plain)}
        return tuple(sorted(form for form in forms if len(form) >= MIN_SECRET))

    @property
    def expires(self) -> int | None:
        """When its token expires, in seconds since 1970, if it is a JSON web token that says so
        (wire.md §1: those of 2025 do not). Nothing is verified."""
        for token in self.secrets:
            payload = token.split(".")[1] if token.count(".") == 2 else ""
            try:
                claims = json.loads(urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
                return int(claims["exp"])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                continue
        return None

    @property
    def call_side(self) -> "Endpoint":
        """The address where this endpoint is called from, as self-hosted ones have it (wire.md
        §3): this one, if it is of that side already."""
        parts = urlsplit(self.url)
        if parts.path.rfind("/call/") > parts.path.rfind("/mcp/"):
            return self
        if "/mcp/" not in parts.path:
            raise UsageError(
                f"the endpoint {self} has no side to call from",
                "only self-hosted endpoints have one: /mcp_endpoint/mcp/ ↔ /mcp_endpoint/call/",
            )
        head, _, tail = parts.path.rpartition("/mcp/")
        return Endpoint(urlunsplit(parts._replace(path=f"{head}/call/{tail}")))

    def for_server(self, server: str) -> "Endpoint":
        """The same address, with `{server}` in it replaced."""
        return Endpoint(self.url.replace(SERVER, quote(server, safe="")))

    def with_server_id(self, server: str) -> "Endpoint":
        """The same address for one of several servers of an agent."""
        parts = urlsplit(self.url)
        more = urlencode({"server_id": server})
        return Endpoint(urlunsplit(parts._replace(query=f"{parts.query}&{more}".strip("&"))))

    def __str__(self) -> str:
        return redact(self.url)


def parse_endpoint(text: str, origin: str) -> Endpoint:
    """The endpoint that a user gave; `origin` says where. Raises `UsageError`."""
    try:
        parts = urlsplit(text.strip().strip("'\"").strip())
        host, _ = parts.hostname, parts.port
        path, query = _quoted(parts.path), _quoted(parts.query)
    except ValueError:  # a port that is no number, half a character
        host = None
    if not host or parts.scheme not in SCHEMES or _NO_HOST.search(parts.netloc):
        raise UsageError(f"{origin}: not a WebSocket address", f"it looks like {EXAMPLE}")
    scheme = SCHEMES[parts.scheme]
    # the host is left alone: a Chinese one is not %-encoded when it is dialled
    return Endpoint(urlunsplit((scheme, parts.netloc, path, query, "")))


def _quoted(text: str) -> str:
    return quote(text, _URL_SAFE).replace(quote(SERVER), SERVER)


def query_of(target: str) -> tuple[str, dict[str, str]]:
    """The path and the query of a request's target; of a key given twice, the first."""
    parts = urlsplit(target)
    return parts.path, {key: values[0] for key, values in parse_qs(parts.query).items()}


def redact(text: str, secrets: tuple[str, ...] = ()) -> str:
    """A text without tokens, keys and passwords in URLs, JSON web tokens, and the given secrets."""
    for secret in sorted(filter(None, secrets), key=len, reverse=True):  # "ab" may be in "abc"
        text = text.replace(secret, MASK)
    text = _SECRET_VALUE.sub(rf"\g<1>{MASK}", text)
    text = _CREDENTIALS.sub(rf"\g<1>{MASK}", text)
    text = _USERINFO.sub(f"{MASK}@", text)
    return _JWT.sub(MASK, text)
