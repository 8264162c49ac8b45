"""xzpipe as PID 1 of a PID namespace, as in a container without an init."""

import os
import signal
import subprocess
from pathlib import Path

import anyio
import psutil
import pytest

from tests.e2e.running import WAIT, Xzpipe, gone, running
from tests.endpoints import broker
from tests.servers import entry, stub

# With --kill-child nothing of the namespace outlives `unshare`. Who is not root needs to be it.
UNSHARE = ["unshare", "--pid", "--fork", "--mount-proc", "--kill-child"]
if os.name == "posix" and os.geteuid() != 0:
    UNSHARE[1:1] = ["--user", "--map-root-user"]

AS_PID_ONE = (
    "-c",
    "import os, sys;"
    f"os.execvp('unshare', [*{UNSHARE!r}, sys.executable, '-m', 'xzpipe', *sys.argv[1:]])",
)
DAEMONS = 8


def refusal() -> str:
    """Why this system makes no PID namespace; empty if it does."""
    try:
        tried = subprocess.run([*UNSHARE, "true"], capture_output=True, text=True, timeout=20)
    except FileNotFoundError:
        return "there is no `unshare`"
    return f"`{' '.join(UNSHARE)} true` fails: {tried.stderr}" if tried.returncode else ""


pytestmark = [
    pytest.mark.anyio,
    pytest.mark.skipif(bool(why := refusal()), reason=why),
]


def daemons() -> dict[str, object]:
    """The scripted server, started by a shell that double-forks: what it leaves has no parent."""
    script = f'for n in $(seq {DAEMONS}); do (setsid sleep 600 >&2 &); done; exec "$@"'
    return {"command": "sh", "args": ["-c", script, "sh", *stub()]}


def pid_one(xzpipe: Xzpipe) -> psutil.Process:
    """The namespace's first process, as it is seen from outside."""
    [process] = psutil.Process(xzpipe.process.pid).children()
    return process


def orphans(xzpipe: Xzpipe) -> list[psutil.Process]:
    return [each for each in pid_one(xzpipe).children() if each.name() == "sleep"]


async def test_it_leaves_no_zombie_while_it_runs_and_nothing_at_all_when_it_is_stopped(
    tmp_path: Path,
) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": daemons()}, endpoint.url, python=AS_PID_ONE) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        left = orphans(xzpipe)
        assert len(left) == DAEMONS, "they have come to PID 1"
        for each in left:
            each.kill()
        assert await gone(left) == []
        await peer.call("die_soon")  # a server's own exit is still told with its code
        exited = await xzpipe.event("ServerDown")
        assert "code 1" in exited["reason"]
        await xzpipe.event("ServerReady", 2)
        everything = xzpipe.descendants()
        assert psutil.STATUS_ZOMBIE not in {each.status() for each in everything}
        pid_one(xzpipe).send_signal(signal.SIGTERM)
        assert await xzpipe.exit_code() == 0
        assert await gone(everything) == []
        assert "Traceback" not in await xzpipe.whole_log()


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
async def test_one_signal_stops_it_gently(tmp_path: Path, number: int, code: int) -> None:
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": entry()}, endpoint.url, python=AS_PID_ONE) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        pid_one(xzpipe).send_signal(number)
        assert (await peer.closed())[0] == 1001  # a second one would have killed it before that
        assert await xzpipe.exit_code() == code


async def test_a_signal_that_comes_as_soon_as_there_is_a_child_is_not_lost(tmp_path: Path) -> None:
    server = {"stub": entry()}
    async with running(tmp_path, server, "ws://127.0.0.1:9/", python=AS_PID_ONE) as xzpipe:
        with anyio.fail_after(WAIT):
            while len(both := psutil.Process(xzpipe.process.pid).children(recursive=True)) < 2:  # noqa: ASYNC110
                await anyio.sleep(0.001)
        both[0].send_signal(signal.SIGTERM)
        assert await xzpipe.exit_code() in (0, 128 + signal.SIGTERM)  # it heeds it, or cannot yet
        assert await gone(both) == []


async def test_the_exit_code_of_a_wrong_use_comes_through(tmp_path: Path) -> None:
    options = ("no-such-server",)
    server = {"stub": entry()}
    async with running(tmp_path, server, "ws://h/", *options, python=AS_PID_ONE) as xzpipe:
        assert await xzpipe.exit_code() == 2
        assert "no-such-server" in await xzpipe.whole_log()


async def test_a_killed_xzpipe_takes_all_with_it(tmp_path: Path) -> None:
    """The init is what ends the namespace: with the child's end, told as shells tell it."""
    async with (
        broker() as endpoint,
        running(tmp_path, {"stub": daemons()}, endpoint.url, python=AS_PID_ONE) as xzpipe,
    ):
        await (await endpoint.accept()).handshake()
        everything = xzpipe.descendants()
        [child] = [each for each in pid_one(xzpipe).children() if each.name() != "sleep"]
        child.kill()
        assert await xzpipe.exit_code() == 128 + signal.SIGKILL
        assert await gone(everything) == []
