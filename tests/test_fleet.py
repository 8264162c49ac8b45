"""Servers and links as a config says, and as the next one does."""

from dataclasses import replace

import pytest

from tests.configs import Heard, config
from tests.core.kit import seeing
from tests.endpoints import broker
from tests.servers import alive, entry
from xzpipe.core.events import ServerReady, ServerRemoved, ServerStarting, ServerStopped
from xzpipe.core.link_events import LinkClosed, LinkDown, LinkUp
from xzpipe.fleet import needed, serving
from xzpipe.guard import Guard


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.mark.anyio
async def test_servers_are_kept_alive_until_the_block_ends(tmp_path):
    heard = Heard()
    servers = {"one": entry(), "two": entry()}
    async with serving(Guard(), replace(config(tmp_path, servers), plans=()), heard) as (bridge, _):
        await heard.event(ServerReady, 2)
        assert bridge.hub.ready(seeing("one"))
        assert bridge.hub.ready(seeing("two"))
        pids = [each.pid for each in heard.of(ServerStarting)]
    assert not any(map(alive, pids))
    assert {each.server for each in heard.of(ServerStopped)} == {"one", "two"}


@pytest.mark.anyio
async def test_what_has_not_changed_lives_on_when_the_rest_does(tmp_path):
    heard = Heard()
    async with broker() as endpoint:

        def having(**servers):
            return config(tmp_path, servers, endpoint=endpoint.url)

        before = having(same=entry(), changed=entry(), removed=entry())
        async with serving(Guard(), before, heard) as (bridge, fleet):
            await heard.event(ServerReady, 3)
            await heard.event(LinkUp, 3)
            pids = {each.server: each.pid for each in heard.of(ServerStarting)}
            await fleet.apply(having(same=entry(), changed=entry("--only", "echo"), new=entry()))
            await heard.event(ServerReady, 5)
            await heard.event(LinkUp, 4)
            started = [each.server for each in heard.of(ServerStarting)[3:]]
            assert sorted(started) == ["changed", "new"]
            assert sorted(each.server for each in heard.of(ServerStopped)) == ["changed", "removed"]
            assert alive(pids["same"])
            assert not alive(pids["changed"]) and not alive(pids["removed"])
            assert [each.link for each in heard.of(LinkClosed)] == ["removed"]
            assert [each.link for each in heard.of(LinkUp)[3:]] == ["new"]
            assert heard.of(LinkDown) == []
            assert not bridge.hub.ready(seeing("removed"))


@pytest.mark.anyio
async def test_a_policy_that_changed_renews_the_links_that_show_it_and_no_process(tmp_path):
    heard = Heard()
    async with broker() as endpoint:

        def having(**tools):
            servers = {"a": {**entry(), **tools}, "b": entry()}
            return config(tmp_path, servers, endpoint=endpoint.url)

        async with serving(Guard(), having(), heard) as (_, fleet):
            await heard.event(LinkUp, 2)
            await fleet.apply(having(tools=["echo"]))
            await heard.event(LinkUp, 3)
            assert [each.link for each in heard.of(LinkClosed)] == ["a"]
            assert heard.of(ServerRemoved) == []


@pytest.mark.anyio
async def test_an_endpoint_that_moved_takes_all_its_links_along_and_no_process(tmp_path):
    heard = Heard()
    async with broker() as old, broker() as new:

        def at(endpoint):
            servers = {"a": entry(), "b": entry()}
            return config(tmp_path, servers, endpoint=endpoint.url, mode="aggregate")

        async with serving(Guard(), at(old), heard) as (_, fleet):
            await heard.event(LinkUp)
            await fleet.apply(at(new))
            await heard.event(LinkUp, 2)
            peer = await new.accept()
            await peer.handshake()
            assert heard.of(ServerRemoved) == []


def test_a_server_that_no_endpoint_sees_is_not_needed(tmp_path):
    seen = {"home": {"url": "ws://127.0.0.1:1/mcp/?token=secret", "servers": ["a"]}}
    both = config(tmp_path, {"a": entry(), "b": entry()}, endpoints=seen)
    assert [launch.name for launch in needed(both).servers] == ["a"]
