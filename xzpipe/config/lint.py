"""What a config's reader should know although nothing is wrong: sentences with a place and a fix.

Pure: looks at the file's tree as written, before any variable is expanded, and shows no value.
"""

import re
from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

from msgspec import Struct

from xzpipe.config.model import MAX_SERVER_TIMEOUT, Backoff, File, Own, Server, at, keys
from xzpipe.config.servers import is_off

# keys of Claude, Cline, Cursor, VS Code, mcphub, 78/mcp-calculator …, which share these files
FOREIGN = frozenset(
    "$schema alwaysAllow author autoApprove description disabledTools envFile gallery headers icon "
    "iconPath id inputs license name restart sse_read_timeout tags tools version".split()
)
SYNONYMS = {
    "arguments": "args",
    "argv": "args",
    "cmd": "command",
    "environ": "env",
    "environment": "env",
    "transport": "type",
    "workdir": "cwd",
    "workingdirectory": "cwd",
}

_LITERAL_TOKEN = re.compile(r"[?&]token=(?!\$\{)[^&#]")


def warnings(tree: dict[str, Any]) -> list[str]:
    """The warnings for a whole file, which may be wrong in any way."""
    key = "mcpServers" if tree.get("mcpServers") else "servers"
    return [
        *_misspelt(tree, File, ""),
        *_settings(tree.get("xzpipe")),
        *_servers(tree.get(key), key),
    ]


def near(key: str, known: Iterable[str]) -> str | None:
    """The known key that `key` was probably meant to be; None if it is near none."""
    spelt = {_folded(each): each for each in known}
    if (synonym := SYNONYMS.get(_folded(key))) in spelt.values():
        return synonym
    close = get_close_matches(_folded(key), spelt, n=1, cutoff=0.8)
    return spelt[close[0]] if close else None


def _settings(own: object) -> Iterable[str]:
    if not isinstance(own, dict):
        return
    yield from _misspelt(own, Own, "xzpipe")
    yield from _misspelt(own.get("backoff"), Backoff, "xzpipe.backoff")
    endpoint = own.get("endpoint")
    if isinstance(endpoint, str) and _LITERAL_TOKEN.search(endpoint):
        yield "xzpipe.endpoint: holds its token in clear; put the URL into MCP_ENDPOINT or .env"


def _servers(servers: object, key: str) -> Iterable[str]:
    if not isinstance(servers, dict):
        return
    on = {name: raw for name, raw in servers.items() if not is_off(raw)}
    if servers and not on:
        yield f"{key}: every server is switched off; switch one on to have any tools"
    for name, raw in on.items():
        if isinstance(raw, dict):
            yield from _server(raw, at(key, name))


def _server(raw: dict[str, Any], place: str) -> Iterable[str]:
    yield from _misspelt(raw, Server, place)
    if "envFile" in raw:
        yield (
            f"{at(place, 'envFile')}: is not read; put its variables into env, "
            "or into a .env beside the config"
        )
    timeout = raw.get("timeout")
    if isinstance(timeout, int | float) and timeout > MAX_SERVER_TIMEOUT:
        yield (
            f"{at(place, 'timeout')}: taken as milliseconds, being above {MAX_SERVER_TIMEOUT}; "
            "write it in seconds"
        )


def _misspelt(tree: object, kind: type[Struct], place: str) -> Iterable[str]:
    known = keys(kind)
    for key in tree if isinstance(tree, dict) else ():
        meant = None if key in known or key in FOREIGN else near(key, known)
        if meant:
            yield f"{at(place, key)}: is not read; did you mean {meant}?"


def _folded(key: str) -> str:
    return re.sub("[-_ ]", "", key.lower())
