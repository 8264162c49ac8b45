"""The bridge: turns what happens into facts for a hub, and the hub's effects into IO.

It knows servers and clients only as two callables each: one takes a message (False: its outbox is
full), one ends it. Whether a process or a connection stands behind them is not its business.
"""

from collections.abc import Callable
from time import monotonic
from typing import NamedTuple

import anyio

from xzpipe.core.effects import DropClient, DropServer, Effect, ToClient, ToServer, WakeAt
from xzpipe.core.events import Event, ServerReady
from xzpipe.core.hub import Hub
from xzpipe.core.launch import CALL_TIMEOUT, START_TIMEOUT
from xzpipe.core.lines import Overlong
from xzpipe.core.pending import FOREVER
from xzpipe.core.plan import View

LATECOMERS = 5.0  # seconds; a list that is complete at once needs not be read again

Emit = Callable[[Event], None]


class Peer(NamedTuple):
    """A server or a client: `put` queues a message for it, `drop` ends it for a reason."""

    put: Callable[[bytes], bool]
    drop: Callable[[str], None]


class Bridge:
    """One hub and its peers. `run` must be running in a task."""

    def __init__(self, hub: Hub, emit: Emit, now: Callable[[], float] = monotonic) -> None:
        self.hub = hub
        self.emit = emit
        self.now = now
        self._servers: dict[str, Peer] = {}
        self._clients: dict[str, Peer] = {}
        self._wake_at = FOREVER
        self._sooner = anyio.Event()
        self._became_ready = anyio.Event()

    async def run(self) -> None:
        """Wake the hub when it wants to be woken; never polls."""
        while True:
            with anyio.move_on_after(self._wake_at - self.now()):
                await self._sooner.wait()
                self._sooner = anyio.Event()
                continue
            self._wake_at = FOREVER
            self.perform(self.hub.tick(self.now()))

    async def until_ready(self, view: View, others: float = LATECOMERS) -> None:
        """Wait until a server of this view can be called, and up to `others` seconds more until all
        can."""
        while not self.hub.ready(view):
            await self._became_ready.wait()
        with anyio.move_on_after(others):
            while not self.hub.all_ready(view):
                await self._became_ready.wait()

    def server_started(
        self,
        server: str,
        peer: Peer,
        start_timeout: float = START_TIMEOUT,
        call_timeout: float = CALL_TIMEOUT,
    ) -> None:
        """A server can be written to."""
        self._servers[server] = peer
        self.perform(self.hub.server_started(server, self.now(), start_timeout, call_timeout))

    def server_line(self, server: str, line: bytes) -> None:
        """A server wrote a message."""
        self.perform(self.hub.server_line(server, line, self.now()))

    def server_overlong(self, server: str, line: Overlong) -> None:
        """A server is writing too long a message."""
        self.perform(self.hub.server_overlong(server, line, self.now()))

    def server_exited(self, server: str, reason: str) -> None:
        """A server can be written to no more."""
        self._servers.pop(server, None)
        self.perform(self.hub.server_exited(server, reason, self.now()))

    def server_removed(self, server: str) -> None:
        """A server will not come back."""
        self._servers.pop(server, None)
        self.perform(self.hub.server_removed(server, self.now()))

    def client_joined(self, client: str, peer: Peer, view: View, rereads: bool = False) -> None:
        """A client connected."""
        self._clients[client] = peer
        self.hub.client_joined(client, view, rereads)

    def client_text(self, client: str, text: bytes) -> None:
        """A client sent a message."""
        self.perform(self.hub.client_text(client, text, self.now()))

    def client_left(self, client: str) -> None:
        """A client is gone."""
        self._clients.pop(client, None)
        self.perform(self.hub.client_left(client, self.now()))

    def perform(self, effects: list[Effect]) -> None:
        """Do what the hub wants: the one place where a value becomes IO."""
        for effect in effects:
            if isinstance(effect, ToServer):
                self._put(self._servers.get(effect.server), effect.line, effect)
            elif isinstance(effect, ToClient):
                self._put(self._clients.get(effect.client), effect.text, effect)
            elif isinstance(effect, WakeAt):
                self._wake_at = min(self._wake_at, effect.when)
                self._sooner.set()
            elif isinstance(effect, DropServer):
                _drop(self._servers.get(effect.server), effect.reason)
            elif isinstance(effect, DropClient):
                _drop(self._clients.get(effect.client), effect.reason)
            else:
                if isinstance(effect, ServerReady):
                    self._became_ready.set()
                    self._became_ready = anyio.Event()
                self.emit(effect)

    def _put(self, peer: Peer | None, message: bytes, effect: Effect) -> None:
        if peer is not None and not peer.put(message):
            self.perform(self.hub.undeliverable(effect, self.now()))


def _drop(peer: Peer | None, reason: str) -> None:
    if peer is not None:
        peer.drop(reason)
