"""One agent of an endpoint server: a hub of its own, the servers and the callers connected to it.

Towards servers it plays the broker (wire.md §2): initialize with id 0, tools/list with id 1, then
pings.
"""

from collections import Counter
from collections.abc import Iterator
from itertools import count
from typing import Any

import anyio
import msgspec

from xzpipe.bridge import Bridge, Emit, Peer
from xzpipe.core.events import Event, ServerRemoved
from xzpipe.core.hub import Hub
from xzpipe.core.plan import View
from xzpipe.core.verdict import REPLACED, Cause
from xzpipe.websocket import Socket

PING_EVERY = 30.0  # seconds between pings of a server, which has as long to answer


class Agent:
    """What one token, or all tokens of one agent, stand for. `run` must be running in a task."""

    def __init__(self, name: str, emit: Emit, max_message_bytes: int) -> None:
        """`name` is for callers and the log; empty where there is nothing to tell apart."""
        hub = Hub(
            max_message_bytes=max_message_bytes,
            first_id=0,
            label_servers=True,
            ping_every=PING_EVERY,
        )
        self._emit = emit
        self._name = name
        self._view = View(f"agent {name}" if name else "")
        self._bridge = Bridge(hub, self._heard)
        self._scope = anyio.CancelScope()
        self._servers: dict[str, Socket] = {}
        self._serials: Iterator[int] = count(1)
        self._nameless: set[str] = set()  # servers that came without an id
        self.callers = 0
        self.connections = 0

    async def run(self) -> None:
        """Keep its time until `end`."""
        with self._scope:
            await self._bridge.run()

    def end(self) -> None:
        """Nobody is connected any more."""
        self._scope.cancel()

    def tools(self) -> dict[str, list[str]]:
        """The names of its tools as callers see them, by server."""
        found: dict[str, list[str]] = {server: [] for server in self._servers}
        for listed in self._bridge.hub.table(self._view).routes.values():
            found.setdefault(listed.server, []).append(listed.name)
        return found

    async def serve_caller(self, socket: Socket) -> None:
        """Serve the connection of a caller until it ends."""
        client = f"caller-{next(self._serials)}"
        self._bridge.client_joined(client, Peer(socket.put, socket.drop), self._view)
        self.callers += 1
        try:
            failure = await socket.run(lambda text: self._bridge.client_text(client, text))
        finally:
            self.callers -= 1
            self._bridge.client_left(client)
        await socket.close(1011, failure.reason)

    async def serve_server(
        self, socket: Socket, server_id: str, initialize_within: float, call_timeout: float
    ) -> None:
        """Use the connection of a server until it ends. Without an id, each is a server of its own;
        with one, the newest is it, and takes the place of the older. Time limits in seconds."""
        server = self._named(server_id) if server_id else self._unnamed()
        bridge = self._bridge
        if older := self._servers.get(server):
            older.drop(REPLACED)
            bridge.server_exited(server, "another connection took its place")
        self._servers[server] = socket

        def receive(line: bytes) -> None:
            if self._servers.get(server) is socket:
                bridge.server_line(server, line)

        bridge.server_started(
            server, Peer(socket.put, socket.drop), initialize_within, call_timeout
        )
        try:
            failure = await socket.run(receive)
        finally:
            replaced = self._servers.get(server) is not socket
            if not replaced:
                del self._servers[server]
                self._nameless.discard(server)
                bridge.server_removed(server)
                self._heard(ServerRemoved(server))
        if replaced:
            await socket.close(1000, REPLACED)
        elif failure.cause is Cause.OURS:
            await socket.close(4004, "Internal server error")

    def has(self, server_id: str) -> bool:
        """Whether a server with this id is connected."""
        return bool(server_id) and self._named(server_id) in self._servers

    def _named(self, server_id: str) -> str:
        """The name of a server with this id; not that of one which was given none."""
        return f"{server_id}_" if server_id in self._nameless else server_id

    def _unnamed(self) -> str:
        names = (f"unnamed-{serial}" for serial in self._serials)
        name = next(name for name in names if name not in self._servers)
        self._nameless.add(name)
        return name

    def _heard(self, event: Event) -> None:
        """Tell of it, with the agent before the name of whoever it is about."""
        who = next((each for each in ("server", "client", "view") if hasattr(event, each)), None)
        if who and self._name:
            about = f"{self._name}/{getattr(event, who)}"
            event = msgspec.structs.replace(event, **{who: about})
        self._emit(event)


def health(agents: dict[str, Agent]) -> dict[str, Any]:
    """How an endpoint server is, in the words of the one in use (wire.md §3)."""
    tools = {name: agent.tools() for name, agent in agents.items()}
    connections = Counter[str]()
    for agent in agents.values():
        connections["robot"] += agent.callers
        connections["server"] += agent.connections - agent.callers
    return {
        "status": "success",
        "connections": {
            "mcp_server_connections": connections["server"],
            "robot_connections": connections["robot"],
            "total_connections": connections.total(),
            "multi_server_support": True,
            "available_agents": [name for name, servers in tools.items() if servers],
            "total_tools": sum(len(names) for each in tools.values() for names in each.values()),
            "mcp_servers": {
                name: {
                    server: {"tools_count": len(names), "tools": names}
                    for server, names in servers.items()
                }
                for name, servers in tools.items()
            },
        },
    }
