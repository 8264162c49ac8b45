"""From the servers' part of a config, or from a command line, to `Launch`es.

Looks at the disk only to see whether a server's `cwd` is there. Sentences show the file's own text,
never what a variable stood for. What is switched off is not looked at.
"""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from xzpipe.config.env import expand
from xzpipe.config.model import MAX_SERVER_TIMEOUT, Server, at, convert, found, keys, unprintable
from xzpipe.config.settings import Settings
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.launch import Launch, child_env

_REMOTE = ("sse", "http", "streamablehttp")
_INTERPRETER = re.compile(r"(python|pypy|node|uvx|npx|bunx|bun|deno|tsx|ruby|bash|sh)[\d.]*")
_SCRIPT = re.compile(r"\.(py|js|mjs|cjs|ts|mts|rb|sh|exe)$")
_VERSION = re.compile(r"(?<=.)(@|==|>=|~=|\[).*")


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What the servers of a config share: its absolute folder, and the environment with .env."""

    folder: Path
    env: Mapping[str, str]
    settings: Settings

    def child_env(self, own: Mapping[str, str]) -> dict[str, str]:
        return child_env(self.env, own, Endpoint(self.settings.endpoint or "").secrets)


def table(tree: dict[str, Any], problems: list[str]) -> tuple[str, dict[str, Any]]:
    """The key the servers stand under, and the servers as they stand there."""
    present = [key for key in ("mcpServers", "servers") if tree.get(key) is not None]
    if len(present) == 2:
        problems.append("servers: expected one of mcpServers and servers, found both; keep one")
    key = present[0] if present else "mcpServers"
    servers = tree.get(key)
    if servers and not isinstance(servers, dict):
        problems.append(f"{key}: expected an object of servers by name, got {found(servers)}")
    elif not servers:
        problems.append(f"{key}: names no server; expected at least one")
    return key, servers if isinstance(servers, dict) else {}


def is_off(raw: object) -> bool:
    """Whether a server is switched off, in any of the three ways that programs write it."""
    return isinstance(raw, dict) and (
        raw.get("disabled") is True or raw.get("enabled") is False or raw.get("isActive") is False
    )


def launch(name: str, raw: Any, place: str, around: Surroundings, problems: list[str]) -> Launch:
    """The server `name` of a config file; only a stand-in if anything is added to `problems`."""
    before = len(problems)
    if unprintable(name):
        problems.append(f"{place}: expected a name without control characters, and not empty")
    if not isinstance(raw, dict):
        problems.append(f"{place}: expected an object, got {found(raw)}")
        raw = {}
    ours = {key: value for key, value in raw.items() if key in keys(Server)}
    expanded, unset = expand(ours, around.env, place)
    problems += unset
    server = convert(expanded, Server, place, problems)
    problems += _transport(expanded, place)
    problems += [
        f"{at(at(place, 'env'), key)}: expected a variable's name, not empty and without ="
        for key in server.env
        if not key or "=" in key
    ]
    if len(problems) > before:
        return Launch(name, (), {})
    own = {key: _text(value) for key, value in server.env.items()}
    argv = (server.command or "", *map(_text, server.args))
    timeout = server.timeout or around.settings.call_timeout
    return Launch(
        name=name,
        argv=argv,
        env=around.child_env(own),
        cwd=_folder(server.cwd, str(raw.get("cwd")), at(place, "cwd"), around, problems),
        start_timeout=float(server.start_timeout),
        call_timeout=float(timeout / 1000 if timeout > MAX_SERVER_TIMEOUT else timeout),
    )


def from_command(command: Sequence[str], around: Surroundings) -> Launch:
    """The one server of `xzpipe run -- COMMAND ARG…`."""
    env, timeout = around.child_env({}), around.settings.call_timeout
    return Launch(name_of(command), tuple(command), env, call_timeout=timeout)


def name_of(command: Sequence[str]) -> str:
    """A name for a server that has only a command: what an interpreter runs, else the program."""
    program = _stem(command[0])
    if _INTERPRETER.fullmatch(program):
        arguments = (each for each in command[1:] if not each.startswith("-"))
        program = _stem(next(arguments, program))
    return program if not unprintable(program) else "server"


def home(text: str, env: Mapping[str, str]) -> str:
    """`text` with a leading `~` replaced by $HOME."""
    return env["HOME"] + text[1:] if re.match(r"~(/|$)", text) and env.get("HOME") else text


def _stem(word: str) -> str:
    return _SCRIPT.sub("", _VERSION.sub("", word.rstrip("/").rpartition("/")[2]))


def _transport(tree: dict[str, Any], place: str) -> list[str]:
    """What is wrong with a server's transport; and a stdio server needs a command."""
    written = {
        key: tree[key] for key in ("type", "transportType") if isinstance(tree.get(key), str)
    }
    kinds = [re.sub("[-_ ]", "", each.lower()) for each in written.values()]
    command = tree.get("command")
    if len(set(kinds)) > 1:
        return [f"{at(place, 'type')}: expected the same as transportType, found another"]
    kind = kinds[0] if kinds else "http" if tree.get("url") and command is None else "stdio"
    if kind in _REMOTE:
        return [
            f"{place}: a remote server (sse, http), and xzpipe starts only stdio servers so far; "
            'run it through a proxy: "command": "uvx", "args": ["mcp-proxy", "URL"]'
        ]
    if kind != "stdio":
        known = "stdio, sse, http or streamable-http"
        return [f"{at(place, next(iter(written)))}: expected {known}, found another"]
    if command is None or command == "":
        was = "nothing" if command is None else found(command)
        return [f"{at(place, 'command')}: expected the program to start, found {was}"]
    return []


def _text(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _folder(
    cwd: str | None, written: str, place: str, around: Surroundings, problems: list[str]
) -> str | None:
    if cwd is None:
        return None
    folder = str(around.folder / home(cwd, around.env))
    if not os.path.isdir(folder):
        shown = ascii(written) if unprintable(written) else written
        problems.append(f"{place}: expected a folder that exists; {shown} is none")
    return folder
