"""The calling side of an endpoint server: conversations that share one connection of the bridge.

As mcp-endpoint-server 0.0.6 forwards (wire.md §3): the ids of all robots are made unlike each
other, and only what answers one of them comes back.
"""

import asyncio
import json
import re
from collections.abc import Awaitable, Callable
from typing import Any
from uuid import uuid4

import anyio

from tests.servers.session import WAIT, Gone, Session, dump, key, parse

# What xiaozhi-server says, once for each conversation of a device (wire.md §3).
GREETING = {
    "protocolVersion": "2024-11-05",
    "capabilities": {"roots": {"listChanged": True}, "sampling": {}},
    "clientInfo": {"name": "XiaozhiMCPEndpointClient", "version": "1.0.0"},
}
NOT_CONNECTED = -32001
NOT_FORWARDED = -32002

Forward = Callable[[bytes], Awaitable[None]]  # raises Gone
_rewritten = re.compile(r"([0-9a-f-]{36})_([ns])_(.*)", re.DOTALL).fullmatch


class Robot(Session):
    """One conversation of a device. `forward` tells the way to the bridge; None: there is none."""

    def __init__(self, forward: Callable[[], Forward | None]) -> None:
        super().__init__()
        self._next_id = 1  # nobody is told of the answer to 0
        self.uuid = str(uuid4())
        self._forward = forward

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        """Hand a frame to the endpoint server, which forwards it, drops it, or refuses it."""
        message = parse(data)
        if isinstance(message, list):
            return
        id = message.get("id") if isinstance(message, dict) else None
        forward = self._forward()
        if forward is None:
            self._refused(id, NOT_CONNECTED, "工具端未连接")
            return
        try:
            await forward(dump(message | {"id": self._inner(id)}) if id else data)
        except Gone:
            self._refused(id, NOT_FORWARDED, "转发消息失败")

    def answered(self, message: dict[str, Any], id: object) -> None:
        """The bridge answered the request of this id."""
        self._arrived(dump(message | {"id": id}))

    def _inner(self, id: object) -> str:
        return f"{self.uuid}_{'n' if isinstance(id, int) else 's'}_{id}"

    def _refused(self, id: object, code: int, words: str) -> None:
        error = {"code": code, "message": words}
        self._arrived(dump({"jsonrpc": "2.0", "id": id, "result": None, "error": error}))

    # -- what clients say --------------------------------------------------------------------------

    async def handshake(self, timeout: float = WAIT) -> dict[str, dict[str, Any]]:
        """All that xiaozhi-server says at first, without waiting in between; the tools by name.

        Its calls are numbered from 1, as if the ids 1 and 2 had not been used."""
        with anyio.fail_after(timeout):
            await self._ask(1, "initialize", params=GREETING)
            await self.notify("notifications/initialized", {})
            await self._ask(2, "tools/list")
            self.initialized = await self._result(1)
            tools = []
            while cursor := (page := await self._result(2)).get("nextCursor"):
                tools += page["tools"]
                await self._ask(2, "tools/list", params={"cursor": cursor})
            return {tool["name"]: tool for tool in [*tools, *page["tools"]]}

    async def refresh(self) -> list[str]:
        """What the console says when somebody presses "refresh"; the names of the tools.

        With `params: null`, to which some servers fall silent (wire.md §6)."""
        await self._ask(1, "initialize", params=GREETING)
        await self._result(1)
        await self.notify("notifications/initialized")
        await self._ask(2, "tools/list", params=None)
        return [tool["name"] for tool in (await self._result(2))["tools"]]

    async def _ask(self, id: int, method: str, **members: object) -> None:
        self._waiting[key(id)] = asyncio.get_running_loop().create_future()
        await self.send({"jsonrpc": "2.0", "method": method, **members, "id": id})

    async def _result(self, id: int) -> dict[str, Any]:
        answer = await self.answer(id)
        assert "result" in answer and "error" not in answer, answer
        return answer["result"]


def addressee(id: object) -> tuple[str, object] | None:
    """The robot's uuid and its own id, from the id of an answer; None if it is for no robot."""
    found = _rewritten(id) if isinstance(id, str) else None
    if found is None:
        return None
    uuid, kind, own = found.groups()
    return uuid, json.loads(own) if kind == "n" else own
