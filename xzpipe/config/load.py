"""Find a config file, read it, and turn it into `Config`; all problems of a file come at once.

Whatever the file holds, the outcome is a `Config` or a `ConfigError`. Nothing here starts a process
or looks at the environment by itself.
"""

import itertools
import json
import os
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from xzpipe.config import lint
from xzpipe.config.endpoints import Cast, linked
from xzpipe.config.env import expand, read_dotenv, read_text
from xzpipe.config.model import Own, Server, at, convert, found, safe, within
from xzpipe.config.policies import Notes
from xzpipe.config.servers import (
    Entry,
    Surroundings,
    from_command,
    home,
    is_off,
    launch,
    name_of,
    read,
    table,
)
from xzpipe.config.settings import Overrides, Settings, effective
from xzpipe.core.launch import Launch
from xzpipe.core.plan import Plan
from xzpipe.errors import ConfigError

__all__ = ["Config", "Overrides", "Settings", "environment", "find", "load"]

NAMES = ("mcp_config.json", "mcp_config.yaml", "mcp_config.yml")
MAX_DEPTH = 50  # a config is six deep; every walk over one may recurse
MAX_NODES = 100_000  # YAML aliases can make a small file expand without end

_NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
_WORDS = {"": None, "~": None, "null": None, "true": True, "false": False}
_UNUSABLE = re.compile("[\0\ud800-\udfff]")
_YAML_TAGS = {f"tag:yaml.org,2002:{kind}" for kind in ("map", "seq", "str")}


@dataclass(frozen=True, slots=True)
class Config:
    """What xzpipe is to do: the servers that are on, in the file's order, the settings, and what is
    linked to which endpoint. No log and no server may get one of `secrets`."""

    path: Path | None  # None without a file: `xzpipe run -- COMMAND`
    servers: tuple[Launch, ...]
    disabled: tuple[str, ...]
    settings: Settings
    warnings: tuple[str, ...]
    plans: tuple[Plan, ...]
    everything: Plan  # what is seen where no endpoint is asked
    secrets: tuple[str, ...] = field(repr=False)


def environment(env: Mapping[str, str], *folders: Path) -> dict[str, str]:
    """`env`, and under it the folders' `.env` files, an earlier folder's above a later one's.

    A variable that is set but empty hides nothing: compose files pass on unset ones that way.
    """
    merged: dict[str, str] = {}
    for folder in reversed(folders):
        merged |= read_dotenv(folder / ".env")
    return merged | {name: value for name, value in env.items() if value or name not in merged}


def find(config: str | None, env: Mapping[str, str], cwd: Path) -> Path | None:
    """The file of --config, of $MCP_CONFIG, or in `cwd`; None if there is none at all.

    Raises ConfigError if a file that was named does not exist.
    """
    env = environment(env, cwd)
    for source, name in (("--config", config), ("MCP_CONFIG", env.get("MCP_CONFIG"))):
        if name:
            path = cwd / home(name, env)
            if not os.path.exists(path):
                raise ConfigError([f"{shown_path(path, cwd)}: no such file; {source} names it"])
            return path
    return next((path for name in NAMES if os.path.exists(path := cwd / name)), None)


def load(
    path: Path | None,
    env: Mapping[str, str],
    cwd: Path,
    *,
    overrides: Overrides | None = None,
    command: Sequence[str] = (),
) -> Config:
    """The config in `path`; with `command`, its settings alone and that one server.

    The `.env` files beside the config and in `cwd` are read here. Raises ConfigError with all
    problems of the file, UsageError for an option or an environment variable.
    """
    if path is None and not command:
        raise ConfigError(
            ["no config file was found"],
            f"Name one with --config or in MCP_CONFIG, or put {NAMES[0]} (.yaml, .yml) here.",
        )
    folder = cwd / path.parent if path else cwd
    env = environment(env, folder, cwd)
    notes, overrides = Notes(), overrides or Overrides()
    problems = notes.problems
    shown = shown_path(cwd / path, cwd) if path else ""
    tree = read_tree(cwd / path, shown, problems) if path else {}
    if command:
        tree = {key: value for key, value in tree.items() if key == "xzpipe"}
    own = convert(expand(tree.get("xzpipe"), env, "xzpipe", problems), Own, "xzpipe", problems)
    around = Surroundings(folder, env, effective(own, env, overrides))
    if command:
        cast = Cast([Entry(name_of(command), "", {}, Server())], {}, alone=True)
    else:
        key, raw = table(tree, problems)
        on = {name: each for name, each in raw.items() if not is_off(each)}
        off = {name: each for name, each in raw.items() if is_off(each)}
        entries = [read(name, each, at(key, name), around, problems) for name, each in on.items()]
        cast = Cast(entries, off, alone=overrides.endpoint is not None)
    links = linked(cast, own, around, overrides, notes)
    if command:
        servers = [from_command(command, around, links.secrets)]
    else:
        servers = [launch(each, around, links.secrets, problems) for each in cast.entries]
    warnings = tuple(f"{shown}: {each}" for each in (*lint.warnings(tree), *notes.warnings))
    if problems:
        raise ConfigError([f"{shown}: {problem}" for problem in problems], "\n".join(warnings))
    return Config(
        path,
        tuple(servers),
        tuple(cast.off),
        around.settings,
        warnings,
        links.plans,
        links.everything,
        links.secrets,
    )


def shown_path(path: Path, cwd: Path) -> str:
    """A path as it is shown in a message."""
    return safe(str(path.relative_to(cwd) if path.is_relative_to(cwd) else path))


class _Object(dict[str, Any]):
    """An object of the file that knows which of its keys were given again."""

    def __init__(self, pairs: Sequence[tuple[str, Any]]) -> None:
        super().__init__(pairs)
        self.again = [key for key, times in Counter(key for key, _ in pairs).items() if times > 1]


def read_tree(path: Path, shown: str, problems: list[str]) -> dict[str, Any]:
    """The file's top object; ConfigError if there is none. Keys given twice go to `problems`."""
    text = read_text(path, shown)
    parse = _parse_yaml if path.suffix in (".yaml", ".yml") else _parse_json
    try:
        tree = parse(text, shown) if text.strip() else None
        problems += _flaws(tree, "", text)
    except RecursionError as error:
        raise ConfigError([f"{shown}: nested too deeply to be a config"]) from error
    if not isinstance(tree, dict):
        got = "nothing" if tree is None else found(tree)
        raise ConfigError([f"{shown}: expected an object at the top, got {got}"])
    return tree


def _flaws(tree: Any, place: str, text: str, depth: int = 0) -> list[str]:
    """What a parser lets through: keys given twice, and text that no process can be handed."""
    if depth > MAX_DEPTH:
        raise RecursionError
    again = getattr(tree, "again", ())
    problems = [f"{at(place, key)}: expected once, found again{_lines(key, text)}" for key in again]
    texts = [each for each in (tree if isinstance(tree, dict) else [tree]) if isinstance(each, str)]
    if any(map(_UNUSABLE.search, texts)):
        problems.append(f"{place}: expected text, found a NUL or half a character")
    for where, item in within(place, tree):
        problems += _flaws(item, where, text, depth + 1)
    return problems


def _lines(key: str, text: str) -> str:
    """Where a key stands that was given twice, unless keys of that name stand elsewhere too."""
    if len(text) > 2**15:  # a search for each of thousands of keys would take minutes
        return ""
    spelt = re.finditer(rf"(?<!\w)[\"']?{re.escape(key)}[\"']?\s*:", text)
    lines = [text.count("\n", 0, each.start()) + 1 for each in spelt]
    return f" (lines {lines[0]} and {lines[1]})" if len(lines) == 2 else ""


def _parse_json(text: str, shown: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=_Object)
    except json.JSONDecodeError as error:
        place = f"{shown}:{error.lineno}:{error.colno}"
        raise ConfigError([f"{place}: not valid JSON: {_json_reason(error)}"]) from error
    except ValueError as error:
        raise ConfigError([f"{shown}: not valid JSON: a number beyond bounds"]) from error


def _json_reason(error: json.JSONDecodeError) -> str:
    rest, before = error.doc[error.pos :], error.doc[: error.pos].rstrip()
    if rest.startswith(("//", "/*", "#")):
        return "JSON has no comments; remove it, or use mcp_config.yaml, which takes them"
    # Python 3.13 points at the comma, older ones at the bracket behind it
    if re.match(r",\s*[}\]]", rest) or (before.endswith(",") and rest.startswith(("}", "]"))):
        return "JSON has no trailing commas; remove the comma before the bracket"
    return error.msg[0].lower() + error.msg[1:]


def _parse_yaml(text: str, shown: str) -> Any:
    """YAML by the JSON schema of YAML 1.2: `yes`, `0x1F` and `1:30` are strings; no tags."""
    import yaml

    visits = itertools.count(1)

    def refuse(problem: str, node: yaml.Node) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=problem, problem_mark=node.start_mark)

    def plain(node: Any) -> Any:
        if next(visits) > MAX_NODES:
            refuse("too many values; aliases multiply them", node)
        if node.tag not in _YAML_TAGS:
            refuse("tags are not read; remove the !", node)
        if isinstance(node, yaml.ScalarNode):
            return node.value if node.style else _scalar(node.value)
        if isinstance(node, yaml.SequenceNode):
            return [plain(item) for item in node.value]
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode) or key.value == "<<":
                refuse("expected a key that is a string, and no merge key", key)
        return _Object([(key.value, plain(value)) for key, value in node.value])

    try:
        # BaseLoader makes no objects and takes no plain word for anything but a string
        root = yaml.compose(text, Loader=yaml.BaseLoader)
        return None if root is None else plain(root)
    except (yaml.YAMLError, ValueError, OverflowError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{shown}:{mark.line + 1}:{mark.column + 1}" if mark else shown
        reason = getattr(error, "problem", None) or "a character or a number beyond bounds"
        raise ConfigError([f"{place}: not valid YAML: {reason}"]) from error


def _scalar(text: str) -> Any:
    word = text.lower()
    return _WORDS[word] if word in _WORDS else json.loads(text) if _NUMBER.fullmatch(text) else text
