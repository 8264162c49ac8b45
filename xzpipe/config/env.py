"""`${VAR}` in the config's strings, and `.env` files. The environment is always a parameter.

`expand` is pure. A sentence about a variable names it, and never shows what it holds.
"""

import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from dotenv import dotenv_values

from xzpipe.config.model import within
from xzpipe.errors import ConfigError

MAX_FILE_BYTES = 2**20  # a thousand servers fit; a log or a disk image named by mistake does not

_REFERENCE = re.compile(r"(\$?)\$\{([^}]*)(\}?)")
_BODY = re.compile(r"(?:env:)?([A-Za-z_][A-Za-z0-9_]*)(?::-((?:(?!\$\{).)*))?", re.DOTALL)
_SYNTAX = "${VAR}, ${VAR:-default} or ${env:VAR}, and $${ for a plain ${"


def expand(value: Any, env: Mapping[str, str], place: str, problems: list[str]) -> Any:
    """`value` with the references in all its strings replaced; adds sentences to `problems`.

    Keys, and a reference that is a problem, are left alone. As in a shell, a default also stands in
    for a variable that is set but empty.
    """

    def replaced(reference: re.Match[str]) -> str:
        escape, body, closing = reference.groups()
        if escape:
            return reference[0][1:]
        known = _BODY.fullmatch(body)
        if not closing or known is None:
            problems.append(f"{place}: expected {_SYNTAX}; found another form")
            return reference[0]
        name, default = known.groups()
        if default is not None:
            return env.get(name) or default
        if name not in env:
            problems.append(
                f"{place}: expected the environment variable {name} to be set; "
                f"set it, put it in .env, or write ${{{name}:-default}}"
            )
        return env.get(name, reference[0])

    if isinstance(value, str):
        return _REFERENCE.sub(replaced, value)
    parts = [expand(item, env, where, problems) for where, item in within(place, value)]
    if isinstance(value, dict):
        return dict(zip(value, parts, strict=True))
    return parts if isinstance(value, list) else value


def read_text(path: Path, shown: str) -> str:
    """The text of a small UTF-8 file, with or without a byte order mark; else ConfigError."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except IsADirectoryError as error:
        hint = "Docker makes a folder where the file to be mounted does not exist."
        raise ConfigError([f"{shown}: expected a file, found a folder"], hint) from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "no such path can exist"
        raise ConfigError([f"{shown}: cannot be read: {reason}"]) from error
    if len(data) > MAX_FILE_BYTES:
        raise ConfigError([f"{shown}: expected at most {MAX_FILE_BYTES} bytes, found more"])
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ConfigError([f"{shown}: expected UTF-8 text, byte {error.start} is none"]) from error
    if "\0" in text:
        raise ConfigError([f"{shown}: expected UTF-8 text, found a NUL byte"])
    return text


def read_dotenv(path: Path) -> dict[str, str]:
    """The variables of a `.env` file, as written; none when there is no such file."""
    if not os.path.isfile(path):  # unlike Path.is_file, False where a folder may not be entered
        return {}
    # python-dotenv would interpolate from os.environ; what it finds is not for it to look up
    values = dotenv_values(stream=StringIO(read_text(path, str(path))), interpolate=False)
    return {name: value for name, value in values.items() if value is not None}
