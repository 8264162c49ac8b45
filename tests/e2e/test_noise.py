"""Servers that write what they should not: none of it reaches the endpoint, nothing stalls."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.e2e.running import Xzpipe, bare_environment, linked
from tests.endpoints import broker
from tests.servers import JUNK, stub
from tests.servers.session import text

pytestmark = pytest.mark.anyio

MB = 2**20
NOISE = [line for line in JUNK if line.strip()]  # what is worth a word in the log


async def logged(xzpipe: Xzpipe, times: int) -> list[str]:
    """Each line of noise as the log shows it, once all have been seen that often."""
    await xzpipe.event("NoiseOnStdout", len(NOISE) * times)
    return [each["line"] for each in xzpipe.found("NoiseOnStdout")]


@pytest.mark.parametrize("flags", [(), ("--crlf",)], ids=["LF", "CR LF"])
async def test_junk_on_stdout_reaches_the_log_and_not_the_endpoint(
    tmp_path: Path, flags: tuple[str, ...]
) -> None:
    async with linked(tmp_path, "--noise", *flags) as (endpoint, xzpipe, peer):
        for said in ("hello", "你好 \u2028", ""):
            assert text(await peer.call("echo", {"text": said})) == said
        assert text(await peer.call("noise")) == "noise"
        assert (await peer.request("no/such/method"))["error"]["code"] == -32601
        # before and after: the answers to initialize and tools/list, the five above; and the tool
        lines = await logged(xzpipe, times=2 * 7 + 1)
        assert peer.inbox == []
        assert [json.loads(frame)["id"] for frame in peer.frames] == list(range(7))
        assert len(endpoint.attempts) == 1
    shown = [line.decode(errors="replace") for line in NOISE]
    short = [line if len(line) <= 200 else line[:200] + "…" for line in shown]
    assert Counter(line.rstrip("\r") for line in lines) == Counter(
        line.rstrip("\r") for line in short * 15
    )


async def test_bad_utf_8_in_an_answer_becomes_replacement_characters(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, _, peer):
        result = b'{"content":[{"type":"text","text":"caf\xe9 \xff"}]}'
        answer = await peer.call("reply", {"base64": base64.b64encode(result).decode()})
        assert text(answer) == "caf\ufffd \ufffd"


BROKEN = (
    b"NaN", b'{"a":Infinity}', b'{"a":"\x01"}', b"{'a':1}", b"01", b"", b"[" * 5000 + b"]" * 5000,
)  # fmt: skip


async def test_the_caller_is_told_at_once_of_an_answer_that_is_not_json(tmp_path: Path) -> None:
    async with linked(tmp_path) as (_, _, peer):
        for result in BROKEN:
            answer = await peer.call("reply", {"base64": base64.b64encode(result).decode()})
            assert "'stub' is not valid JSON-RPC" in answer["error"]["message"]
        assert text(await peer.call("echo", {"text": "alive"})) == "alive"


@pytest.mark.parametrize(
    ("size", "line", "level"),
    [(64 * MB, 80, "warning"), (64 * MB, 10**6, "warning"), (16 * MB, 64 * 1024, "debug")],
)
async def test_a_flood_on_stderr_stalls_nothing_and_stays_nowhere(
    tmp_path: Path, size: int, line: int, level: str
) -> None:
    async with linked(tmp_path, options=("--log-level", level)) as (_, xzpipe, peer):
        before = xzpipe.peak()
        # at debug all of it is in the log, which is no faster than we are in reading it
        portion = MB if level == "debug" else size
        for written in range(portion, size + 1, portion):
            call = await peer.start_call("stderr", {"bytes": portion, "line": line})
            await peer.ping()
            assert text(await peer.answer(call, timeout=20)) == "written"
            if level == "debug":
                await xzpipe.event("ServerWrote", written // line, server="stub")
        assert xzpipe.peak() - before < 16 * MB


async def test_a_server_that_complains_before_it_is_asked_is_linked(tmp_path: Path) -> None:
    async with linked(tmp_path, "--stderr-bytes", MB) as (_, _, peer):
        assert text(await peer.call("echo", {"text": "hello"})) == "hello"


async def test_a_log_that_nobody_reads_stalls_nothing(tmp_path: Path) -> None:
    """Ctrl-S at a terminal, a log driver that blocks: calls go on, and stopping does too."""
    reading, writing = os.pipe()
    async with broker() as endpoint:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "xzpipe", "run", "-v", "--", *stub()),
            env=bare_environment() | {"MCP_ENDPOINT": endpoint.url},
            cwd=tmp_path,
            stdin=asyncio.subprocess.DEVNULL,
            stderr=writing,
        )
        try:
            peer = await endpoint.accept()
            await peer.handshake()
            for _ in range(20):
                assert text(await peer.call("stderr", {"bytes": 100_000})) == "written"
            process.send_signal(signal.SIGTERM)
            with anyio.fail_after(20):
                assert await process.wait() == 0
        finally:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            os.close(reading)
            os.close(writing)
