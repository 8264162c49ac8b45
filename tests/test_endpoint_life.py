"""The links of one endpoint, to scripted endpoints that keep many connections, or one."""

import contextlib
import json
from collections.abc import AsyncIterator

import anyio
import pytest

from tests.core.kit import seeing
from tests.endpoints import Broker, broker
from tests.servers.session import Bell
from xzpipe.bridge import Bridge, Peer
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event
from xzpipe.core.hub import Hub
from xzpipe.core.link_events import LinkDown, LinkUp, ModeSwitched
from xzpipe.core.plan import Mode, Plan
from xzpipe.core.verdict import REPLACED
from xzpipe.endpoint_life import EndpointLife
from xzpipe.websocket import Dialling

pytestmark = pytest.mark.anyio

PAUSE = 0.05  # seconds


class Bridged:
    """A bridge with fake servers of one tool each, and what it told."""

    def __init__(self, *servers: str) -> None:
        self.events: list[Event] = []
        self.starts = 0
        self.bridge = Bridge(Hub(), self.hear)
        self.bell = Bell()
        for server in servers:
            self.bridge.server_started(server, Peer(self.server(server), lambda _: None))

    def hear(self, event: Event) -> None:
        self.events.append(event)
        self.bell.ring()

    def server(self, name: str):
        def put(line: bytes) -> bool:
            asked = json.loads(line)
            self.starts += asked["method"] == "initialize"
            results = {
                "initialize": {"protocolVersion": "2024-11-05", "capabilities": {}},
                "tools/list": {"tools": [{"name": f"of_{name}", "description": "its own"}]},
                "tools/call": {"content": [{"type": "text", "text": name}]},
            }
            if "id" in asked:
                answer = {"jsonrpc": "2.0", "id": asked["id"], "result": results[asked["method"]]}
                self.bridge.server_line(name, json.dumps(answer).encode())
            return True

        return put

    def of(self, kind: type) -> list:
        return [each for each in self.events if isinstance(each, kind)]

    async def event(self, kind: type, nth: int = 1):
        await self.bell.until(lambda: len(self.of(kind)) >= nth)
        return self.of(kind)[nth - 1]


@contextlib.asynccontextmanager
async def keeping(
    mode: Mode, *servers: str, **manner: object
) -> AsyncIterator[tuple[Bridged, Broker]]:
    bridged = Bridged(*servers)
    async with broker(**manner) as endpoint:
        plan = Plan("", Endpoint(endpoint.url), servers, seeing(*servers), mode)

        def backoff() -> Backoff:
            return Backoff(0.8, 600.0, 60.0, lambda: 0.0)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(bridged.bridge.run)
            life = EndpointLife(bridged.bridge, plan, Dialling("none"), backoff, PAUSE)
            tasks.start_soon(life.run)
            yield bridged, endpoint
            tasks.cancel_scope.cancel()


@pytest.mark.parametrize("mode", [Mode.SEPARATE, Mode.AUTO])
async def test_apart_each_server_is_seen_alone(mode):
    async with keeping(mode, "a", "b") as (bridged, endpoint):
        tools = [list(await (await endpoint.accept()).handshake()) for _ in range(2)]
        assert sorted(tools) == [["of_a"], ["of_b"]]
        assert {each.link for each in bridged.of(LinkUp)} == {"a", "b"}
        assert bridged.of(ModeSwitched) == []


async def test_together_all_are_seen_over_one_link():
    async with keeping(Mode.AGGREGATE, "a", "b") as (bridged, endpoint):
        peer = await endpoint.accept()
        assert list(await peer.handshake()) == ["of_a", "of_b"]
        for name in ("a", "b"):
            assert (await peer.call(f"of_{name}"))["result"]["content"][0]["text"] == name
        assert [each.link for each in bridged.of(LinkUp)] == ["endpoint"]


@pytest.mark.parametrize(
    ("reason", "servers"), [(REPLACED, "ab"), (REPLACED, "abcdefghij"), ("replaced", "ab")]
)
async def test_links_that_throw_each_other_out_become_one_that_is_reached(reason, servers):
    # the bug of those that say the words would hide the others from one another
    bug = {"orphans": True, "lingers": PAUSE / 2} if reason == REPLACED else {"orphans": False}
    manner = {"one_per_token": True, "evicts_with": reason, **bug}
    async with keeping(Mode.AUTO, *servers, **manner) as (bridged, endpoint):
        switched = await bridged.event(ModeSwitched)
        assert switched == ModeSwitched("endpoint", tuple(servers))
        await bridged.bell.until(lambda: bridged.of(LinkUp)[-1].link == "endpoint")
        await endpoint.until(endpoint.registered)
        assert endpoint.connected == 1
        assert list(await endpoint.robot().handshake()) == [f"of_{name}" for name in servers]
        assert bridged.starts == len(servers)
        assert len(bridged.of(ModeSwitched)) == 1


async def test_the_one_link_is_opened_only_after_all_others_are_closed_and_a_pause():
    async with keeping(Mode.AUTO, "a", "b", one_per_token=True) as (bridged, endpoint):
        await bridged.event(ModeSwitched)
        before = len(endpoint.attempts)
        now = bridged.bridge.now()
        assert all(each.link != "endpoint" for each in bridged.of(LinkUp))
        assert (await endpoint.attempted(before + 1))[before].at >= now + PAUSE * 0.9


async def test_separate_links_give_way_and_name_the_setting():
    async with keeping(Mode.SEPARATE, "a", "b", one_per_token=True) as (bridged, endpoint):
        down = await bridged.event(LinkDown)
        assert down.retry_in == 600.0
        assert '"mode": "aggregate"' in down.hint
        assert len(endpoint.attempts) == 2
        assert bridged.of(ModeSwitched) == []


async def test_a_lone_server_has_nobody_to_share_with_and_gives_way():
    async with keeping(Mode.AUTO, "a", one_per_token=True) as (bridged, endpoint):
        await endpoint.until(endpoint.registered)
        await endpoint.registered().close(1000, REPLACED)
        assert (await bridged.event(LinkDown)).retry_in == 600.0
        assert bridged.of(ModeSwitched) == []


async def test_the_one_link_gives_way_to_another_bridge():
    async with keeping(Mode.AUTO, "a", "b", one_per_token=True) as (bridged, endpoint):
        await bridged.event(ModeSwitched)
        await endpoint.until(endpoint.registered)
        await endpoint.registered().close(1000, REPLACED)
        down = await bridged.event(LinkDown)
        assert (down.link, down.retry_in) == ("endpoint", 600.0)
