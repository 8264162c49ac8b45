"""A scripted Xiaozhi broker on real sockets, and a wire that can be frozen and cut.

    async with broker() as endpoint:
        start_the_bridge(endpoint.url)
        peer = await endpoint.accept()
        tools = await peer.handshake()
        answer = await peer.call("echo", {"text": "hello"})

Or a self-hosted endpoint server, which keeps one connection per token and says nothing by itself:

    async with broker(one_per_token=True) as endpoint:
        start_the_bridge(endpoint.url)
        await endpoint.until(endpoint.registered)
        tools = await endpoint.robot().handshake()

Every wait is bounded; nothing sleeps.
"""

import asyncio
import contextlib
import http
import socket
import struct
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import anyio
from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response

from tests.robots import Forward, Robot, addressee
from tests.servers.session import WAIT, Bell, Gone, Session, parse

__all__ = ["TOKEN", "Attempt", "Broker", "Gone", "Peer", "Robot", "Wire", "broker", "wire"]

TOKEN = "SECRET-TOKEN-eyJhbGciOiJFUzI1NiJ9"
REPLACED = "新连接替换"  # wire.md §3
DEFAULT_SERVER = "default"
FOREVER = float("inf")


@dataclass(frozen=True)
class Attempt:
    """One upgrade request that reached the broker, and the HTTP status it got (101: accepted)."""

    at: float  # time.monotonic()
    status: int
    path: str  # with the query
    headers: Headers


@dataclass
class Step:
    """What the next attempts meet instead of a peer: a refusal, or a close at once."""

    times: float
    status: int = 101
    headers: Mapping[str, str] | None = None
    code: int = 1000
    reason: str = ""


@dataclass(frozen=True)
class SelfHosted:
    """One connection per token: how the older one is told, whether its end makes the server forget
    the newer one, and how many seconds after a connection its handler ends."""

    evicts_with: str
    orphans: bool
    lingers: float


class Peer(Session):
    """The broker's end of one accepted connection."""

    def __init__(self, connection: ServerConnection, robots: Mapping[str, Robot]) -> None:
        super().__init__()
        self.connection = connection
        self._robots = robots
        self.path = connection.request.path
        self.headers = connection.request.headers
        self.tools: dict[str, dict] = {}
        self.binary_frames = 0
        self._reading = asyncio.Event()
        self._reading.set()

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        """Send these bytes as one frame, a text frame unless `binary`."""
        try:
            await self.connection.send(data, text=not binary)
        except ConnectionClosed as error:
            raise Gone(str(error)) from None

    async def handshake(self, timeout: float = WAIT) -> dict[str, dict]:
        self.tools = await super().handshake(timeout)
        return self.tools

    async def close(self, code: int = 1000, reason: str = "") -> None:
        await self.connection.close(code, reason)

    def reset(self) -> None:
        """Cut the TCP connection with a RST, without a close frame."""
        reset(self.connection.transport)

    async def closed(self, timeout: float = WAIT) -> tuple[int, str]:
        """The close code and reason, once the connection is closed; 1006 if no close frame came."""
        with anyio.fail_after(timeout):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason

    def stop_reading(self) -> None:
        """Take no more frames: the other side's writes fill the pipe and stall."""
        self._reading.clear()

    def read_again(self) -> None:
        self._reading.set()

    @property
    def place(self) -> tuple[str, str]:
        """Whose connection it is: the token, and which of several servers (wire.md §3)."""
        query = parse_qs(urlsplit(self.path).query)
        return query.get("token", [""])[0], query.get("server_id", [DEFAULT_SERVER])[0]

    def _arrived(self, frame: bytes) -> None:
        message = parse(frame) if self._robots else None
        if isinstance(message, dict) and "method" not in message:
            found = addressee(message.get("id"))
            if found and found[0] in self._robots:
                self.frames.append(frame)
                self._robots[found[0]].answered(message, found[1])
                return
        super()._arrived(frame)

    async def _pump(self) -> None:
        try:
            while True:
                await self._reading.wait()
                frame = await self.connection.recv()
                if isinstance(frame, bytes):
                    self.binary_frames += 1
                self._arrived(frame if isinstance(frame, bytes) else frame.encode())
        except ConnectionClosed:
            self._ended()


class Broker:
    """A listening endpoint. `attempts` are all upgrade requests; `accept` hands out the peers."""

    def __init__(
        self,
        *,
        auto: bool,
        ping_every: float | None,
        manner: SelfHosted | None,
        options: dict[str, object],
    ) -> None:
        self.attempts: list[Attempt] = []
        self.port = 0
        self._auto = auto
        self._ping_every = ping_every
        self._manner = manner
        self._registered: dict[tuple[str, str], Peer] = {}
        self._robots: dict[str, Robot] = {}
        self._options = options
        self._servers: list[Server] = []
        self._script: deque[Step] = deque()
        self._accepted: deque[Peer] = deque()
        self._peers: set[Peer] = set()
        self._bell = Bell()

    @property
    def url(self) -> str:
        return self.url_for()

    def url_for(self, token: str = TOKEN, path: str = "/mcp/") -> str:
        """Another endpoint on the same broker; `Peer.path` tells which one was dialled."""
        return f"ws://127.0.0.1:{self.port}{path}?token={token}"

    # -- the script --------------------------------------------------------------------------------

    def refuse(
        self, status: int, headers: Mapping[str, str] | None = None, *, times: int | None = 1
    ) -> None:
        """Answer the next attempts (None: all, until `relent`) with that status. Calls queue up."""
        self._script.append(Step(times or FOREVER, status, headers))

    def hang_up(self, code: int = 1000, reason: str = "", *, times: int | None = 1) -> None:
        """Accept the next attempts (None: all, until `relent`), and close each at once."""
        self._script.append(Step(times or FOREVER, code=code, reason=reason))

    def relent(self) -> None:
        """Forget the script: accept from now on."""
        self._script.clear()

    def stop_listening(self) -> None:
        """Refuse TCP connections. Those that stand go on."""
        self._servers[-1].close(close_connections=False)

    async def listen_again(self) -> None:
        """Listen on the same port again."""
        await self._listen()

    # -- what happened -----------------------------------------------------------------------------

    async def accept(self, timeout: float = WAIT) -> Peer:
        """The next accepted connection, the oldest first; with `auto`, after its handshake."""
        await self._bell.until(lambda: self._accepted, timeout)
        return self._accepted.popleft()

    async def attempted(self, number: int, timeout: float = WAIT) -> list[Attempt]:
        """All attempts, once there have been that many."""
        await self._bell.until(lambda: len(self.attempts) >= number, timeout)
        return self.attempts

    @property
    def connected(self) -> int:
        """How many connections are up now."""
        return len(self._peers)

    async def all_gone(self, timeout: float = WAIT) -> None:
        """Wait until no connection is up."""
        await self._bell.until(lambda: not self._peers, timeout)

    async def until(self, condition: Callable[[], object], timeout: float = WAIT) -> None:
        """Wait until the condition holds; it is asked again whenever a connection comes or goes."""
        await self._bell.until(condition, timeout)

    # -- with one connection per token -------------------------------------------------------------

    def registered(self, token: str = TOKEN, server_id: str = DEFAULT_SERVER) -> Peer | None:
        """The connection that robots reach. None: there is none, or one that was forgotten."""
        return self._registered.get((token, server_id))

    def robot(self, token: str = TOKEN, server_id: str = DEFAULT_SERVER) -> Robot:
        """A new conversation over whatever connection is registered at the time of each frame."""

        def forward() -> Forward | None:
            peer = self.registered(token, server_id)
            return peer and peer.send_raw

        robot = Robot(forward)
        self._robots[robot.uuid] = robot
        return robot

    async def _register(self, peer: Peer) -> None:
        """The newest connection takes the place; the older is told so and closed."""
        older = self._registered.get(peer.place)
        self._registered[peer.place] = peer
        self._bell.ring()
        if older:
            await older.close(1000, self._manner.evicts_with)

    def _unregister(self, peer: Peer) -> None:
        """The handler of a connection ends; with the bug, it forgets whichever is registered."""
        if self._manner.orphans or self._registered.get(peer.place) is peer:
            self._registered.pop(peer.place, None)

    # -- sockets -----------------------------------------------------------------------------------

    async def _listen(self) -> None:
        server = await serve(
            self._serve, "127.0.0.1", self.port, process_request=self._judge, **self._options
        )
        self._servers.append(server)
        self.port = server.sockets[0].getsockname()[1]

    def _judge(self, connection: ServerConnection, request: Request) -> Response | None:
        step = self._next_step()
        connection.step = step  # for _serve, which is called with nothing else
        status = step.status if step else 101
        self.attempts.append(Attempt(time.monotonic(), status, request.path, request.headers))
        self._bell.ring()
        if status == 101:
            return None
        body = b"refused by the script\n"
        headers = Headers({"Content-Length": str(len(body)), "Connection": "close"})
        headers.update(step.headers or {})
        return Response(status, http.HTTPStatus(status).phrase, headers, body)

    def _next_step(self) -> Step | None:
        if not self._script:
            return None
        step = self._script[0]
        step.times -= 1
        if step.times <= 0:
            self._script.popleft()
        return step

    async def _serve(self, connection: ServerConnection) -> None:
        if connection.step:
            await connection.close(connection.step.code, connection.step.reason)
            return
        peer = Peer(connection, self._robots)
        self._peers.add(peer)
        try:
            if self._manner:
                await self._register(peer)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._introduce, peer)
                await peer._pump()
                tasks.cancel_scope.cancel()
        finally:
            if self._manner:
                await anyio.sleep(self._manner.lingers)
                self._unregister(peer)
            self._peers.discard(peer)
            self._bell.ring()

    async def _introduce(self, peer: Peer) -> None:
        """Hand the peer out; with `auto`, shake hands first and ping from then on."""
        # A connection that dies, or an answer that does not come, is the test's business, not ours.
        with contextlib.suppress(Gone, TimeoutError):
            if self._auto:
                await peer.handshake()
            self._accepted.append(peer)
            self._bell.ring()
            while self._auto and self._ping_every:
                await anyio.sleep(self._ping_every)
                await peer.ping()

    async def _close(self) -> None:
        self.relent()
        for server in self._servers:
            server.close(close_connections=False)
        for peer in self._peers:
            peer.read_again()
        async with anyio.create_task_group() as tasks:
            for peer in self._peers:
                tasks.start_soon(peer.close, 1001, "the test is over")
        for server in self._servers:
            await server.wait_closed()


@contextlib.asynccontextmanager
async def broker(
    *,
    auto: bool = False,
    ping_every: float | None = None,
    one_per_token: bool = False,
    evicts_with: str = REPLACED,
    orphans: bool = True,
    lingers: float = 0.0,
    **options: object,
) -> AsyncIterator[Broker]:
    """A broker that listens on 127.0.0.1. `options` go to `websockets.asyncio.server.serve`.

    With `auto` it shakes hands with each peer by itself, and pings it every `ping_every` seconds.

    With `one_per_token` it is mcp-endpoint-server 0.0.6, or, for addresses with a `server_id`, its
    next generation (wire.md §3): a new connection evicts the older one of the same token by a close
    1000 with the reason `evicts_with`. It `orphans`: when the handler of any connection ends,
    `lingers` seconds after the connection, the token is unregistered, whoever holds it by then.
    """
    # No pings of its own: keepalive is what a test of the bridge is about. Frames of any size.
    options = {
        "ping_interval": None, "max_size": None, "compression": None, "close_timeout": 1.0,
    } | options  # fmt: skip
    manner = SelfHosted(evicts_with, orphans, lingers) if one_per_token else None
    endpoint = Broker(auto=auto, ping_every=ping_every, manner=manner, options=options)
    await endpoint._listen()
    try:
        yield endpoint
    finally:
        with anyio.CancelScope(shield=True), anyio.fail_after(WAIT):
            await endpoint._close()


class Wire:
    """A TCP forwarder in front of a broker. `url` is the broker's, with the wire's port."""

    def __init__(self, url: str) -> None:
        self._target = urlsplit(url)
        self._pairs: set[Pair] = set()
        self._mute = False
        self._bell = Bell()
        self.port = 0

    @property
    def url(self) -> str:
        return self._target._replace(netloc=f"127.0.0.1:{self.port}").geturl()

    def freeze(self, *, new: bool = False) -> None:
        """Forward nothing more and close nothing: half-open TCP. With `new`, so are later ones."""
        self._mute = new
        for pair in self._pairs:
            pair.flowing.clear()

    def thaw(self) -> None:
        """Forward again, from where it stopped."""
        self._mute = False
        for pair in self._pairs:
            pair.flowing.set()

    def cut(self) -> None:
        """Reset all connections, on both sides."""
        for pair in self._pairs:
            pair.reset()

    async def idle(self, timeout: float = WAIT) -> None:
        """Wait until nothing is connected."""
        await self._bell.until(lambda: not self._pairs, timeout)

    async def _forward(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            far = await asyncio.open_connection(self._target.hostname, self._target.port)
            pair = Pair((reader, writer), far, frozen=self._mute)
            self._pairs.add(pair)
            try:
                await pair.run()
            finally:
                self._pairs.discard(pair)
                self._bell.ring()
        writer.transport.abort()


Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Pair:
    """Two TCP connections, forwarded into each other while `flowing`."""

    def __init__(self, near: Streams, far: Streams, *, frozen: bool) -> None:
        self.near = near
        self.far = far
        self.flowing = asyncio.Event()
        if not frozen:
            self.flowing.set()

    def reset(self) -> None:
        self.flowing.set()
        for _, writer in (self.near, self.far):
            reset(writer.transport)

    async def run(self) -> None:
        try:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._copy, self.near[0], self.far[1])
                tasks.start_soon(self._copy, self.far[0], self.near[1])
        finally:
            for _, writer in (self.near, self.far):
                writer.transport.abort()

    async def _copy(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(2**16):
                await self.flowing.wait()
                writer.write(data)
                await writer.drain()
        await self.flowing.wait()  # what is frozen hides its end as well
        with contextlib.suppress(OSError):
            writer.write_eof()


@contextlib.asynccontextmanager
async def wire(url: str) -> AsyncIterator[Wire]:
    """A wire to the broker at `url`: dial `wire.url` instead."""
    line = Wire(url)
    server = await asyncio.start_server(line._forward, "127.0.0.1", 0)
    line.port = server.sockets[0].getsockname()[1]
    try:
        yield line
    finally:
        server.close()
        line.cut()
        with anyio.CancelScope(shield=True):
            await line.idle()


def reset(transport: asyncio.BaseTransport) -> None:
    """Close with a RST: a linger time of zero."""
    if sock := transport.get_extra_info("socket"):
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
