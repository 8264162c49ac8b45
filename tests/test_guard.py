"""The guard ends what is left of the servers when xzpipe itself is killed."""

import json
import os
import signal
import sys
import time
from asyncio import create_subprocess_exec
from asyncio.subprocess import PIPE
from pathlib import Path

import anyio
import anyio.lowlevel
import psutil
import pytest

from tests.servers import alive, ended, stub
from tests.servers.session import WAIT
from xzpipe.core.launch import Launch
from xzpipe.guard import Guard
from xzpipe.process import KILL, Child, spawn

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.environ["PATH"]}

# Starts the servers of its arguments under a guard, reports all pids, and is killed.
VICTIM = """
import json, os, signal, sys
import anyio
from xzpipe.core.launch import Launch
from xzpipe.guard import Guard
from xzpipe.process import spawn

async def main():
    nothing = lambda _: None
    ready = []
    async with Guard() as guard:
        for argv in json.loads(sys.argv[1]):
            launch = Launch("s", tuple(argv), {"PATH": os.environ["PATH"]})
            child = await spawn(launch, ready.append, nothing, nothing, 2**20)
            guard.watch(child)
            print(child.pid, flush=True)
            child.write(b'{"id":1,"method":"ping"}')
        while len(ready) < len(json.loads(sys.argv[1])):
            await anyio.sleep(0.01)
        os.kill(os.getpid(), signal.SIGKILL)

anyio.run(main)
"""


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    return "asyncio", {"use_uvloop": request.param}


async def start(*flags: object) -> Child:
    launch = Launch("s", tuple(stub(*flags)), ENV)
    return await spawn(launch, *[lambda _: None] * 3, 2**20)


async def kill(child: Child) -> None:
    child.signal(KILL)
    await child.wait()


def guards() -> list[psutil.Process]:
    children = psutil.Process().children()
    # Polled: nothing tells when a child that has just been started has its words.
    while not all(each.cmdline() for each in children):
        time.sleep(0.001)
    return [each for each in children if "xzpipe-guard" in each.cmdline()]


@pytest.mark.parametrize("anyio_backend", [False], indirect=True, ids=["either"])
async def test_servers_that_ignore_everything_end_after_xzpipe_was_killed():
    """The real waits of the guard: 2 s until SIGTERM, 2 s more until SIGKILL."""
    stubborn = stub("--ignore-eof"), stub("--ignore-eof", "--ignore-sigterm", "--grandchild")
    argv = [sys.executable, "-c", VICTIM, json.dumps(stubborn)]
    process = await create_subprocess_exec(*argv, stdout=PIPE, start_new_session=True)
    output, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    groups = [int(line) for line in output.split()]
    assert len(groups) == 2
    members = [each.pid for each in psutil.process_iter() if os.getpgid(each.pid) in groups]
    assert len(members) == 3
    await ended(*members)


async def test_the_guard_goes_when_nobody_is_left():
    async with Guard() as guard:
        [process] = guards()
        one, two = await start(), await start()
        for child in (one, two):
            guard.watch(child)
        await kill(one)
        guard.forget(one)
        await kill(two)
        guard.forget(two)
        assert alive(process.pid)
    assert not alive(process.pid)


async def test_a_forgotten_server_is_let_live():
    child = await start("--ignore-eof")
    async with Guard() as guard:
        guard.watch(child)
        guard.forget(child)
    assert guards() == []
    assert alive(child.pid)
    await kill(child)


async def test_all_servers_can_be_killed_at_once_and_the_guard_with_them():
    async with Guard() as guard:
        [process] = guards()
        children = [await start("--ignore-eof", "--ignore-sigterm") for _ in range(3)]
        for child in children:
            guard.watch(child)
        guard.kill()
        with anyio.fail_after(WAIT):
            for child in children:
                assert await child.wait() == "it was killed by SIGKILL"
                guard.forget(child)
        await ended(process.pid)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
async def test_a_signal_to_everyone_does_not_end_the_guard(number):
    async with Guard():
        [process] = guards()
        with anyio.fail_after(WAIT):
            # Polled: nothing tells of the moment in which a shell has set its traps.
            while not ignored(process.pid, number):  # noqa: ASYNC110
                await anyio.sleep(0.001)
        process.send_signal(number)
        assert alive(process.pid)
        assert os.getsid(process.pid) == process.pid


def ignored(pid: int, number: int) -> bool:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    status = dict(line.split(":", 1) for line in lines)
    return bool(int(status["SigIgn"], 16) & 1 << (number - 1))


async def test_without_its_guard_the_bridge_goes_on():
    async with Guard() as guard:
        [process] = guards()
        process.kill()
        await ended(process.pid)
        child = await start()
        for _ in range(10):
            guard.watch(child)
            guard.forget(child)
            await anyio.lowlevel.checkpoint()
        guard.watch(child)
        guard.kill()
        assert await child.wait() == "it was killed by SIGKILL"


async def test_a_guard_that_was_not_started_still_knows_whom_to_kill():
    guard = Guard()
    child = await start()
    guard.watch(child)
    guard.kill()
    assert await child.wait() == "it was killed by SIGKILL"
    guard.forget(child)
