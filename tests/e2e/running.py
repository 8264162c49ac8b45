"""A real `xzpipe` process: start it, wait for its events, signal it, look at what it leaves behind.

    async with running(tmp_path, {"calc": entry()}, endpoint.url) as xzpipe:
        await xzpipe.event("LinkUp")
        ...
        code = await xzpipe.stop()

Every wait is bounded, and nothing is left behind.
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.endpoints import Broker, Peer, broker
from tests.servers import entry

AS_INSTALLED = ("-m", "xzpipe")  # the arguments of Python
# … for an xzpipe as it is where uvloop is not installed
PLAIN_ASYNCIO = (
    "-c",
    "import sys; sys.modules['uvloop'] = None; from xzpipe.cli.main import entry; entry()",
)
EITHER_LOOP = pytest.mark.parametrize(
    "python",
    [
        pytest.param(AS_INSTALLED, id="uvloop, if it is there"),
        pytest.param(PLAIN_ASYNCIO, id="asyncio"),
    ],
)
WAIT = 20.0  # seconds; no test waits that long unless something is broken


class Xzpipe:
    """A running process. `events` are its log lines so far, parsed; `log` is the text of them."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self._lines: list[str] = []  # joined when asked for: a log may be long
        self._more = anyio.Event()
        self._read_to_the_end = anyio.Event()

    async def read(self) -> None:
        """Collect its log until it ends."""
        assert self.process.stderr
        while line := await self.process.stderr.readline():
            text = line.decode()
            self._lines.append(text)
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(text))
            self._ring()
        self._read_to_the_end.set()
        self._ring()

    @property
    def log(self) -> str:
        return "".join(self._lines)

    def _ring(self) -> None:
        self._more.set()
        self._more = anyio.Event()

    def found(self, event: str, **fields: object) -> list[dict[str, Any]]:
        """The events of this name so far whose fields have these values."""
        return [
            each
            for each in self.events
            if each["event"] == event and fields.items() <= each.items()
        ]

    async def event(self, event: str, nth: int = 1, /, **fields: object) -> dict[str, Any]:
        """Wait for the nth event of this name with these values."""
        try:
            with anyio.fail_after(WAIT):
                while len(found := self.found(event, **fields)) < nth:
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {event} number {nth} in:\n{self.log}") from None
        return found[nth - 1]

    async def all(self, event: str, count: int, /, **fields: object) -> list[dict[str, Any]]:
        """Wait for so many events of this name with these values; all there are by then.

        The log may lag behind what it tells of, since a thread of its own writes it."""
        await self.event(event, count, **fields)
        return self.found(event, **fields)

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its exit; its code."""
        self.process.send_signal(number)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait for its exit; its code."""
        with anyio.fail_after(WAIT):
            return await self.process.wait()

    async def says(self, text: str) -> None:
        """Wait until this text stands in its log, whatever its format."""
        try:
            with anyio.fail_after(WAIT):
                while text not in self.log:
                    await self._more.wait()
        except TimeoutError:
            raise AssertionError(f"no {text!r} in:\n{self.log}") from None

    async def whole_log(self) -> str:
        """All that it wrote until its end."""
        with anyio.fail_after(WAIT):
            await self._read_to_the_end.wait()
        return self.log

    def descendants(self) -> list[psutil.Process]:
        """Its children and theirs, the guard among them."""
        return psutil.Process(self.process.pid).children(recursive=True)

    def peak(self) -> int:
        """The most memory that it has held so far, in bytes; now, where no system tells that."""
        status = Path(f"/proc/{self.process.pid}/status")
        if not status.exists():
            return int(psutil.Process(self.process.pid).memory_info().rss)
        return int(status.read_text().partition("VmHWM:")[2].split()[0]) * 1024


def bare_environment() -> dict[str, str]:
    """The environment of the tests, without what whoever runs them has set for xzpipe."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("MCP_", "XZPIPE_"))}


def backoff(initial: float = 0.05, longest: float = 0.2, reset: float = 60.0) -> list[str]:
    """Options for waits that a test can wait for. A `reset` near 0 makes every life a good one."""
    values = {"initial": initial, "max": longest, "reset": reset}
    return [f"--backoff-{name}={value}" for name, value in values.items()]


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    servers: Mapping[str, Any],
    endpoint: str | None,
    *options: str,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
    stdout: int = DEVNULL,
    python: Sequence[str] = AS_INSTALLED,
) -> AsyncIterator[Xzpipe]:
    """`xzpipe run` on a config with these servers and `xzpipe` settings, logging JSON at DEBUG."""
    config = folder / "mcp_config.json"
    config.write_text(json.dumps({"mcpServers": servers, "xzpipe": settings or {}}))
    environment = {**bare_environment(), **(env or {})}
    if endpoint is not None:
        environment["MCP_ENDPOINT"] = endpoint
    arguments = ["run", "--config", str(config), "--log-format", "json", "-v", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *python,
        *arguments,
        cwd=folder,
        env=environment,
        stdin=DEVNULL,
        stdout=stdout,
        stderr=PIPE,
        limit=2**26,
        start_new_session=True,
    )
    xzpipe = Xzpipe(process)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(xzpipe.read)
        try:
            yield xzpipe
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    left = xzpipe.descendants()
                    process.kill()
                    await process.wait()
                    for each in left:
                        with contextlib.suppress(psutil.NoSuchProcess):
                            each.kill()
            tasks.cancel_scope.cancel()


async def gone(processes: list[psutil.Process], within: float = WAIT) -> list[psutil.Process]:
    """Wait until these processes have ended; those that have not."""
    _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=within)
    return list(alive)


@dataclass(frozen=True)
class Finished:
    """A command that has ended."""

    code: int
    stdout: str
    stderr: str


async def finished(
    folder: Path,
    *arguments: str,
    env: Mapping[str, str] | None = None,
    python: Sequence[str] = AS_INSTALLED,
) -> Finished:
    """`xzpipe ARGUMENT…` in this folder, once it has ended by itself."""
    command = [sys.executable, *python, *arguments]
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=folder,
        env={**bare_environment(), **(env or {})},
        stdin=DEVNULL,
        stdout=PIPE,
        stderr=PIPE,
    )
    try:
        with anyio.fail_after(WAIT):
            stdout, stderr = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            with anyio.CancelScope(shield=True):
                await process.communicate()
    assert process.returncode is not None
    return Finished(process.returncode, stdout.decode(), stderr.decode())


@contextlib.asynccontextmanager
async def linked(
    folder: Path,
    *flags: object,
    options: tuple[str, ...] = (),
    settings: Mapping[str, Any] | None = None,
) -> AsyncIterator[tuple[Broker, Xzpipe, Peer]]:
    """One scripted server behind one link whose handshake is done; afterwards, a clean stop."""
    async with (
        broker() as endpoint,
        running(
            folder, {"stub": entry(*flags)}, endpoint.url, *options, settings=settings
        ) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        yield endpoint, xzpipe, peer
        assert await xzpipe.stop() == 0
        assert "Traceback" not in xzpipe.log
