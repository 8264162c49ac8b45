"""A local MCP endpoint: where `demo`, `run --local` and the tests connect to.

It has the two sides of a self-hosted endpoint (wire.md §3): servers connect to `/mcp/`, callers to
`/call/`, both with a token, and each token has a hub of its own. Towards servers it plays the
official broker (wire.md §2): initialize with id 0, tools/list with id 1, a ping every 60 s, and
close code 4004 when one of them is not answered.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from itertools import count

import anyio
from anyio.abc import TaskGroup
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response

from xzpipe.bridge import Bridge, Emit, Peer
from xzpipe.core.endpoint import query_of
from xzpipe.core.hub import MAX_MESSAGE_BYTES, Hub
from xzpipe.core.launch import CALL_TIMEOUT
from xzpipe.core.plan import View
from xzpipe.core.verdict import REPLACED, Cause
from xzpipe.frames import Accepted
from xzpipe.websocket import CLOSE_TIMEOUT, Socket, logger

MCP_PATH = "/mcp_endpoint/mcp/"
CALL_PATH = "/mcp_endpoint/call/"
INITIALIZE_WITHIN = 10.0  # seconds, then close 4004; as the official broker
PING_EVERY = 60.0  # seconds
MAX_AGENTS = 64  # it is for one machine; every token makes an agent


@dataclass(slots=True)
class _Agent:
    """What one token stands for."""

    bridge: Bridge
    scope: anyio.CancelScope
    servers: dict[str, Socket] = field(default_factory=dict)
    callers: int = 0
    serials: Iterator[int] = field(default_factory=lambda: count(1))

    def unnamed(self) -> str:
        """A name for a server that gave none."""
        names = (f"unnamed-{serial}" for serial in self.serials)
        return next(name for name in names if name not in self.servers)


class LocalEndpoint:
    """An endpoint that is listening; made by `listening`."""

    def __init__(
        self,
        tasks: TaskGroup,
        emit: Emit,
        max_message_bytes: int,
        initialize_within: float,
        call_timeout: float,
    ) -> None:
        self.port = 0
        self._tasks = tasks
        self._emit = emit
        self._max = max_message_bytes
        self._timeouts = initialize_within, call_timeout
        self._agents: dict[str, _Agent] = {}

    def url(self, token: str) -> str:
        """The address for servers; its other side is for callers."""
        return f"ws://127.0.0.1:{self.port}{MCP_PATH}?token={token}"

    def screen(self, connection: ServerConnection, request: Request) -> Response | None:
        """Refuse what is no way in, before the upgrade."""
        path, query = query_of(request.path)
        token = query.get("token", "")
        if path not in (MCP_PATH, CALL_PATH):
            return connection.respond(HTTPStatus.NOT_FOUND, "there is no endpoint here\n")
        if not token:
            return connection.respond(HTTPStatus.UNAUTHORIZED, "a token is missing\n")
        if token not in self._agents and len(self._agents) >= MAX_AGENTS:
            return connection.respond(HTTPStatus.TOO_MANY_REQUESTS, "too many tokens\n")
        return None

    async def serve(self, connection: ServerConnection) -> None:
        """One connection, from its upgrade to its end."""
        assert connection.request is not None and isinstance(connection, Accepted)
        path, query = query_of(connection.request.path)
        token = query["token"]
        agent = self._agents.get(token) or self._begin(token)
        socket = Socket(connection)
        if path == CALL_PATH:
            await _serve_caller(agent, socket)
        else:
            server_id = query.get("server_id", "")
            await _serve_server(agent, socket, server_id, *self._timeouts)
        if not agent.servers and not agent.callers and self._agents.get(token) is agent:
            del self._agents[token]
            agent.scope.cancel()

    def _begin(self, token: str) -> _Agent:
        hub = Hub(
            max_message_bytes=self._max, first_id=0, label_servers=True, ping_every=PING_EVERY
        )
        agent = self._agents[token] = _Agent(Bridge(hub, self._emit), anyio.CancelScope())
        self._tasks.start_soon(_run, agent)
        return agent


async def _run(agent: _Agent) -> None:
    with agent.scope:
        await agent.bridge.run()


async def _serve_caller(agent: _Agent, socket: Socket) -> None:
    client = f"caller-{next(agent.serials)}"
    agent.bridge.client_joined(client, Peer(socket.put, socket.drop), View())
    agent.callers += 1
    try:
        failure = await socket.run(lambda text: agent.bridge.client_text(client, text))
    finally:
        agent.callers -= 1
        agent.bridge.client_left(client)
    await socket.close(1011, failure.reason)


async def _serve_server(
    agent: _Agent, socket: Socket, server_id: str, initialize_within: float, call_timeout: float
) -> None:
    """Without a `server_id`, each connection is a server of its own; with one, the newest is it."""
    server = server_id or agent.unnamed()
    bridge = agent.bridge
    if older := agent.servers.get(server):
        older.drop(REPLACED)
        bridge.server_removed(server)
    agent.servers[server] = socket

    def receive(line: bytes) -> None:
        if agent.servers.get(server) is socket:
            bridge.server_line(server, line)

    peer = Peer(socket.put, socket.drop)
    bridge.server_started(server, peer, initialize_within, call_timeout)
    try:
        failure = await socket.run(receive)
    finally:
        replaced = agent.servers.get(server) is not socket
        if not replaced:
            del agent.servers[server]
            bridge.server_removed(server)
    if replaced:
        await socket.close(1000, REPLACED)
    elif failure.cause is Cause.OURS:
        await socket.close(4004, "Internal server error")


@asynccontextmanager
async def listening(
    emit: Emit,
    *,
    port: int = 0,
    max_message_bytes: int = MAX_MESSAGE_BYTES,
    initialize_within: float = INITIALIZE_WITHIN,
    call_timeout: float = CALL_TIMEOUT,
) -> AsyncIterator[LocalEndpoint]:
    """Listen on 127.0.0.1; port 0 takes a free one. Ends with every connection closed."""
    async with anyio.create_task_group() as tasks:
        endpoint = LocalEndpoint(tasks, emit, max_message_bytes, initialize_within, call_timeout)
        async with serve(
            endpoint.serve,
            "127.0.0.1",
            port,
            create_connection=Accepted,
            process_request=endpoint.screen,
            compression=None,
            max_size=max_message_bytes,
            close_timeout=CLOSE_TIMEOUT,
            logger=logger,
        ) as server:
            endpoint.port = next(iter(server.sockets)).getsockname()[1]
            yield endpoint
        tasks.cancel_scope.cancel()
