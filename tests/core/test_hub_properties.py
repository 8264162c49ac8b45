"""The hub's promises under any interleaving of what servers, clients and time may do.

Every request gets exactly one answer, under its own id and with its own content, unless its client
left or cancelled it; nobody gets another's; and in the end nothing is pending.
"""

import json
from dataclasses import dataclass, field
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.kit import GREETING, INITIALIZED, answer, ask, listing, note, refusal, seeing
from xzpipe.core import rawjson
from xzpipe.core.effects import DropClient, DropServer, ToClient, ToServer, WakeAt
from xzpipe.core.events import NoiseOnStdout, StaleAnswer
from xzpipe.core.hub import Hub
from xzpipe.core.lines import Overlong
from xzpipe.core.plan import View

SERVERS = ["a", "b", "c"]
TOOLS = ["x", "y", "z"]
IDS = [b"0", b"1", b"3", b"1.0", b"-1", b"9007199254740993", b'""', b'"3"', rb'"\ud800\u0041"']
TOKENS = [b"", b"0", b"3", b'"3"', rb'"\ud800"']
VIEWS = [View(), *(seeing(*servers) for servers in ("a", "b", "ab", "bc", "abc"))]
METHODS = ["prompts/list", "ping", "initialize", "tools/list", "unknown"]
NOISE = [
    b"",
    b"ready",
    b"\xff\xfe",
    b"[]",
    b"{}",
    b'{"jsonrpc":"2.0","id":3,"res',
    b'{"method":"GET","id":3}',
    b'{"jsonrpc":"2.0","id":null,"result":{}}',
]
FRAMES = [
    b"hello",
    b"[]",
    b"null",
    b'{"id":[],"method":"ping"}',
    INITIALIZED,
    note("roots/list_changed"),
    answer(b"3"),
]
NEVER = float("inf")


@dataclass
class Asked:
    """A request as it came to a server; `tag` names the client's request, None: the hub's own."""

    id: bytes
    method: str
    tag: int | None
    token: bytes


@dataclass
class Life:
    """What one process was asked, and what of that it has not answered."""

    all: list[Asked] = field(default_factory=list)
    open: list[Asked] = field(default_factory=list)


@dataclass
class Connection:
    """One client: its requests by tag, as (id, token); the ids it has no answer to yet; the tags
    it has the answer to; and the tools that it was told of."""

    view: View
    sent: dict[int, tuple[bytes, bytes]] = field(default_factory=dict)
    owed: list[bytes] = field(default_factory=list)
    told: set[int] = field(default_factory=set)
    tools: list[str] = field(default_factory=lambda: ["x", "a__x"])


class World:
    """Servers, clients, a clock and outboxes around a hub; `rng` decides what happens next."""

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.hub = Hub(
            ping_every=rng.choice([None, 25.0]),
            first_id=rng.choice([0, 1]),
            label_servers=rng.random() < 0.5,
        )
        self.now = 0.0
        self.wake = NEVER
        self.rings = 0
        self.tags = 0
        self.joined = 0
        self.lives: dict[str, Life] = {}
        self.past: dict[str, list[bytes]] = {}  # what earlier lives of each server were asked
        self.clients: dict[str, Connection] = {}
        self.full: set[str] = set()
        self.dropped: set[str] = set()

    def step(self):
        steps = {
            self.a_client_asks: 30,
            self.a_server_answers: 30,
            self.a_server_answers_again: 3,
            self.a_server_makes_noise: 2,
            self.a_server_asks: 3,
            self.a_server_notifies: 4,
            self.a_server_tells_of_progress: 4,
            self.a_server_starts: 12,
            self.a_server_exits: 2,
            self.a_server_is_removed: 1,
            self.a_client_joins: 4,
            self.a_client_leaves: 2,
            self.a_client_cancels: 4,
            self.a_client_says_something_else: 2,
            self.an_outbox_fills_or_empties: 3,
            self.time_passes: 10,
            self.the_hub_is_woken_for_nothing: 1,
            self.what_is_to_be_dropped_is_dropped: 5,
        }
        self.rng.choices(list(steps), list(steps.values()))[0]()
        self.check()

    # What is done with effects

    def perform(self, effects):
        queue = list(effects)
        while queue:
            effect = queue.pop(0)
            match effect:
                case ToServer(server, line):
                    assert not {*b"\r\n"} & {*line}
                    if server in self.full:
                        queue += self.hub.undeliverable(effect, self.now)
                    else:
                        self.server_reads(server, self.lives[server], line)
                case ToClient(client, text):
                    self.client_reads(self.clients[client], text)
                    if client in self.full:
                        queue += self.hub.undeliverable(effect, self.now)
                        assert isinstance(queue[-1], DropClient)
                case DropServer(server):
                    assert server in self.lives
                    self.dropped.add(server)
                case DropClient(client):
                    assert client in self.clients
                    self.dropped.add(client)
                case WakeAt(when):
                    assert when < self.wake
                    self.wake = when

    def server_reads(self, server, life, line):
        found = json.loads(line)
        if "method" not in found:
            assert ("result" in found) != ("error" in found)
            return
        if "id" not in found:
            if found["method"] == "notifications/cancelled":
                taken = b"%d" % found["params"]["requestId"]
                assert [each.method == "initialize" for each in life.all if each.id == taken] == [
                    False
                ]
            return
        asked = Asked(b"%d" % found["id"], found["method"], None, b"")
        assert asked.id not in [*self.past[server], *(each.id for each in life.all)]
        assert (asked.method == "initialize") == (not life.all)
        if "arguments" in found["params"]:
            asked.tag = found["params"]["arguments"]["tag"]
            assert b'"arguments":{"tag":%d, "n": 0.10e1}' % asked.tag in line
            [client] = [each for each in self.clients.values() if asked.tag in each.sent]
            assert client.view.sees(server)
            if "_meta" in found["params"]:
                asked.token = b"%d" % found["params"]["_meta"]["progressToken"]
        life.all.append(asked)
        life.open.append(asked)

    def client_reads(self, client, text):
        members, found = rawjson.fields(text), json.loads(text)
        if "method" in found:
            assert "id" not in found
            if found["method"] == "notifications/progress":
                _, token = client.sent[found["params"]["tag"]]
                assert bytes(rawjson.fields(members["params"])["progressToken"]) == token
            return
        assert ("result" in found) != ("error" in found)
        id = bytes(members["id"])
        if id == b"null":
            assert found["error"]["code"] in (-32700, -32600)
            return
        client.owed.remove(id)
        result = found.get("result", {})
        if "tag" in result:
            assert client.sent[result["tag"]][0] == id
            assert result["tag"] not in client.told
            client.told.add(result["tag"])
        if "tools" in result:
            client.tools = [each["name"] for each in result["tools"]]
            assert len({*client.tools}) == len(client.tools)

    # What servers do

    def a_server_starts(self):
        server = self.rng.choice(SERVERS)
        if server in self.lives:
            return
        self.lives[server] = Life()
        self.past.setdefault(server, [])
        self.full.discard(server)
        limit = self.rng.choice([5.0, 40.0])
        self.perform(self.hub.server_started(server, self.now, 30.0, limit))
        while self.rng.random() < 0.9 and self.lives[server].open:
            self.answer_well(server, self.lives[server].open.pop(0))

    def answer_well(self, server, asked):
        result = b"{}"
        if asked.method == "initialize":
            result = GREETING
        if asked.method == "tools/list":
            names = self.rng.sample(TOOLS, self.rng.choice([1, 2, 3]))
            result = listing(*names, cursor=self.rng.choice([b"", b"", b"", b'"more"']))
        if asked.tag is not None:
            result = b'{"tag":%d}' % asked.tag
        self.says(server, answer(asked.id, result))

    def says(self, server, line):
        self.perform(self.hub.server_line(server, line, self.now))

    def a_server_answers(self):
        busy = [(name, life.open) for name, life in self.lives.items() if life.open]
        if not busy:
            return
        server, open = self.rng.choice(busy)
        asked = self.rng.choice(open)
        how = self.rng.randrange(25)
        if how:  # else it is silent for a while
            open.remove(asked)
        match how:
            case 0:
                pass
            case 1:
                self.says(server, refusal(asked.id, -32603, "boom"))
            case 2:
                head = Overlong(b'{"jsonrpc":"2.0","id":%b,"result":{"s":"xxx' % asked.id)
                self.perform(self.hub.server_overlong(server, head, self.now))
            case 3:
                tail = Overlong(b'xxx"},"jsonrpc":"2.0","id":%b}' % asked.id, ended=True)
                self.perform(self.hub.server_overlong(server, tail, self.now))
            case 4:
                self.says(server, answer(asked.id, b'{"s":"\xff"}'))
            case 5:
                self.says(server, answer(asked.id, b'{"n":NaN}'))
            case _:
                self.answer_well(server, asked)

    def a_server_answers_again(self):
        """Or what an earlier life was asked, or what nobody asked: it is for nobody."""
        for server, life in self.lives.items():
            open = [each.id for each in life.open]
            done = [each.id for each in life.all if each.id not in open]
            unasked = [*done, *self.past[server], b"999", b'"3"', b"null"]
            effects = self.hub.server_line(server, answer(self.rng.choice(unasked)), self.now)
            assert [type(each) for each in effects] in ([StaleAnswer], [NoiseOnStdout])

    def a_server_makes_noise(self):
        for server in [*self.lives]:
            self.says(server, self.rng.choice(NOISE))

    def a_server_asks(self):
        for server in [*self.lives]:
            method = self.rng.choice(["ping", "roots/list"])
            self.says(server, ask(self.rng.choice(IDS), method))

    def a_server_notifies(self):
        for server in [*self.lives]:
            method = self.rng.choice(["tools/list_changed", "message", "cancelled"])
            self.says(server, note(method, b'{"requestId":3}'))

    def a_server_tells_of_progress(self):
        for server, life in [*self.lives.items()]:
            for asked in life.all[-4:]:
                if asked.token:
                    params = b'{"progressToken":%b,"tag":%d}' % (asked.token, asked.tag)
                    self.says(server, note("progress", params))

    def a_server_exits(self):
        if self.lives:
            self.exit(self.rng.choice([*self.lives]))

    def exit(self, server):
        self.past[server] += [each.id for each in self.lives.pop(server).all]
        self.perform(self.hub.server_exited(server, "exit code 1", self.now))

    def a_server_is_removed(self):
        server = self.rng.choice(SERVERS)
        self.lives.pop(server, None)
        self.past.pop(server, None)
        self.perform(self.hub.server_removed(server, self.now))

    # What clients do

    def a_client_joins(self):
        self.joined += 1
        client = f"link#{self.joined}"
        self.clients[client] = Connection(self.rng.choice(VIEWS))
        self.hub.client_joined(client, self.clients[client].view, self.rng.random() < 0.5)
        if self.rng.random() < 0.8:
            self.clients[client].owed.append(b"2")
            self.sends(client, ask(b"2", "tools/list"))

    def a_client_asks(self):
        if not self.clients:
            return
        name = self.rng.choice([*self.clients])
        client = self.clients[name]
        self.tags += 1
        id, token = self.rng.choice(IDS), self.rng.choice(TOKENS)
        client.sent[self.tags] = (id, token)
        client.owed.append(id)
        params = b'{%b"arguments":{"tag":%d, "n": 0.10e1}' % (
            self.rng.choice([b"", b"\r\n"]),
            self.tags,
        )
        method = self.rng.choice([*METHODS, *["tools/call"] * 8])
        if method == "tools/call" and client.tools:
            params += b',"name":"%b"' % self.rng.choice(client.tools).encode()
        params += b',"_meta":{"progressToken":%b}}' % token if token else b"}"
        self.sends(name, ask(id, method, params))

    def sends(self, client, frame):
        self.perform(self.hub.client_text(client, frame, self.now))

    def a_client_says_something_else(self):
        for client in [*self.clients]:
            self.sends(client, self.rng.choice(FRAMES))

    def a_client_cancels(self):
        for name, client in [*self.clients.items()]:
            id = self.rng.choice([*IDS, *client.owed])
            if id in client.owed:
                client.owed.remove(id)
            self.sends(name, note("cancelled", b'{"requestId":%b}' % id))

    def a_client_leaves(self):
        if self.clients:
            self.leave(self.rng.choice([*self.clients]))

    def leave(self, client):
        del self.clients[client]
        self.perform(self.hub.client_left(client, self.now))

    # What happens to either

    def an_outbox_fills_or_empties(self):
        if self.lives or self.clients:
            self.full ^= {self.rng.choice([*self.lives, *self.clients])}

    def time_passes(self):
        until = self.now + self.rng.choice([0.0, 0.5, 3.0, 20.0])
        while self.wake <= until:
            self.ring()
        self.now = until

    def ring(self):
        self.rings += 1
        assert self.rings < 10_000, "time stands still"
        assert self.wake >= self.now
        self.now, self.wake = self.wake, NEVER
        self.perform(self.hub.tick(self.now))

    def the_hub_is_woken_for_nothing(self):
        self.wake = NEVER
        self.perform(self.hub.tick(self.now))

    def what_is_to_be_dropped_is_dropped(self):
        for name in sorted(self.dropped):
            if name in self.lives:
                self.exit(name)
            if name in self.clients:
                self.leave(name)
        self.dropped.clear()

    # What must be true

    def check(self):
        pending = self.hub._pending
        for name, client in self.clients.items():
            owed = [entry.outer for _, _, entry in pending.of_client(name)]
            assert sorted(owed) == sorted(client.owed)
            assert self.hub._views.clients[name].owed == len(owed)
        due = (
            pending.next_deadline(),
            self.hub._servers.next_due(),
            self.hub._views.next_due(),
        )
        assert self.wake <= min(due)

    def settle(self):
        """Everybody falls silent, and time goes on until nothing is left to wait for."""
        self.full.clear()
        while self.wake < NEVER or self.dropped:
            self.what_is_to_be_dropped_is_dropped()
            if self.wake < NEVER:
                self.ring()
        self.check()
        assert [client.owed for client in self.clients.values() if client.owed] == []
        assert self.hub._pending.next_deadline() == NEVER
        assert self.hub.tick(self.now + 1e6) == []


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32), steps=st.integers(0, 200))
def test_every_request_gets_one_answer_whatever_happens(seed, steps):
    world = World(Random(seed))
    for _ in range(steps):
        world.step()
    world.settle()
