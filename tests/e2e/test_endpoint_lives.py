"""An endpoint server over time: servers that come back, fall silent or go, its own restart, who is
not let in, and its secrets."""

import json
import re
import signal
import stat
from contextlib import AsyncExitStack
from pathlib import Path
from urllib.parse import quote

import anyio
import pytest
from websockets.exceptions import InvalidStatus

from tests.e2e.running import backoff, gone
from tests.e2e.serving import Answer, asked, bridge, local, served
from tests.e2e.test_secrets import leaked
from tests.servers import entry
from tests.servers.session import Gone, text, value
from xzpipe.agent_token import token_of
from xzpipe.core.admission import Rules

pytestmark = pytest.mark.anyio

QUICK = backoff(initial=0.02, longest=0.1)
REPLACED = "新连接替换"  # wire.md §3


# Servers


async def test_a_bridge_that_comes_under_a_taken_id_takes_the_place_during_a_call(
    tmp_path: Path,
) -> None:
    servers = {"calc": entry("--only", "echo,whoami", "--name", "new")}
    async with served(tmp_path) as endpoint:
        old = await endpoint.server("silent", server_id="calc")
        other = await endpoint.server("silent", server_id="time")
        caller = await endpoint.caller()
        await caller.start_call("calc__silent", id=0)
        await caller.start_call("time__silent", id="one")
        await old.called("silent")
        async with bridge(tmp_path / "new", servers, endpoint.url("mcp"), serverId=True):
            lost = (await caller.answer(0))["error"]
            assert lost["code"] == -32000 and "another connection took its place" in lost["message"]
            assert await old.closed() == (1000, REPLACED)
            await endpoint.ready(3)
            assert text(await caller.call("whoami")) == "new"
            await other.send({"jsonrpc": "2.0", "id": other.asked[-1]["id"], "result": {}})
            assert (await caller.answer("one"))["result"] == {}  # nobody else has noticed
            assert len(endpoint.xzpipe.found("ServerReady")) == 3


async def test_of_many_that_come_under_one_id_the_newest_stays_and_each_other_is_told() -> None:
    async with local() as endpoint:
        caller = await endpoint.caller()
        servers = []
        for number in range(10):
            servers.append(await endpoint.server(f"of_{number}", "silent", server_id="calc"))
            await caller.knows(f"of_{number}", "silent")
            await caller.start_call("silent", id=number)
            await servers[-1].called("silent")
        for number in range(9):
            assert await servers[number].closed() == (1000, REPLACED)
            assert (await caller.answer(number))["error"]["code"] == -32000
        assert value(await caller.call("of_9")) == ["calc", "of_9", {}]
        await servers[9].connection.close()
        assert (await caller.answer(9))["error"]["code"] == -32000
        await caller.knows()


async def test_a_server_that_was_replaced_can_answer_nothing_any_more() -> None:
    async with local() as endpoint:
        old = await endpoint.server("silent", server_id="calc")
        caller = await endpoint.caller()
        await caller.start_call("silent", id="first")
        await old.called("silent")
        old.connection.transport.pause_reading()  # it does not hear that it is to close
        new = await endpoint.server("silent", server_id="calc")
        await caller.start_call("silent", id="second")
        await new.called("silent")
        assert "error" in await caller.answer("first")
        for each in (old, new):
            id = each.asked[-1]["id"]
            await old.send({"jsonrpc": "2.0", "id": id, "result": {"by": "the old one"}})
        await new.ping()
        await caller.ping()
        answer = {"jsonrpc": "2.0", "id": new.asked[-1]["id"], "result": {"by": "the new one"}}
        await new.send(answer)
        assert (await caller.answer("second"))["result"] == {"by": "the new one"}
        assert caller.inbox == []
        old.connection.transport.resume_reading()
        assert await old.closed() == (1000, REPLACED)


async def test_a_silent_server_costs_its_caller_an_error_and_nobody_else_anything(
    tmp_path: Path,
) -> None:
    async with served(tmp_path, "--call-timeout", "1") as endpoint, AsyncExitStack() as stack:
        for name, only in (("calc", "silent,cancelled"), ("time", "echo")):
            servers, url = {name: entry("--only", only)}, endpoint.url("mcp")
            await stack.enter_async_context(bridge(tmp_path / name, servers, url, serverId=True))
        await endpoint.ready(2)
        waiting, other = await endpoint.caller(), await endpoint.caller()
        await waiting.start_call("silent", id=0)
        for number in range(50):
            assert text(await other.call("echo", {"text": f"{number}"})) == f"{number}"
        assert value(await other.call("cancelled")) == []  # of the same server
        assert text(await waiting.call("echo", {"text": "of the same caller"})) != ""
        late = (await waiting.answer(0))["error"]
        words = "MCP server 'calc' did not answer within 1 s"
        assert (late["code"], late["message"]) == (-32000, words)
        assert len(value(await waiting.call("cancelled"))) == 1  # it is told to stop
        assert waiting.inbox == other.inbox == []


async def test_a_bridge_that_is_killed_during_a_call_is_missed_at_once_and_taken_back(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as endpoint:
        caller, url = await endpoint.caller(), endpoint.url("mcp")
        servers = {"calc": entry("--only", "silent,echo,received")}
        async with bridge(tmp_path / "one", servers, url, serverId=True) as one:
            await endpoint.ready()
            await caller.start_call("silent", id=0)
            assert value(await caller.call("received")).count("tools/call") == 2
            left = one.descendants()
            one.process.kill()
            await one.exit_code()
            assert await gone(left) == []
            lost = (await caller.answer(0))["error"]
            assert lost["code"] == -32000 and "'calc' went away" in lost["message"]
            await caller.knows()
            assert (await caller.call("echo"))["error"]["code"] == -32001
        async with bridge(tmp_path / "two", servers, url, serverId=True):
            await endpoint.ready(2)
            assert text(await caller.call("echo", {"text": "again"})) == "again"


async def test_a_frame_over_the_limit_costs_only_the_one_who_sent_it() -> None:
    async with local(max_message_bytes=2000) as endpoint:
        large = {"result": {"content": [{"type": "text", "text": "x" * 2000}]}}
        server = await endpoint.server("large", replies={"large": large})
        await endpoint.server("echo", server_id="other")
        caller, other = await endpoint.caller(), await endpoint.caller()
        await caller.start_call("large", id=0)
        assert "error" in await caller.answer(0)
        assert (await server.closed())[0] == 1009
        await other.send("x" * 2001)
        assert (await other.closed())[0] == 1009
        await caller.knows("echo")
        assert value(await caller.call("echo")) == ["other", "echo", {}]


# Its own life


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
async def test_bridges_come_back_by_themselves_after_a_restart(
    tmp_path: Path, end: signal.Signals
) -> None:
    async with served(tmp_path) as before, AsyncExitStack() as stack:
        bridges = []
        for agent, name in (("kitchen", "calc"), ("garden", "time")):
            servers = {name: entry("--only", "pids", "--also", f"of_{name}")}
            started = bridge(tmp_path / name, servers, before.url("mcp", agent), *QUICK)
            bridges.append(await stack.enter_async_context(started))
        await before.ready(2)
        pids = value(await (await before.caller()).call("pids"))
        code = await before.xzpipe.stop(end)
        assert code == (0 if end is signal.SIGTERM else -signal.SIGKILL)
        for each in bridges:
            await each.event("LinkDown", 2)  # lost, and not to be had
        async with served(tmp_path, port=before.port) as endpoint:
            assert (endpoint.key, endpoint.port) == (before.key, before.port)
            await endpoint.ready(2)
            for agent, name in (("kitchen", "calc"), ("garden", "time")):
                caller = await endpoint.caller(agent)
                assert sorted(tool["name"] for tool in await caller.tools()) == [
                    f"of_{name}",
                    "pids",
                ]
                assert text(await caller.call(f"of_{name}")) == f"stub:of_{name}"
            # the servers have noticed nothing
            assert value(await (await endpoint.caller()).call("pids")) == pids
            assert await endpoint.xzpipe.stop() == 0


async def test_when_it_stops_everyone_is_told_so_and_nothing_is_left_to_say(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as endpoint:
        server, caller = await endpoint.server("silent"), await endpoint.caller()
        await caller.start_call("silent", id=0)
        await server.called("silent")
        assert await endpoint.xzpipe.stop() == 0
        assert [(await each.closed())[0] for each in (server, caller)] == [1001, 1001]
        log = await endpoint.xzpipe.whole_log()
        assert "Traceback" not in log and "ERROR" not in log


# Who is not let in


def told(answer: Answer) -> tuple[int, str]:
    """Code and message of a refusal."""
    assert answer.headers["content-type"] == "application/json"
    body = json.loads(answer.body)
    assert body.keys() == {"jsonrpc", "id", "error"} and body["id"] is None
    return body["error"]["code"], body["error"]["message"]


async def test_a_bad_token_or_path_is_refused_before_the_upgrade(tmp_path: Path) -> None:
    async with served(tmp_path) as endpoint:
        good = endpoint.token("kitchen")
        foreign = quote(token_of("kitchen", "another key"), safe="")
        mcp, call = "/mcp_endpoint/mcp/", "/mcp_endpoint/call/"
        for target in (
            mcp, call, f"{mcp}?token=", f"{call}?token=x", f"{mcp}?token={foreign}",
            f"{mcp}?token={quote(good[:-4])}", f"{mcp}?token={quote(good.swapcase())}",
            f"{call}?key={endpoint.key}", f"{call}?token={endpoint.key}",
            "/mcp_endpoint/health", "/mcp_endpoint/health?key=", "/mcp_endpoint/health?key=x",
            f"/mcp_endpoint/health?token={quote(good)}",
        ):  # fmt: skip
            answer = await asked(endpoint.port, target)
            assert (answer.status, told(answer)[0]) == (401, -32004), target
        for path in (
            "/mcp/",
            "/mcp_endpoint/mcp",
            "/mcp_endpoint/other/",
            "//",
            "*",
            "/favicon.ico",
        ):
            answer = await asked(endpoint.port, f"{path}?token={quote(good)}")
            assert (answer.status, told(answer)[0]) == (404, -32601), path
        for side in ("mcp", "call"):
            assert (await asked(endpoint.port, endpoint.path(side))).status == 101
        health = await asked(endpoint.port, f"/mcp_endpoint/health?key={endpoint.key}")
        assert health.status == 200 and b'"status": "success"' in health.body
        assert len(await endpoint.xzpipe.all("Refused", 19)) == 19


async def test_too_many_connections_are_refused_before_the_upgrade(tmp_path: Path) -> None:
    limits = {"maxConnections": 5, "maxConnectionsPerAgent": 3}
    (tmp_path / "config.json").write_text(json.dumps({"xzpipe": {"serve": limits}}))
    async with served(tmp_path, "--config", "config.json") as endpoint:
        for side in ("mcp", "call", "call"):
            await endpoint.connect(side, "kitchen")
        full = await asked(endpoint.port, endpoint.path("mcp", "kitchen"))
        assert (full.status, *told(full)) == (429, -32003, "this agent has too many connections")
        await endpoint.caller("garden")
        leaving = await endpoint.caller("garden")
        full = await asked(endpoint.port, endpoint.path("call", "garden"))
        assert (full.status, *told(full)) == (429, -32003, "there are too many connections")
        await leaving.connection.close()
        with anyio.fail_after(10):  # a place is free a moment later
            while (await asked(endpoint.port, endpoint.path("call", "cellar"))).status == 429:
                pass


async def test_a_crowd_that_comes_at_once_gets_no_more_places_than_there_are() -> None:
    async with local(rules=Rules(str, most_of_agent=10)) as endpoint:
        ends: list[str] = []

        async def come() -> None:
            try:
                caller = await endpoint.caller()
                await caller.ping()
                ends.append("let in")
            except InvalidStatus as refused:
                ends.append(f"refused: {refused.response.status_code}")
            except Gone:  # the last place was taken during the upgrade
                ends.append(f"closed: {(await caller.closed())[0]}")

        held = [await endpoint.caller() for _ in range(9)]
        async with anyio.create_task_group() as tasks:
            for _ in range(50):
                tasks.start_soon(come)
        assert ends.count("let in") == 1 and len(ends) == 50
        assert set(ends) <= {"let in", "refused: 429", "closed: 1013"}
        for caller in held:  # whoever was there has kept the place
            await caller.ping()


FEW_FILES = (
    "import resource; _, hard = resource.getrlimit(resource.RLIMIT_NOFILE); "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (64, hard)); "
    "from xzpipe.cli.main import entry; entry()"
)


async def test_a_low_soft_limit_of_open_files_costs_nobody_a_connection(tmp_path: Path) -> None:
    async with served(tmp_path, python=("-c", FEW_FILES)) as endpoint:
        with anyio.fail_after(5):
            for _ in range(100):
                await (await endpoint.caller()).ping()


# Secrets


async def test_the_key_is_for_its_owner_alone_and_in_no_print_unless_it_is_asked_for(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as endpoint:
        path = tmp_path / "endpoint.key"
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        key, token = endpoint.key, token_of("single_module", endpoint.key, compact=True)
        assert str(path) in endpoint.printed
        assert f"http://127.0.0.1:{endpoint.port}/mcp_endpoint/health?key=***" in endpoint.printed
        assert leaked([endpoint.printed], key, token, quote(token, safe="")) == set()
    async with served(tmp_path, "--show-secrets") as endpoint:
        assert endpoint.key == key
        single = re.search(r"/mcp_endpoint/mcp/\?token=(\S+)", endpoint.printed)
        assert f"/mcp_endpoint/health?key={key}\n" in endpoint.printed
        assert single and single[1] == quote(token, safe="")
        answer = await asked(endpoint.port, single[0])
        assert answer.status == 101


@pytest.mark.parametrize("log_format", ["json", "plain", "rich"])
async def test_neither_the_key_nor_a_token_is_in_the_log_whatever_happens(
    tmp_path: Path, log_format: str
) -> None:
    async with served(tmp_path, log_format=log_format) as endpoint:
        token, foreign = endpoint.token("kitchen"), token_of("x", "another key")
        secrets = [endpoint.key, *(f(t) for t in (token, foreign) for f in (str, quote, quoted))]
        for query in (f"token={quoted(foreign)}", f"key={endpoint.key}", f"token={token}&token=x"):
            for path in ("mcp/", "call/", "health", "other/", ""):
                await asked(endpoint.port, f"/mcp_endpoint/{path}?{query}")
        await asked(endpoint.port, f"/mcp_endpoint/call/?token={token} x")
        old = await endpoint.server("silent", server_id="calc")
        caller = await endpoint.caller()
        await caller.start_call("silent", {"token": token, "key": endpoint.key}, id=0)
        await old.called("silent")
        await old.connection.close(4000, f"?token={token}")
        assert "error" in await caller.answer(0)
        await caller.send(f"junk {token}")
        await caller.send({"jsonrpc": "2.0", "id": 1, "method": f"token={token}"})
        await caller.until(lambda: len(caller.inbox) >= 2)
        url, servers = endpoint.url("mcp"), {"stub": entry("--only", "echo")}
        async with bridge(tmp_path / "bridge", servers, url):
            await endpoint.xzpipe.says("stub 1.0")
            caller.connection.transport.abort()
            assert await endpoint.xzpipe.stop() == 0
        log = re.sub(r"\s", "", await endpoint.xzpipe.whole_log())
        # what is looked for was there: the library's own lines, and addresses without it
        assert "GET/mcp_endpoint/mcp/?token=***" in log and "key=***" in log
        assert leaked([log], *secrets) == set()


def quoted(token: str) -> str:
    return quote(token, safe="")


async def test_a_token_under_a_name_that_is_percent_encoded_is_not_logged(tmp_path: Path) -> None:
    async with served(tmp_path) as endpoint:
        token = quoted(endpoint.token("kitchen"))
        answer = await asked(endpoint.port, f"/mcp_endpoint/call/?%74oken={token}")
        assert answer.status in (101, 401)
        assert await endpoint.xzpipe.stop() == 0
        assert leaked([await endpoint.xzpipe.whole_log()], token) == set()


async def test_what_stands_behind_a_space_in_a_request_is_not_logged(tmp_path: Path) -> None:
    async with served(tmp_path) as endpoint:
        await asked(endpoint.port, "/mcp_endpoint/call/?token=first-half second-half")
        await (await endpoint.caller()).ping()
        assert await endpoint.xzpipe.stop() == 0
        assert "second-half" not in await endpoint.xzpipe.whole_log()
