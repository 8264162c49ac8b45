"""The calling side of MCP, for tests: frames out, frames in, answers matched to requests.

A transport implements `send_raw`, and calls `_arrived(frame)` and `_ended()`. Waits are bounded.
"""

import asyncio
import contextlib
import json
from collections import deque
from collections.abc import Callable
from typing import Any

import anyio

WAIT = 10.0  # seconds; no wait of the kit is longer unless its caller says so

# What the official broker says (wire.md §2).
INITIALIZE = {
    "protocolVersion": "2024-11-05",
    "capabilities": {"sampling": {}, "roots": {"listChanged": False}},
    "clientInfo": {"name": "xz-mcp-broker", "version": "0.0.1"},
}


class Gone(Exception):
    """The other side went away before what was waited for came."""


class Bell:
    """Wakes everyone who waits for a condition. Ring it after a change that may fulfil one."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        self._event.set()
        self._event = asyncio.Event()

    async def until(self, condition: Callable[[], object], timeout: float = WAIT) -> None:
        with anyio.fail_after(timeout):
            while not condition():
                await self._event.wait()


class Session:
    """One client's conversation with one MCP server. Requests may be in flight side by side.

    `frames` are all frames received so far, as bytes; `inbox` holds those that answer no request.
    """

    def __init__(self) -> None:
        self.frames: list[bytes] = []
        self.initialized: dict[str, Any] = {}  # the result of initialize
        self.gone = False
        self._unread: deque[bytes] = deque()
        self._waiting: dict[str, asyncio.Future[dict[str, Any] | None]] = {}
        self._bell = Bell()
        self._next_id = 0

    # -- frames ------------------------------------------------------------------------------------

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        raise NotImplementedError

    async def send(self, message: object) -> None:
        """Send text as it is, bytes as a binary frame, anything else as compact JSON."""
        if isinstance(message, bytes):
            await self.send_raw(message, binary=True)
        else:
            await self.send_raw(message.encode() if isinstance(message, str) else dump(message))

    @property
    def inbox(self) -> list[Any]:
        """The unread frames: parsed, or bytes where they are not JSON."""
        return [parse(frame) for frame in self._unread]

    async def receive(self, timeout: float = WAIT) -> Any:
        """The next unread frame, parsed; bytes if it is not JSON."""
        return parse(await self.receive_raw(timeout))

    async def receive_raw(self, timeout: float = WAIT) -> bytes:
        """The next unread frame."""
        await self._bell.until(lambda: self._unread or self.gone, timeout)
        if not self._unread:
            raise Gone("it went away, and nothing more was received")
        return self._unread.popleft()

    def _arrived(self, frame: bytes) -> None:
        self.frames.append(frame)
        message = parse(frame)
        waiting = None
        if isinstance(message, dict) and "method" not in message:
            waiting = self._waiting.get(key(message.get("id")))
        if waiting is None or waiting.done():
            self._unread.append(frame)
        else:
            waiting.set_result(message)
        self._bell.ring()

    def _ended(self) -> None:
        self.gone = True
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_result(None)
        self._bell.ring()

    async def until(self, condition: Callable[[], object], timeout: float = WAIT) -> None:
        """Wait until the condition holds; it is asked again after each frame, and at the end."""
        await self._bell.until(condition, timeout)

    # -- requests ----------------------------------------------------------------------------------

    async def notify(self, method: str, params: object = None) -> None:
        message: dict[str, Any] = {"jsonrpc": "2.0", "method": method}
        await self.send(message if params is None else message | {"params": params})

    async def start(self, method: str, params: object = None, *, id: Any = None) -> Any:
        """Send a request; its id (the next number unless given), for `answer`."""
        if id is None:
            id, self._next_id = self._next_id, self._next_id + 1
        assert key(id) not in self._waiting, f"id {id!r} is in flight"
        self._waiting[key(id)] = asyncio.get_running_loop().create_future()
        params = {} if params is None else params
        # The broker's order of members.
        await self.send({"id": id, "jsonrpc": "2.0", "method": method, "params": params})
        return id

    async def answer(self, id: Any, timeout: float = WAIT) -> dict[str, Any]:
        """The response to the request started with that id. Gone if the other side went first."""
        try:
            with anyio.fail_after(timeout):
                message = await self._waiting[key(id)]
        finally:
            del self._waiting[key(id)]
        if message is None:
            raise Gone(f"it went away before it answered {id!r}")
        return message

    async def request(
        self, method: str, params: object = None, *, id: Any = None, timeout: float = WAIT
    ) -> dict[str, Any]:
        """The whole response, be it a result or an error."""
        return await self.answer(await self.start(method, params, id=id), timeout)

    async def ping(self, timeout: float = WAIT) -> None:
        answer = await self.request("ping", timeout=timeout)
        assert answer.get("result") == {}, answer

    async def handshake(self, timeout: float = WAIT) -> dict[str, dict[str, Any]]:
        """initialize, initialized and tools/list as the broker sends them; the tools by name."""
        answer = await self.request("initialize", INITIALIZE, timeout=timeout)
        assert "result" in answer, answer
        self.initialized = answer["result"]
        await self.notify("notifications/initialized")
        answer = await self.request("tools/list", timeout=timeout)
        assert "result" in answer, answer
        return {tool["name"]: tool for tool in answer["result"]["tools"]}

    async def start_call(
        self, name: str, arguments: object = None, *, id: Any = None, **more: object
    ) -> Any:
        """Start a tools/call as the broker sends it; `more` are further params, such as _meta."""
        arguments = {} if arguments is None else arguments
        params = {"name": name, "arguments": arguments, "serialNumber": None, **more}
        return await self.start("tools/call", params, id=id)

    async def call(
        self,
        name: str,
        arguments: object = None,
        *,
        id: Any = None,
        timeout: float = WAIT,
        **more: object,
    ) -> dict[str, Any]:
        """Call a tool; the whole response, be it a result or an error."""
        return await self.answer(await self.start_call(name, arguments, id=id, **more), timeout)


def text(answer: dict[str, Any]) -> str:
    """The text of a tool's answer."""
    assert "result" in answer, answer
    return "".join(part["text"] for part in answer["result"]["content"])


def value(answer: dict[str, Any]) -> Any:
    """What the JSON text of a tool's answer holds."""
    return json.loads(text(answer))


def key(id: object) -> str:
    return json.dumps(id)  # 1, "1", 1.0 and true are four ids


def parse(frame: bytes) -> Any:
    with contextlib.suppress(ValueError, RecursionError):
        return json.loads(frame)
    return frame


def dump(message: object) -> bytes:
    """Compact JSON in UTF-8, as the broker writes it; in ASCII if there are lone surrogates."""
    try:
        return json.dumps(message, ensure_ascii=False, separators=(",", ":")).encode()
    except UnicodeEncodeError:
        return json.dumps(message, separators=(",", ":")).encode()
