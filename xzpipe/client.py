"""The calling side: initialize, list every tool, call one. On any channel that carries messages.

Ids count from 1, not 0: endpoint servers in use lose requests with id 0 (wire.md §3).
"""

from collections.abc import Callable, Mapping
from itertools import count
from typing import Any

import anyio
import msgspec

from xzpipe.core import jsonrpc, rawjson
from xzpipe.core.handshake import INITIALIZE
from xzpipe.errors import CallError

ANSWER_WITHIN = 310.0  # seconds; a bridge gives up on a tool after 300 and says so itself
MAX_PAGES = 200


class Session:
    """A conversation with a bridge's hub, or with the calling side of an endpoint.

    `send` queues a message; whoever reads the channel hands every message to `receive`, and says
    `lost` when it ends. Requests raise `CallError`.
    """

    def __init__(
        self, send: Callable[[bytes], object], answer_within: float = ANSWER_WITHIN
    ) -> None:
        self._send = send
        self._answer_within = answer_within
        self._ids = count(1)
        self._answers: dict[int, jsonrpc.Message] = {}
        self._arrived: dict[int, anyio.Event] = {}
        self._lost = ""

    def receive(self, text: bytes) -> bool:
        """Take a message from the channel. True: there is always room for it."""
        try:
            message = jsonrpc.parse(text)
            number = int(bytes(message.id))
        except ValueError:
            return True  # a notification, or nothing that was asked for
        if message.method is None and number in self._arrived:
            self._answers.setdefault(number, message)
            self._arrived[number].set()
        return True

    def lost(self, why: str) -> None:
        """The channel has ended: nobody needs to wait any more."""
        self._lost = why
        for arrived in self._arrived.values():
            arrived.set()

    async def initialize(self) -> dict[str, Any]:
        """Say hello; the peer's initialize result."""
        result = await self.request("initialize", msgspec.Raw(INITIALIZE))
        self._send(jsonrpc.notification("notifications/initialized"))
        return result

    async def tools(self) -> list[dict[str, Any]]:
        """Every tool, from all pages."""
        found: list[dict[str, Any]] = []
        params: dict[str, Any] = {}
        for _ in range(MAX_PAGES):
            page = await self.request("tools/list", params)
            tools = page.get("tools")
            if not isinstance(tools, list) or not all(isinstance(each, dict) for each in tools):
                raise CallError("the answer to tools/list is not a list of tools")
            found += tools
            if not page.get("nextCursor"):
                break
            params = {"cursor": page["nextCursor"]}
        return found

    async def call(self, tool: str, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Call a tool; its result as it came, `isError` included."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments})

    async def request(self, method: str, params: object) -> dict[str, Any]:
        """Ask, and wait for the answer."""
        number = next(self._ids)
        arrived = self._arrived[number] = anyio.Event()
        try:
            if not self._lost:
                self._send(jsonrpc.request(number, method, msgspec.json.encode(params)))
                with anyio.move_on_after(self._answer_within):
                    await arrived.wait()
            answer = self._answers.pop(number, None)
        finally:
            del self._arrived[number]
        if answer is None:
            raise CallError(f"no answer to {method}: {self._lost or 'time is up'}")
        if len(answer.error):
            raise CallError(_in_words(answer.error))
        try:
            return msgspec.json.decode(answer.result, type=dict[str, Any])
        except msgspec.DecodeError:
            raise CallError(f"the answer to {method} is not a JSON object") from None


def _in_words(error: rawjson.Raw) -> str:
    try:
        found = rawjson.fields(error)
    except rawjson.NotJson:
        found = {}
    code = bytes(found.get("code", b"no code")).decode()
    return f"{rawjson.text(found.get('message')) or 'an error'} ({code})"
