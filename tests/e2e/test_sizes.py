"""Large messages pass, larger ones are refused, and none of them costs more memory than it must."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import backoff, linked
from tests.endpoints import Peer
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

KIB, MIB, MB = 2**10, 2**20, 10**6
SMALL = {"maxMessageBytes": 64 * KIB}  # the smallest that can be set


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with linked(tmp_path_factory.mktemp("sizes")) as (endpoint, _, peer):
        yield peer
        assert len(endpoint.attempts) == 1
        assert peer.inbox == []


def assert_too_large(answer: dict[str, Any], limit: int) -> None:
    words = f"the answer of MCP server 'stub' is over the limit of {limit} bytes"
    assert answer["error"] == {"code": -32000, "message": words}


@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MB, 10 * MB, 16 * MIB])
async def test_a_line_of_any_size_up_to_the_limit_passes(shared: Peer, size: int) -> None:
    answer = await shared.call("frame", {"bytes": size}, timeout=20)
    said = text(answer)
    assert said == "x" * len(said)
    line = {"jsonrpc": "2.0", "id": 1, "result": answer["result"]}
    inner_id_digits = size - len(json.dumps(line, separators=(",", ":"))) + 1
    assert inner_id_digits in (1, 2)


@pytest.mark.parametrize("size", [64 * KIB - 1, 64 * KIB, 64 * KIB + 1, MB, 10 * MB])
async def test_arguments_and_results_of_any_size_pass(shared: Peer, size: int) -> None:
    said = ("数" + "0123456789" * (size // 10 + 1))[:size]
    assert text(await shared.call("echo", {"text": said}, timeout=20)) == said


@pytest.mark.parametrize("over", [0, 1])
async def test_an_answer_over_the_limit_is_an_error_for_its_caller(
    tmp_path: Path, over: int
) -> None:
    async with linked(tmp_path, settings=SMALL) as (endpoint, xzpipe, peer):
        other = await peer.start_call("hold", {"key": "held"})
        answer = await peer.call("frame", {"bytes": 64 * KIB + over})
        if over:
            assert_too_large(answer, 64 * KIB)
            await xzpipe.event("TooLarge", limit=64 * KIB)
        else:
            assert len(text(answer)) > 63 * KIB
        assert value(await peer.call("release")) == 1
        assert text(await peer.answer(other)) == "held"
        assert len(endpoint.attempts) == 1


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "never ends"])
async def test_a_line_of_200_mb_is_an_error_for_its_caller_in_bounded_memory(
    tmp_path: Path, ends: bool
) -> None:
    async with linked(tmp_path) as (endpoint, xzpipe, peer):
        before = xzpipe.peak()
        answer = await peer.call("endless", {"bytes": 200 * MB, "newline": ends}, timeout=20)
        assert_too_large(answer, 16 * MIB)
        call = await peer.start_call("stderr", {"bytes": 80})
        await xzpipe.event("ServerWrote")  # which it did after all the 200 MB had been taken
        assert xzpipe.peak() - before < 64 * MB
        if ends:
            assert text(await peer.answer(call)) == "written"
        await peer.ping()
        assert len(endpoint.attempts) == 1


async def test_a_frame_over_the_limit_costs_the_link_and_not_the_server(tmp_path: Path) -> None:
    async with linked(tmp_path, options=(*backoff(),), settings=SMALL) as (endpoint, xzpipe, peer):
        server = value(await peer.call("pids"))["pid"]
        await peer.start_call("echo", {"text": "x" * 64 * KIB})
        assert (await peer.closed())[0] == 1009
        down = await xzpipe.event("LinkDown")
        assert "a message over the limit (maxMessageBytes)" in down["cause"]
        again = await endpoint.accept()
        await again.handshake()
        assert value(await again.call("pids"))["pid"] == server
