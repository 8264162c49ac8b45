"""What takes its time: a slow start, a slow tool, and a silence that is not an end."""

import time
from pathlib import Path

import anyio
import pytest

from tests.e2e.running import Xzpipe, backoff, running
from tests.endpoints import broker, wire
from tests.servers import entry
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

START = 15.0  # seconds; longer than the 10 s that an endpoint waits for an answer
BLOCK = 30.0  # seconds; longer than all time limits of a link
PINGS, PONGS = 20.0, 20.0  # seconds; until xzpipe pings a quiet link, and until it gives it up
CLOSING = 2.0  # seconds that the end of a link may take
AT_ONCE = 3.0  # seconds; this machine may be slow


@pytest.mark.timeout(120)
async def test_slow_starts_slow_tools_and_silent_connections_are_lived_through(
    tmp_path: Path,
) -> None:
    """It takes 42 s, nearly all of them waiting, and side by side: these are the times of real
    servers and of a user's `xzpipe run`, none of them scaled down. The longest is the last, the two
    halves of the keepalive one after the other."""
    scenes = (a_server_takes_15_s_to_start, a_tool_blocks_for_30_s, a_connection_is_half_open)
    async with anyio.create_task_group() as tasks:
        for scene in scenes:
            folder = tmp_path / scene.__name__
            folder.mkdir()
            tasks.start_soon(scene, folder)


async def a_server_takes_15_s_to_start(folder: Path) -> None:
    """The endpoint hears of it when it is ready: before that, it would close the link with 4004."""
    servers = {"slow": entry("--start-delay", START)}
    async with broker() as endpoint:
        started = time.monotonic()
        async with running(folder, servers, endpoint.url) as xzpipe:
            peer = await endpoint.accept(timeout=2 * START)
            assert endpoint.attempts[0].at - started >= START
            assert "echo" in await peer.handshake(timeout=AT_ONCE)
            assert text(await peer.call("echo", {"text": "ready"})) == "ready"
            assert (await xzpipe.event("ServerReady"))["seconds"] >= START
            await stopped(xzpipe)
            assert len(endpoint.attempts) == 1 and not xzpipe.found("LinkDown")


async def a_tool_blocks_for_30_s(folder: Path) -> None:
    """The server reads nothing meanwhile; what the endpoint asks each second is answered."""
    async with (
        broker() as endpoint,
        running(folder, {"stub": entry()}, endpoint.url) as xzpipe,
    ):
        peer = await endpoint.accept()
        tools = await peer.handshake()
        started = time.monotonic()
        blocked = await peer.start_call("block", {"seconds": BLOCK})
        waiting = await peer.start_call("echo", {"text": "after that"})
        while time.monotonic() - started < BLOCK - 2:
            await anyio.sleep(1)  # as an endpoint does it
            await peer.ping(timeout=AT_ONCE)
            assert await peer.handshake(timeout=AT_ONCE) == tools
        assert text(await peer.answer(blocked)) == "blocked"
        assert time.monotonic() - started >= BLOCK
        assert text(await peer.answer(waiting)) == "after that"
        await stopped(xzpipe)
        assert len(endpoint.attempts) == 1
        assert not xzpipe.found("LinkDown") and not xzpipe.found("ServerDown")


async def a_connection_is_half_open(folder: Path) -> None:
    """xzpipe's own keepalive finds out, says so and dials anew, though TCP knows of no end."""
    async with (
        broker() as endpoint,
        wire(endpoint.url) as line,
        running(folder, {"stub": entry()}, line.url, *backoff()) as xzpipe,
    ):
        silent = await endpoint.accept()
        await silent.handshake()
        await silent.start_call("hold", {"key": "for the silent one"}, id=7)
        await silent.ping()
        line.freeze()

        peer = await endpoint.accept(timeout=2 * (PINGS + PONGS))
        first, second = endpoint.attempts
        assert PINGS + PONGS <= second.at - first.at < PINGS + PONGS + CLOSING + AT_ONCE
        down = await xzpipe.event("LinkDown")
        assert "does not answer pings" in down["cause"] and down["cause"] in down["message"]
        assert down["lived"] >= PINGS + PONGS

        assert "echo" in await peer.handshake(timeout=AT_ONCE)
        again = await peer.start_call("hold", {"key": "for this one"}, id=7)
        assert value(await peer.call("release")) == 2
        assert text(await peer.answer(again)) == "for this one"
        assert peer.inbox == []
        await stopped(xzpipe)
        assert len(xzpipe.found("LinkDown")) == 1 and not xzpipe.found("ServerDown")


async def stopped(xzpipe: Xzpipe) -> None:
    """Stop it; from then on its log is whole, and what is not there has not happened."""
    assert await xzpipe.stop() == 0
    assert "Traceback" not in await xzpipe.whole_log()
