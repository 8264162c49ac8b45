"""One child process: a group of its own, lines in and out, its stderr, a stop that always ends.

What is particular to POSIX or Windows stands here and in `guard.py`. The pipes are served by
callbacks of the event loop, so a server that floods or blocks one of them holds up nobody.
"""

import asyncio
import os
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Callable
from typing import cast

import anyio

from xzpipe.core.launch import Launch
from xzpipe.core.lines import LineSplitter, Overlong
from xzpipe.errors import ServerError
from xzpipe.outbox import Outbox

POSIX = os.name == "posix"
KILL = signal.SIGKILL if POSIX else signal.SIGTERM  # the latter is TerminateProcess on Windows

STOP_LADDER = (  # step, seconds it is given, and how we say that it was enough
    (None, 2.0, "at the end of its input"),  # closing stdin is how MCP asks (wire.md §6)
    (signal.SIGTERM, 2.0, "by SIGTERM"),
    (KILL, 2.0, "by SIGKILL"),
)
DRAIN = 1.0  # seconds for the pipes to end after the group: only what left the group can hold them
LINGER = 1.0  # seconds that a process may live on without its stdin or stdout
STDERR_LINE = 64 * 2**10  # bytes; a longer line is cut
STDERR_KEPT = 20  # lines, for the report of an exit


class Child(asyncio.SubprocessProtocol):
    """A running MCP server, made by `spawn`."""

    def __init__(
        self,
        on_line: Callable[[bytes], None],
        on_overlong: Callable[[Overlong], None],
        on_stderr: Callable[[str], None],
        max_line: int,
    ) -> None:
        self.last_words: deque[str] = deque(maxlen=STDERR_KEPT)
        self._on_line = on_line
        self._on_overlong = on_overlong
        self._on_stderr = on_stderr
        self._stdout = LineSplitter(max_line)
        self._stderr = LineSplitter(STDERR_LINE)
        self._ended = anyio.Event()  # the process has ended
        self._read = anyio.Event()  # and everything that it wrote was read
        self._over = anyio.Event()  # it has ended, or cannot be talked to any more
        self._why = ""
        self._bug: Exception | None = None

    # Called by the event loop

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.SubprocessTransport, transport)
        self._stdin = cast(asyncio.WriteTransport, self._transport.get_pipe_transport(0))
        self.write = Outbox(self._stdin, _lines).put
        self.pid = self._transport.get_pid()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        try:
            self._said(data) if fd == 1 else self._heard(data)
        except Exception as bug:  # the loop would only log it; `wait` raises it
            self._bug = bug
            self.signal(KILL)

    def _said(self, data: bytes) -> None:
        for line in self._stdout.feed(data):
            if isinstance(line, Overlong):
                self._on_overlong(line)
            else:
                self._on_line(line)

    def pipe_connection_lost(self, fd: int, exc: Exception | None) -> None:
        if fd != 2:  # mostly it is exiting; if not, it cannot be asked or cannot answer any more
            asyncio.get_running_loop().call_later(LINGER, self._turned_away, fd)

    def _turned_away(self, fd: int) -> None:
        if not self._ended.is_set():
            self._why = f"it closed its {'stdout' if fd else 'stdin'} and lives on"
            self._over.set()

    def process_exited(self) -> None:
        self.signal(KILL)  # what it leaves behind must not meet its successor
        self._ended.set()
        self._over.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self.pipe_data_received(2, b"\n")
        self._read.set()

    def _heard(self, data: bytes) -> None:
        for line in self._stderr.feed(data):
            part = line.part if isinstance(line, Overlong) else line
            text = part.decode(errors="replace").rstrip()
            if text:
                self.last_words.append(text)
                self._on_stderr(text)

    # Called by those who run it

    async def wait(self) -> str:
        """Wait until it has ended and was read to the end, or until it cannot be talked to any
        more; how that came, in words. Raises what a callback raised."""
        await self._over.wait()
        how = self._why or await self._end()
        if self._bug is not None:
            raise self._bug
        return how

    async def _end(self) -> str:
        await self._ended.wait()
        with anyio.move_on_after(DRAIN):
            await self._read.wait()
        self._transport.close()
        return describe(self._transport.get_returncode())

    async def stop(self) -> str:
        """End it and its descendants, gently first; how it went, in words. Never takes longer than
        the ladder, and is not cut short by cancellation."""
        with anyio.CancelScope(shield=True):
            for number, grace, how in STOP_LADDER:
                if number is None:
                    self._stdin.close()
                else:
                    self.signal(number)
                with anyio.move_on_after(grace):
                    await self._end()
                    return how
        return "not at all, though it was killed"

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it and its descendants, if any are left."""
        try:
            if POSIX:
                os.killpg(self.pid, number)  # its pid is the group's id even after it has ended
            elif self._transport.get_returncode() is None:
                self._transport.send_signal(number)
        except (ProcessLookupError, PermissionError):
            pass  # PermissionError is what macOS says of a group of zombies


async def spawn(
    launch: Launch,
    on_line: Callable[[bytes], None],
    on_overlong: Callable[[Overlong], None],
    on_stderr: Callable[[str], None],
    max_line: int,
) -> Child:
    """Start a server in a process group of its own.

    The callbacks get its lines, either end of a line over `max_line` bytes, and its stderr line by
    line. Raises `ServerError` when it cannot be started.
    """
    loop = asyncio.get_running_loop()
    try:
        _, child = await loop.subprocess_exec(
            lambda: Child(on_line, on_overlong, on_stderr, max_line),
            resolve(launch),
            *launch.argv[1:],
            env=dict(launch.env),
            cwd=launch.cwd,
            start_new_session=POSIX,
            creationflags=0 if POSIX else subprocess.CREATE_NEW_PROCESS_GROUP,  # type: ignore[attr-defined,unused-ignore]
        )
    except (OSError, ValueError) as error:
        raise ServerError(f"'{launch.argv[0]}' could not be started: {error}") from None
    return child


def resolve(launch: Launch) -> str:
    """The program of a server, found on the PATH that it will have (with PATHEXT on Windows), or in
    its folder. Raises `ServerError`."""
    if launch.cwd is not None and not os.path.isdir(launch.cwd):  # uvloop would blame the program
        raise ServerError(f"its folder {launch.cwd} does not exist")
    command = launch.argv[0]
    is_path = bool(os.path.dirname(command))
    here = os.path.join(launch.cwd or os.curdir, command) if is_path else command
    program = shutil.which(here, path=launch.env.get("PATH", os.defpath))
    if program is None and is_path and os.path.isfile(here):
        raise ServerError(f"'{command}' is not executable", "Give its interpreter as `command`")
    if program is None:
        raise ServerError(
            f"the command '{command}' was not found",
            "Install it, or give its full path as `command`",
        )
    return os.path.abspath(program)


def _lines(messages: list[bytes]) -> tuple[bytes]:
    return (b"\n".join((*messages, b"")),)


def describe(code: int | None) -> str:
    """An exit code in words."""
    if code is None:
        return "it does not end"
    if code >= 0:
        return f"it exited with code {code}"
    try:
        return f"it was killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"it was killed by signal {-code}"
