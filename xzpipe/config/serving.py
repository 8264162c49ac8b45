"""The `serve` part of a config: how `xzpipe endpoint serve` is to be."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from xzpipe.config.env import expand
from xzpipe.config.load import environment, read_tree, shown_path
from xzpipe.config.model import Serve, convert, found
from xzpipe.config.servers import home
from xzpipe.errors import ConfigError, UsageError

PLACE = "xzpipe.serve"
_PATHS = ("key_file", "tls_cert", "tls_key")


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line said; None where it said nothing. Times in seconds."""

    host: str | None = None
    port: int | None = None
    key_file: str | None = None
    tls_cert: str | None = None
    tls_key: str | None = None
    allow_origins: list[str] | None = None
    call_timeout: float | None = None


def load_serve(path: Path | None, env: Mapping[str, str], cwd: Path, options: Options) -> Serve:
    """The settings in effect: command line > config file. Paths are absolute.

    Only this part of the file is looked at. Raises ConfigError, or UsageError for an option.
    """
    keys = Serve()
    if path is not None:
        keys = _in_file(cwd / path, environment(env, (cwd / path).parent, cwd), cwd)
    given: dict[str, Any] = {
        name: value
        for name in Options.__dataclass_fields__
        if (value := getattr(options, name)) is not None
    }
    for name in _PATHS:
        if name in given:
            given[name] = str(cwd / home(given[name], env))
    if not 0 < given.get("call_timeout", 1.0) < math.inf:
        raise UsageError("--call-timeout: expected seconds above 0", "For example 30.")
    return msgspec.structs.replace(keys, **given)


def _in_file(path: Path, env: Mapping[str, str], cwd: Path) -> Serve:
    problems: list[str] = []
    shown = shown_path(path, cwd)
    own = read_tree(path, shown, problems).get("xzpipe") or {}
    if not isinstance(own, dict):
        problems.append(f"xzpipe: expected an object, got {found(own)}")
        own = {}
    keys = convert(expand(own.get("serve"), env, PLACE, problems), Serve, PLACE, problems)
    if problems:
        raise ConfigError([f"{shown}: {problem}" for problem in problems])
    files = {name: getattr(keys, name) for name in _PATHS if getattr(keys, name)}
    absolute = {name: str(path.parent / home(text, env)) for name, text in files.items()}
    return msgspec.structs.replace(keys, **absolute)
