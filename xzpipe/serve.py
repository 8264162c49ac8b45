"""An endpoint server: where `xzpipe endpoint serve`, `demo`, `run --local` and tests connect to.

It has the two sides of a self-hosted endpoint (wire.md §3): servers connect to `/mcp/`, callers to
`/call/`, both with a token, and each agent has a hub of its own. Who is not let in is told so
before the upgrade.
"""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus

import anyio
from anyio.abc import TaskGroup
from websockets.asyncio.server import ServerConnection, serve
from websockets.http11 import Request, Response
from websockets.typing import Origin

from xzpipe.agent import Agent, health
from xzpipe.bridge import Emit
from xzpipe.core.admission import Answer, Entrance, Rules, Side, admit
from xzpipe.core.hub import MAX_MESSAGE_BYTES
from xzpipe.core.link_events import Refused
from xzpipe.frames import Accepted
from xzpipe.websocket import CLOSE_TIMEOUT, Socket, logger

CALL_TIMEOUT = 30.0  # seconds; the servers in use wait as long for a tool (wire.md §3)
INITIALIZE_WITHIN = 10.0  # seconds, then close 4004; as the official broker
PING_INTERVAL = 30.0  # seconds; a peer that has not answered as much later is dropped


@dataclass(frozen=True, slots=True)
class Serving:
    """How to serve. Port 0 is a free one; times in seconds. `names_agents`: an agent's name may be
    said, to callers and in the log. `origins`: the pages whose scripts may connect."""

    rules: Rules
    host: str = "127.0.0.1"
    port: int = 0
    tls: ssl.SSLContext | None = None
    origins: tuple[str, ...] = ()
    call_timeout: float = CALL_TIMEOUT
    initialize_within: float = INITIALIZE_WITHIN
    ping_interval: float = PING_INTERVAL
    max_message_bytes: int = MAX_MESSAGE_BYTES
    names_agents: bool = True


class EndpointServer:
    """An endpoint server that is listening; made by `listening`."""

    def __init__(self, tasks: TaskGroup, serving: Serving, emit: Emit) -> None:
        self.port = 0
        self._tasks = tasks
        self._serving = serving
        self._emit = emit
        self._agents: dict[str, Agent] = {}

    def screen(self, connection: ServerConnection, request: Request) -> Response | None:
        """Let a connection in, or answer over HTTP, before the upgrade."""
        found = self._admitted(request)
        if isinstance(found, Entrance):
            return None
        if found.reason:
            self._emit(Refused(found.status, found.reason))
        response = connection.respond(HTTPStatus(found.status), "")
        response.body = found.body
        del response.headers["Content-Length"], response.headers["Content-Type"]
        response.headers["Content-Length"] = str(len(found.body))
        response.headers["Content-Type"] = "application/json"
        if found.location:
            response.headers["Location"] = found.location
        return response

    async def serve(self, connection: ServerConnection) -> None:
        """One connection, from its upgrade to its end."""
        assert connection.request is not None and isinstance(connection, Accepted)
        entrance = self._admitted(connection.request)
        if not isinstance(entrance, Entrance):  # the last place was taken since
            return await connection.close(1013)
        agent = self._agents.get(entrance.agent) or self._begin(entrance.agent)
        agent.connections += 1
        socket = Socket(connection)
        try:
            if entrance.side is Side.CALLER:
                await agent.serve_caller(socket)
            else:
                limits = self._serving.initialize_within, self._serving.call_timeout
                await agent.serve_server(socket, entrance.server_id, *limits)
        finally:
            agent.connections -= 1
            if not agent.connections:
                del self._agents[entrance.agent]
                agent.end()

    def _admitted(self, request: Request) -> Entrance | Answer:
        held = {name: agent.connections for name, agent in self._agents.items()}
        tell = partial(health, self._agents)
        return admit(request.path, self._serving.rules, held, tell, self._takes_over)

    def _takes_over(self, agent: str, server_id: str) -> bool:
        return agent in self._agents and self._agents[agent].has(server_id)

    def _begin(self, name: str) -> Agent:
        shown = name if self._serving.names_agents else ""
        agent = Agent(shown, self._emit, self._serving.max_message_bytes)
        self._agents[name] = agent
        self._tasks.start_soon(agent.run)
        return agent


@asynccontextmanager
async def listening(serving: Serving, emit: Emit) -> AsyncIterator[EndpointServer]:
    """Listen until the block ends; then every connection is closed. Raises OSError where it cannot
    listen."""
    async with anyio.create_task_group() as tasks:
        endpoint = EndpointServer(tasks, serving, emit)
        async with serve(
            endpoint.serve,
            serving.host,
            serving.port,
            create_connection=Accepted,
            process_request=endpoint.screen,
            compression=None,
            ping_interval=serving.ping_interval,
            ping_timeout=serving.ping_interval,
            max_size=serving.max_message_bytes,
            close_timeout=CLOSE_TIMEOUT,
            ssl=serving.tls,
            logger=logger,
            origins=[None, *map(Origin, serving.origins)],
        ) as server:
            endpoint.port = next(iter(server.sockets)).getsockname()[1]
            yield endpoint
        tasks.cancel_scope.cancel()
