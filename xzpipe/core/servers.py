"""The lives of the servers as the hub sees them: handshake, ready, re-reading a changed list,
down."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from xzpipe.core.effects import DropServer, Effect, ToServer
from xzpipe.core.events import ListingFailed, ServerReady, ToolsChanged
from xzpipe.core.handshake import Ask, Failed, Handshake, Phase, who
from xzpipe.core.jsonrpc import Message, notification, request
from xzpipe.core.pending import FOREVER, Alarm, Pending, PendingTable
from xzpipe.core.plan import View
from xzpipe.core.rawjson import EMPTY
from xzpipe.core.views import Views

DEAD_FOR = 30.0  # seconds, after which the tools of a server that is not ready leave the lists
LISTING_TIMEOUT = 60.0  # seconds for each page of a list that is read again


@dataclass(slots=True)
class Server:
    """One server; times in seconds. `greeting` is the raw result of its latest initialize."""

    start_timeout: float
    call_timeout: float
    started: float
    greeting: bytes = b""
    phase: Phase = Phase.STARTING
    handshake: Handshake | None = None  # while one runs
    relist: bool = False  # the list changed again while it was being read
    held: dict[int, bytes] = field(default_factory=dict)  # requests that wait until it is ready
    ready_at: float = FOREVER
    ping_at: float = FOREVER
    hide_at: float = FOREVER  # kept over its lives until it is ready again


class Servers:
    """Every server that was started and not removed."""

    def __init__(
        self, pending: PendingTable, alarm: Alarm, views: Views, ping_every: float | None
    ) -> None:
        self.states: dict[str, Server] = {}
        self._pending = pending
        self._alarm = alarm
        self._views = views
        self._ping_every = ping_every

    def started(
        self, server: str, now: float, start_timeout: float, call_timeout: float
    ) -> list[Effect]:
        """A new life: begin the handshake. What an earlier life has told stays known meanwhile."""
        before = self.states.get(server)
        state = Server(start_timeout, call_timeout, now)
        if before:
            state.greeting, state.hide_at = before.greeting, before.hide_at
        state.handshake = Handshake()
        self.states[server] = state
        self._views.add_server(server)
        return self._ask(server, Handshake.first(), now, now + start_timeout)

    def ended(self, server: str, now: float) -> list[Pending]:
        """The end of a life; what it owed, the hub's own questions left out."""
        state = self.states[server]
        if state.phase is Phase.READY:
            state.hide_at = now + DEAD_FOR
        state.phase = Phase.DOWN
        state.handshake = None
        state.ping_at = FOREVER
        state.held.clear()
        return [e for e in self._pending.take_server(server) if e.client is not None]

    def removed(self, server: str, now: float) -> list[Effect]:
        """A server that will not come back."""
        self.states.pop(server, None)
        self._pending.forget(server)
        told = self._views.remove_server(server, now)
        return [*told, *self._alarm.by(self._views.next_due())]

    def ready(self, view: View) -> Iterator[str]:
        """The servers of a view that can be called now."""
        for server, state in self.states.items():
            if state.phase is Phase.READY and view.sees(server):
                yield server

    def learn(self, server: str, entry: Pending, message: Message, now: float) -> list[Effect]:
        """The answer to a question of the hub's own."""
        state = self.states[server]
        handshake = state.handshake
        if handshake is None or entry.method == "ping":
            return []  # whatever it said to a ping: it lives
        step = handshake.answered(entry.method, message)
        if isinstance(step, Failed):
            return self.failed(server, entry, step.reason, now)
        if isinstance(step, Ask):
            starting = state.phase is Phase.STARTING
            deadline = state.started + state.start_timeout if starting else now + LISTING_TIMEOUT
            effects = self._ask(server, step, now, deadline)
            if entry.method == "initialize":
                effects.insert(0, ToServer(server, notification("notifications/initialized")))
            return effects
        state.handshake = None
        if state.phase is Phase.STARTING:
            return self._ready(server, state, handshake, now)
        return self._listed(server, state, handshake, now)

    def failed(self, server: str, entry: Pending, reason: str, now: float) -> list[Effect]:
        """A question of the hub's own was refused or not answered: the end of this life, or of a
        re-read."""
        state = self.states[server]
        if state.phase is Phase.STARTING or entry.method == "ping":
            return [DropServer(server, reason)]
        state.handshake = None
        return [ListingFailed(server, reason), *self._again(server, state, now)]

    def tools_changed(self, server: str, now: float) -> list[Effect]:
        """A server says that its list has changed: read it, once more if it changes meanwhile."""
        state = self.states[server]
        if state.handshake is not None:
            state.relist = True
            return []
        state.handshake = Handshake()
        return self._ask(server, Handshake.relist(), now, now + LISTING_TIMEOUT)

    def due(self, now: float) -> list[Effect]:
        """The pings to send now, and the servers that have been dead for long."""
        effects: list[Effect] = []
        for server, state in self.states.items():
            if state.hide_at <= now:
                state.hide_at = FOREVER
                effects += self._views.hide(server, now)
            if state.ping_at <= now and self._ping_every:
                state.ping_at = now + self._ping_every
                effects += self._ask(server, Ask("ping", EMPTY), now, state.ping_at)
        return effects

    def next_due(self) -> float:
        """When `due` has something to do; infinity when nothing is planned."""
        return min(
            (min(state.ping_at, state.hide_at) for state in self.states.values()), default=FOREVER
        )

    def _ask(self, server: str, ask: Ask, now: float, deadline: float) -> list[Effect]:
        inner = self._pending.add(server, Pending(None, b"", ask.method, now, deadline))
        line = request(inner, ask.method, ask.params)
        return [ToServer(server, line), *self._alarm.by(deadline)]

    def _ready(self, server: str, state: Server, done: Handshake, now: float) -> list[Effect]:
        state.phase = Phase.READY
        state.ready_at = now
        state.hide_at = FOREVER
        state.greeting = done.greeting
        tools = done.listing.tools
        name, version = who(done.greeting)
        effects: list[Effect] = [
            ServerReady(server, name, version, len(tools), now - state.started)
        ]
        effects += self._views.put_tools(server, tools, now) or []
        effects += self._alarm.by(self._views.next_due())
        effects += [ToServer(server, line) for line in state.held.values()]
        state.held.clear()
        if self._ping_every:
            state.ping_at = now + self._ping_every
            effects += self._alarm.by(state.ping_at)
        return effects + self._again(server, state, now)

    def _listed(self, server: str, state: Server, done: Handshake, now: float) -> list[Effect]:
        told = self._views.put_tools(server, done.listing.tools, now)
        effects: list[Effect] = []
        if told is not None:
            effects = [ToolsChanged(server, len(done.listing.tools)), *told]
            effects += self._alarm.by(self._views.next_due())
        return effects + self._again(server, state, now)

    def _again(self, server: str, state: Server, now: float) -> list[Effect]:
        if not state.relist:
            return []
        state.relist = False
        return self.tools_changed(server, now)
