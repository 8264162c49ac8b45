"""From the servers' part of a config, or from a command line, to `Launch`es.

Looks at the disk only to see whether a server's `cwd` is there. Sentences show the file's own text,
never what a variable stood for. What is switched off is not looked at.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

from xzpipe.config.env import expand
from xzpipe.config.model import Server, at, convert, folded, found, keys, safe, unprintable, within
from xzpipe.config.settings import Settings
from xzpipe.core.launch import Launch, child_env
from xzpipe.errors import UsageError

_OFF = {"disabled": True, "enabled": False, "isActive": False}
_REMOTE = ("sse", "http", "streamablehttp")
_RUNNER = re.compile(r"(python|pypy|node|uvx|npx|bunx|bun|deno|tsx|ruby|bash|sh)[\d.]*")
_INLINE = re.compile(r"-\w*[ce]|--eval")  # what follows is a script itself
_SECRET = "holds an endpoint's token or header, which a server must not get"


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the servers of a config share: its absolute folder, and the environment with .env."""

    folder: Path
    env: Mapping[str, str]
    settings: Settings


@dataclass(frozen=True, slots=True)
class Entry:
    """A server of the file: its name, its place, its text as written, and what that says."""

    name: str
    place: str
    raw: Any
    server: Server


def table(tree: dict[str, Any], problems: list[str]) -> tuple[str, dict[str, Any]]:
    """The key the servers stand under, and the servers as they stand there."""
    present = [key for key in ("mcpServers", "servers") if tree.get(key) is not None]
    if len(present) == 2:
        problems.append("servers: expected one of mcpServers and servers, found both; keep one")
    key = present[0] if present else "mcpServers"
    servers = tree.get(key) or {}
    if not isinstance(servers, dict):
        problems.append(f"{key}: expected an object of servers by name, got {found(servers)}")
        return key, {}
    if not servers:
        problems.append(f"{key}: names no server; expected at least one")
    return key, servers


def is_off(raw: object) -> bool:
    """Whether a server is switched off, in any of the three ways that programs write it."""
    return isinstance(raw, dict) and any(raw.get(key) is off for key, off in _OFF.items())


def read(name: str, raw: Any, place: str, around: Surroundings, problems: list[str]) -> Entry:
    """The server `name` of a config file; what is wrong in it goes to `problems`."""
    if unprintable(name):
        problems.append(f"{place}: expected a name without control characters, and not empty")
    if not isinstance(raw, dict):
        problems.append(f"{place}: expected an object, got {found(raw)}")
        return Entry(name, place, raw, Server())
    ours = {key: raw[key] for key in keys(Server) if raw.get(key) is not None}
    ours.setdefault("timeout", around.settings.call_timeout)
    tree = expand(ours, around.env, place, problems)
    return Entry(name, place, raw, convert(tree, Server, place, problems))


def launch(
    entry: Entry, around: Surroundings, secrets: Sequence[str], problems: list[str]
) -> Launch:
    """How a server is started, and without which `secrets`; only a stand-in if anything is added to
    `problems`."""
    name, place, raw, server = entry.name, entry.place, entry.raw, entry.server
    if not isinstance(raw, dict):
        return Launch(name, (), {})
    problems += _transport(server, raw, place)
    problems += [
        f"{at(at(place, 'env'), key)}: expected a variable's name, not empty and without ="
        for key in server.env
        if not key or "=" in key
    ]
    argv = _texts({"command": server.command or ""}, place, secrets, problems)
    argv += _texts(server.args, f"{place}.args", secrets, problems)
    own = _texts(server.env, f"{place}.env", secrets, problems)
    cwd = str(around.folder / home(server.cwd, around.env)) if server.cwd else None
    in_cwd = f"{place}.cwd: "
    if cwd and not os.path.isdir(cwd) and not any(each.startswith(in_cwd) for each in problems):
        problems.append(f"{in_cwd}expected a folder that exists; {safe(raw['cwd'])} is none")
    env = child_env(around.env, dict(zip(server.env, own, strict=True)), secrets)
    return Launch(name, tuple(argv), env, cwd, server.start_timeout, server.timeout)


def from_command(command: Sequence[str], around: Surroundings, secrets: Sequence[str]) -> Launch:
    """The one server of `xzpipe run -- COMMAND ARG…`."""
    if any(secret in word for secret in secrets for word in command):
        raise UsageError(f"COMMAND: {_SECRET}")
    env = child_env(around.env, {}, secrets)
    return Launch(name_of(command), tuple(command), env, call_timeout=around.settings.call_timeout)


def name_of(command: Sequence[str]) -> str:
    """A name for a server that has only a command: what an interpreter runs, else the program."""
    program = _stem(command[0])
    pairs = (pair for pair in pairwise(command) if not pair[1].startswith("-"))
    before, word = next(pairs, ("", ""))
    if _RUNNER.fullmatch(program) and not _INLINE.fullmatch(before):
        program = _stem(word) or program
    return program or "server"


def home(text: str, env: Mapping[str, str]) -> str:
    """`text` with a leading `~` replaced by $HOME."""
    return env["HOME"] + text[1:] if re.match(r"~(/|$)", text) and env.get("HOME") else text


def _stem(word: str) -> str:
    """`word` without folders, an npm scope, a version and an extension; "" if that is no name."""
    name = re.split(r"[@=<>~\[]", word.rpartition("/")[2])[0]
    name = re.sub(r"\.(py|[cm]?[jt]s|rb|sh|exe)$", "", name)
    return name if re.fullmatch(r"\w[\w.-]{0,31}", name) else ""


def _transport(server: Server, raw: dict[str, Any], place: str) -> list[str]:
    """What is wrong with a server's transport; and a stdio server needs a command."""
    bare = "http" if server.url and not server.command else "stdio"
    kind = folded(server.type or server.transport_type or bare)
    if kind in _REMOTE:
        return [
            f"{place}: a remote server (sse, http), and xzpipe starts only stdio servers so far; "
            'run it through a proxy: "command": "uvx", "args": ["mcp-proxy", "URL"]'
        ]
    if kind != "stdio":
        key = "type" if server.type else "transportType"
        return [f"{place}.{key}: expected stdio, sse, http or streamable-http"]
    if server.command == "" or raw.get("command") is None:
        return [f"{place}.command: expected the program to start, found nothing"]
    return []


def _texts(values: Any, place: str, secrets: Sequence[str], problems: list[str]) -> list[str]:
    """Arguments or variables as text: 8080 and true are taken for what they look like."""
    texts: list[str] = []
    for where, value in within(place, values):
        text = json.dumps(value) if isinstance(value, int) else value
        if not isinstance(text, str):
            quote = "; quote it" if isinstance(text, float) else ""
            problems.append(f"{where}: expected a string, got {found(text)}{quote}")
        elif any(secret in text for secret in secrets):
            problems.append(f"{where}: {_SECRET}")
        texts.append(text)
    return texts
