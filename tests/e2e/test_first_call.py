"""The main road: a server, a link, a call, a stop."""

from pathlib import Path

import pytest

from tests.e2e.running import gone, running
from tests.endpoints import broker
from tests.servers import entry

pytestmark = pytest.mark.anyio


async def test_a_call_from_the_endpoint_reaches_the_server_and_its_answer_comes_back(
    tmp_path: Path,
) -> None:
    async with broker() as endpoint, running(tmp_path, {"stub": entry()}, endpoint.url) as xzpipe:
        peer = await endpoint.accept()
        assert "echo" in await peer.handshake()
        answer = await peer.call("echo", {"text": "你好"})
        assert answer["result"]["content"][0]["text"] == "你好"
        left = xzpipe.descendants()
        assert await xzpipe.stop() == 0
        assert (await peer.closed())[0] == 1001
        assert await gone(left) == []
