"""A server changes its tools: the endpoint, which reads them only on connect, connects anew."""

import time
from pathlib import Path

import pytest

from tests.e2e.running import linked, running
from tests.endpoints import Peer, broker
from tests.servers import entry
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

LIST_CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
QUIET = 2.0  # seconds without a further change until the link is dropped


async def change(peer: Peer) -> str:
    """Have the server add a tool; its name, once the endpoint has been told."""
    name = text(await peer.call("change_tools"))
    assert await peer.receive() == LIST_CHANGED
    return name


async def test_the_link_is_made_anew_once_for_several_changes(tmp_path: Path) -> None:
    async with linked(tmp_path) as (endpoint, xzpipe, peer):
        server = value(await peer.call("pids"))["pid"]
        added = [await change(peer) for _ in range(3)]
        last = time.monotonic()
        assert set(added) <= {
            t["name"] for t in (await peer.request("tools/list"))["result"]["tools"]
        }
        assert (await peer.closed())[0] == 1001
        assert time.monotonic() - last >= QUIET * 0.9
        again = await endpoint.accept()
        assert set(added) <= (await again.handshake()).keys()
        assert text(await again.call(added[0])) == f"stub:{added[0]}"
        assert value(await again.call("pids"))["pid"] == server
        assert len(await xzpipe.all("ToolsChanged", 3)) == 3
        await xzpipe.event("LinkRenewed")
        assert len(endpoint.attempts) == 2


async def test_a_call_on_its_way_is_answered_before_the_link_is_made_anew(tmp_path: Path) -> None:
    async with linked(tmp_path) as (endpoint, _, peer):
        slow = await peer.start_call("sleep", {"seconds": QUIET + 1.0})
        await change(peer)
        assert text(await peer.answer(slow)) == "slept"
        assert (await peer.closed())[0] == 1001
        assert "added_0" in await (await endpoint.accept()).handshake()
        assert len(endpoint.attempts) == 2


async def test_a_change_concerns_only_the_link_of_its_server(tmp_path: Path) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two")}
    async with broker(auto=True) as endpoint, running(tmp_path, servers, endpoint.url) as xzpipe:
        peers = [await endpoint.accept() for _ in servers]
        one, two = sorted(peers, key=lambda peer: peer.initialized["serverInfo"]["name"])
        await change(one)
        assert (await one.closed())[0] == 1001
        again = await endpoint.accept()
        assert again.tools.keys() - two.tools.keys() == {"added_0"}
        assert text(await two.call("whoami")) == "two"
        assert two.inbox == []
        assert [each["link"] for each in await xzpipe.all("LinkRenewed", 1)] == ["one"]
        assert len(endpoint.attempts) == 3
        assert await xzpipe.stop() == 0


async def test_an_announced_change_that_changes_nothing_disturbs_nobody(tmp_path: Path) -> None:
    async with linked(tmp_path, "--list-changed") as (endpoint, xzpipe, peer):
        received = value(await peer.call("received"))
        # three announcements while the list was being read: it was read once more
        assert received.count("tools/list") == 2
        assert xzpipe.found("ToolsChanged") == []
        assert peer.inbox == []
        assert len(endpoint.attempts) == 1
