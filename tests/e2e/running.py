"""A real `xzpipe` process: start it, wait for its events, signal it, look at what it leaves behind.

    async with running(tmp_path, {"calc": entry()}, endpoint.url) as xzpipe:
        await xzpipe.event("LinkUp")
        ...
        code = await xzpipe.stop()
"""

import asyncio
import contextlib
import json
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import anyio
import psutil

WAIT = 20.0  # seconds; no test waits that long unless something is broken


class Xzpipe:
    """A running process. `events` are its log lines so far, parsed; `log` is the text of them."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.events: list[dict[str, Any]] = []
        self.log = ""
        self._more = anyio.Event()

    async def read(self) -> None:
        """Collect its log until it ends."""
        assert self.process.stderr
        while line := await self.process.stderr.readline():
            text = line.decode()
            self.log += text
            with contextlib.suppress(ValueError):
                self.events.append(json.loads(text))
            self._ring()
        self._ring()

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

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Signal it and wait for its exit; its code."""
        self.process.send_signal(number)
        return await self.exit_code()

    async def exit_code(self) -> int:
        """Wait for its exit; its code."""
        with anyio.fail_after(WAIT):
            return await self.process.wait()

    def descendants(self) -> list[psutil.Process]:
        """Its children and theirs, the guard among them."""
        return psutil.Process(self.process.pid).children(recursive=True)


@contextlib.asynccontextmanager
async def running(
    folder: Path,
    servers: Mapping[str, Any],
    endpoint: str | None,
    *options: str,
    settings: Mapping[str, Any] | None = None,
    env: Mapping[str, str] | None = None,
) -> AsyncIterator[Xzpipe]:
    """`xzpipe run` on a config with these servers and `xzpipe` settings, logging JSON at DEBUG."""
    config = folder / "mcp_config.json"
    config.write_text(json.dumps({"mcpServers": servers, "xzpipe": settings or {}}))
    environment = {**os.environ, **(env or {})}
    if endpoint is not None:
        environment["MCP_ENDPOINT"] = endpoint
    arguments = ["run", "--config", str(config), "--log-format", "json", "-v", *options]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "xzpipe",
        *arguments,
        cwd=folder,
        env=environment,
        stdin=DEVNULL,
        stdout=DEVNULL,
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
