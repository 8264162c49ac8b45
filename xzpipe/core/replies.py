"""The answers that the hub gives out of its own knowledge."""

from xzpipe import __version__
from xzpipe.core import jsonrpc, rawjson
from xzpipe.core.handshake import PROTOCOL

KNOWN_PROTOCOLS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")  # wire.md §6


def greeting(params: rawjson.Raw) -> bytes:
    """A raw initialize result for a view of several servers, or of none: xzpipe's own."""
    try:
        asked = rawjson.text(rawjson.fields(params).get("protocolVersion"))
    except rawjson.NotJson:
        asked = None
    version = asked if asked in KNOWN_PROTOCOLS else PROTOCOL
    return (
        b'{"protocolVersion":%b,"capabilities":{"tools":{"listChanged":true}},'
        b'"serverInfo":{"name":"xzpipe","version":%b}}'
        % (rawjson.quote(version or PROTOCOL), rawjson.quote(__version__))
    )


def user_tools(message: jsonrpc.Message) -> bool | None:
    """Whether a tools/list asks for the tools of the user too, by `withUserTools: true` (wire.md
    §4). None: it asks for a page that there is not."""
    try:
        params = rawjson.fields(message.params) if len(message.params) else {}
    except rawjson.NotJson:
        params = {}  # params: null, as the console of self-hosted servers sends it (wire.md §3)
    if bytes(params.get("cursor", rawjson.NULL)) not in (rawjson.NULL, b'""'):
        return None
    return bytes(params.get("withUserTools", b"")) == b"true"


def tools(message: jsonrpc.Message, payload: bytes) -> bytes:
    """The answer to a tools/list: everything on one page, since the broker may not ask for a
    second."""
    return jsonrpc.result(message.id, b'{"tools":%b}' % payload)


def to_server(message: jsonrpc.Message) -> bytes:
    """The answer to a request of a server: it was told of no client capabilities, so only ping is
    one."""
    if message.method == "ping":
        return jsonrpc.result(message.id, rawjson.EMPTY)
    words = f"method not found: {message.method}"
    return jsonrpc.fault(message.id, jsonrpc.METHOD_NOT_FOUND, words)


def renamed(params: bytes | rawjson.Raw, name: str) -> bytes:
    """The params of a tools/call with another name in them; all else raw as before."""
    members: dict[str, bytes | rawjson.Raw] = dict(rawjson.fields(params))
    members["name"] = rawjson.quote(name)
    return rawjson.object_of(members)


def progress_token(params: bytes | rawjson.Raw) -> bytes:
    """The raw progress token in params; empty when there is none."""
    try:
        token = rawjson.fields(rawjson.fields(params)["_meta"])["progressToken"]
    except (KeyError, rawjson.NotJson):
        return b""
    return bytes(token)


def with_progress_token(params: bytes | rawjson.Raw, token: bytes) -> bytes:
    """Params that hold a progress token, with another one in its place."""
    members: dict[str, bytes | rawjson.Raw] = dict(rawjson.fields(params))
    meta: dict[str, bytes | rawjson.Raw] = dict(rawjson.fields(members["_meta"]))
    meta["progressToken"] = token
    members["_meta"] = rawjson.object_of(meta)
    return rawjson.object_of(members)


def cancelled_id(params: rawjson.Raw) -> bytes:
    """The raw id of the request that a notifications/cancelled names; empty when it names none."""
    try:
        return bytes(rawjson.fields(params).get("requestId", b""))
    except rawjson.NotJson:
        return b""
