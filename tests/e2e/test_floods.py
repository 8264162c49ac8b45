"""Much at once, and sides that do not read: nothing deadlocks, and nobody else has to wait."""

import json
from collections.abc import Callable
from pathlib import Path

import anyio
import psutil
import pytest

from tests.e2e.running import linked, running
from tests.endpoints import Peer, broker
from tests.servers import entry
from tests.servers.session import INITIALIZE, text, value

pytestmark = pytest.mark.anyio

MB = 10**6


async def flood(
    peer: Peer, calls: int, size: int, when_all_is_said: Callable[[], object] = bool
) -> None:
    """So many calls with arguments and answers of that size, all in flight at once."""
    said = [f"{number}:".ljust(size, "x") for number in range(calls)]
    with anyio.fail_after(20):
        ids = [await peer.start_call("echo", {"text": each}) for each in said]
        when_all_is_said()
        assert [text(await peer.answer(id)) for id in ids] == said


async def process_of(peer: Peer) -> psutil.Process:
    """The server's process. It can be suspended, which is the surest way not to read."""
    return psutil.Process(value(await peer.call("pids"))["pid"])


@pytest.mark.parametrize("pauses", ["nobody", "endpoint", "server", "both"])
@pytest.mark.parametrize(("calls", "size"), [(40, 50_000), (500, 200)])
async def test_many_calls_in_flight_in_both_directions_are_all_answered(
    tmp_path: Path, calls: int, size: int, pauses: str
) -> None:
    async with linked(tmp_path) as (endpoint, _, peer):
        server = await process_of(peer)
        if pauses in ("server", "both"):
            server.suspend()
        if pauses in ("endpoint", "both"):
            peer.stop_reading()

        def go_on() -> None:
            peer.read_again()
            server.resume()

        await flood(peer, calls, size, go_on)
        assert peer.inbox == []
        assert len(endpoint.attempts) == 1


async def test_all_servers_are_flooded_at_once(tmp_path: Path) -> None:
    servers = {name: entry("--name", name) for name in ("one", "two", "three")}
    async with broker(auto=True) as endpoint, running(tmp_path, servers, endpoint.url) as xzpipe:
        async with anyio.create_task_group() as tasks:
            for _ in servers:
                tasks.start_soon(flood, await endpoint.accept(), 40, 50_000)
        assert await xzpipe.stop() == 0


async def test_an_endpoint_is_answered_while_a_tool_blocks_its_server(tmp_path: Path) -> None:
    async with linked(tmp_path) as (endpoint, _, peer):
        blocked = await peer.start_call("block", {"seconds": 3.0})
        waiting = await peer.start_call("echo", {"text": "after that"})
        rounds = 0
        while blocked not in [json.loads(frame)["id"] for frame in peer.frames]:
            rounds += 1
            await peer.ping()
            assert "result" in await peer.request("initialize", INITIALIZE)
            assert "tools" in (await peer.request("tools/list"))["result"]
            with anyio.fail_after(10):
                await (await peer.connection.ping())
            await anyio.sleep(0.2)  # as an endpoint does it: one after the other, for all the time
        assert rounds >= 3
        assert text(await peer.answer(blocked)) == "blocked"
        assert text(await peer.answer(waiting)) == "after that"
        assert len(endpoint.attempts) == 1


async def test_an_endpoint_that_stops_reading_loses_its_link_and_costs_the_others_nothing(
    tmp_path: Path,
) -> None:
    servers = {name: entry("--name", name) for name in ("stuck", "other")}
    async with broker(auto=True) as endpoint, running(tmp_path, servers, endpoint.url) as xzpipe:
        peers = [await endpoint.accept() for _ in servers]
        stuck, other = sorted(peers, key=lambda p: p.initialized["serverInfo"]["name"] != "stuck")
        server = await process_of(stuck)
        before = xzpipe.peak()
        stuck.stop_reading()
        for _ in range(200):
            await stuck.start_call("size", {"bytes": MB})
        for number in range(50):
            assert text(await other.call("echo", {"text": str(number)})) == str(number)
        down = await xzpipe.event("LinkDown")
        assert down["link"] == "stuck"
        assert down["cause"] == "closed, since it does not take what is sent to it"
        assert down["retry_in"] > 0  # an endpoint that never reads would cost an outbox each time
        again = await endpoint.accept()  # of the answers to the last connection it gets none
        assert await process_of(again) == server
        assert again.inbox == []
        assert xzpipe.peak() - before < 120 * MB
        assert text(await other.call("echo", {"text": "the end"})) == "the end"
        assert len(xzpipe.found("LinkDown")) == 1
        assert await xzpipe.stop() == 0


async def test_a_server_that_stops_reading_costs_bounded_memory_and_its_callers_are_told(
    tmp_path: Path,
) -> None:
    async with linked(tmp_path) as (endpoint, xzpipe, peer):
        server = await process_of(peer)
        before = xzpipe.peak()
        server.suspend()
        ids = [await peer.start_call("echo", {"text": "x" * MB}) for _ in range(150)]
        await peer.ping()  # answered in order: what has found no room has been refused by now
        told = [json.loads(frame) for frame in peer.frames if b'"error"' in frame]
        refused = [each for each in told if "error" in each]
        assert {each["error"]["message"] for each in refused} == {"MCP server 'stub' is overloaded"}
        server.resume()
        answers = [await peer.answer(id, timeout=20) for id in ids]
        assert [each["id"] for each in answers if "error" in each] == [r["id"] for r in refused]
        assert all(len(text(each)) == MB for each in answers if "result" in each)
        assert xzpipe.peak() - before < 120 * MB
        assert len(endpoint.attempts) == 1
