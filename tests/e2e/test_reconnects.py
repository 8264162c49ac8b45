"""A lost connection: what goes on, what must not come through, and what must not pile up."""

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import psutil
import pytest
from websockets.asyncio.server import ServerConnection
from websockets.frames import Frame, Opcode
from websockets.protocol import Event as FrameEvent

from tests.core.kit import seeing
from tests.e2e.running import EITHER_LOOP, Xzpipe, backoff, running
from tests.endpoints import Broker, Gone, broker, wire
from tests.servers import entry, stub
from tests.servers.session import text, value
from xzpipe.bridge import Bridge
from xzpipe.core.backoff import Backoff
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import Event, StaleAnswer
from xzpipe.core.hub import Hub
from xzpipe.core.launch import Launch
from xzpipe.core.link_events import LinkDown
from xzpipe.core.plan import Link
from xzpipe.core.rivals import Rivals
from xzpipe.guard import Guard
from xzpipe.link_life import keep_link
from xzpipe.server_life import keep_server
from xzpipe.websocket import Dialling

pytestmark = pytest.mark.anyio

AT_ONCE = backoff(initial=0.01, longest=0.01)
MIB = 2**20


async def test_the_late_answer_to_a_lost_connection_never_reaches_the_next_that_reuses_the_id(
    tmp_path: Path,
) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": entry()}, endpoint.url, *AT_ONCE) as xzpipe,
    ):
        lost = await endpoint.accept()
        await lost.handshake()
        slow = await lost.start_call("hold", {"key": "for the lost connection"}, id=7)
        await lost.start_call("silent", id="also lost")
        await lost.ping()
        lost.reset()
        with pytest.raises(Gone):
            await lost.answer(slow)

        peer = await endpoint.accept()
        await peer.handshake()
        again = await peer.start_call("hold", {"key": "for this one"}, id=7)
        # the server was told that nobody waits for the first two, and answers one all the same
        assert len(value(await peer.call("cancelled"))) == 2
        assert value(await peer.call("release")) == 2
        assert text(await peer.answer(again)) == "for this one"
        await xzpipe.event("StaleAnswer")
        await peer.ping()
        assert peer.inbox == []
        assert b"for the lost connection" not in b"".join(peer.frames)


@EITHER_LOOP
async def test_thirty_reconnects_leave_the_server_alone_and_nothing_behind(
    tmp_path: Path, python: tuple[str, ...]
) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": entry()}, endpoint.url, *AT_ONCE, python=python) as xzpipe,
    ):
        server = {await one_connection(endpoint, n) for n in range(10)}  # what there is to warm up
        await endpoint.all_gone()
        before = await footprint(xzpipe, 11)
        server |= {await one_connection(endpoint, n) for n in range(10, 40)}
        await endpoint.all_gone()
        after = await footprint(xzpipe, 41)
        assert len(server) == 1
        assert after[:2] == before[:2]
        assert after[2] - before[2] < 8 * MIB  # each connection had 2 MiB on their way
        assert not xzpipe.found("ServerDown")
        waits = [each["retry_in"] for each in await xzpipe.all("LinkDown", 40)]
        assert len(waits) == 40 and max(waits) <= 0.01


async def one_connection(endpoint: Broker, number: int) -> int:
    """Use a connection, leave calls in flight, and end it in one of three ways; the server's
    pid."""
    peer = await endpoint.accept()
    await peer.handshake()
    big = "x" * MIB
    assert text(await peer.call("echo", {"text": big})) == big
    await peer.start_call("silent", {"with": big}, id="on its way")
    pid = value(await peer.call("pids"))["pid"]
    match number % 3:
        case 0:
            peer.reset()
        case 1:
            await peer.close()
        case 2:
            await peer.close(4004, "Internal server error")
    return pid


async def footprint(xzpipe: Xzpipe, links: int) -> tuple[int, int, int]:
    """Its descriptors, processes and bytes of memory, once it has made this many links."""
    await xzpipe.event("LinkUp", links)
    process = psutil.Process(xzpipe.process.pid)
    return process.num_fds(), len(xzpipe.descendants()), process.memory_info().rss


@asynccontextmanager
async def bridged(url: str, events: list[Event]) -> AsyncIterator[None]:
    """A real server and a real link, whose pings do not take 20 s as those of `xzpipe run` do
    (test_patience.py)."""

    def waits() -> Backoff:
        return Backoff(0.01, 0.01, 60.0, lambda: 0.0)

    bridge = Bridge(Hub(), events.append)
    launch = Launch("stub", tuple(stub()), dict(os.environ))
    dialling = Dialling(proxy="none", ping_interval=0.3, ping_timeout=0.3)
    link = Link("stub", Endpoint(url), seeing("stub"))
    async with Guard() as guard, anyio.create_task_group() as tasks:
        tasks.start_soon(bridge.run)
        tasks.start_soon(keep_server, bridge, launch, waits(), guard, MIB)
        tasks.start_soon(keep_link, bridge, link, dialling, waits(), Rivals())
        yield
        tasks.cancel_scope.cancel()


async def test_a_connection_that_is_only_half_open_is_noticed_and_replaced() -> None:
    events: list[Event] = []
    async with broker() as endpoint, wire(endpoint.url) as line, bridged(line.url, events):
        frozen = await endpoint.accept()
        await frozen.handshake()
        await frozen.start_call("hold", {"key": "for the frozen connection"}, id=7)
        await frozen.ping()
        line.freeze()

        peer = await endpoint.accept()
        await peer.handshake()
        again = await peer.start_call("hold", {"key": "for this one"}, id=7)
        assert value(await peer.call("release")) == 2
        assert text(await peer.answer(again)) == "for this one"
        down = [each for each in events if isinstance(each, LinkDown)]
        assert len(down) == 1 and "does not answer pings" in down[0].cause
        assert any(isinstance(each, StaleAnswer) for each in events)

        # what was on its way in the frozen wire reaches nobody when it thaws
        line.thaw()
        await peer.ping()
        assert peer.inbox == [] and len(endpoint.attempts) == 2


async def test_a_quiet_connection_that_answers_pings_is_left_alone() -> None:
    events: list[Event] = []
    pinged = anyio.Semaphore(0)

    class Pinged(ServerConnection):
        def process_event(self, event: FrameEvent) -> None:
            super().process_event(event)
            if isinstance(event, Frame) and event.opcode is Opcode.PING:
                pinged.release()

    async with broker(create_connection=Pinged) as endpoint, bridged(endpoint.url, events):
        peer = await endpoint.accept()
        await peer.handshake()
        with anyio.fail_after(20):
            for _ in range(5):  # by the next ping, the time limit of the one before it is over
                await pinged.acquire()
        await peer.ping()
        assert not [each for each in events if isinstance(each, LinkDown)]
        assert len(endpoint.attempts) == 1
