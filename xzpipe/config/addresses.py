"""Where an endpoint is: from a config's entry, a file or the environment to `Endpoint`.

Reads the files that `urlFile` names. Sentences name places, and never an address.
"""

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from xzpipe.config.env import read_text
from xzpipe.config.model import CONTROL, Named, Own
from xzpipe.config.policies import Notes
from xzpipe.config.servers import Surroundings, home
from xzpipe.core.endpoint import MIN_SECRET, Endpoint, parse_endpoint
from xzpipe.errors import ConfigError, UsageError

VARIABLE = "MCP_ENDPOINT"
OFFICIAL_HOST = "api.xiaozhi.me"
OFFICIAL = f"wss://{OFFICIAL_HOST}/mcp/?token="  # wire.md §1
OFFICIAL_LIMIT = 8192  # bytes of a result, as its owner says (wire.md §2)
SELF_HOSTED = "/mcp_endpoint/"  # in the path (wire.md §1)
SELF_HOSTED_LIMIT = 2**20  # bytes of a frame that its robots take (wire.md §3)

_SECRET_HEADER = re.compile(r"auth|cookie|key|token|secret|password", re.IGNORECASE)
_ENCODED = re.compile(r"%[0-9A-Fa-f]{2}")


def variable(name: str) -> str:
    """The environment variable for the address of the endpoint `name`."""
    return f"{VARIABLE}_" + "".join(sign if sign.isalnum() else "_" for sign in name.upper())


def variables(env: Mapping[str, str]) -> dict[str, str]:
    """The variables of endpoints that are set: what is in `env`, by how it is to be written."""
    head = f"{VARIABLE}_"
    given = sorted(name for name, value in env.items() if name.startswith(head) and value)
    return {variable(name.removeprefix(head)): name for name in given if name != head}


def is_address(text: str | None) -> bool:
    """Whether a server's own `endpoint` is an address, not the name of one."""
    return "://" in (text or "")


def needs(address: Endpoint | None) -> dict[str, Any]:
    """What the endpoint at an address is known to need, as fields of `Common`; and `rereads`, as in
    `Plan`.

    The robots of a self-hosted one take the first text only, and no `$ref`; they read the tools
    anew in each conversation (wire.md §3).
    """
    parts = urlsplit(address.url if address else "")
    if parts.hostname == OFFICIAL_HOST:
        return {"result_limit": OFFICIAL_LIMIT}
    if SELF_HOSTED not in parts.path:
        return {}
    shape = {"join_text": True, "inline_schemas": True}
    return {"result_limit": SELF_HOSTED_LIMIT, **shape, "rereads": False}


def secrets(address: Endpoint | None, headers: Mapping[str, str]) -> set[str]:
    """What neither a log nor a server may get: tokens, and the values of headers whose names say
    so, whole and in their parts, such as that behind `Bearer` and those of cookies."""
    values = {
        part
        for name, text in headers.items()
        if _SECRET_HEADER.search(name)
        for part in (text, *re.split(r"[\s;,]+(?:[\w-]+=)?|^[\w-]+=", text))
    }
    long = {value for value in values if len(value) >= MIN_SECRET}
    return long.union(address.secrets if address else ())


def written(own: Own) -> list[str]:
    """The addresses that stand in a config, whichever is used in the end."""
    tokens = [OFFICIAL + keys.token for keys in own.endpoints.values() if keys.token]
    urls = [own.endpoint, *(keys.url for keys in own.endpoints.values())]
    return [*tokens, *(url for url in urls if url)]


def unnamed(given: str | None, own: Own, env: Mapping[str, str], notes: Notes) -> Endpoint | None:
    """Where the endpoint without a name is; `given` is from the command line.

    Raises UsageError for what is no address, unless it stands in the file.
    """
    if text := given or env.get(VARIABLE):
        return parse_endpoint(text, "the endpoint")
    return parsed(own.endpoint, "xzpipe.endpoint", notes) if own.endpoint else None


def of_entry(
    keys: Named, place: str, given: str | None, around: Surroundings, notes: Notes
) -> Endpoint | None:
    """Where an endpoint of `xzpipe.endpoints` is; `given` is its variable, if that is set."""
    ways = {"url": keys.url, "urlFile": keys.url_file, "token": keys.token}
    told = {f"{place}.{key}": text for key, text in ways.items() if text}
    if len(told) > 1:
        notes.problems.append(f"{place}: expected one of url, urlFile and token, found {len(told)}")
        return None
    if given:
        return parsed(around.env[given], given, notes)
    if not told:
        return None
    ((where, text),) = told.items()
    if keys.url_file:
        return _in_file(text, where, around, notes)
    return _of_token(text, where, notes) if keys.token else parsed(text, where, notes)


def parsed(text: str, place: str, notes: Notes) -> Endpoint | None:
    """The address that stands at a place."""
    try:
        return parse_endpoint(text, place)
    except UsageError as error:
        notes.problems.append(f"{error.message}; {error.hint}")
        return None


def _of_token(text: str, place: str, notes: Notes) -> Endpoint | None:
    token = text.strip()
    if is_address(token) or CONTROL.search(token):
        notes.problems.append(f"{place}: expected a token and nothing else; a URL goes into url")
        return None
    return Endpoint(OFFICIAL + (token if _ENCODED.search(token) else quote(token, safe="")))


def _in_file(name: str, place: str, around: Surroundings, notes: Notes) -> Endpoint | None:
    try:
        text = read_text(around.folder / home(name, around.env), place)
    except ConfigError as error:
        notes.problems += error.problems
        return None
    return parsed(text, place, notes)
