"""Child processes, real ones: what goes in and out, and that they end."""

import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import psutil
import pytest

from tests.servers import alive, ended, stub
from tests.servers.session import WAIT, Bell, value
from tests.servers.session import text as said
from xzpipe.core.launch import Launch
from xzpipe.core.lines import WINDOW, Overlong
from xzpipe.errors import ServerError
from xzpipe.outbox import OUTBOX_BYTES
from xzpipe.process import (
    DRAIN,
    KILL,
    STDERR_KEPT,
    STDERR_LINE,
    STOP_LADDER,
    Child,
    describe,
    resolve,
    spawn,
)

pytestmark = pytest.mark.anyio

ENV = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
MIB = 2**20


@pytest.fixture(params=[False, True], ids=["asyncio", "uvloop"])
def anyio_backend(request: pytest.FixtureRequest) -> tuple[str, dict[str, bool]]:
    """Both loops that it may run on: they differ just in how they treat processes."""
    return "asyncio", {"use_uvloop": request.param}


class Heard:
    """What a child's callbacks were called with."""

    def __init__(self) -> None:
        self.lines: list[bytes] = []
        self.parts: list[Overlong] = []
        self.stderr: list[str] = []
        self._bell = Bell()

    def into(self, heard: list[Any]) -> Callable[[Any], None]:
        def take(what: Any) -> None:
            heard.append(what)
            self._bell.ring()

        return take

    async def until(self, condition: Callable[[], object]) -> None:
        await self._bell.until(condition)

    async def line(self, number: int) -> Any:
        """The line of that number, parsed."""
        await self.until(lambda: len(self.lines) > number)
        return json.loads(self.lines[number])


def python(code: str) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", code]


def launch(*argv: str, env: Mapping[str, str] = ENV, cwd: Path | None = None) -> Launch:
    return Launch("stub", argv, env, str(cwd) if cwd else None)


async def start(launch: Launch, max_line: int = MIB) -> tuple[Child, Heard]:
    heard = Heard()
    lines, parts, stderr = map(heard.into, (heard.lines, heard.parts, heard.stderr))
    return await spawn(launch, lines, parts, stderr, max_line), heard


@contextlib.asynccontextmanager
async def running(
    *argv: str, max_line: int = MIB, **more: Any
) -> AsyncIterator[tuple[Child, Heard]]:
    """A child, and what was heard of it; killed at the end."""
    child, heard = await start(launch(*argv, **more), max_line)
    try:
        yield child, heard
    finally:
        child.signal(KILL)
        with anyio.fail_after(WAIT, shield=True):
            await child.wait()


def call(tool: str, id: int = 1, **arguments: object) -> bytes:
    params = {"name": tool, "arguments": arguments}
    return json.dumps({"id": id, "method": "tools/call", "params": params}).encode()


async def asked(child: Child, heard: Heard, tool: str, **arguments: object) -> Any:
    """A tool's answer, which is the next line that is heard."""
    number = len(heard.lines)
    assert child.write(call(tool, **arguments))
    return await heard.line(number)


# Lines


async def test_lines_go_in_and_come_out_byte_for_byte():
    async with running(*stub()) as (child, heard):
        text = "é 你好 \u2028"
        assert child.write(b'{"id":1e2,"method":"ping"}')
        assert child.write(call("echo", text=text))
        await heard.until(lambda: len(heard.lines) == 2)
        assert heard.lines[0] == b'{"jsonrpc":"2.0","id":1e2,"result":{}}'
        assert said(await heard.line(1)) == text


async def test_lines_written_in_one_turn_keep_their_order():
    async with running(*stub()) as (child, heard):
        for id in range(500):
            assert child.write(b'{"id":%d,"method":"ping"}' % id)
        await heard.until(lambda: len(heard.lines) == 500)
        assert [json.loads(line)["id"] for line in heard.lines] == list(range(500))


async def test_of_a_line_over_the_limit_only_its_ends_are_heard():
    async with running(*stub(), max_line=10_000) as (child, heard):
        child.write(call("frame", id=7, bytes=10_000))
        child.write(call("frame", id=8, bytes=10_001))
        child.write(b'{"id":9,"method":"ping"}')
        assert (await heard.line(1))["id"] == 9
        assert len(heard.lines[0]) == 10_000
        head, tail = (each.part for each in heard.parts)
        assert head.startswith(b'{"jsonrpc":"2.0","id":8,')
        assert tail.endswith(b"}]}}")
        assert len(head) == len(tail) == WINDOW


async def test_a_line_without_end_is_not_kept():
    async with running(*stub(), max_line=MIB) as (child, heard):
        before = psutil.Process().memory_info().rss
        child.write(call("endless", bytes=200 * MIB, newline=True))
        child.write(b'{"id":2,"method":"ping"}')
        assert (await heard.line(0))["id"] == 2
        assert len(heard.parts) == 2
        assert psutil.Process().memory_info().rss - before < 50 * MIB


# Standard error


async def test_the_last_lines_of_stderr_are_kept():
    code = "import sys; [print('line', n, file=sys.stderr) for n in range(30)]"
    async with running(*python(code)) as (child, heard):
        await child.wait()
        assert heard.stderr == [f"line {n}" for n in range(30)]
        assert list(child.last_words) == heard.stderr[-STDERR_KEPT:]


async def test_stderr_is_read_whatever_it_holds():
    code = r"import os; os.write(2, b'\xff\r\n\n  \n' + b'x' * 70_000 + b'\nno end')"
    async with running(*python(code)) as (child, heard):
        await child.wait()
        assert heard.stderr == ["\ufffd", "x" * WINDOW, "x" * WINDOW, "no end"]
        assert STDERR_LINE < 70_000


async def test_a_flood_on_stderr_does_not_hold_up_the_answers():
    async with running(*stub()) as (child, heard):
        child.write(call("stderr", bytes=5 * MIB))
        assert said(await heard.line(0)) == "written"
        await heard.until(lambda: len(heard.stderr) == 5 * MIB // 80)


# Backpressure


def fill(child: Child, line: bytes) -> int:
    """Write a line again and again; how often that went well."""
    written = 0
    while child.write(line):
        written += 1
        assert written * len(line) <= 2 * OUTBOX_BYTES, "the outbox has no bound"
    return written


@pytest.mark.parametrize("turns", ["in one turn of the loop", "over many turns"])
async def test_a_child_that_does_not_read_fills_its_outbox_and_no_more(turns):
    line = b'{"method":"x","params":"%b"}' % (b"x" * MIB)
    async with running(*stub()) as (child, heard):
        await asked(child, heard, "whoami")
        child.signal(signal.SIGSTOP)
        if turns == "over many turns":
            for _ in range(OUTBOX_BYTES // len(line) - 1):
                assert child.write(line)
                await anyio.lowlevel.checkpoint()
        fill(child, line)
        await anyio.lowlevel.checkpoint()
        assert fill(child, line) <= 1  # the pipe itself has taken a little
        await anyio.lowlevel.checkpoint()
        assert not child.write(line)


async def test_what_was_accepted_arrives_once_the_child_reads_again():
    line = b'{"method":"big","params":"%b"}' % (b"x" * 4 * MIB)
    async with running(*stub()) as (child, heard):
        await asked(child, heard, "whoami")
        child.signal(signal.SIGSTOP)
        accepted = fill(child, line)
        assert accepted == OUTBOX_BYTES // len(line)
        child.signal(signal.SIGCONT)
        received = value(await asked(child, heard, "received"))
        assert received.count("big") == accepted


@pytest.mark.parametrize("anyio_backend", [False], indirect=True, ids=["asyncio"])
async def test_a_child_that_closed_its_stdin_takes_nothing():
    """uvloop does not tell: there, calls to such a child run into their time limit."""
    code = "import os, time; os.close(0); print(0, flush=True); time.sleep(60)"
    async with running(*python(code)) as (child, heard):
        await heard.line(0)
        with anyio.fail_after(WAIT):
            # The loop learns of it from its first write, or before: nothing tells us when.
            while child.write(b"{}"):  # noqa: ASYNC110
                await anyio.sleep(0.001)


# How it ends


async def test_what_a_child_wrote_before_its_end_is_heard():
    code = (
        "import os; os.write(1, b''.join(b'%d\\n' % n for n in range(8000))); "
        "os.write(2, b'why\\n'); os._exit(3)"
    )
    async with running(*python(code)) as (child, heard):
        # The loop stands still until the process has exited: all that it wrote is in the pipes.
        with contextlib.suppress(ChildProcessError):  # a thread of asyncio's took note of it first
            os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert await child.wait() == "it exited with code 3"
        assert [int(line) for line in heard.lines] == list(range(8000))
        assert heard.stderr == ["why"]


async def test_a_line_without_its_end_is_no_message():
    async with running(*python("print('{\"id\":1', end='')")) as (child, heard):
        assert await child.wait() == "it exited with code 0"
        assert heard.lines == []


async def test_a_child_that_was_killed_says_by_what():
    async with running(*stub()) as (child, _):
        os.kill(child.pid, signal.SIGSEGV)
        assert await child.wait() == "it was killed by SIGSEGV"


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (0, "it exited with code 0"),
        (127, "it exited with code 127"),
        (-9, "it was killed by SIGKILL"),
        (-250, "it was killed by signal 250"),
        (None, "it does not end"),
    ],
)
def test_an_exit_code_is_told_in_words(code, words):
    assert describe(code) == words


async def test_what_a_child_leaves_behind_ends_with_it():
    async with running(*stub("--grandchild")) as (child, heard):
        pids = value(await asked(child, heard, "pids"))
        child.write(call("die", code=5))
        assert await child.wait() == "it exited with code 5"
        await ended(pids["grandchild"])


async def test_a_descendant_that_left_the_group_holds_up_nothing_but_the_drain():
    code = (
        "import subprocess; "
        "print(subprocess.Popen(['sleep', '60'], start_new_session=True).pid, flush=True)"
    )
    async with running(*python(code)) as (child, heard):
        away = await heard.line(0)
        try:
            with anyio.fail_after(DRAIN + 4):
                assert await child.wait() == "it exited with code 0"
            assert alive(away)
        finally:
            os.kill(away, signal.SIGKILL)


async def test_a_child_leads_a_group_and_a_session_of_its_own():
    async with running(*stub()) as (child, heard):
        pids = value(await asked(child, heard, "pids"))
        assert pids["pid"] == pids["pgid"] == pids["sid"] == child.pid
        assert pids["ppid"] == os.getpid()


FLOOD = python("import os\nwhile True: os.write(1, b'x' * 1000 + b'\\n')")


async def test_stopping_takes_the_gentlest_step_that_is_enough_and_all_stop_at_once():
    """The real ladder, in a scope that is cancelled already: it is shielded from that."""
    children = [
        (stub("--grandchild"), "at the end of its input"),
        (stub("--grandchild", "--ignore-eof"), "by SIGTERM"),
        (stub("--grandchild", "--ignore-eof", "--ignore-sigterm"), "by SIGKILL"),
        (FLOOD, "by SIGTERM"),
    ]
    hows: dict[int, str] = {}
    pids: list[int] = []

    async def stop(number: int) -> None:
        argv, _ = children[number]
        async with running(*argv) as (child, heard):
            if argv is FLOOD:
                await heard.until(lambda: heard.lines)
            else:
                found = value(await asked(child, heard, "pids"))
                pids.extend((found["pid"], found["grandchild"]))
            with anyio.CancelScope() as scope:
                scope.cancel()
                hows[number] = await child.stop()

    with anyio.fail_after(sum(grace for _, grace, _ in STOP_LADDER)):
        async with anyio.create_task_group() as tasks:
            for number in range(len(children)):
                tasks.start_soon(stop, number)
    assert hows == {number: how for number, (_, how) in enumerate(children)}
    assert len(pids) == 6
    await ended(*pids)


async def test_a_child_that_has_ended_can_be_stopped_and_signalled():
    async with running(*python("")) as (child, _):
        await child.wait()
        child.signal(signal.SIGTERM)
        await child.stop()
        assert await child.wait() == "it exited with code 0"


@pytest.mark.parametrize("output", [1, 2])
async def test_a_bug_in_who_is_told_comes_out_where_the_child_is_waited_for(output):
    def fail(_: object) -> None:
        raise LookupError("a bug")

    argv = python(f"import os, time; os.write({output}, b'x\\n'); time.sleep(60)")
    child = await spawn(launch(*argv), fail, fail, fail, MIB)
    with pytest.raises(LookupError, match="a bug"), anyio.fail_after(WAIT):
        await child.wait()
    assert not alive(child.pid)
    await child.stop()


# How it starts


async def test_a_child_has_the_environment_and_the_folder_that_it_is_given(tmp_path):
    env = {"LC_ALL": "C.UTF-8", "KEY": "值 =\n'\"$X", "EMPTY": ""}
    async with running(*stub(), env=env, cwd=tmp_path) as (child, heard):
        assert value(await asked(child, heard, "env")) == env
        assert said(await asked(child, heard, "cwd")) == str(tmp_path.resolve())


async def test_arguments_are_passed_as_they_are():
    odd = ["a b", "$HOME", "*", "'", "", "\\", "值", "-x"]
    code = "import sys, json; print(json.dumps(sys.argv[1:]))"
    async with running(*python(code), *odd) as (_, heard):
        assert await heard.line(0) == odd


def executable(path: Path, text: str, mode: int = 0o755) -> Path:
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("argv", "words"),
    [
        (["no-such-command-xyz"], "the command 'no-such-command-xyz' was not found"),
        (["./missing"], "the command './missing' was not found"),
        (["/no/such/thing"], "the command '/no/such/thing' was not found"),
        (["bin"], "the command 'bin' was not found"),
        (["bin/plain"], "'bin/plain' is not executable"),
        (["bin/no-interpreter"], "'bin/no-interpreter' could not be started: "),
    ],
)
async def test_a_child_that_cannot_be_started_is_a_server_error(argv, words, tmp_path):
    executable(tmp_path / "bin/plain", "#!/bin/sh\n", 0o644)
    executable(tmp_path / "bin/no-interpreter", "#!/no/such/interpreter\n")
    with pytest.raises(ServerError) as failed:
        await start(launch(*argv, cwd=tmp_path))
    assert failed.value.message.startswith(words)
    assert failed.value.hint or not words.endswith(("found", "executable"))


async def test_a_folder_that_is_gone_is_a_server_error(tmp_path):
    with pytest.raises(ServerError) as failed:
        await start(launch(sys.executable, cwd=tmp_path / "gone"))
    assert failed.value.message == f"its folder {tmp_path / 'gone'} does not exist"


def test_a_bare_command_is_found_on_the_path_of_the_child(tmp_path):
    first = executable(tmp_path / "one/tool", "#!/bin/sh\n")
    executable(tmp_path / "two/tool", "#!/bin/sh\n")
    path = f"{tmp_path}/none:{tmp_path}/one:{tmp_path}/two"
    assert resolve(launch("tool", env={"PATH": path})) == str(first)
    with pytest.raises(ServerError):
        resolve(launch("tool", env={"PATH": ""}, cwd=tmp_path / "one"))


def test_without_a_path_the_systems_own_is_used():
    assert resolve(launch("sh", env={})).endswith("/sh")


def test_a_command_with_a_slash_is_relative_to_the_childs_folder(tmp_path):
    tool = executable(tmp_path / "bin/tool", "#!/bin/sh\n")
    assert resolve(launch("bin/tool", cwd=tmp_path)) == str(tool)
    assert resolve(launch("./bin/tool", cwd=tmp_path)) == str(tool)
    assert resolve(launch(str(tool), cwd=Path("/"))) == str(tool)
    with pytest.raises(ServerError):
        resolve(launch("bin/tool"))


@pytest.mark.parametrize(("descriptor", "name"), [(1, "stdout"), (0, "stdin")])
async def test_a_child_that_lives_on_without_its_pipe_is_given_up(
    descriptor: int, name: str, anyio_backend: object
) -> None:
    """It could not be asked, or not answer, until the deadline of every call."""
    if "'use_uvloop': True" in str(anyio_backend):
        pytest.skip("uvloop does not tell that the other end of a pipe is closed")
    program = f"import os, time; os.close({descriptor}); time.sleep(60)"
    async with running(*python(program)) as (child, _):
        with anyio.fail_after(WAIT):
            assert await child.wait() == f"it closed its {name} and lives on"
        assert await child.stop() in ("by SIGTERM", "at the end of its input")
