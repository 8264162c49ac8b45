"""Every way in which xzpipe ends, and that nothing is left behind by any."""

import asyncio
import signal
from collections.abc import Sequence
from pathlib import Path

import anyio
import psutil
import pytest

from tests.e2e.running import AS_INSTALLED, PLAIN_ASYNCIO, Xzpipe, backoff, gone, running
from tests.endpoints import Broker, Peer, broker, wire
from tests.servers import entry

pytestmark = pytest.mark.anyio

STUBBORN = ("--ignore-eof", "--ignore-sigterm", "--grandchild")
READY = {
    "polite": entry(),
    "deaf": entry("--ignore-eof"),
    "stubborn 1": entry(*STUBBORN),
    "stubborn 2": entry(*STUBBORN),
    "stubborn 3": entry(*STUBBORN),
}
MOODS = READY | {
    "stubborn and slow": entry(*STUBBORN, "--start-delay", 300),
    "failing": entry("--exit-at-start", 1),
}
QUICK = backoff(longest=300)


async def linked(xzpipe: Xzpipe, endpoint: Broker) -> tuple[list[Peer], list[psutil.Process]]:
    """The endpoint's ends of all links, and all that xzpipe has started."""
    peers = [await endpoint.accept() for _ in READY]
    await xzpipe.event("LinkUp", len(READY))
    await xzpipe.event("ServerStarting", server="stubborn and slow")
    processes = xzpipe.descendants()
    assert len(processes) >= len(READY) + 3 + 1 + 1  # three grandchildren, the slow one, the guard
    return peers, processes


async def nothing_is_left(processes: list[psutil.Process], folder: Path) -> None:
    """These processes end, and so does whatever else was started from this folder."""
    assert await gone(processes) == []
    with anyio.fail_after(20):
        while any(runs_in(each, folder) for each in psutil.process_iter()):  # noqa: ASYNC110
            await anyio.sleep(0.1)


def runs_in(process: psutil.Process, folder: Path) -> bool:
    try:
        return process.cwd() == str(folder) and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False


async def test_a_signal_ends_links_servers_and_their_descendants_all_at_the_same_time(
    tmp_path: Path,
) -> None:
    async def ends(name: str, number: signal.Signals, code: int, python: Sequence[str]) -> None:
        folder = tmp_path / name
        folder.mkdir()
        async with (
            broker(auto=True) as endpoint,
            running(folder, MOODS, endpoint.url, *QUICK, python=python) as xzpipe,
        ):
            peers, left = await linked(xzpipe, endpoint)
            with anyio.fail_after(14):  # four that take 4 s each, one by one, would take 16
                assert await xzpipe.stop(number) == code
            await nothing_is_left(left, folder)
            for peer in peers:
                assert (await peer.closed())[0] == 1001
            await xzpipe.event("LinkClosed", len(READY))
            for server in MOODS.keys() - {"failing"}:
                how = "at the end of its input" if server == "polite" else "by SIGTERM"
                how = "by SIGKILL" if server.startswith("stubborn") else how
                await xzpipe.event("ServerStopped", server=server, how=how)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ends, "terminated", signal.SIGTERM, 0, AS_INSTALLED)
        tasks.start_soon(ends, "interrupted", signal.SIGINT, 130, PLAIN_ASYNCIO)


async def test_a_second_signal_ends_everything_at_once(tmp_path: Path) -> None:
    async with (
        broker(auto=True) as endpoint,
        running(tmp_path, MOODS, endpoint.url, *QUICK) as xzpipe,
    ):
        _, left = await linked(xzpipe, endpoint)
        xzpipe.process.send_signal(signal.SIGINT)
        await xzpipe.event("LinkClosed")  # the first one is being heeded
        assert await xzpipe.stop(signal.SIGINT) == 130
        assert await gone(left, within=3) == []  # the guard would take 4 s if it had to end them
        await nothing_is_left(left, tmp_path)
        assert not xzpipe.found("ServerStopped", how="by SIGKILL")


async def test_when_xzpipe_itself_is_killed_nothing_outlives_it_for_long(tmp_path: Path) -> None:
    async with (
        broker(auto=True) as endpoint,
        running(tmp_path, MOODS, endpoint.url, *QUICK) as xzpipe,
    ):
        _, left = await linked(xzpipe, endpoint)
        assert await xzpipe.stop(signal.SIGKILL) == -signal.SIGKILL
        await nothing_is_left(left, tmp_path)


async def test_it_can_be_ended_while_it_starts_its_servers(tmp_path: Path) -> None:
    async def ends(
        name: str, number: signal.Signals, code: int, flags: Sequence[str], python: Sequence[str]
    ) -> None:
        folder = tmp_path / name
        folder.mkdir()
        servers = {f"server {n}": entry(*flags) for n in range(12)}
        async with (
            broker() as endpoint,
            running(folder, servers, endpoint.url, python=python) as xzpipe,
        ):
            await xzpipe.event("ServerStarting")
            left = xzpipe.descendants()
            assert await xzpipe.stop(number) == code
            await nothing_is_left(left, folder)

    deaf = ("--grandchild", "--ignore-eof")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ends, "terminated", signal.SIGTERM, 0, deaf, AS_INSTALLED)
        tasks.start_soon(ends, "on asyncio", signal.SIGTERM, 0, deaf, PLAIN_ASYNCIO)
        # no deaf ones, since the guard may not have heard of a server that is being started
        tasks.start_soon(ends, "killed", signal.SIGKILL, -signal.SIGKILL, (), AS_INSTALLED)


async def test_it_can_be_ended_while_everything_waits_for_its_next_try(tmp_path: Path) -> None:
    servers = {"linked": entry(), "failing": entry("--init-error", "no")}
    patient = backoff(initial=300, longest=300)
    async with running(tmp_path, servers, "ws://127.0.0.1:1/", *patient) as xzpipe:
        await xzpipe.event("LinkDown", link="linked")
        await xzpipe.event("ServerDown", server="failing")
        left = xzpipe.descendants()
        assert await xzpipe.stop() == 0
        await nothing_is_left(left, tmp_path)


async def test_it_can_be_ended_while_an_endpoint_does_not_answer_the_dial(tmp_path: Path) -> None:
    dialled, over = asyncio.Event(), asyncio.Event()

    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        dialled.set()
        await over.wait()
        writer.close()

    async with await asyncio.start_server(say_nothing, "127.0.0.1") as mute:
        port = mute.sockets[0].getsockname()[1]
        async with running(tmp_path, {"stub": entry()}, f"ws://127.0.0.1:{port}/") as xzpipe:
            with anyio.fail_after(20):
                await dialled.wait()
            left = xzpipe.descendants()
            assert await xzpipe.stop() == 0
            await nothing_is_left(left, tmp_path)
            assert not xzpipe.found("LinkDown")  # it had not given up by itself
        over.set()


async def test_neither_a_frozen_connection_nor_a_full_pipe_holds_up_the_end(
    tmp_path: Path,
) -> None:
    async with (
        broker() as endpoint,
        wire(endpoint.url) as line,
        running(tmp_path, {"stub": entry()}, line.url) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        await peer.start_call("block", {"seconds": 300})
        for _ in range(4):  # more than a pipe holds, so that the end of its input cannot reach it
            await peer.start_call("echo", {"text": "x" * 2**20})
        await peer.ping()
        line.freeze()
        left = xzpipe.descendants()
        assert await xzpipe.stop() == 0
        await nothing_is_left(left, tmp_path)
        await xzpipe.event("ServerStopped", how="by SIGTERM")
