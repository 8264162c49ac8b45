"""Requests on their way to servers, and the one answer that each of them gets."""

from xzpipe.core import jsonrpc, rawjson, replies
from xzpipe.core.effects import Effect, ToClient, ToServer
from xzpipe.core.events import ToolCalled
from xzpipe.core.handshake import Phase
from xzpipe.core.pending import Alarm, Pending, PendingTable
from xzpipe.core.servers import Server, Servers
from xzpipe.core.shaping import shaped, shaped_error
from xzpipe.core.views import Client, Views

MAX_PENDING = 1024  # per client; an assistant has a handful, a runaway caller must not fill memory
ENVELOPE = len(jsonrpc.result(b"", b""))  # around a result or an error, but for the id
MAX_HELD_BYTES = 64 * 2**20  # per server: as much as waits for one that runs but does not read


class Relay:
    """Passes requests on and answers back; tells the caller when there will be no answer."""

    def __init__(self, pending: PendingTable, alarm: Alarm, servers: Servers, views: Views) -> None:
        self._pending = pending
        self._alarm = alarm
        self._servers = servers
        self._views = views

    def forward(
        self,
        client: str,
        caller: Client,
        server: str,
        message: jsonrpc.Message,
        now: float,
        call: jsonrpc.Call | None = None,
        tool: str = "",
    ) -> list[Effect]:
        """Pass a request on. `call` is what a `tools/call` says; `tool`, how `server` itself calls
        what it names."""
        asked = self._servers.states.get(server)
        if asked is None:
            words = f"MCP server '{server}' is not running"
            return [ToClient(client, jsonrpc.fault(message.id, jsonrpc.NOT_CONNECTED, words))]
        if asked.phase is not Phase.READY and not self._waits(asked, caller):
            words = f"MCP server {server} is restarting, try again in a moment"
            return [ToClient(client, jsonrpc.fault(message.id, jsonrpc.NOT_CONNECTED, words))]
        if caller.owed >= MAX_PENDING:
            words = f"{MAX_PENDING} requests are waiting for an answer already"
            return [ToClient(client, jsonrpc.fault(message.id, jsonrpc.SERVER_ERROR, words))]
        method = message.method or ""
        params: bytes | rawjson.Raw = message.params
        if len(params) == 4 and bytes(params) == rawjson.NULL:
            params = rawjson.ABSENT  # a popular server never answers null params (wire.md §6)
        if call is not None and call.name != tool:
            params = replies.renamed(params, tool)
        token = replies.progress_token(params) if call is None or len(call.meta) else b""
        deadline = now + asked.call_timeout
        outer = bytes(message.id)
        inner = self._pending.add(
            server, Pending(client, outer, method, now, deadline, tool, token, len(params))
        )
        caller.owed += 1
        if deadline > caller.owed_until:
            caller.owed_until = deadline
        if token:
            params = replies.with_progress_token(params, b"%d" % inner)
        line = jsonrpc.request(inner, method, params)
        effects: list[Effect] = [*self._alarm.by(deadline)]
        if asked.phase is Phase.STARTING:
            if sum(map(len, asked.held.values())) + len(line) > MAX_HELD_BYTES:
                return effects + self.undelivered(server, line, now)
            asked.held[inner] = line
        else:
            effects.append(ToServer(server, line))
        return effects

    def _waits(self, asked: Server, caller: Client) -> bool:
        """Whether a request should wait for a server that is not ready: not if that is down, and
        not among several, where a caller is better told at once."""
        return asked.phase is Phase.STARTING and self._views.only(caller) is not None

    def answered(
        self, server: str, entry: Pending, message: jsonrpc.Message, now: float
    ) -> list[Effect]:
        """Settle a request that was taken from the pending ones, as its server says."""
        shape = self._views.clients[entry.client or ""].view.shape
        if len(message.error):
            around = len(entry.outer) + ENVELOPE
            text = jsonrpc.error(entry.outer, shaped_error(message.error, shape, around))
            return self._settle(server, entry, text, now, "error")
        result = message.result
        if not entry.tool:
            return self._settle(server, entry, jsonrpc.result(entry.outer, result), now, "ok")
        outcome = "tool error" if jsonrpc.is_error(result) else "ok"
        around = len(entry.outer) + ENVELOPE
        text = jsonrpc.result(entry.outer, shaped(result, shape, around))
        return self._settle(server, entry, text, now, outcome)

    def _settle(
        self, server: str, entry: Pending, text: bytes, now: float, outcome: str
    ) -> list[Effect]:
        client = entry.client or ""
        caller = self._views.clients[client]
        caller.owed -= 1
        if not caller.owed:
            caller.owed_until = 0.0
        if not entry.tool:
            return [ToClient(client, text)]
        called = ToolCalled(
            server,
            entry.tool,
            client,
            now - entry.asked,
            outcome,
            caller.view.endpoint,
            entry.size,
            len(text),
        )
        return [ToClient(client, text), called]

    def fail(
        self, server: str, entry: Pending, words: str, now: float, outcome: str
    ) -> list[Effect]:
        """Settle a request with an error, in words for the caller."""
        text = jsonrpc.fault(entry.outer, jsonrpc.SERVER_ERROR, words)
        return self._settle(server, entry, text, now, outcome)

    def lost(
        self, server: str, raw_id: bytes | None, problem: str, now: float, outcome: str
    ) -> list[Effect]:
        """An answer that cannot be read: settle its request, if it can be seen which that is."""
        entry = self._pending.take(server, raw_id) if raw_id else None
        if entry is None:
            return []
        if entry.client is None:
            return self._servers.failed(server, entry, f"its answer {problem}", now)
        words = f"the answer of MCP server '{server}' {problem}"
        return self.fail(server, entry, words, now, outcome)

    def undelivered(self, server: str, line: bytes, now: float) -> list[Effect]:
        """A message that a server does not take: settle it, if it is a request."""
        raw_id = jsonrpc.request_id(line)
        entry = self._pending.take(server, raw_id) if raw_id else None
        if entry is None:
            return []
        if entry.client is None:
            return self._servers.failed(server, entry, "it does not read its stdin", now)
        return self.fail(server, entry, f"MCP server '{server}' is overloaded", now, "overloaded")

    def overdue(self, now: float) -> list[Effect]:
        """Settle every request that should have been answered by now."""
        effects: list[Effect] = []
        for server, inner, entry in self._pending.overdue(now):
            limit = f"{entry.deadline - entry.asked:g} s"
            effects += self.withdraw(server, inner, "time-out")
            if entry.client is None:
                reason = f"it did not answer {entry.method} within {limit}"
                effects += self._servers.failed(server, entry, reason, now)
            else:
                words = f"MCP server '{server}' did not answer within {limit}"
                effects += self.fail(server, entry, words, now, "no answer")
        return effects

    def withdraw(self, server: str, inner: int, reason: str) -> list[Effect]:
        """Take a request back from a server; an answer to it would be stale from now on."""
        raw_id = b"%d" % inner
        entry = self._pending.take(server, raw_id)
        if self._servers.states[server].held.pop(inner, None) is not None:
            return []
        if entry is None or entry.method == "initialize":  # must not be cancelled (wire.md §6)
            return []
        params = b'{"requestId":%b,"reason":%b}' % (raw_id, rawjson.quote(reason))
        return [ToServer(server, jsonrpc.notification("notifications/cancelled", params))]

    def cancel(self, client: str, outer: bytes) -> list[Effect]:
        """A client takes back its request with this raw id; by the specification it gets no
        answer."""
        for server, inner, entry in self._pending.of_client(client):
            if entry.outer == outer:
                self._views.clients[client].owed -= 1
                return self.withdraw(server, inner, "the caller cancelled it")
        return []

    def abandon(self, client: str) -> list[Effect]:
        """A client is gone: take back all its requests."""
        effects: list[Effect] = []
        for server, inner, _ in self._pending.of_client(client):
            effects += self.withdraw(server, inner, "the caller is gone")
        return effects

    def progress(self, server: str, message: jsonrpc.Message) -> list[Effect]:
        """A server tells of progress: pass it to the one who asked, under the token it gave."""
        try:
            members: dict[str, bytes | rawjson.Raw] = dict(rawjson.fields(message.params))
        except rawjson.NotJson:
            return []
        entry = self._pending.get(server, bytes(members.get("progressToken", b"")))
        if entry is None or entry.client is None or not entry.token:
            return []
        members["progressToken"] = entry.token
        text = jsonrpc.notification("notifications/progress", rawjson.object_of(members))
        return [ToClient(entry.client, text)]
