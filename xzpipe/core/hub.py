"""The hub: decides what goes where. Facts in, with the time they happened; effects out; nothing
else.

Servers stand on one side, clients on the other, and a client sees the servers in its view. The hub
initializes each server itself, answers a client's initialize, ping and tools/list from what it
holds, and routes calls by tool name. Every request that it passes on gets exactly one answer: the
server's, or an error when the server dies, is late, is overloaded or answers too much. An answer
for a client that is gone goes nowhere, least of all to the connection that came after it.

`now` is in seconds, on any clock that does not go back.
"""

from xzpipe.core import jsonrpc, noise, rawjson, replies
from xzpipe.core.effects import DropClient, Effect, ToClient, ToServer
from xzpipe.core.events import NoiseOnStdout, StaleAnswer, TooLarge
from xzpipe.core.handshake import Phase
from xzpipe.core.launch import CALL_TIMEOUT, START_TIMEOUT
from xzpipe.core.lines import Overlong, answered_id
from xzpipe.core.link_events import BadFrame
from xzpipe.core.pending import Alarm, PendingTable
from xzpipe.core.plan import View
from xzpipe.core.relay import Relay
from xzpipe.core.servers import Servers
from xzpipe.core.tools import Table
from xzpipe.core.views import Client, Views

MAX_MESSAGE_BYTES = 16 * 2**20  # a photo as base64 fits; a runaway print does not
LF, CR = b"\n\r"


class Hub:
    """All servers and clients of one bridge, or of one agent of an endpoint server."""

    def __init__(
        self,
        *,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        first_id: int = 1,
        label_servers: bool = False,
        ping_every: float | None = None,
    ) -> None:
        """`first_id` is 0 where the broker is played, and 1 towards servers, since some take 0 for
        no id. `label_servers` adds `server_id` to listed tools. `ping_every` (seconds): a server
        that has not answered one ping by the next is dropped."""
        self.max_message_bytes = max_message_bytes
        self._pending = PendingTable(first_id)
        self._alarm = Alarm()
        self._views = Views(label_servers)
        self._servers = Servers(self._pending, self._alarm, self._views, ping_every)
        self._relay = Relay(self._pending, self._alarm, self._servers, self._views)

    # What servers do

    def server_started(
        self,
        server: str,
        now: float,
        start_timeout: float = START_TIMEOUT,
        call_timeout: float = CALL_TIMEOUT,
    ) -> list[Effect]:
        """A server can be written to: its handshake begins. Time limits in seconds."""
        return self._servers.started(server, now, start_timeout, call_timeout)

    def server_line(self, server: str, line: bytes, now: float) -> list[Effect]:
        """A server wrote one line."""
        state = self._servers.states.get(server)
        if state is None or state.phase is Phase.DOWN:
            return []
        try:
            message = jsonrpc.parse(line)
        except jsonrpc.Malformed:
            return self._unclean(server, line, now)
        if message.method is not None:
            if message.jsonrpc != jsonrpc.VERSION:  # a log in JSON has "method":"GET" in it too
                return [NoiseOnStdout(server, noise.excerpt(line))]
            return self._server_speaks(server, message, now)
        raw_id = bytes(message.id)
        entry = self._pending.take(server, raw_id)
        if entry is None:
            asked = self._pending.was_asked(server, raw_id)
            return [StaleAnswer(server) if asked else NoiseOnStdout(server, noise.excerpt(line))]
        if entry.client is None:
            return self._servers.learn(server, entry, message, now)
        return self._relay.answered(server, entry, message, now)

    def server_overlong(self, server: str, line: Overlong, now: float) -> list[Effect]:
        """A server is writing a line over the limit."""
        problem = f"is over the limit of {self.max_message_bytes} bytes"
        raw_id = answered_id(line.part)
        lost = self._relay.lost(server, raw_id, problem, now, "answer too large")
        return lost if line.ended else [TooLarge(server, self.max_message_bytes), *lost]

    def server_exited(self, server: str, reason: str, now: float) -> list[Effect]:
        """A server can be written to no more; what it offers stays known."""
        if server not in self._servers.states:
            return []
        effects: list[Effect] = []
        for entry in self._servers.ended(server, now):
            words = f"MCP server '{server}' went away before it answered: {reason}"
            effects += self._relay.fail(server, entry, words, now, "server gone")
        return effects + self._alarm.by(self._servers.next_due())

    def server_removed(self, server: str, now: float) -> list[Effect]:
        """A server will not come back: its tools leave the lists."""
        effects = self.server_exited(server, "it was removed", now)
        return effects + self._servers.removed(server, now)

    # What clients do

    def client_joined(self, client: str, view: View, rereads: bool = False) -> None:
        """A client connected, under a name never used before: an answer that is late for one
        connection is not for the next. `rereads`: it learns of a changed tool list only by
        connecting anew, as the official broker does (wire.md §2)."""
        self._views.clients[client] = Client(view, rereads)

    def client_text(self, client: str, text: bytes, now: float) -> list[Effect]:
        """A client sent one frame."""
        state = self._views.clients.get(client)
        if state is None:
            return []
        try:
            message = jsonrpc.parse(text)
            if LF in text or CR in text:  # legal in JSON, but it would end the line on stdio
                message = jsonrpc.parse(text.translate(None, b"\r\n"))
            if message.method is None:
                return [BadFrame(client, "an answer to nothing that was asked")]
            if not len(message.id):
                return self._client_notifies(client, state, message)
            if message.method == "tools/call":
                return self._call(client, state, message, now)
            return self._reply(client, state, message, now)
        except jsonrpc.Malformed as bad:
            return _refuse(client, bad)
        except rawjson.NotJson:  # so deep that it could be read once, but not taken apart
            return _refuse(client, jsonrpc.Malformed(jsonrpc.PARSE_ERROR, "nested too deeply"))

    def client_left(self, client: str, now: float) -> list[Effect]:
        """A client's connection is gone: nothing is owed to it any more."""
        self._views.clients.pop(client, None)
        return self._relay.abandon(client)

    # What happens to either

    def undeliverable(self, effect: Effect, now: float) -> list[Effect]:
        """An effect that could not be performed: the peer's outbox is full, it takes nothing."""
        if isinstance(effect, ToClient) and effect.client in self._views.clients:
            return [DropClient(effect.client, "it does not take what is sent to it")]
        if isinstance(effect, ToServer):
            return self._relay.undelivered(effect.server, effect.line, now)
        return []

    def tick(self, now: float) -> list[Effect]:
        """Time has passed: what is overdue fails, what is due happens."""
        self._alarm.rang()
        effects = self._relay.overdue(now)
        effects += self._servers.due(now)
        effects += self._views.due(now)
        dues = self._pending.next_deadline(), self._servers.next_due(), self._views.next_due()
        return effects + self._alarm.by(min(dues))

    def table(self, view: View) -> Table:
        """What a client with this view would be told."""
        return self._views.table_of(view)

    def ready(self, view: View) -> bool:
        """Whether a server of this view can be called now."""
        return any(self._servers.ready(view))

    def all_ready(self, view: View) -> bool:
        """Whether all servers of this view can be called now."""
        known = self._servers.states.keys() if view.servers is None else view.servers
        return known <= set(self._servers.ready(view))

    def ready_for(self, server: str, now: float) -> float:
        """How long this life of a server has been ready, in seconds."""
        state = self._servers.states.get(server)
        return max(0.0, now - state.ready_at) if state else 0.0

    # How it decides

    def _reply(
        self, client: str, state: Client, message: jsonrpc.Message, now: float
    ) -> list[Effect]:
        only = self._views.only(state)
        match message.method:
            case "ping":
                text = jsonrpc.result(message.id, rawjson.EMPTY)
            case "initialize":
                server = self._servers.states.get(only or "")
                greeting = server.greeting if server else b""
                text = jsonrpc.result(message.id, greeting or replies.greeting(message.params))
            case "tools/list" if (users := replies.user_tools(message)) is not None:
                payload, notes = self._views.listed(state, users)
                return [ToClient(client, replies.tools(message, payload)), *notes]
            case "tools/list":
                text = jsonrpc.fault(message.id, jsonrpc.INVALID_PARAMS, "there is no such page")
            case _ if only is not None:
                return self._relay.forward(client, state, only, message, now)
            case _:
                words = f"method not found: {message.method}"
                text = jsonrpc.fault(message.id, jsonrpc.METHOD_NOT_FOUND, words)
        return [ToClient(client, text)]

    def _call(
        self, client: str, state: Client, message: jsonrpc.Message, now: float
    ) -> list[Effect]:
        call = jsonrpc.called(message.params)
        if call is None:
            code, words = jsonrpc.INVALID_PARAMS, "tools/call needs params with a tool's name"
        elif to := self._views.route(state, call.name):
            return self._relay.forward(client, state, to.server, message, now, call, to.tool)
        elif self.ready(state.view):
            code, words = jsonrpc.INVALID_PARAMS, f"unknown tool: {call.name}"
        else:
            name = f"{state.view.name}: " if state.view.name else ""
            code, words = jsonrpc.NOT_CONNECTED, f"{name}no MCP server is connected"
        return [ToClient(client, jsonrpc.fault(message.id, code, words))]

    def _client_notifies(
        self, client: str, state: Client, message: jsonrpc.Message
    ) -> list[Effect]:
        method = message.method or ""
        if not method.startswith("notifications/"):
            return [BadFrame(client, f"a request without an id: {method}")]
        if method == "notifications/initialized":
            return []  # the hub has said it to the server itself
        if method == "notifications/cancelled":
            return self._relay.cancel(client, replies.cancelled_id(message.params))
        only = self._views.only(state)
        server = self._servers.states.get(only or "")
        if only is None or server is None or server.phase is not Phase.READY:
            return []
        return [ToServer(only, jsonrpc.notification(method, message.params))]

    def _server_speaks(self, server: str, message: jsonrpc.Message, now: float) -> list[Effect]:
        if len(message.id):
            return [ToServer(server, replies.to_server(message))]
        if message.method == "notifications/tools/list_changed":
            return self._servers.tools_changed(server, now)
        if message.method == "notifications/progress":
            return self._relay.progress(server, message)
        if message.method == "notifications/cancelled":
            return []  # a request of its own, which had its answer at once
        text = jsonrpc.notification(message.method or "", message.params)
        log = message.method == "notifications/message"  # needs no knowledge of whose it is
        return [
            ToClient(client, text)
            for client, state in self._views.clients.items()
            if self._views.only(state) == server or (log and state.view.sees(server))
        ]

    def _unclean(self, server: str, line: bytes, now: float) -> list[Effect]:
        """A line that is no message as it stands: noise, or a message with noise in it."""
        if not line.strip():
            return []
        said, message = noise.parted(line)
        if message:
            effects = self.server_line(server, message, now)
            return [NoiseOnStdout(server, noise.excerpt(said)), *effects] if said else effects
        lost = self._relay.lost(
            server, noise.lost_id(line), "is not valid JSON-RPC", now, "bad answer"
        )
        return [NoiseOnStdout(server, noise.excerpt(line)), *lost]


def _refuse(client: str, bad: jsonrpc.Malformed) -> list[Effect]:
    refusal = jsonrpc.fault(bad.id, bad.code, str(bad))
    return [ToClient(client, refusal), BadFrame(client, str(bad))]
