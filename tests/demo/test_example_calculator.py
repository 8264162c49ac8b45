"""examples/calculator runs as its README says."""

import json
import sys
from pathlib import Path

import pytest

from tests.servers import talk
from tests.servers.session import value

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples/calculator"

pytestmark = pytest.mark.anyio


async def test_the_example_calculates():
    [server] = json.loads((EXAMPLE / "mcp_config.json").read_text())["mcpServers"].values()
    assert server["command"] == "python"
    async with talk([sys.executable, *server["args"]], cwd=ROOT) as session:
        tools = await session.handshake(timeout=30)
        assert "25 * 17" in tools["calculator"]["description"]
        for expression, result in (("25 * 17", 425), ("sqrt(144)", 12.0), ("2 ** 10", 1024)):
            answer = await session.call("calculator", {"expression": expression})
            assert value(answer) == {"success": True, "result": result}
        for expression in ("9 ** 9 ** 9", "__import__('os')", "1 +", "1 / 0", "\x00", "x" * 501):
            answer = await session.call("calculator", {"expression": expression})
            assert value(answer)["success"] is False
            assert value(answer)["error"]


def test_the_example_stands_alone():
    assert "xzpipe" not in (EXAMPLE / "server.py").read_text()
