"""The lives of a link to a scripted endpoint; the server behind it is a fake that never dies."""

import contextlib
import json
import logging
from collections.abc import AsyncIterator
from typing import TypeVar
from unittest.mock import ANY

import anyio
import pytest

from tests.core.kit import seeing
from tests.endpoints import TOKEN, Broker, broker
from tests.servers.session import WAIT, Bell
from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, ToolCalled
from xzpipe.core.hub import Hub
from xzpipe.core.link_events import (
    LinkClosed,
    LinkDown,
    LinkRemoved,
    LinkRenewed,
    LinkUp,
    LinkWaiting,
)
from xzpipe.core.pending import FOREVER
from xzpipe.core.plan import Link
from xzpipe.core.rivals import ALONE, ENOUGH, Rivals
from xzpipe.core.verdict import REPLACED
from xzpipe.link_life import RENEWAL, Displaced, keep_link
from xzpipe.websocket import Dialling

pytestmark = pytest.mark.anyio

E = TypeVar("E", bound=Event)
GREETING = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "calc"}}
LONGEST = 0.05  # seconds


class FakeServer:
    """Answers the hub's questions and every call at once; `lives` counts its initializes."""

    def __init__(self, bridge: Bridge) -> None:
        self.bridge = bridge
        self.tools = [{"name": "add"}]
        self.lives = 0
        self.holds = False  # calls are not answered
        self.asked: list[str] = []

    def start(self) -> None:
        self.bridge.server_started("calc", Peer(self.put, lambda _: None))

    def put(self, line: bytes) -> bool:
        asked = json.loads(line)
        self.asked.append(asked["method"])
        self.lives += asked["method"] == "initialize"
        results = {
            "initialize": GREETING,
            "tools/list": {"tools": self.tools},
            "tools/call": {"content": [{"type": "text", "text": "425"}]},
        }
        if "id" in asked and not (self.holds and asked["method"] == "tools/call"):
            self.say({"id": asked["id"], "result": results[asked["method"]]})
        return True

    def say(self, message: dict[str, object]) -> None:
        self.bridge.server_line("calc", json.dumps({"jsonrpc": "2.0", **message}).encode())

    def change_tools(self) -> None:
        self.tools = [*self.tools, {"name": f"tool-{len(self.tools)}"}]
        self.say({"method": "notifications/tools/list_changed"})


class Life:
    """A link that is kept up, the endpoint it goes to, and the server behind it."""

    def __init__(self, endpoint: Broker) -> None:
        self.endpoint = endpoint
        self.events: list[Event] = []
        self.bridge = Bridge(Hub(), self.hear)
        self.server = FakeServer(self.bridge)
        self.rivals = Rivals()
        self.rereads = True
        self._bell = Bell()

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self._bell.ring()

    def of(self, kind: type[E]) -> list[E]:
        return [each for each in self.events if isinstance(each, kind)]

    async def event(self, kind: type[E], nth: int = 1) -> E:
        await self._bell.until(lambda: len(self.of(kind)) >= nth)
        return self.of(kind)[nth - 1]

    async def keep(self, backoff: Backoff, dialling: Dialling) -> None:
        link = Link("calc", Endpoint(self.endpoint.url), seeing("calc"), self.rereads)
        await keep_link(self.bridge, link, dialling, backoff, self.rivals)


@contextlib.asynccontextmanager
async def living(
    *,
    ready: bool = True,
    waits: tuple[float, float] = (0.01, LONGEST),
    proxy: str = "none",
    rereads: bool = True,
) -> AsyncIterator[tuple[Life, Broker]]:
    async with broker() as endpoint:
        life = Life(endpoint)
        life.rereads = rereads
        if ready:
            life.server.start()
        backoff = Backoff(*waits, 60.0, lambda: 0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.bridge.run)
            tasks.start_soon(life.keep, backoff, Dialling(proxy))
            yield life, endpoint
            tasks.cancel_scope.cancel()


async def test_a_link_serves_calls():
    async with living() as (life, endpoint):
        peer = await endpoint.accept()
        assert list(await peer.handshake()) == ["add"]
        assert (await peer.call("add"))["result"]["content"][0]["text"] == "425"
        assert (await life.event(ToolCalled)).outcome == "ok"


async def test_a_link_is_not_dialled_before_a_server_of_its_view_is_ready():
    async with living(ready=False) as (life, endpoint):
        await life.event(LinkWaiting)
        await anyio.wait_all_tasks_blocked()
        assert endpoint.attempts == []
        life.server.start()
        assert list(await (await endpoint.accept()).handshake()) == ["add"]


async def test_no_event_holds_the_token():
    async with living() as (life, endpoint):
        await (await endpoint.accept()).close(1000, f"bad token={TOKEN}")
        down = await life.event(LinkDown)
        assert down.cause == "the endpoint ended the connection (1000 bad token=***)"
        endpoint.refuse(404, {"Location": endpoint.url})
        await life.event(LinkDown, 2)
        up = life.of(LinkUp)[0]
        assert (up.endpoint, up.proxy) == (f"ws://127.0.0.1:{endpoint.port}/mcp/?token=***", "")
        assert TOKEN not in str(life.events)


async def test_cancelled_a_link_closes_as_one_that_goes_away():
    async with broker() as endpoint:
        life = Life(endpoint)
        life.server.start()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.keep, Backoff(1.0, 1.0, 1.0, lambda: 0.0), Dialling("none"))
            peer = await endpoint.accept()
            await life.event(LinkUp)
            tasks.cancel_scope.cancel()
        assert await peer.closed() == (1001, "")
        assert life.events[-2:] == [LinkClosed("calc"), LinkRemoved("calc")]
        assert life.of(LinkDown) == []


async def test_a_lost_link_comes_back_and_the_server_lives_on():
    async with living() as (life, endpoint):
        for code in (1000, 1001, 1011, 4004):
            peer = await endpoint.accept()
            await peer.handshake()
            await peer.close(code, "bye")
        (await endpoint.accept()).reset()
        await endpoint.accept()
        causes = [each.cause for each in life.of(LinkDown)]
        assert [cause.partition("(")[2][:4] for cause in causes] == [
            "1000", "1001", "1011", "4004", "1006",
        ]  # fmt: skip
        assert life.server.lives == 1
        assert life.of(LinkWaiting) == life.of(LinkClosed) == []


async def test_a_servers_death_leaves_the_link_up():
    async with living() as (life, endpoint):
        peer = await endpoint.accept()
        await peer.handshake()
        life.bridge.server_exited("calc", "it exited with code 1")
        await peer.ping()
        answer = await peer.call("add")
        assert answer["error"]["message"] == "MCP server calc is restarting, try again in a moment"
        life.server.start()
        assert (await peer.call("add"))["result"]
        assert life.of(LinkDown) == []
        assert len(endpoint.attempts) == 1


async def test_an_answer_for_a_lost_link_does_not_reach_the_next():
    async with living() as (life, endpoint):
        life.server.holds = True
        peer = await endpoint.accept()
        await peer.start_call("add", id=7)
        await peer.ping()
        peer.reset()
        successor = await endpoint.accept()
        life.server.holds = False
        await successor.start_call("add", id=8)
        life.server.say({"id": 3, "result": {"content": [], "late": True}})
        assert "late" not in (await successor.answer(8))["result"]
        await successor.ping()
        assert successor.inbox == []
        assert "notifications/cancelled" in life.server.asked


async def test_a_link_that_fails_again_and_again_is_dialled_less_and_less():
    async with living(ready=False) as (life, endpoint):
        endpoint.hang_up(4004, "Internal server error", times=None)
        life.server.start()
        await life.event(LinkDown, 5)
        waits = [each.retry_in for each in life.of(LinkDown)[:5]]
        assert waits == [0.01, 0.02, 0.04, LONGEST, LONGEST]


async def test_a_refusal_is_told_with_its_hint_and_its_wait():
    async with living(ready=False) as (life, endpoint):
        endpoint.refuse(401)
        life.server.start()
        down = await life.event(LinkDown)
        assert down.cause == "the endpoint refuses this token (HTTP 401)"
        assert "console" in down.hint
        assert (down.lived, down.retry_in) == (0.0, 60.0)


async def test_retry_after_is_honoured():
    async with living(ready=False) as (life, endpoint):
        endpoint.refuse(429, {"Retry-After": "7"})
        life.server.start()
        assert (await life.event(LinkDown)).retry_in == 7.0


async def test_an_endpoint_that_asks_for_years_is_asked_again_within_the_hour():
    async with living(ready=False) as (life, endpoint):
        endpoint.refuse(503, {"Retry-After": "9" * 30})
        life.server.start()
        assert (await life.event(LinkDown)).retry_in == 3600.0


async def test_the_firewalls_cookie_is_sent_back_at_once():
    async with living(ready=False, waits=(600.0, 600.0)) as (life, endpoint):
        endpoint.refuse(426, {"Set-Cookie": "acw_tc=abc; path=/"})
        life.server.start()
        assert (await endpoint.accept()).headers["Cookie"] == "acw_tc=abc"
        assert [each.retry_in for each in life.of(LinkDown)] == [0.0]


async def test_the_firewalls_cookie_is_sent_back_only_once():
    async with living(ready=False) as (life, endpoint):
        endpoint.refuse(426, {"Set-Cookie": "acw_tc=abc"}, times=None)
        life.server.start()
        attempts = await endpoint.attempted(6)
        sent = [attempt.headers.get("Cookie") for attempt in attempts[:6]]
        assert sent == [None, "acw_tc=abc"] * 3
        downs = [await life.event(LinkDown, nth) for nth in range(1, 7)]
        assert [each.retry_in for each in downs] == [0.0, 0.01, 0.0, 0.02, 0.0, 0.04]
        assert downs[1].cause == "the endpoint's firewall turned us away, cookie or not (HTTP 426)"


async def test_a_link_whose_place_was_taken_gives_way_for_the_longest_wait():
    async with living(waits=(0.001, 600.0)) as (life, endpoint):
        await (await endpoint.accept()).close(1000, REPLACED)
        down = await life.event(LinkDown)
        assert down.retry_in == 600.0
        assert "one connection per token" in down.hint


async def test_a_link_whose_place_is_taken_again_and_again_gives_way_too():
    async with living(waits=(0.001, 600.0)) as (life, endpoint):
        for turn in range(ENOUGH):
            peer = await endpoint.accept()
            await life.event(LinkUp, turn + 1)
            await anyio.sleep(ALONE)  # what ends sooner may end by itself
            life.rivals.dialled("another", life.bridge.now())
            await peer.close(1000, "somebody else is here")
        down = await life.event(LinkDown, ENOUGH)
        assert [each.retry_in for each in life.of(LinkDown)][-1] == 600.0
        assert '"mode": "aggregate"' in down.hint


async def test_a_link_that_shares_ends_closed_when_its_place_is_taken():
    async with broker() as endpoint:
        life = Life(endpoint)
        life.server.start()
        life.rivals.share = True
        backoff = Backoff(0.001, 600.0, 60.0, lambda: 0.0)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.bridge.run)
            await anyio.wait_all_tasks_blocked()

            async def displaced() -> None:
                with pytest.raises(Displaced):
                    await life.keep(backoff, Dialling("none"))
                tasks.cancel_scope.cancel()

            tasks.start_soon(displaced)
            peer = await endpoint.accept()
            await peer.close(1000, REPLACED)
            await anyio.sleep(WAIT)
        await endpoint.all_gone()
        assert life.of(LinkDown) == []


async def test_an_endpoint_that_hears_of_changes_is_not_left_for_them():
    async with living(rereads=False) as (life, endpoint):
        peer = await endpoint.accept()
        await peer.handshake()
        life.server.change_tools()
        assert (await peer.receive())["method"] == "notifications/tools/list_changed"
        assert life.bridge.hub._views.next_due() == FOREVER


async def test_a_changed_tool_list_is_read_again_over_a_new_connection():
    async with living(waits=(0.01, 600.0)) as (life, endpoint):
        peer = await endpoint.accept()
        await peer.handshake()
        life.server.change_tools()
        assert (await peer.receive())["method"] == "notifications/tools/list_changed"
        successor = await endpoint.accept()
        assert list(await successor.handshake()) == ["add", "tool-1"]
        assert (await peer.closed())[0] == 1001
        assert life.of(LinkRenewed) == [LinkRenewed("calc", ANY, RENEWAL)]
        assert life.of(LinkDown) == []  # nothing has failed, and no wait gets longer for it
        assert life.server.lives == 1


async def test_a_link_that_cannot_go_through_its_proxy_says_so():
    async with living(proxy="http://user:SECRET-PASSWORD@127.0.0.1:1") as (life, endpoint):
        down = await life.event(LinkDown)
        assert down.cause == "the proxy could not be used (it cannot be reached)"
        assert "SECRET" not in str(life.events)
        assert endpoint.attempts == []


async def test_links_of_one_bridge_have_lives_of_their_own():
    async with broker() as one, broker() as two:
        life = Life(one)
        other = Life(two)
        other.bridge = life.bridge
        life.server.start()
        backoffs = [Backoff(0.01, 0.01, 60.0, lambda: 0.0) for _ in range(2)]
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(life.keep, backoffs[0], Dialling("none"))
            tasks.start_soon(other.keep, backoffs[1], Dialling("none"))
            lost, kept = await one.accept(), await two.accept()
            lost.reset()
            await (await one.accept()).ping()
            await kept.ping()
            assert len(two.attempts) == 1
            tasks.cancel_scope.cancel()


async def test_the_librarys_own_log_is_quiet_without_debug(caplog):
    with caplog.at_level(logging.INFO):
        async with living() as (life, endpoint):
            (await endpoint.accept()).reset()
            endpoint.refuse(500)
            await life.event(LinkDown, 2)
    assert [each for each in caplog.records if each.name.startswith("xzpipe")] == []
