"""The calling side: initialize, list every tool, call one. On any channel that carries messages.

Ids count from 1, not 0: endpoint servers in use lose requests with id 0 (wire.md §3). Values are
read and written by the standard library's json: msgspec refuses half of a surrogate pair,
which is legal.
"""

import json
from collections.abc import Callable, Mapping
from itertools import count
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


class Session:
    """A conversation with a bridge's hub, or with the calling side of an endpoint.

    `send` queues a message; whoever reads the channel hands every message to `receive`, and says
    `lost` when it ends. Requests raise `CallError`, or `UsageError` for what cannot be asked.
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
        self._lost = ""

    def receive(self, text: bytes) -> bool:
        """Take a message from the channel. True: there is always room for it."""
        message = _response(text)
        if message is None:
            return True
        id = bytes(message.id)
        if id == rawjson.NULL and len(message.error) and len(self._arrived) == 1:
            [id] = self._arrived  # it could not read what it was asked
        if id in self._arrived:
            self._answers.setdefault(id, message)
            self._arrived[id].set()
        return True

    def lost(self, why: str) -> None:
        """The channel has ended: nobody needs to wait any more."""
        self._lost = why
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

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; its result as it came, `isError` included."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def request(self, method: str, params: object) -> dict[str, Any]:
        """Ask, and wait for the answer."""
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
            raise CallError(f"no answer to {method}: {self._lost or 'time is up'}")
        if len(answer.error):
            raise CallError(_in_words(answer.error))
        return _decoded(method, bytes(answer.result))


def _response(text: bytes) -> jsonrpc.Message | None:
    """The response that a message is; an error in place of one that cannot be read."""
    try:
        message = jsonrpc.parse(text)
    except jsonrpc.Malformed as bad:
        id = answered_id(text[:WINDOW]) or answered_id(text[-WINDOW:])
        if id is None:
            return None
        message = jsonrpc.parse(jsonrpc.fault(id, bad.code, f"the answer cannot be read: {bad}"))
    return message if message.method is None else None


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


def _in_words(error: rawjson.Raw) -> str:
    try:
        found = rawjson.fields(error)
    except rawjson.NotJson:
        found = {}
    code = bytes(found.get("code", b"no code")).decode()
    return f"{rawjson.text(found.get('message')) or 'an error'} ({code})"
