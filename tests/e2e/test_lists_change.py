"""Behind a link with several servers, tools and servers come and go."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import psutil
import pytest

from tests.e2e.running import Xzpipe, backoff, running
from tests.endpoints import Broker, Gone, Peer, Robot, broker
from tests.servers import entry
from tests.servers.session import Session, text, value

pytestmark = pytest.mark.anyio

LIST_CHANGED = {"jsonrpc": "2.0", "method": "notifications/tools/list_changed"}
QUIET = 2.0  # seconds without a further change until the link is dropped
LONG = 300.0  # seconds; nothing that waits for so long happens in a test


def server(name: str, *tools: str, also: str = "", flags: tuple[object, ...] = ()) -> Any:
    only = ("--only", ",".join(tools), "--also", also) if also else ("--only", ",".join(tools))
    return entry("--name", name, *only, *flags)


@asynccontextmanager
async def together(
    folder: Path, servers: dict[str, Any], *options: str, ready: int | None = None
) -> AsyncIterator[tuple[Broker, Xzpipe, Peer]]:
    """All servers behind one link; its handshake is done once `ready` of them are, else all."""
    settings = {"mode": "aggregate"}
    async with (
        broker() as endpoint,
        running(folder, servers, endpoint.url, *options, settings=settings) as xzpipe,
    ):
        await xzpipe.event("ServerReady", len(servers) if ready is None else ready)
        peer = await endpoint.accept()
        await peer.handshake()
        yield endpoint, xzpipe, peer


async def names(client: Session) -> set[str]:
    return {tool["name"] for tool in (await client.request("tools/list"))["result"]["tools"]}


async def test_a_burst_of_ten_changes_on_two_servers_is_one_reconnect(tmp_path: Path) -> None:
    servers = {
        "one": server("one", "add_tool", "remove_tool", also="a,b"),
        "two": server("two", "change_tools", "pids"),
    }
    async with together(tmp_path, servers) as (endpoint, xzpipe, peer):
        pid = value(await peer.call("pids"))["pid"]
        for number in range(4):
            await peer.call("add_tool", {"name": f"new_{number}"})
            await peer.call("change_tools")
        for name in ("a", "new_0"):
            await peer.call("remove_tool", {"name": name})
        assert (await peer.closed())[0] == 1001
        assert LIST_CHANGED in peer.inbox
        again = await endpoint.accept()
        added = {f"new_{number}" for number in (1, 2, 3)} | {f"added_{n}" for n in range(4)}
        own = {"add_tool", "remove_tool", "change_tools", "pids", "b"}
        assert (await again.handshake()).keys() == own | added
        assert text(await again.call("new_3")) == "one:new_3"
        assert text(await again.call("added_3")) == "two:added_3"
        assert value(await again.call("pids"))["pid"] == pid
        for gone in ("a", "new_0"):
            assert (await again.call(gone))["error"]["code"] == -32602
        assert len(await xzpipe.all("LinkRenewed", 1)) == 1
        assert len(endpoint.attempts) == 2


async def test_a_call_that_lasts_longer_than_the_pause_is_not_cut_by_another_servers_change(
    tmp_path: Path,
) -> None:
    servers = {"one": server("one", "sleep"), "two": server("two", "change_tools")}
    async with together(tmp_path, servers) as (endpoint, _, peer):
        slow = await peer.start_call("sleep", {"seconds": QUIET + 1.5})
        await peer.call("change_tools")
        assert await peer.receive() == LIST_CHANGED
        assert text(await peer.answer(slow)) == "slept"
        assert (await peer.closed())[0] == 1001
        assert "added_0" in await (await endpoint.accept()).handshake()
        assert len(endpoint.attempts) == 2


async def test_a_change_during_a_call_of_the_changed_tool_itself_answers_the_call(
    tmp_path: Path,
) -> None:
    servers = {"one": server("one", "hold", "release", "remove_tool"), "two": server("two", "cwd")}
    async with together(tmp_path, servers) as (_, _, peer):
        held = await peer.start_call("hold", {"key": "held"})
        await peer.call("remove_tool", {"name": "hold"})
        assert await peer.receive() == LIST_CHANGED
        assert await names(peer) == {"release", "remove_tool", "cwd"}
        assert (await peer.call("hold"))["error"]["code"] == -32602
        assert value(await peer.call("release")) == 1
        assert text(await peer.answer(held)) == "held"


async def test_the_calls_of_a_dead_server_are_answered_at_once_and_name_it(tmp_path: Path) -> None:
    servers = {
        "weather": server("weather", "hold", "pids", "silent"),
        "calc": server("calc", "echo", "whoami"),
    }
    options = backoff(initial=LONG, longest=LONG)
    async with together(tmp_path, servers, *options) as (endpoint, xzpipe, peer):
        before = await names(peer)
        held = await peer.start_call("hold")
        psutil.Process(value(await peer.call("pids"))["pid"]).kill()
        assert "weather" in (await peer.answer(held))["error"]["message"]
        await xzpipe.event("ServerDown", server="weather")
        for tool in ("hold", "pids"):
            words = (await peer.call(tool))["error"]["message"]
            assert "weather is restarting, try again in a moment" in words
        assert text(await peer.call("whoami")) == "calc"
        assert await names(peer) == before  # for a while: it may be back soon
        assert peer.inbox == []
        assert len(endpoint.attempts) == 1 and not xzpipe.found("LinkDown")


async def test_a_server_that_is_back_with_the_same_tools_disturbs_nobody(tmp_path: Path) -> None:
    servers = {"one": server("one", "die", "pids"), "two": server("two", "whoami")}
    async with together(tmp_path, servers, *backoff()) as (endpoint, xzpipe, peer):
        before = value(await peer.call("pids"))["pid"]
        await peer.call("die")
        await xzpipe.event("ServerReady", 2, server="one")
        assert value(await peer.call("pids"))["pid"] != before
        assert text(await peer.call("whoami")) == "two"
        await peer.ping()
        assert peer.inbox == [] and len(endpoint.attempts) == 1


async def test_a_server_that_comes_late_appears_by_one_reconnect(tmp_path: Path) -> None:
    servers = {
        "early": server("early", "whoami"),
        # later than the link waits for it
        "late": server("late", "echo", flags=("--start-delay", 7)),
    }
    async with together(tmp_path, servers, ready=1) as (endpoint, xzpipe, peer):
        assert peer.tools.keys() == {"whoami"}
        assert await peer.receive() == LIST_CHANGED
        assert await names(peer) == {"whoami", "echo"}
        assert text(await peer.call("echo", {"text": "late"})) == "late"
        assert (await peer.closed())[0] == 1001
        again = await endpoint.accept()
        assert (await again.handshake()).keys() == {"whoami", "echo"}
        assert len(await xzpipe.all("LinkRenewed", 1)) == 1
        assert len(endpoint.attempts) == 2


async def test_servers_that_never_come_keep_no_others_tools_away(tmp_path: Path) -> None:
    servers = {
        "missing": {"command": "no-such-command"},
        "exits": entry("--exit-at-start", 1),
        "never ready": entry("--no-init-answer"),
        "good": server("good", "whoami"),
    }
    async with together(tmp_path, servers, *backoff(), ready=1) as (endpoint, xzpipe, peer):
        await xzpipe.event("ServerDown", 3, server="exits")
        assert await names(peer) == {"whoami"}
        assert text(await peer.call("whoami")) == "good"
        assert peer.inbox == [] and len(endpoint.attempts) == 1


async def test_where_one_connection_is_kept_the_new_list_comes_by_one_that_is_not_forgotten(
    tmp_path: Path,
) -> None:
    servers = {"one": server("one", "add_tool"), "two": server("two", "whoami")}
    settings = {"mode": "aggregate"}
    async with (
        broker(one_per_token=True, lingers=0.2) as endpoint,
        running(tmp_path, servers, endpoint.url, settings=settings) as xzpipe,
    ):
        await xzpipe.event("ServerReady", 2)
        await endpoint.until(endpoint.registered)
        robot = endpoint.robot()
        assert (await robot.handshake()).keys() == {"add_tool", "whoami"}
        await robot.call("add_tool", {"name": "new"})
        await xzpipe.event("LinkUp", 2)
        await endpoint.until(lambda: endpoint.connected == 1)
        assert (await endpoint.robot().handshake()).keys() == {"add_tool", "whoami", "new"}
        assert text(await robot.call("new")) == "one:new"  # whoever talked goes on
        assert len(endpoint.attempts) == 2


async def test_a_self_hosted_endpoint_reads_the_list_in_each_conversation_and_keeps_its_link(
    tmp_path: Path,
) -> None:
    servers = {"one": server("one", "add_tool"), "two": server("two", "sleep")}
    settings = {"mode": "aggregate"}
    async with broker(one_per_token=True) as endpoint:
        url = endpoint.url_for(path="/mcp_endpoint/mcp/")
        async with running(tmp_path, servers, url, settings=settings) as xzpipe:
            await xzpipe.event("ServerReady", 2)
            await endpoint.until(endpoint.registered)
            robot = endpoint.robot()
            assert (await robot.handshake()).keys() == {"add_tool", "sleep"}
            await robot.call("add_tool", {"name": "new"})
            await xzpipe.event("ToolsChanged")
            assert (await endpoint.robot().handshake()).keys() == {"add_tool", "sleep", "new"}
            assert text(await robot.call("sleep", {"seconds": QUIET + 0.5})) == "slept"
            assert not xzpipe.found("LinkDown") and len(endpoint.attempts) == 1


@pytest.mark.parametrize("several", [False, True], ids=["one server", "two servers"])
async def test_many_conversations_share_a_link_and_each_hears_what_it_asked(
    tmp_path: Path, several: bool
) -> None:
    tools = ("hold", "release", "echo", "received")
    servers = {"one": server("one", *tools, flags=("--ignore-null-params",))}
    servers |= {"two": server("two", "whoami")} if several else {}
    settings = {"mode": "aggregate"}
    async with (
        broker(one_per_token=True) as endpoint,
        running(tmp_path, servers, endpoint.url, settings=settings) as xzpipe,
    ):
        await xzpipe.event("ServerReady", len(servers))
        await endpoint.until(endpoint.registered)
        robots = [endpoint.robot() for _ in range(8)]
        listed = set(tools) | ({"whoami"} if several else set())
        found: list[set[str]] = []

        async def begin(robot: Robot, number: int) -> None:
            if number % 2:
                found.append(set(await robot.refresh()))
            found.append((await robot.handshake()).keys())

        async with anyio.create_task_group() as tasks:
            for number, robot in enumerate(robots):
                tasks.start_soon(begin, robot, number)
        assert len(found) == 12 and all(each == listed for each in found)

        extra = {"clientId": None, "serialNumber": "x", "_meta": {"agentId": 5}, "更多": [None]}
        held = [
            [await robot.start_call("hold", {"key": f"{n}.{id}"}, id=id, **extra)
             for id in (1, "1", "会话")]
            for n, robot in enumerate(robots)
        ]  # fmt: skip
        assert text(await robots[3].call("echo", {"text": "meanwhile"}, id=9)) == "meanwhile"
        assert value(await robots[0].call("release", id=9)) == 24  # answers the last one first
        for n, robot in enumerate(robots):
            for id in held[n]:
                assert text(await robot.answer(id)) == f"{n}.{id}"
            assert robot.inbox == []
        received = value(await robots[0].call("received", id=10))
        assert received.count("initialize") == received.count("tools/list") == 1
        assert len(endpoint.attempts) == 1


async def test_params_that_are_null_keep_nobody_waiting(tmp_path: Path) -> None:
    servers = {"one": entry("--ignore-null-params")}
    async with (
        broker(one_per_token=True) as endpoint,
        running(tmp_path, servers, endpoint.url) as xzpipe,
    ):
        await xzpipe.event("LinkUp")
        await endpoint.until(endpoint.registered)
        robot = endpoint.robot()
        answers = {}
        for id, method in (
            ("a", "initialize"), ("b", "ping"), ("c", "tools/list"), ("d", "resources/list"),
            ("e", "prompts/list"), ("f", "tools/call"),
        ):  # fmt: skip
            await robot.send({"jsonrpc": "2.0", "id": id, "method": method, "params": None})
            answers[method] = await robot.receive()
            assert answers[method]["id"] == id
        assert [m for m, answer in answers.items() if "result" in answer] == [
            "initialize", "ping", "tools/list", "resources/list",
        ]  # fmt: skip
        assert "stub" in json.dumps(answers["resources/list"])


async def test_a_link_that_is_lost_in_the_middle_answers_no_conversation_of_the_next(
    tmp_path: Path,
) -> None:
    servers = {"one": server("one", "hold", "release"), "two": server("two", "whoami")}
    async with together(tmp_path, servers, *backoff()) as (endpoint, xzpipe, lost):
        await lost.start_call("hold", {"key": "lost"}, id="a_n_1")
        await lost.ping()
        lost.reset()
        peer = await endpoint.accept()
        await peer.handshake()
        again = await peer.start_call("hold", {"key": "again"}, id="a_n_1")
        assert value(await peer.call("release")) == 2
        assert text(await peer.answer(again)) == "again"
        await xzpipe.event("StaleAnswer")
        await peer.ping()
        assert peer.inbox == []
        with pytest.raises(Gone):
            await lost.answer("a_n_1")
