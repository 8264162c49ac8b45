"""The demonstration, for real: every hop is shown, and the answer comes back."""

import os
import re

import pytest

from tests.servers import alive
from xzpipe.demo.show import show
from xzpipe.guard import Guard

pytestmark = pytest.mark.anyio

HOPS = [
    r"endpoint +listening on ws://127\.0\.0\.1:\d+/mcp_endpoint/mcp/\?token=\*\*\*",
    r"server +calculator started as a process, pid \d+",
    r"bridge +initialized calculator in \d\.\d\d s",
    r"bridge +connected to the endpoint over a WebSocket",
    r"endpoint +initialized calculator, which has 1 tool",
    r"caller +tools/call calculator: 25 \* 17",
    r"server +answered through the bridge in \d+\.\d ms",
    r"endpoint +passed it back, \d+\.\d ms in all",
    r'caller +the answer: \{"success": ?true, ?"result": ?425\}',
]


async def test_it_shows_each_hop_in_order_and_leaves_nothing_behind():
    said: list[str] = []
    assert await show(Guard(), {"PATH": os.environ["PATH"]}, said.append) == 0
    assert len(said) == len(HOPS)
    for number, (line, hop) in enumerate(zip(said, HOPS, strict=True), 1):
        assert re.fullmatch(rf" *{number}  {hop}", line), line
    [pid] = re.findall(r"pid (\d+)", "\n".join(said))
    assert not alive(int(pid))


async def test_it_is_not_led_astray_by_settings_of_the_user():
    said: list[str] = []
    env = {
        "PATH": os.environ["PATH"],
        "MCP_ENDPOINT": "wss://api.xiaozhi.me/mcp/?token=SECRET",
        "MCP_CONFIG": "/no/such/file",
        "PYTHON": "/no/such/python",
    }
    assert await show(Guard(), env, said.append) == 0
    assert "425" in said[-1]
    assert "SECRET" not in "".join(said)
