"""MCP servers for tests: the scripted one, and a way to talk to any by its pipes."""

import asyncio
import contextlib
import os
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import anyio
import psutil

from tests.servers.session import WAIT, Session
from tests.servers.stub import JUNK  # before `def stub`, which the module would hide

__all__ = ["JUNK", "STUB", "Stdio", "alive", "ended", "entry", "stub", "talk"]

STUB = Path(__file__).with_name("stub.py")


def stub(*flags: object) -> list[str]:
    """The argv of the scripted server. -I -S: no site-packages, no PYTHON… variables, quick."""
    return [sys.executable, "-I", "-S", str(STUB), *map(str, flags)]


def entry(*flags: object) -> dict[str, Any]:
    """The scripted server as an entry of `mcpServers`."""
    command, *args = stub(*flags)
    return {"command": command, "args": args}


def alive(pid: int) -> bool:
    """Whether that process runs; a zombie that nobody has reaped yet does not."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


async def ended(*pids: int, timeout: float = WAIT) -> None:
    """Wait until none of these processes runs."""
    with anyio.fail_after(timeout):
        # Polled: nothing tells of the end of a process that is not our child.
        while any(map(alive, pids)):  # noqa: ASYNC110
            await anyio.sleep(0.01)


class Stdio(Session):
    """A conversation over a process's pipes. `stderr` is what it has written there."""

    def __init__(self, process: Process) -> None:
        super().__init__()
        self.process = process
        self.stderr = bytearray()

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        self.process.stdin.write(data + b"\n")
        await self.process.stdin.drain()

    async def exited(self, timeout: float = WAIT) -> int:
        """The exit code, once the process has exited and all its output is here."""
        await self._bell.until(lambda: self.gone, timeout)
        with anyio.fail_after(timeout):
            return await self.process.wait()

    async def _read_stdout(self) -> None:
        async for line in self.process.stdout:
            self._arrived(line.rstrip(b"\r\n"))

    async def _read_stderr(self) -> None:
        while data := await self.process.stderr.read(2**16):
            self.stderr += data

    async def _pump(self) -> None:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read_stdout)
            tasks.start_soon(self._read_stderr)
        self._ended()


@contextlib.asynccontextmanager
async def talk(
    argv: Sequence[str], *, env: Mapping[str, str] | None = None, cwd: Path | None = None
) -> AsyncIterator[Stdio]:
    """Start an MCP server in a process group of its own; that group is gone afterwards."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdin=PIPE, stdout=PIPE, stderr=PIPE, env=env, cwd=cwd, limit=2**28,
        start_new_session=True,
    )  # fmt: skip
    session = Stdio(process)
    pump = asyncio.create_task(session._pump())
    try:
        yield session
    finally:
        process.stdin.close()
        # Shielded: a transport that has not seen the end of its pipes would warn.
        with anyio.CancelScope(shield=True):
            with contextlib.suppress(TimeoutError):
                await session.exited(timeout=1)
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await session.exited()
            await pump
