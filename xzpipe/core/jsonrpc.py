"""JSON-RPC 2.0 messages as a relay sees them: an envelope to read, payloads to pass on byte for
byte.

Ids, params, results and errors stay raw: `1`, `1.0`, `"1"` and 2**53 + 1 all go out as they came
in. Raised for what is no message: `Malformed`, with the JSON-RPC code to answer it with.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import NoReturn

import msgspec

Raw = msgspec.Raw

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000  # the server died, timed out, is overloaded or answered too much
NOT_CONNECTED = (
    -32001
)  # no server is there to ask; the endpoint server in use says it so (wire.md §3)

ABSENT = Raw()
VERSION = Raw(b'"2.0"')
NULL = b"null"
EMPTY = b"{}"


class Message(msgspec.Struct, gc=False):
    """A request (method and id), a notification (method alone) or a response (id, and result or
    error)."""

    jsonrpc: Raw = ABSENT
    id: Raw = ABSENT
    method: str | None = None
    params: Raw = ABSENT
    result: Raw = ABSENT
    error: Raw = ABSENT  # never null: that is how some servers say that there is none


class Malformed(ValueError):
    """Not a JSON-RPC message; `code` is the JSON-RPC error and `id` the raw id to answer it
    with."""

    def __init__(self, code: int, reason: str, id: bytes = NULL) -> None:
        super().__init__(reason)
        self.code = code
        self.id = id


class _CallParams(msgspec.Struct, gc=False):
    name: str


_decode = msgspec.json.Decoder(Message).decode
_decode_call = msgspec.json.Decoder(_CallParams).decode
_decode_object = msgspec.json.Decoder(dict[str, Raw]).decode
_decode_array = msgspec.json.Decoder(list[Raw]).decode


def parse(data: bytes) -> Message:
    """One message from one frame or line. Raises `Malformed`."""
    _check_utf8(data)
    try:
        message = _decode(data)
    except (msgspec.DecodeError, RecursionError):
        message = _parse_slowly(data)
    if message.method is None:
        if message.error == Raw(NULL):
            message.error = ABSENT
        if not len(message.id) or not (len(message.result) or len(message.error)):
            raise Malformed(
                INVALID_REQUEST, "neither a request nor a response", _usable(message.id)
            )
    elif len(message.id) and not _is_id(message.id):
        raise Malformed(INVALID_REQUEST, "an id must be a string or a number")
    return message


def _check_utf8(data: bytes) -> None:
    if not data.isascii():
        try:
            data.decode()
        except UnicodeDecodeError as error:
            raise Malformed(PARSE_ERROR, f"not UTF-8 at byte {error.start}") from None


def _parse_slowly(data: bytes) -> Message:
    """For what the quick decoder refuses: says why, or finds it legal after all."""
    start = data.lstrip(b" \t\r\n")[:1]
    if start != b"{":
        try:
            _scan(data.decode())
        except (ValueError, RecursionError):
            raise Malformed(PARSE_ERROR, "not JSON") from None
        if start == b"[":
            raise Malformed(INVALID_REQUEST, "batches are not supported")
        raise Malformed(INVALID_REQUEST, "a message must be an object")
    found = fields(data)
    id = found.get("id", ABSENT)
    method = None
    if found.get("method", Raw(NULL)) != Raw(NULL):
        method = text(found["method"])
        if method is None:
            raise Malformed(INVALID_REQUEST, "method must be a string", _usable(id))
    return Message(
        found.get("jsonrpc", ABSENT),
        id,
        method,
        found.get("params", ABSENT),
        found.get("result", ABSENT),
        found.get("error", ABSENT),
    )


def _is_id(raw: Raw) -> bool:
    return bytes(raw)[:1] in b'"-0123456789'


def _usable(id: Raw) -> bytes:
    return bytes(id) if len(id) and _is_id(id) else NULL


def fields(data: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object, their values raw. Raises `Malformed`."""
    try:
        return _decode_object(data)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _scan_object(bytes(data).decode())
    except (ValueError, RecursionError):
        raise Malformed(PARSE_ERROR, "not a JSON object") from None


def items(data: bytes | Raw) -> list[Raw]:
    """The elements of a JSON array, raw. Raises `Malformed`."""
    try:
        return _decode_array(data)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return _scan_array(bytes(data).decode())
    except (ValueError, RecursionError):
        raise Malformed(PARSE_ERROR, "not a JSON array") from None


def text(raw: Raw | None) -> str | None:
    """The string that a raw value is; None if it is anything else, or absent."""
    if raw is None or not bytes(raw).startswith(b'"'):
        return None
    value: str = json.loads(bytes(raw))
    return value


def called_tool(params: Raw) -> str | None:
    """The tool that the params of a `tools/call` name."""
    try:
        return _decode_call(params).name
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        return text(fields(params).get("name"))
    except Malformed:
        return None


# msgspec refuses escapes of lone surrogates, which JSON allows (RFC 8259 §8.2) and JavaScript
# servers
# write when they cut a string inside an emoji. Such messages are split with the standard library.


def _refuse(constant: str) -> NoReturn:
    raise ValueError(f"{constant} is not JSON")


_scanner = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_refuse).raw_decode
_request = re.compile(rb'\{"jsonrpc":"2\.0","id":(\d+),"method":').match
_space = re.compile(r"[ \t\r\n]*").match


def _skip(text: str, at: int) -> int:
    found = _space(text, at)
    return found.end() if found else at


def _scan(text: str) -> object:
    value, end = _scanner(text, _skip(text, 0))
    if _skip(text, end) != len(text):
        raise ValueError("trailing characters")
    return value


def _scan_object(text: str) -> dict[str, Raw]:
    if not isinstance(_scan(text), dict):
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
    if not isinstance(_scan(text), list):
        raise ValueError("not an array")
    found: list[Raw] = []
    at = _skip(text, _skip(text, 0) + 1)
    while text[at] != "]":
        _, end = _scanner(text, at)
        found.append(Raw(text[at:end].encode()))
        at = _skip(text, end)
        at = _skip(text, at + 1) if text[at] == "," else at
    return found


# What goes out. A raw id, params or result is put in as it is.


def quote(text: str) -> bytes:
    """A string as JSON; ASCII only, so that even a lone surrogate has a form."""
    return json.dumps(text).encode()


def object_of(members: Mapping[str, bytes | Raw]) -> bytes:
    """A JSON object from raw values: the reverse of `fields`."""
    return b"{%b}" % b",".join(b"%b:%b" % (quote(k), v) for k, v in members.items())


def array_of(elements: Iterable[bytes]) -> bytes:
    """A JSON array from raw values: the reverse of `items`."""
    return b"[%b]" % b",".join(elements)


def request(id: int, method: str, params: bytes | Raw) -> bytes:
    """A request with an id of ours; absent params are left out."""
    name = b'"tools/call"' if method == "tools/call" else quote(method)
    if not len(params):
        return b'{"jsonrpc":"2.0","id":%d,"method":%b}' % (id, name)
    return b'{"jsonrpc":"2.0","id":%d,"method":%b,"params":%b}' % (id, name, params)


def request_id(line: bytes) -> bytes | None:
    """The raw id in a line that `request` wrote; None in any other."""
    found = _request(line)
    return found[1] if found else None


def notification(method: str, params: bytes | Raw = ABSENT) -> bytes:
    """A notification; absent params are left out."""
    if not len(params):
        return b'{"jsonrpc":"2.0","method":%b}' % quote(method)
    return b'{"jsonrpc":"2.0","method":%b,"params":%b}' % (quote(method), params)


def result(id: bytes | Raw, value: bytes | Raw) -> bytes:
    """The answer to a request that went well."""
    return b'{"jsonrpc":"2.0","id":%b,"result":%b}' % (id, value)


def error(id: bytes | Raw, value: bytes | Raw) -> bytes:
    """The answer to a request that failed, with an error object as it came. There is no `result`
    key: the client of self-hosted endpoints reads `"result": null` as success (wire.md §3)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, value)


def fault(id: bytes | Raw, code: int, message: str) -> bytes:
    """The answer to a request that failed, in our own words."""
    return error(id, b'{"code":%d,"message":%b}' % (code, quote(message)))
