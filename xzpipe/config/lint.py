"""What a config's reader should know although nothing is wrong: sentences with a place and a fix.

Pure: looks at the file's tree as written, before any variable is expanded, and shows no text of it.
"""

import re
from collections.abc import Iterable
from typing import Any

from msgspec import Struct

from xzpipe.config.addresses import VARIABLE, variable
from xzpipe.config.model import File, Server, at, found, keys, near
from xzpipe.config.servers import is_off, table

LONG = 3600  # seconds; Claude Code writes milliseconds, and nobody waits an hour for a tool

_IN_URL = re.compile(r"[?&]token=(?!\$\{)[^&#]")
_BARE = re.compile(r"^(?!.*\$\{).", re.DOTALL)


def warnings(tree: dict[str, Any]) -> list[str]:
    """The warnings for a whole file, which may be wrong in any way."""
    said = _misspelt(tree, File, "")
    own = tree.get("xzpipe")
    if isinstance(own, dict):
        said += _in_clear(own, ("endpoint",), "xzpipe", VARIABLE)
        endpoints = own.get("endpoints")
        for name, entry in endpoints.items() if isinstance(endpoints, dict) else ():
            if isinstance(entry, dict):
                place = at("xzpipe.endpoints", name)
                said += _in_clear(entry, ("url", "token"), place, variable(name))
    key, servers = table(tree, [])
    for name, raw in servers.items():
        if isinstance(raw, dict) and not is_off(raw):
            said += _server(raw, at(key, name))
            said += _in_clear(raw, ("endpoint",), at(key, name), variable(name))
    return said


def _server(raw: dict[str, Any], place: str) -> Iterable[str]:
    yield from _misspelt(raw, Server, place)
    if "envFile" in raw:
        yield f"{place}.envFile: is not read; put its variables into env, or into .env"
    for key in ("timeout", "startTimeout"):
        value = raw.get(key)
        if isinstance(value, int | float) and value > LONG:
            yield f"{place}.{key}: {key} is in seconds; {found(value)} looks like milliseconds"


def _in_clear(
    raw: dict[str, Any], where: Iterable[str], place: str, variable: str
) -> Iterable[str]:
    for key in where:
        text, token = raw.get(key), _BARE if key == "token" else _IN_URL
        if isinstance(text, str) and token.search(text):
            yield f"{place}.{key}: holds its token in clear; put the URL into {variable} or .env"


def _misspelt(tree: dict[str, Any], kind: type[Struct], place: str) -> list[str]:
    known = keys(kind)
    return [
        f"{at(place, key)}: is not read; did you mean {meant}?"
        for key in tree
        if key not in known and (meant := near(key, known))
    ]
