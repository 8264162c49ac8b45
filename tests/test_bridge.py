"""Effects become IO, and time becomes ticks: the bridge with fake peers and a fake clock."""

import json

import anyio
import pytest
from anyio.lowlevel import checkpoint

from tests.core.kit import called, seeing
from tests.servers.session import WAIT
from xzpipe.bridge import Bridge, Peer
from xzpipe.core.effects import DropClient, DropServer, Effect, ToClient, ToServer, WakeAt
from xzpipe.core.events import Event, ToolCalled
from xzpipe.core.hub import Hub
from xzpipe.core.lines import Overlong
from xzpipe.core.link_events import LinkClosed
from xzpipe.core.plan import View

pytestmark = pytest.mark.anyio

CALC = seeing("calc")
GREETING = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "calc"}}
CALL = b'{"jsonrpc":"2.0","id":"c","method":"tools/call","params":{"name":"add"}}'


class FakePeer:
    """What was put and why it was dropped; takes no more than `room` messages."""

    def __init__(self, room: int = 1000) -> None:
        self.room = room
        self.got: list[bytes] = []
        self.dropped: list[str] = []
        self.peer = Peer(self.put, self.dropped.append)

    def put(self, message: bytes) -> bool:
        if len(self.got) >= self.room:
            return False
        self.got.append(message)
        return True

    @property
    def methods(self) -> list[str | None]:
        return [json.loads(each).get("method") for each in self.got]


class FakeServer(FakePeer):
    """Shakes hands with the hub at once, from inside `put`."""

    def __init__(self, bridge: Bridge, name: str = "calc", room: int = 1000) -> None:
        super().__init__(room)
        self.bridge = bridge
        self.name = name

    def put(self, message: bytes) -> bool:
        asked = json.loads(message)
        results = {"initialize": GREETING, "tools/list": {"tools": [{"name": "add"}]}}
        taken = super().put(message)
        if taken and asked.get("method") in results:
            answer = {"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]}
            self.bridge.server_line(self.name, json.dumps(answer).encode())
        return taken


class Clock:
    def __init__(self) -> None:
        self.time = 0.0

    def __call__(self) -> float:
        return self.time


class Heard(list[Event]):
    def of(self, kind: type[Event]) -> list[Event]:
        return [each for each in self if isinstance(each, kind)]


def bridged(server_room: int = 1000, client_room: int = 1000):
    """A bridge with a ready server and one client that sees it."""
    heard = Heard()
    bridge = Bridge(Hub(), heard.append, Clock())
    server, client = FakeServer(bridge, room=server_room), FakePeer(client_room)
    bridge.server_started("calc", server.peer)
    bridge.client_joined("link", client.peer, CALC)
    return bridge, server, client, heard


# Effects


def test_a_call_goes_to_the_server_and_its_answer_to_the_client():
    bridge, server, client, heard = bridged()
    bridge.client_text("link", CALL)
    inner = json.loads(server.got[-1])["id"]
    bridge.now.time = 0.25
    bridge.server_line("calc", b'{"jsonrpc":"2.0","id":%d,"result":{"content":[]}}' % inner)
    assert client.got == [b'{"jsonrpc":"2.0","id":"c","result":{"content":[]}}']
    assert heard.of(ToolCalled) == [called("calc", "add", "link", 0.25, "ok")]


def test_each_effect_reaches_the_one_it_is_for():
    bridge, server, client, heard = bridged()
    before = len(server.got)
    bridge.perform([
        ToServer("calc", b"{}"), ToClient("link", b"[]"), LinkClosed("link"),
        DropServer("calc", "too slow"), DropClient("link", "its tool list changed"),
    ])  # fmt: skip
    assert server.got[before:] == [b"{}"]
    assert client.got == [b"[]"]
    assert heard[-1] == LinkClosed("link")
    assert (server.dropped, client.dropped) == (["too slow"], ["its tool list changed"])


def test_effects_for_those_who_are_gone_go_nowhere():
    bridge, server, client, _ = bridged()
    bridge.client_left("link")
    bridge.server_exited("calc", "it exited with code 1")
    before = list(server.got)
    bridge.perform([
        ToServer("calc", b"{}"), ToClient("link", b"{}"), DropServer("calc", ""),
        DropClient("link", ""), ToServer("who", b"{}"), ToClient("who", b"{}"),
    ])  # fmt: skip
    assert (server.got, server.dropped) == (before, [])
    assert (client.got, client.dropped) == ([], [])


def test_a_removed_server_is_written_to_no_more():
    bridge, server, client, _ = bridged()
    bridge.client_text("link", CALL)
    before = len(server.got)
    bridge.server_removed("calc")
    bridge.client_text("link", CALL)
    bridge.perform([ToServer("calc", b"{}"), DropServer("calc", "x")])
    assert server.dropped == []
    answers = [json.loads(each) for each in client.got]
    assert [each["id"] for each in answers if "id" in each] == ["c", "c"]
    assert all("error" in each for each in answers if "id" in each)
    assert len(server.got) == before


def test_the_calls_of_a_client_that_left_are_taken_back():
    bridge, server, client, _ = bridged()
    bridge.client_text("link", CALL)
    bridge.client_left("link")
    assert server.methods[-2:] == ["tools/call", "notifications/cancelled"]
    assert client.got == []


def test_a_server_that_takes_nothing_costs_its_caller_an_error():
    bridge, server, client, heard = bridged(server_room=3)
    assert server.methods == ["initialize", "notifications/initialized", "tools/list"]
    bridge.client_text("link", CALL)
    [answer] = map(json.loads, client.got)
    assert answer["id"] == "c"
    assert answer["error"]["message"] == "MCP server 'calc' is overloaded"
    assert [event.outcome for event in heard.of(ToolCalled)] == ["overloaded"]
    assert server.dropped == []


def test_a_server_that_does_not_even_take_its_initialize_is_dropped():
    bridge = Bridge(Hub(), lambda _: None, Clock())
    server = FakeServer(bridge, room=0)
    bridge.server_started("calc", server.peer)
    assert server.dropped == ["it does not read its stdin"]


def test_a_client_that_takes_nothing_is_dropped_and_its_neighbour_is_not():
    bridge, _, client, _ = bridged(client_room=0)
    neighbour = FakePeer()
    bridge.client_joined("other", neighbour.peer, CALC)
    for name in ("link", "other"):
        bridge.client_text(name, b'{"jsonrpc":"2.0","id":1,"method":"ping"}')
    assert client.dropped == ["it does not take what is sent to it"]
    assert neighbour.dropped == []
    assert neighbour.got == [b'{"jsonrpc":"2.0","id":1,"result":{}}']


def test_an_answer_too_large_is_an_error_for_its_caller():
    bridge, server, client, _ = bridged()
    bridge.client_text("link", CALL)
    inner = json.loads(server.got[-1])["id"]
    bridge.server_overlong("calc", Overlong(b'{"jsonrpc":"2.0","id":%d,"result":{"' % inner))
    assert "over the limit" in json.loads(client.got[0])["error"]["message"]


def test_the_death_of_a_server_is_told_to_its_callers():
    bridge, _, client, _ = bridged()
    bridge.client_text("link", CALL)
    bridge.server_exited("calc", "it exited with code 3")
    assert "it exited with code 3" in json.loads(client.got[0])["error"]["message"]


# Ready


async def test_whoever_waits_for_a_view_goes_on_when_a_server_of_it_is_ready():
    bridge = Bridge(Hub(), lambda _: None, Clock())
    order: list[str] = []

    async def wait(view: View, name: str) -> None:
        await bridge.until_ready(view)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, seeing("time"), "time")
        tasks.start_soon(wait, CALC, "calc")
        tasks.start_soon(wait, View(), "any")
        await anyio.wait_all_tasks_blocked()
        bridge.server_started("calc", FakeServer(bridge).peer)
        await anyio.wait_all_tasks_blocked()
        assert sorted(order) == ["any", "calc"]
        bridge.server_started("time", FakeServer(bridge, "time").peer)
        with anyio.fail_after(WAIT):
            await bridge.until_ready(CALC)
    assert order[-1] == "time"


async def test_whoever_waits_for_a_view_of_several_waits_for_all_of_them_a_little():
    bridge = Bridge(Hub(), lambda _: None, Clock())
    order: list[str] = []

    async def wait(name: str, others: float) -> None:
        await bridge.until_ready(seeing("calc", "time"), others)
        order.append(name)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait, "patient", WAIT)
        tasks.start_soon(wait, "hasty", 0.0)
        bridge.server_started("calc", FakeServer(bridge).peer)
        with anyio.fail_after(WAIT):
            while order != ["hasty"]:
                await checkpoint()
        bridge.server_started("time", FakeServer(bridge, "time").peer)
    assert order == ["hasty", "patient"]


def test_ready_is_told_before_anyone_could_ask_again():
    ready: list[bool] = []
    bridge = Bridge(Hub(), lambda event: ready.append(bridge.hub.ready(CALC)), Clock())
    bridge.server_started("calc", FakeServer(bridge).peer)
    assert ready == [True]


# Time


class ScriptedHub(Hub):
    """Notes its ticks and answers each with the next effects of its script."""

    def __init__(self, *script: list[Effect]) -> None:
        super().__init__()
        self.script = list(script)
        self.ticks: list[float] = []
        self.rang = anyio.Event()

    def tick(self, now: float) -> list[Effect]:
        self.ticks.append(now)
        self.rang.set()
        return self.script.pop(0) if self.script else []


async def ticking(hub: ScriptedHub, *wakes: WakeAt) -> None:
    """Run a bridge that is given these wakes one by one, until its hub is woken."""
    clock = Clock()
    bridge = Bridge(hub, lambda _: None, clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        for wake in wakes:
            await anyio.wait_all_tasks_blocked()
            assert hub.ticks == []
            bridge.perform([wake])
        with anyio.fail_after(WAIT):
            await hub.rang.wait()
        tasks.cancel_scope.cancel()


async def test_the_hub_is_woken_when_it_wants_to_be():
    hub = ScriptedHub()
    await ticking(hub, WakeAt(0.01))
    assert hub.ticks == [0.0]


async def test_an_earlier_wake_replaces_a_later_one():
    await ticking(ScriptedHub(), WakeAt(1e6), WakeAt(1e5), WakeAt(0.0))


async def test_a_later_wake_does_not_replace_an_earlier_one():
    hub = ScriptedHub()
    bridge = Bridge(hub, lambda _: None, Clock())
    bridge.perform([WakeAt(0.0), WakeAt(1e6)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        with anyio.fail_after(WAIT):
            await hub.rang.wait()
        tasks.cancel_scope.cancel()


async def test_a_hub_that_wants_nothing_is_not_woken():
    hub = ScriptedHub()
    bridge = Bridge(hub, lambda _: None, Clock())
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        await anyio.wait_all_tasks_blocked()
        bridge.now.time = 1e9
        for _ in range(100):
            await checkpoint()
        assert hub.ticks == []
        bridge.perform([WakeAt(0.0)])
        with anyio.fail_after(WAIT):
            await hub.rang.wait()
        await anyio.wait_all_tasks_blocked()
        assert hub.ticks == [1e9]
        tasks.cancel_scope.cancel()


async def test_what_a_tick_wants_is_done_the_next_wake_among_it():
    hub = ScriptedHub([ToClient("link", b"{}"), WakeAt(0.0)], [WakeAt(0.0)], [])
    bridge = Bridge(hub, lambda _: None, Clock())
    client = FakePeer()
    bridge.client_joined("link", client.peer, View())
    bridge.perform([WakeAt(0.0)])
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert len(hub.ticks) == 3
    assert client.got == [b"{}"]


async def test_a_call_that_is_not_answered_in_time_fails_by_the_clock():
    bridge, server, client, _ = bridged()
    bridge.client_text("link", CALL)
    async with anyio.create_task_group() as tasks:
        bridge.now.time = 1e6
        tasks.start_soon(bridge.run)
        await anyio.wait_all_tasks_blocked()
        tasks.cancel_scope.cancel()
    assert "did not answer within 300 s" in json.loads(client.got[0])["error"]["message"]
    assert server.methods[-1] == "notifications/cancelled"
