"""SIGHUP: the config is read again, and only what has changed notices."""

import json
import os
import pty
import signal
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

from tests.e2e.running import WAIT, bare_environment, running
from tests.endpoints import broker
from tests.servers import entry

pytestmark = pytest.mark.anyio

CALLS = 1000
RELOADS = 20


def rewrite(folder: Path, content: object) -> None:
    text = content if isinstance(content, str) else json.dumps({"mcpServers": content})
    (folder / "mcp_config.json").write_text(text)


async def test_a_server_comes_and_another_goes_while_the_rest_lives_on(tmp_path):
    async with (
        broker() as endpoint,
        running(tmp_path, {"same": entry(), "old": entry()}, endpoint.url) as xzpipe,
    ):
        await xzpipe.all("LinkUp", 2)
        rewrite(tmp_path, {"same": entry(), "new": entry()})
        xzpipe.process.send_signal(signal.SIGHUP)
        await xzpipe.event("Reloaded", servers=["same", "new"])
        await xzpipe.event("LinkUp", link="new")
        await xzpipe.event("ServerRemoved", server="old")
        assert len(await xzpipe.all("ServerStarting", 3)) == 3
        assert [each["link"] for each in await xzpipe.all("LinkRemoved", 1)] == ["old"]
        assert await xzpipe.stop() == 0


@pytest.mark.parametrize(
    ("bad", "said"),
    [("{", "not valid JSON"), ({"same": {"args": 3}}, "args"), ({}, "names no server")],
)
async def test_of_a_bad_file_nothing_is_taken_and_the_log_says_why(bad, said, tmp_path):
    async with (
        broker() as endpoint,
        running(tmp_path, {"same": entry()}, endpoint.url) as xzpipe,
    ):
        await xzpipe.event("LinkUp")
        rewrite(tmp_path, bad)
        xzpipe.process.send_signal(signal.SIGHUP)
        failed = await xzpipe.event("ReloadFailed")
        assert said in failed["reason"]
        peer = await endpoint.accept()
        await peer.handshake()
        assert xzpipe.found("LinkRemoved") == xzpipe.found("ServerRemoved") == []
        rewrite(tmp_path, {"same": entry(), "new": entry()})
        xzpipe.process.send_signal(signal.SIGHUP)
        await xzpipe.event("Reloaded")
        assert await xzpipe.stop() == 0
        assert "Traceback" not in xzpipe.log


async def test_no_call_of_an_unchanged_server_is_lost_by_reloads(tmp_path):
    async with (
        broker() as endpoint,
        running(tmp_path, {"same": entry()}, endpoint.url) as xzpipe,
    ):
        peer = await endpoint.accept()
        await peer.handshake()
        answered = 0
        for number in range(RELOADS):
            rewrite(tmp_path, {"same": entry(), f"other-{number}": entry("--only", "echo")})
            xzpipe.process.send_signal(signal.SIGHUP)
            for call in range(CALLS // RELOADS):
                text = f"{number}/{call}"
                answer = await peer.call("echo", {"text": text})
                assert answer["result"]["content"][0]["text"] == text
                answered += 1
        await xzpipe.event("Reloaded")
        assert answered == CALLS
        assert len(xzpipe.found("ServerStarting", server="same")) == 1
        assert len(xzpipe.found("LinkUp", link="same")) == 1
        assert await xzpipe.stop() == 0


async def test_it_ends_with_the_terminal_that_it_was_started_at(tmp_path):
    rewrite(tmp_path, {"same": entry()})
    ours, theirs = pty.openpty()
    environment = {**bare_environment(), "MCP_ENDPOINT": "ws://127.0.0.1:9/mcp/?token=secret"}
    process = subprocess.Popen(
        [sys.executable, "-c", BEHIND_A_TERMINAL, "-m", "xzpipe", "run"],
        cwd=tmp_path,
        env=environment,
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        start_new_session=True,
    )
    os.close(theirs)
    try:
        said = b""
        with anyio.fail_after(WAIT):
            while b"ready" not in said:
                said += await anyio.to_thread.run_sync(os.read, ours, 4096)
        os.close(ours)
        with anyio.fail_after(WAIT):
            assert await anyio.to_thread.run_sync(process.wait) == 0
    finally:
        process.kill()


# takes the terminal as its own, as a shell's children have it
BEHIND_A_TERMINAL = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""
