"""The far end: it plays the broker over WebSockets, or drives a server by its pipes.

It runs on the cores that the bridge needs too, so it does the least it can: a WebSocket server of
its own, of which a call costs a few µs, requests from a template, and one comparison of bytes to
see that an answer is the right one.
"""

import asyncio
import contextlib
import json
import struct
from asyncio import SubprocessTransport, Transport
from base64 import b64encode
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from hashlib import sha1
from time import perf_counter
from typing import Any

from websockets.speedups import apply_mask

WAIT = 30.0  # seconds; nothing takes that long unless something is broken
FIRST_ID = 1_000_000  # all ids have as many digits, so all frames of a run have the same header
START = b'{"jsonrpc":"2.0","id":'
SHARE = 100_000  # ids for each of those who share a connection: the second digit tells them apart
TELLS = len(START) + 1

Receive = Callable[[bytes], None]


@dataclass(frozen=True)
class Run:
    """What a run of calls took: the whole, and each call (in seconds)."""

    seconds: float
    latencies: list[float]


class Peer:
    """Whoever can be sent messages, and whose messages go to `receive`. It has the tool `tool`, and
    is called with ids from `first_id`."""

    def __init__(self, tool: str = "echo", first_id: int = FIRST_ID) -> None:
        self.tool = tool
        self.first_id = first_id
        self.receive: Receive = lambda message: None

    def head(self, size: int) -> bytes:
        """What stands before a message of this size."""
        raise NotImplementedError

    def tail(self) -> bytes:
        """What stands behind it."""
        return b""

    def write(self, data: bytes) -> None:
        raise NotImplementedError

    async def ask(self, id: int, method: str, params: dict[str, Any]) -> dict[str, Any]:
        """One request, and its answer."""
        answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.receive = answer.set_result
        self.tell({"jsonrpc": "2.0", "id": id, "method": method, "params": params})
        return json.loads(await asyncio.wait_for(answer, WAIT))

    def tell(self, message: dict[str, Any]) -> None:
        text = json.dumps(message).encode()
        self.write(self.head(len(text)) + text + self.tail())

    async def handshake(self) -> list[str]:
        """Initialize, and list the tools."""
        client = {"name": "benchmark", "version": "1"}
        params = {"protocolVersion": "2024-11-05", "capabilities": {}, "clientInfo": client}
        await self.ask(1, "initialize", params)
        self.tell({"jsonrpc": "2.0", "method": "notifications/initialized"})
        listed = await self.ask(2, "tools/list", {})
        return [tool["name"] for tool in listed["result"]["tools"]]


class SocketPeer(Peer, asyncio.Protocol):
    """A WebSocket that was accepted."""

    def __init__(self, opened: Callable[["SocketPeer"], None]) -> None:
        super().__init__()
        self._opened = opened
        self._buffer = b""
        self._upgraded = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: Transport = transport  # type: ignore[assignment]
        self.write = self.transport.write

    def head(self, size: int) -> bytes:
        return header(0x81, size)

    def data_received(self, data: bytes) -> None:
        self._buffer = self._buffer + data if self._buffer else data
        if not self._upgraded:
            self._upgrade()
            return
        self._frames()

    def _upgrade(self) -> None:
        request, end, rest = self._buffer.partition(b"\r\n\r\n")
        if not end:
            return
        self._upgraded = True
        self._buffer = rest
        fields = dict(line.split(b": ", 1) for line in request.split(b"\r\n")[1:])
        key = next(value for name, value in fields.items() if name.lower() == b"sec-websocket-key")
        accept = b64encode(sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self.write(
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
        )
        self._opened(self)

    def _frames(self) -> None:
        buffer, at = self._buffer, 0
        while len(buffer) - at >= 6:
            size, start = buffer[at + 1] & 0x7F, at + 6
            if size == 126:
                size, start = int.from_bytes(buffer[at + 2 : at + 4]), at + 8
            elif size == 127:
                size, start = int.from_bytes(buffer[at + 2 : at + 10]), at + 14
            end = start + size
            if end > len(buffer):
                break
            payload = apply_mask(buffer[start:end], buffer[start - 4 : start])
            if buffer[at] == 0x81:
                self.receive(payload)
            elif buffer[at] == 0x89:
                self.write(header(0x8A, size) + payload)
            elif buffer[at] == 0x88:
                self.write(header(0x88, size) + payload)
                self.transport.close()
            at = end
        self._buffer = buffer[at:]


def header(first: int, size: int) -> bytes:
    """The header of a frame without a mask."""
    if size < 126:
        return bytes((first, size))
    if size < 2**16:
        return struct.pack("!BBH", first, 126, size)
    return struct.pack("!BBQ", first, 127, size)


class PipePeer(Peer, asyncio.SubprocessProtocol):
    """A server that is our own child: the floor, with no bridge at all."""

    def __init__(self) -> None:
        super().__init__()
        self._begun = b""
        self._ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport: SubprocessTransport = transport  # type: ignore[assignment]
        self.write = self.transport.get_pipe_transport(0).write  # type: ignore[union-attr]

    def head(self, size: int) -> bytes:
        return b""

    def tail(self) -> bytes:
        return b"\n"

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        *lines, self._begun = (self._begun + data).split(b"\n")
        for line in lines:
            self.receive(line)

    def process_exited(self) -> None:
        self._ended.set_result(None)

    async def close(self) -> None:
        """End the server by the end of its input."""
        self.transport.get_pipe_transport(0).close()  # type: ignore[union-attr]
        await asyncio.wait_for(self._ended, WAIT)
        self.transport.close()


class Part(Peer):
    """One of up to ten tools behind a connection, with ids of its own."""

    def __init__(self, whole: Peer, tool: str, number: int) -> None:
        super().__init__(tool, FIRST_ID + number * SHARE)
        self.head, self.tail, self.write = whole.head, whole.tail, whole.write


def parted(whole: Peer, tools: Sequence[str]) -> list[Peer]:
    """A connection as several peers, one for each of its tools."""
    parts: list[Peer] = [Part(whole, tool, number) for number, tool in enumerate(tools)]

    def receive(message: bytes) -> None:
        parts[message[TELLS] - ord("0")].receive(message)

    whole.receive = receive
    return parts


class Broker:
    """A listening endpoint: `url`, and the peers that dialled it, in order."""

    def __init__(self) -> None:
        self.url = ""
        self._peers: asyncio.Queue[SocketPeer] = asyncio.Queue()

    async def accept(self, tools: Sequence[str] = ("echo",)) -> SocketPeer:
        """The next peer that has these tools, with its handshake done. One that has not all of them
        yet will connect again when it has."""
        while True:
            peer = await asyncio.wait_for(self._peers.get(), WAIT)
            found = await peer.handshake()
            if sorted(found) == sorted(tools):
                return peer
            if not set(found) < set(tools):
                raise RuntimeError("not the tools of the echo server")

    @contextlib.asynccontextmanager
    async def listening(self) -> AsyncIterator["Broker"]:
        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: SocketPeer(self._peers.put_nowait), "127.0.0.1")
        self.url = (
            f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/mcp/?token=5aa1c7c0e2b14f0b"
        )
        try:
            yield self
        finally:
            server.close()


@contextlib.asynccontextmanager
async def directly(argv: Sequence[str]) -> AsyncIterator[PipePeer]:
    """A server driven by its pipes, with its handshake done."""
    loop = asyncio.get_running_loop()
    _, peer = await loop.subprocess_exec(PipePeer, *argv, stderr=None)
    try:
        await peer.handshake()
        yield peer
    finally:
        await peer.close()


class Calls:
    """So many calls of its tool to one peer, some in flight at a time; each answer is checked."""

    def __init__(self, peer: Peer, size: int, count: int, in_flight: int) -> None:
        text = b"x" * size
        start, tool = START, peer.tool.encode()
        params = b'{"name":"%b","arguments":{"text":"%b"}}' % (tool, text)
        rest = b',"method":"tools/call","params":%b}' % params
        length = len(start) + len(str(FIRST_ID)) + len(rest)
        self._peer = peer
        self._start = peer.head(length) + start
        self._rest = rest + peer.tail()
        self._expected = (
            start + b'%d,"result":{"content":[{"type":"text","text":"' + text + b'"}]}}'
        )
        self._next = self._awaited = peer.first_id
        self._last = peer.first_id + count
        self._in_flight = in_flight
        self._asked: deque[float] = deque()
        self._latencies: list[float] = []

    async def run(self) -> list[float]:
        """Make them; what each took, in seconds."""
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._peer.receive = self._answered
        for _ in range(min(self._in_flight, self._last - self._next)):
            self._ask()
        await asyncio.wait_for(self._done, WAIT)
        return self._latencies

    def _ask(self) -> None:
        self._asked.append(perf_counter())
        self._peer.write(b"%b%d%b" % (self._start, self._next, self._rest))
        self._next += 1

    def _answered(self, message: bytes) -> None:
        if message != self._expected % self._awaited:
            self._done.set_exception(RuntimeError(f"not the answer expected: {message[:300]!r}"))
            return
        self._latencies.append(perf_counter() - self._asked.popleft())
        self._awaited += 1
        if self._next < self._last:
            self._ask()
        elif self._awaited == self._last:
            self._done.set_result(None)


async def drive(peers: Sequence[Peer], size: int, count: int, in_flight: int) -> Run:
    """`count` calls with texts of `size` bytes, with `in_flight` at a time, over all of `peers`."""
    share, each = max(1, count // len(peers)), max(1, in_flight // len(peers))
    calls = [Calls(peer, size, share, each) for peer in peers]
    begun = perf_counter()
    taken = await asyncio.gather(*(each.run() for each in calls))
    return Run(perf_counter() - begun, [one for latencies in taken for one in latencies])
