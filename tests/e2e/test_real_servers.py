"""Servers that were not written for these tests, each through a real `xzpipe run` and a broker."""

import contextlib
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import Xzpipe, gone, running
from tests.endpoints import Peer, broker
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

CALCULATOR = Path(__file__).parents[2] / "examples" / "calculator" / "server.py"
PACKAGE = "@modelcontextprotocol/server-everything"
DOWNLOAD = 120.0  # seconds; the first run of npx


@contextlib.asynccontextmanager
async def served(folder: Path, entry: dict[str, Any]) -> AsyncIterator[tuple[Xzpipe, Peer]]:
    """That server behind a link whose handshake is done; it leaves nothing behind."""
    async with broker() as endpoint, running(folder, {"real": entry}, endpoint.url) as xzpipe:
        await xzpipe.event("ServerReady", server="real")
        peer = await endpoint.accept()
        await peer.handshake()
        yield xzpipe, peer
        assert xzpipe.found("NoiseOnStdout") == []
        assert xzpipe.found("BadFrame") == []
        assert len(endpoint.attempts) == 1
        left = xzpipe.descendants()
        assert await xzpipe.stop() == 0
        assert (await peer.closed())[0] == 1001
        assert await gone(left) == []


async def test_the_time_server_tells_the_time(tmp_path: Path) -> None:
    entry = {"command": sys.executable, "args": ["-m", "mcp_server_time"]}
    async with served(tmp_path, entry) as (_, peer):
        assert peer.initialized["serverInfo"]["name"] == "mcp-time"
        assert peer.tools.keys() == {"get_current_time", "convert_time"}
        now = value(await peer.call("get_current_time", {"timezone": "Asia/Shanghai"}))
        assert now["datetime"].endswith("+08:00")
        noon = {"source_timezone": "Asia/Shanghai", "time": "12:00", "target_timezone": "UTC"}
        assert "T04:00:00" in value(await peer.call("convert_time", noon))["target"]["datetime"]
        wrong = await peer.call("get_current_time", {"timezone": "Mars/Olympus"})
        assert wrong.get("error") or wrong["result"]["isError"]


async def test_the_calculator_calculates_and_does_not_hang(tmp_path: Path) -> None:
    entry = {"command": sys.executable, "args": [str(CALCULATOR)], "timeout": 3}
    async with served(tmp_path, entry) as (xzpipe, peer):
        assert peer.initialized["serverInfo"]["name"] == "Calculator"
        answer = await peer.call("calculator", {"expression": "25 * 17"})
        assert value(answer) == {"success": True, "result": 425}
        answer = await peer.call("calculator", {"expression": "9 ** 9 ** 9 ** 9"})
        assert value(answer) == {"success": False, "error": "The result is too large"}
        # FastMCP says nothing at all to half a character: the deadline answers in its place
        answer = await peer.call("calculator", {"expression": "\ud83d"})
        assert answer["error"]["message"] == "MCP server 'real' did not answer within 3 s"
        answer = await peer.call("calculator", {"expression": "sqrt(144)"})
        assert value(answer)["result"] == 12
        called = await xzpipe.all("ToolCalled", 4, tool="calculator")
        outcomes = [each["outcome"] for each in called]
        assert outcomes == ["ok", "ok", "no answer", "ok"]


@pytest.fixture(scope="module")
def npx() -> str:
    """npx, with the server's package in its cache."""
    npx = shutil.which("npx")
    if npx is None:
        pytest.skip("npx is not installed")
    warm_up = [npx, "-y", "-p", PACKAGE, "-c", "exit 0"]
    done = subprocess.run(warm_up, capture_output=True, text=True, timeout=DOWNLOAD)
    if done.returncode:
        pytest.skip(f"npx cannot get {PACKAGE}: {done.stderr}")
    return npx


@pytest.mark.timeout(2 * DOWNLOAD)
async def test_server_everything_does_everything(tmp_path: Path, npx: str) -> None:
    entry = {"command": npx, "args": ["-y", PACKAGE, "stdio"], "startTimeout": DOWNLOAD}
    async with served(tmp_path, entry) as (_, peer):
        assert peer.initialized["serverInfo"]["name"] == "mcp-servers/everything"
        assert "你好 😀 \u2028" in text(await peer.call("echo", {"message": "你好 😀 \u2028"}))
        assert "42" in text(await peer.call("get-sum", {"a": 25, "b": 17}))
        image = (await peer.call("get-tiny-image"))["result"]["content"]
        assert {"image/png"} <= {part.get("mimeType") for part in image}
        for method, key in (("resources/list", "resources"), ("prompts/list", "prompts")):
            assert (await peer.request(method))["result"][key]
        arguments, meta = {"duration": 1, "steps": 4}, {"progressToken": "进度"}
        answer = await peer.call("trigger-long-running-operation", arguments, _meta=meta)
        assert "1 seconds, Steps: 4" in text(answer)
        progress = [each["params"] for each in peer.inbox if "progress" in each["method"]]
        assert [each["progress"] for each in progress] == [1, 2, 3, 4]
        assert {each["progressToken"] for each in progress} == {"进度"}
