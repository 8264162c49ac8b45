"""With one server behind a link, the endpoint talks to that server, and to nothing else."""

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.running import linked
from tests.endpoints import Peer
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    flags = ("--name", "计算器", "--roots")
    async with linked(tmp_path_factory.mktemp("link"), *flags) as (endpoint, _, peer):
        yield peer
        assert len(endpoint.attempts) == 1


@pytest.fixture
async def peer(shared: Peer) -> AsyncIterator[Peer]:
    """The endpoint's side; a test must have received whatever was sent to it."""
    yield shared
    assert shared.inbox == []


def line(message: dict[str, Any]) -> dict[str, str]:
    """The arguments with which `say` writes this message of the server's own."""
    return {"base64": base64.b64encode(json.dumps(message).encode() + b"\n").decode()}


async def test_the_endpoint_sees_the_servers_own_greeting(peer: Peer) -> None:
    assert peer.initialized == {
        "protocolVersion": "2024-11-05",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "计算器", "version": "1.0"},
        "instructions": "instructions of 计算器",
    }


async def test_the_server_is_initialized_once_and_not_by_the_endpoint(peer: Peer) -> None:
    await peer.handshake()
    received = value(await peer.call("received"))
    assert received[:3] == ["initialize", "notifications/initialized", "tools/list"]
    assert [received.count(each) for each in received[:3]] == [1, 1, 1]


async def test_other_requests_reach_the_server_and_so_do_its_errors_the_endpoint(
    peer: Peer,
) -> None:
    answer = await peer.request("resources/list")
    assert answer["result"] == {"resources": [], "_meta": {"marker": "计算器"}}
    answer = await peer.request("prompts/get", {"name": "x"})
    assert answer["error"] == {"code": -32601, "message": "Method not found: prompts/get"}


async def test_notifications_pass_in_both_directions(peer: Peer) -> None:
    await peer.notify("notifications/roots/list_changed")
    await peer.notify("notifications/ours", {"a": 1})
    assert value(await peer.call("received"))[-3:-1] == [
        "notifications/roots/list_changed",
        "notifications/ours",
    ]
    message = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "你好"}}
    assert text(await peer.call("say", line(message))) == "said"
    assert await peer.receive() == message


async def test_what_a_server_asks_is_answered_here_and_not_by_the_endpoint(peer: Peer) -> None:
    roots, ping = value(await peer.call("answers"))[:2]
    assert (roots["id"], roots["error"]["code"]) == (0, -32601)
    assert (ping["id"], ping["result"]) == ("ping of the stub", {})


@pytest.mark.parametrize("method", ["sampling/createMessage", "elicitation/create", "ping"])
async def test_a_question_with_the_id_of_a_request_on_its_way_is_not_its_answer(
    peer: Peer, method: str
) -> None:
    held = await peer.start_call("hold", {"key": "held"})
    inner = json.loads(base64.b64decode(value(await peer.call("echo_raw"))["id"]))
    ids = list(range(inner + 40, inner - 2, -1))  # of the calls below, and at last of `held`
    asked = [{"jsonrpc": "2.0", "id": id, "method": method, "params": {}} for id in ids]
    calls = [await peer.start_call("say", line(each)) for each in asked]
    assert [text(await peer.answer(call)) for call in calls] == ["said"] * len(ids)
    answers = value(await peer.call("answers"))[-len(ids) :]
    assert [each["id"] for each in answers] == ids
    assert all(("error" in each) == (method != "ping") for each in answers)
    assert text(await peer.call("release")) == "1"
    assert text(await peer.answer(held)) == "held"


@pytest.mark.parametrize("token", [0, 1, "", "токен", 2**53 + 1, 1.5])
async def test_progress_comes_under_the_token_that_the_endpoint_gave(
    peer: Peer, token: object
) -> None:
    answer = await peer.call("progress", {"n": 3}, _meta={"progressToken": token, "agentId": 5})
    assert text(answer) == "done"
    for step in (1, 2, 3):
        message = await peer.receive()
        assert message["method"] == "notifications/progress"
        assert message["params"] == {"progressToken": token, "progress": step, "total": 3}


async def test_calls_with_the_same_token_do_not_mix(peer: Peer) -> None:
    held = await peer.start_call("hold", {"key": "held"}, _meta={"progressToken": "same"})
    await peer.call("progress", {"n": 1}, _meta={"progressToken": "same"})
    assert (await peer.receive())["params"]["progressToken"] == "same"
    await peer.call("progress", {"n": 1})  # it asked for none: what comes is for nobody
    await peer.call("release")
    assert text(await peer.answer(held)) == "held"


async def test_the_server_never_sees_a_token_twice(peer: Peer) -> None:
    seen = set()
    for _ in range(2):
        answer = await peer.call("echo_raw", {}, _meta={"progressToken": 7, "agentId": 5})
        meta = json.loads(base64.b64decode(value(answer)["params"]))["_meta"]
        assert meta["agentId"] == 5
        seen.add(meta["progressToken"])
    assert len(seen) == 2


@pytest.mark.parametrize("id", [0, "", "отмена", 2**53 + 1])
async def test_a_cancelled_call_is_cancelled_at_the_server_and_not_answered(
    peer: Peer, id: object
) -> None:
    before = len(value(await peer.call("cancelled")))
    await peer.start_call("hold", {"key": "late"}, id=id)
    other = await peer.start_call("hold", {"key": "other"}, id=f"other than {id}")
    inner = json.loads(base64.b64decode(value(await peer.call("echo_raw"))["id"]))
    await peer.notify("notifications/cancelled", {"requestId": id, "reason": "changed my mind"})
    assert value(await peer.call("cancelled"))[before:] == [inner - 2]
    # the server answers all the same, which it may; the endpoint does not hear of it
    assert text(await peer.call("release")) == "2"
    assert text(await peer.answer(other)) == "other"
    await peer.ping()
    assert not any(b'"late"' in frame for frame in peer.frames)


async def test_pages_are_one_page_for_the_endpoint(tmp_path: Path) -> None:
    async with linked(tmp_path, "--pages", 7, "--tools", 70) as (_, _, peer):
        answer = await peer.request("tools/list")
        assert answer["result"].keys() == {"tools"}
        names = [tool["name"] for tool in answer["result"]["tools"]]
        assert len(names) == len(set(names)) > 70
        assert {f"extra_{n}" for n in range(70)} < set(names)
        assert value(await peer.call("received")).count("tools/list") == 7
        assert text(await peer.call("extra_69")) == "stub:extra_69"


async def test_a_server_without_tools_is_linked_all_the_same(tmp_path: Path) -> None:
    async with linked(tmp_path, "--no-tools") as (_, _, peer):
        assert peer.tools == {}
        assert peer.initialized["capabilities"] == {}
        assert "resources" in (await peer.request("resources/list"))["result"]
        assert (await peer.call("echo"))["error"]["code"] == -32602
