"""JSON-RPC 2.0 messages as a relay sees them: an envelope to read, payloads to pass on byte for
byte.

Ids, params, results and errors stay raw: `1`, `1.0`, `"1"` and 2**53 + 1 all go out as they came
in. Raised for what is no message: `Malformed`, with the JSON-RPC code to answer it with.
"""

import re

import msgspec

from xzpipe.core.rawjson import ABSENT, NULL, NotJson, Raw, fields, quote, scan, text

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
SERVER_ERROR = -32000  # the server died, timed out, is overloaded or answered too much
NOT_CONNECTED = -32001  # no server is there to ask; as the endpoint server in use says (wire.md §3)

VERSION = Raw(b'"2.0"')


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


class Call(msgspec.Struct, gc=False, rename={"meta": "_meta"}):
    """What a relay reads of the params of a `tools/call`."""

    name: str
    meta: Raw = ABSENT


class _Result(msgspec.Struct, gc=False, rename="camel"):
    is_error: bool = False


_request = re.compile(rb'\{"jsonrpc":"2\.0","id":(\d+),"method":').match
_decode = msgspec.json.Decoder(Message).decode
_decode_call = msgspec.json.Decoder(Call).decode
_decode_result = msgspec.json.Decoder(_Result).decode


def parse(data: bytes) -> Message:
    """One message from one frame or line. Raises `Malformed`."""
    if not data.isascii():
        _check_utf8(data)
    try:
        message = _decode(data)
    except (msgspec.DecodeError, RecursionError):
        message = _parse_slowly(data)
    if message.method is None:
        _check_response(message)
    elif len(message.id) and not _is_id(message.id):
        raise Malformed(INVALID_REQUEST, "an id must be a string or a number")
    return message


def is_message(data: bytes) -> bool:
    """Whether `parse` takes it."""
    try:
        parse(data)
    except Malformed:
        return False
    return True


def _check_utf8(data: bytes) -> None:
    try:
        data.decode()
    except UnicodeDecodeError as error:
        raise Malformed(PARSE_ERROR, f"not UTF-8 at byte {error.start}") from None


def _check_response(message: Message) -> None:
    if len(message.error) == len(NULL) and bytes(message.error) == NULL:
        message.error = ABSENT
    if not len(message.id) or not (len(message.result) or len(message.error)):
        raise Malformed(INVALID_REQUEST, "neither a request nor a response", _usable(message.id))


def _parse_slowly(data: bytes) -> Message:
    """For what the quick decoder refuses: says why, or finds it legal after all."""
    start = data.lstrip(b" \t\r\n")[:1]
    if start != b"{":
        try:
            scan(data.decode())
        except (ValueError, RecursionError):
            raise Malformed(PARSE_ERROR, "not JSON") from None
        if start == b"[":
            raise Malformed(INVALID_REQUEST, "batches are not supported")
        raise Malformed(INVALID_REQUEST, "a message must be an object")
    try:
        found = fields(data)
    except NotJson as error:
        raise Malformed(PARSE_ERROR, str(error)) from None
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
    return bytes(raw)[0] in b'"-0123456789'


def _usable(id: Raw) -> bytes:
    return bytes(id) if len(id) and _is_id(id) else NULL


def called(params: Raw) -> Call | None:
    """What the params of a `tools/call` say; None when they do not name a tool."""
    try:
        return _decode_call(params)
    except (msgspec.DecodeError, RecursionError):
        pass
    try:
        found = fields(params)
    except NotJson:
        return None
    name = text(found.get("name"))
    return None if name is None else Call(name, found.get("_meta", ABSENT))


def is_error(result: Raw) -> bool:
    """Whether the result of a tool call says that the tool failed. Servers say it at one end of the
    result; a long one is not searched for it, since nothing but a log word depends on it."""
    raw = bytes(result)
    if b'"isError"' not in raw[:256] and b'"isError"' not in raw[-256:]:
        return False
    try:
        return _decode_result(result).is_error
    except (msgspec.DecodeError, RecursionError):
        return False


# What goes out. A raw id, params or result is put in as it is.


def request(id: int, method: str, params: bytes | Raw) -> bytes:
    """A request with an id of ours; absent params are left out."""
    name = b'"tools/call"' if method == "tools/call" else quote(method)
    head = b'{"jsonrpc":"2.0","id":%d,"method":%b' % (id, name)
    return b"".join((head, b',"params":', params, b"}")) if len(params) else head + b"}"


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
    return b"".join((b'{"jsonrpc":"2.0","id":', id, b',"result":', value, b"}"))


def error(id: bytes | Raw, value: bytes | Raw) -> bytes:
    """The answer to a request that failed, with an error object as it came. There is no `result`
    key: the client of self-hosted endpoints reads `"result": null` as success (wire.md §3)."""
    return b'{"jsonrpc":"2.0","id":%b,"error":%b}' % (id, value)


def fault(id: bytes | Raw, code: int, message: str) -> bytes:
    """The answer to a request that failed, in our own words."""
    return error(id, b'{"code":%d,"message":%b}' % (code, quote(message)))
