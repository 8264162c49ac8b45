"""Pictures, sounds and other bytes in the result of a tool → files in a folder."""

import re
from base64 import b64decode
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import count
from mimetypes import MimeTypes
from pathlib import Path
from typing import Any

from xzpipe.errors import UsageError

LONGEST_STEM = 64  # characters; four bytes each, a number and an ending fit into a name of 255

_types = MimeTypes()  # as the library has it, not as this machine has
for _kind in ("wav", "ogg", "flac"):
    _types.add_type(f"audio/{_kind}", f".{_kind}")


@dataclass(frozen=True, slots=True)
class Saved:
    """What became of the bytes in a result: where each is, by its place in the content, and what
    went wrong."""

    paths: Mapping[int, Path]
    problems: tuple[str, ...]


def attached(content: object) -> tuple[str, object] | None:
    """The MIME type of the bytes in one part of a result, as the server says it, and what should be
    their base64; None where there are none."""
    match content:
        case {"type": "image" | "audio", "data": data, **more}:
            return str(more.get("mimeType") or ""), data
        case {"type": "resource", "resource": {"blob": data, **more}}:
            return str(more.get("mimeType") or ""), data
    return None


def prepare(folder: Path) -> None:
    """Make the folder, while nothing has been called yet. Raises `UsageError`."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"--save {folder}: {error.strerror}") from None


def save(result: Mapping[str, Any], tool: str, folder: Path) -> Saved:
    """Write the bytes in a result to files that were not there: `<tool>-1.png` and so on."""
    contents = result.get("content")
    paths: dict[int, Path] = {}
    problems: list[str] = []
    numbers = count(1)
    for place, content in enumerate(contents if isinstance(contents, list) else ()):
        found = attached(content)
        if found is None:
            continue
        mime, text = found
        about = f"content {place + 1} ({mime or content['type']})"
        try:
            data = _decoded(text)
            paths[place] = _written(folder, _stem(tool), _ending(mime), numbers, data)
        except OSError as error:
            problems.append(f"{about} could not be written to {folder}: {error.strerror}")
        except ValueError as error:
            problems.append(f"{about} is not base64: {error}")
    return Saved(paths, tuple(problems))


def _decoded(text: object) -> bytes:
    if not isinstance(text, str):
        raise ValueError("it is no text")
    return b64decode(text, validate=True)


def _written(folder: Path, stem: str, ending: str, numbers: Iterator[int], data: bytes) -> Path:
    """The path of a new file with the next number that is free."""
    for number in numbers:
        path = folder / f"{stem}-{number}{ending}"
        try:
            file = path.open("xb")  # nor through a link that leads elsewhere
        except FileExistsError:
            continue
        try:
            with file:
                file.write(data)
        except OSError:
            path.unlink(missing_ok=True)  # half a picture is none
            raise
        return path
    raise AssertionError("numbers do not end")


def _stem(tool: str) -> str:
    """A tool's name as the beginning of a file's, whatever a server may call its tools."""
    return re.sub(r"[^\w.-]", "_", tool)[:LONGEST_STEM].lstrip(".-") or "tool"


def _ending(mime: str) -> str:
    bare = mime.partition(";")[0].strip().lower()
    return _types.guess_extension(bare, strict=False) or ".bin"
