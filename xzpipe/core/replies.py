"""The answers that the hub gives out of its own knowledge."""

from xzpipe import __version__
from xzpipe.core import jsonrpc
from xzpipe.core.handshake import PROTOCOL

KNOWN_PROTOCOLS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")  # wire.md §6


def greeting(params: jsonrpc.Raw) -> bytes:
    """A raw initialize result for a view of several servers, or of none: xzpipe's own."""
    try:
        asked = jsonrpc.text(jsonrpc.fields(params).get("protocolVersion"))
    except jsonrpc.Malformed:
        asked = None
    version = asked if asked in KNOWN_PROTOCOLS else PROTOCOL
    return (
        b'{"protocolVersion":%b,"capabilities":{"tools":{"listChanged":true}},'
        b'"serverInfo":{"name":"xzpipe","version":%b}}'
        % (jsonrpc.quote(version or PROTOCOL), jsonrpc.quote(__version__))
    )


def tools(message: jsonrpc.Message, payload: bytes) -> bytes:
    """The answer to a tools/list: everything on one page, since the broker may not ask for a
    second."""
    try:
        cursor = jsonrpc.fields(message.params).get("cursor") if len(message.params) else None
    except jsonrpc.Malformed:
        cursor = None  # params: null, as the console of self-hosted servers sends it (wire.md §3)
    if cursor is not None and bytes(cursor) not in (jsonrpc.NULL, b'""'):
        return jsonrpc.fault(message.id, jsonrpc.INVALID_PARAMS, "there is no such page")
    return jsonrpc.result(message.id, b'{"tools":%b}' % payload)


def to_server(message: jsonrpc.Message) -> bytes:
    """The answer to a request of a server: it was told of no client capabilities, so only ping is
    one."""
    if message.method == "ping":
        return jsonrpc.result(message.id, jsonrpc.EMPTY)
    words = f"method not found: {message.method}"
    return jsonrpc.fault(message.id, jsonrpc.METHOD_NOT_FOUND, words)


def renamed(params: bytes, name: str) -> bytes:
    """The params of a tools/call with another name in them; all else raw as before."""
    members: dict[str, bytes | jsonrpc.Raw] = dict(jsonrpc.fields(params))
    members["name"] = jsonrpc.quote(name)
    return jsonrpc.object_of(members)


def progress_token(params: bytes) -> bytes:
    """The raw progress token in params; empty when there is none."""
    try:
        token = jsonrpc.fields(jsonrpc.fields(params)["_meta"])["progressToken"]
    except (KeyError, jsonrpc.Malformed):
        return b""
    return bytes(token)


def with_progress_token(params: bytes, token: bytes) -> bytes:
    """Params that hold a progress token, with another one in its place."""
    members: dict[str, bytes | jsonrpc.Raw] = dict(jsonrpc.fields(params))
    meta: dict[str, bytes | jsonrpc.Raw] = dict(jsonrpc.fields(members["_meta"]))
    meta["progressToken"] = token
    members["_meta"] = jsonrpc.object_of(meta)
    return jsonrpc.object_of(members)


def cancelled_id(params: jsonrpc.Raw) -> bytes:
    """The raw id of the request that a notifications/cancelled names; empty when it names none."""
    try:
        return bytes(jsonrpc.fields(params).get("requestId", b""))
    except jsonrpc.Malformed:
        return b""
