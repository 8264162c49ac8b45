"""JSON taken apart and put together without touching its values: they stay the bytes they were.

Raised for what is no JSON object or array: `NotJson`.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

import msgspec

Raw = msgspec.Raw

ABSENT = Raw()
NULL = b"null"
EMPTY = b"{}"

_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode


class NotJson(ValueError):
    """Not JSON, or not of the kind that was asked for."""


def fields(data: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object, their values raw. Raises `NotJson`."""
    try:
        return _decode_object(data)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _scan_object(bytes(data).decode())
    except (ValueError, RecursionError):
        raise NotJson("not a JSON object") from None


def items(data: bytes | Raw) -> list[Raw]:
    """The elements of a JSON array, raw. Raises `NotJson`."""
    try:
        return _decode_array(data)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _scan_array(bytes(data).decode())
    except (ValueError, RecursionError):
        raise NotJson("not a JSON array") from None


def text(raw: Raw | None) -> str | None:
    """The string that a raw value is; None if it is anything else, or absent."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    value: str = json.loads(bytes(raw))
    return value


def quote(text: str) -> bytes:
    """A string as JSON; ASCII only, so that even a lone surrogate has a form."""
    return json.dumps(text).encode()


def object_of(members: Mapping[str, bytes | Raw]) -> bytes:
    """A JSON object from raw values: the reverse of `fields`."""
    return b"{%b}" % b",".join(b"%b:%b" % (quote(k), v) for k, v in members.items())


def array_of(elements: Iterable[bytes]) -> bytes:
    """A JSON array from raw values: the reverse of `items`."""
    return b"[%b]" % b",".join(elements)


# msgspec refuses escapes of lone surrogates, which JSON allows (RFC 8259 §8.2) and JavaScript
# servers write when they cut a string inside an emoji. The standard library splits such messages.


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_scanner = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).raw_decode
_space = re.compile(r"[ \t\r\n]*").match


def _skip(text: str, at: int) -> int:
    found = _space(text, at)
    return found.end() if found else at


def scan(text: str) -> object:
    """A whole JSON text, read by the standard library. Raises ValueError or RecursionError."""
    value, end = _scanner(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        raise ValueError("trailing characters")
    return value


def _scan_object(text: str) -> dict[str, Raw]:
    if not isinstance(scan(text), dict):
        raise ValueError("not an object")
    found: dict[str, Raw] = {}
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "}":
        name, at = _scanner(text, at)
        start = _skip(text, _skip(text, at) + 1)
        _, end = _scanner(text, start)
        found[name] = Raw(text[start:end].encode())
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


def _scan_array(text: str) -> list[Raw]:
    if not isinstance(scan(text), list):
        raise ValueError("not an array")
    found: list[Raw] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _scanner(text, at)
        found.append(Raw(text[at:end].encode()))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found
