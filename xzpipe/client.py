"""The calling side: initialize, list every tool, call one. On any channel that carries messages.

Ids count from 1, not 0: endpoint servers in use lose requests with id 0 (wire.md §3). Values are
read and written by the standard library's json: msgspec refuses half of a surrogate pair,
which is legal.
"""

import json
from collections.abc import Callable, Mapping
from itertools import count
from math import isfinite
from typing import Any

import anyio

from xzpipe.core import jsonrpc, rawjson
from xzpipe.core.handshake import INITIALIZE
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.lines import WINDOW, answered_id
from xzpipe.core.tools import MAX_PAGES
from xzpipe.errors import CallError, UsageError

GRACE = 10.0  # seconds; whoever is nearer to the server gives up before, and says what happened
ANSWER_WITHIN = CALL_TIMEOUT + GRACE
CONNECT_WITHIN = 8.0  # seconds; as the console (wire.md §3)
PROGRESS = "notifications/progress"

# is told how far a call is, of how much where that is known, and what is being done
Watch = Callable[[float, float | None, str], object]

NO_SERVER = "no MCP server is connected to this endpoint"
_CONNECT_ONE = "Connect one, at the address with /mcp/: MCP_ENDPOINT='…' xzpipe run -- COMMAND ARG…"
_NOT_NOW = "no MCP server answers for this tool now"
_TRY_AGAIN = "It may be starting anew: try again in a moment"


class Refused(CallError):
    """A request was answered with a JSON-RPC error, which has this code."""

    def __init__(self, words: str, code: float | None) -> None:
        super().__init__(words)
        self.code = code


class Session:
    """A conversation with a bridge's hub, or with the calling side of an endpoint.

    `send` queues a message; whoever reads the channel hands every message to `receive`, and says
    `lost` when it ends. Requests raise `CallError`, or `UsageError` for what cannot be asked. The
    method last asked is in `asks`.
    """

    def __init__(
        self,
        send: Callable[[bytes], object],
        answer_within: float = ANSWER_WITHIN,
        user_tools: bool = False,
    ) -> None:
        """`answer_within` is in seconds. `user_tools`: list what only users are shown, too."""
        self._send = send
        self._asked: dict[str, Any] = {"withUserTools": True} if user_tools else {}
        self.answer_within = answer_within
        self._ids = count(1)
        self._answers: dict[bytes, jsonrpc.Message] = {}  # by the raw id, as are the events
        self._arrived: dict[bytes, anyio.Event] = {}
        self._tokens = count(1)
        self._watched: dict[bytes, Watch] = {}  # by the raw progress token
        self.asks = ""
        self._lost = self._remedy = ""

    def receive(self, text: bytes) -> bool:
        """Take a message from the channel. True: there is always room for it."""
        message = _readable(text)
        if message is None:
            return True
        if message.method is not None:
            if message.method == PROGRESS and self._watched:
                self._moved(message.params)
            return True
        id = bytes(message.id)
        if id == rawjson.NULL and len(message.error) and len(self._arrived) == 1:
            [id] = self._arrived  # it could not read what it was asked
        if id in self._arrived:
            self._answers.setdefault(id, message)
            self._arrived[id].set()
        return True

    def lost(self, why: str, remedy: str = "") -> None:
        """The channel has ended: nobody needs to wait any more."""
        self._lost, self._remedy = why, remedy
        for arrived in self._arrived.values():
            arrived.set()

    async def initialize(self) -> dict[str, Any]:
        """Say hello; the peer's initialize result."""
        result = await self.request("initialize", json.loads(INITIALIZE))
        self._send(jsonrpc.notification("notifications/initialized"))
        return result

    async def tools(self) -> list[dict[str, Any]]:
        """Every tool, from all pages."""
        found: list[dict[str, Any]] = []
        params = self._asked
        for _ in range(MAX_PAGES):
            page = await self.request("tools/list", params)
            tools = page.get("tools")
            if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
                raise CallError("the answer to tools/list is not a list of tools")
            found += tools
            if not page.get("nextCursor"):
                break
            params = {**self._asked, "cursor": page["nextCursor"]}
        return found

    async def call(
        self, tool: str, arguments: Mapping[str, Any], watch: Watch | None = None
    ) -> dict[str, Any]:
        """Call a tool; its result as it came, `isError` included. With `watch`, it is asked to tell
        of its progress, and `watch` is told."""
        params = {"name": tool, "arguments": arguments}
        if watch is None:
            return await self.request("tools/call", params)
        token = next(self._tokens)
        self._watched[b"%d" % token] = watch
        try:
            return await self.request("tools/call", {**params, "_meta": {"progressToken": token}})
        finally:
            del self._watched[b"%d" % token]

    async def request(self, method: str, params: object) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        self.asks = method
        number = next(self._ids)
        question = jsonrpc.request(number, method, _encoded(params))
        id = b"%d" % number
        arrived = self._arrived[id] = anyio.Event()
        try:
            if not self._lost:
                self._send(question)
                with anyio.move_on_after(self.answer_within):
                    await arrived.wait()
            answer = self._answers.pop(id, None)
        finally:
            del self._arrived[id]
        if answer is None:
            why = self._lost or f"{self.answer_within:g} s are over"
            raise CallError(f"no answer to {method}: {why}", self._remedy)
        if len(answer.error):
            raise _refused(answer.error)
        return _decoded(method, bytes(answer.result))

    def _moved(self, params: rawjson.Raw) -> None:
        """Pass news of progress to who watches that call; what is none is no reason to fail."""
        try:
            told = rawjson.fields(params)
        except rawjson.NotJson:
            return
        watch = self._watched.get(bytes(told.get("progressToken", b"")))
        done = _number(told.get("progress"))
        if watch and done is not None:
            watch(done, _number(told.get("total")), rawjson.text(told.get("message")) or "")


class EndpointSession(Session):
    """A session with the servers that are connected to an endpoint, of which there may be none."""

    async def tools(self) -> list[dict[str, Any]]:
        """Every tool, from all pages, of which there is at least one. Raises `CallError`."""
        found = await super().tools()
        if not found:
            raise CallError(f"{NO_SERVER}, or none that has a tool", _CONNECT_ONE)
        return found

    async def request(self, method: str, params: object) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        try:
            return await super().request(method, params)
        except Refused as refused:
            if refused.code != jsonrpc.NOT_CONNECTED:
                raise
            if method != "tools/call":
                raise CallError(NO_SERVER, _CONNECT_ONE) from None
            # it was listed: its server has left since, or is one that says the same of another
            raise CallError(f"{_NOT_NOW}: {refused.message}", _TRY_AGAIN) from None


def _readable(text: bytes) -> jsonrpc.Message | None:
    """A message; an error in place of an answer that cannot be read."""
    try:
        return jsonrpc.parse(text)
    except jsonrpc.Malformed as bad:
        id = answered_id(text[:WINDOW]) or answered_id(text[-WINDOW:])
        if id is None:
            return None
        return jsonrpc.parse(jsonrpc.fault(id, bad.code, f"the answer cannot be read: {bad}"))


def _encoded(params: object) -> bytes:
    try:
        return json.dumps(params, allow_nan=False).encode()
    except RecursionError:
        raise UsageError("the arguments are nested too deeply") from None
    except ValueError:
        raise UsageError("JSON has no form for NaN and infinite numbers") from None


def _decoded(method: str, text: bytes) -> dict[str, Any]:
    try:
        result = json.loads(text)
    except RecursionError:
        raise CallError(f"the answer to {method} is nested too deeply") from None
    except ValueError as error:  # a number of thousands of digits
        raise CallError(f"the answer to {method} cannot be read: {error}") from None
    if not isinstance(result, dict):
        raise CallError(f"the answer to {method} is not a JSON object")
    return result


def _refused(error: rawjson.Raw) -> Refused:
    try:
        found = rawjson.fields(error)
    except rawjson.NotJson:
        found = {}
    code = bytes(found.get("code", b"no code")).decode()
    words = f"{rawjson.text(found.get('message')) or 'an error'} ({code})"
    return Refused(words, _number(found.get("code")))


def _number(raw: rawjson.Raw | None) -> float | None:
    """The finite number that a raw value is; None if it is anything else, or absent."""
    try:
        value = float(bytes(raw or b""))
    except ValueError:
        return None
    return value if isfinite(value) else None
