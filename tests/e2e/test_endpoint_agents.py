"""An endpoint server between bridges and callers: who is answered what, and by whom."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.e2e.serving import Caller, Served, bridge, local, served
from tests.robots import GREETING
from tests.servers import entry
from tests.servers.session import dump, text, value
from xzpipe.core.agents import hashed

pytestmark = pytest.mark.anyio

IDS = (b"0", b"7", b'"0"', b'""', '"七"'.encode(), b"1.5", b"-3", b"1e2", b"9007199254740993")
BIG = b"123456789012345678901234567890"


@asynccontextmanager
async def bridged(folder: Path, *flags: object, **more: object) -> AsyncIterator[Served]:
    """An endpoint server with one bridge, whose one server is the stub with these flags."""
    async with (
        served(folder) as endpoint,
        bridge(folder / "bridge", {"stub": entry(*flags)}, endpoint.url("mcp"), **more),
    ):
        await endpoint.ready()
        yield endpoint


def first_text(answer: dict[str, Any]) -> str:
    """All that xiaozhi-server reads of a result (wire.md §3)."""
    return answer["result"]["content"][0]["text"]


# Several bridges, callers, agents


async def test_two_bridges_and_two_callers_meet_and_every_call_is_answered_to_its_caller(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as endpoint, AsyncExitStack() as stack:
        for name in ("calc", "time"):
            servers = {name: entry("--only", "hold,release", "--also", f"of_{name}")}
            url = endpoint.url("mcp")
            await stack.enter_async_context(bridge(tmp_path / name, servers, url, serverId=True))
        await endpoint.ready(2)
        callers = [await endpoint.caller() for _ in range(2)]
        for caller in callers:
            tools = {tool["name"]: tool["server_id"] for tool in await caller.tools()}
            assert tools == {
                "calc__hold": "calc", "calc__release": "calc", "of_calc": "calc",
                "time__hold": "time", "time__release": "time", "of_time": "time",
            }  # fmt: skip
        ids = {"calc": (0, 7, "seven"), "time": ("0", 7.5, "七")}
        for server, those in ids.items():
            for id in those:  # the same of both callers at the same time
                for number, caller in enumerate(callers):
                    await caller.start_call(f"{server}__hold", {"key": f"{number} {id}"}, id=id)
            for caller in callers:
                assert first_text(await caller.call(f"of_{server}")).endswith(f"of_{server}")
        for server, those in ids.items():
            assert value(await callers[0].call(f"{server}__release")) == 2 * len(those)
            for id in those:
                for number, caller in enumerate(callers):
                    assert text(await caller.answer(id)) == f"{number} {id}"
        assert [caller.inbox for caller in callers] == [[], []]


async def test_two_agents_never_see_each_other(tmp_path: Path) -> None:
    agents = ("kitchen", "garden")
    async with served(tmp_path) as endpoint, AsyncExitStack() as stack:
        for agent in agents:  # the same server id, the same tools
            servers = {"stub": entry("--name", agent)}
            url = endpoint.url("mcp", agent)
            await stack.enter_async_context(bridge(tmp_path / agent, servers, url, serverId=True))
        await endpoint.ready(2)
        callers = {agent: await endpoint.caller(agent) for agent in agents}
        for id in (0, 7, "七"):
            for agent, caller in callers.items():
                await caller.start_call("hold", {"key": f"{agent} {id}"}, id=id)
        for agent, caller in callers.items():
            assert {tool["server_id"] for tool in await caller.tools()} == {"stub"}
            assert text(await caller.call("whoami")) == agent
            assert value(await caller.call("release")) == 3
            for id in (0, 7, "七"):
                assert text(await caller.answer(id)) == f"{agent} {id}"
        busy, quiet = callers.values()
        log = base64.b64encode(
            b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"psst"}}\n'
        )
        assert text(await busy.call("say", {"base64": log.decode()})) == "said"
        assert text(await busy.call("progress", {"n": 2}, _meta={"progressToken": 1})) == "done"
        added = text(await busy.call("change_tools"))
        await busy.until(lambda: len(busy.inbox) == 4)
        assert text(await busy.call(added)) == f"kitchen:{added}"
        refused = await quiet.call(added)
        assert refused["error"]["code"] == -32602
        assert quiet.inbox == []


async def test_an_id_comes_back_as_it_was_sent(tmp_path: Path) -> None:
    async with bridged(tmp_path, "--only", "echo") as endpoint:
        caller = await endpoint.caller()
        for id in (*IDS, BIG):
            for method, params in (("tools/call", b'{"name":"echo"}'), ("resources/list", b"{}")):
                request = (id, method.encode(), params)
                await caller.send_raw(
                    b'{"jsonrpc":"2.0","id":%b,"method":"%b","params":%b}' % request
                )
                answer = await caller.receive_raw()
                assert answer.startswith(b'{"jsonrpc":"2.0","id":%b,"result":{' % id)


async def test_two_hundred_callers_at_once_are_answered_each_its_own(tmp_path: Path) -> None:
    async with bridged(tmp_path, "--only", "echo") as endpoint:
        callers: list[Caller] = []
        answers: dict[int, str] = {}

        async def converse(number: int) -> None:
            caller = await endpoint.caller()
            callers.append(caller)
            await caller.handshake()
            answers[number] = text(await caller.call("echo", {"text": f"{number}"}, id=1))

        async with anyio.create_task_group() as tasks:
            for number in range(200):
                tasks.start_soon(converse, number)
        assert answers == {number: f"{number}" for number in range(200)}
        assert all(caller.inbox == [] for caller in callers)


async def test_fifty_servers_with_twenty_tools_each_are_one_list_and_each_gets_its_calls(
    tmp_path: Path,
) -> None:
    names = [f"server-{n}" for n in range(50)]
    async with served(tmp_path) as endpoint:
        for name in names:  # one tool of each has a name that all have
            tools = ("status", *(f"{name}_{n}" for n in range(19)))
            await endpoint.server(*tools, server_id=name)
        caller = await endpoint.caller()
        labels = {tool["name"]: tool["server_id"] for tool in await caller.tools()}
        expected = {f"{name}_{n}": name for name in names for n in range(19)}
        assert labels == expected | {f"{name}__status": name for name in names}
        for number, tool in enumerate(labels):
            await caller.start_call(tool, {"n": number}, id=number)
        for number, (tool, server) in enumerate(labels.items()):
            own = "status" if tool.endswith("__status") else tool
            assert value(await caller.answer(number)) == [server, own, {"n": number}]


# As the programs in use speak


async def test_what_xiaozhi_server_says_without_waiting_is_answered(tmp_path: Path) -> None:
    async with bridged(tmp_path, "--only", "echo,result", "--pages", "2") as endpoint:
        for _ in range(2):  # it does so for each conversation of a device
            robot = await endpoint.caller()
            assert (await robot.handshake()).keys() == {"echo", "result"}
            assert robot.initialized["serverInfo"]["name"] == "stub"
            for id in (1, 2):
                answer = await robot.call("echo", {"text": f"你好 {id}"}, id=id)
                assert first_text(answer) == f"你好 {id}"
            failed = await robot.call("result", {"text": "no such city", "bytes": 1, "error": True})
            assert failed["result"]["isError"] and first_text(failed) == "no such city"


async def test_calls_that_are_sent_along_with_the_greeting_and_reuse_its_ids_are_answered(
    tmp_path: Path,
) -> None:
    async with bridged(tmp_path, "--only", "echo") as endpoint:
        robot = await endpoint.caller()
        calls = [("tools/call", id, {"name": "echo", "arguments": {"text": "x"}}) for id in (1, 2)]
        listing = ("tools/list", 2, None)
        for method, id, params in (("initialize", 1, GREETING), listing, *calls):
            request = {"jsonrpc": "2.0", "id": id, "method": method, "params": params}
            await robot.send(request)
        await robot.until(lambda: len(robot.frames) == 4)
        answers = [(each["id"], set(each["result"])) for each in robot.inbox]
        greeting = {"protocolVersion", "capabilities", "serverInfo", "instructions"}
        assert answers[:2] == [(1, greeting), (2, {"tools"})]
        assert sorted(answers[2:]) == [(1, {"content"}), (2, {"content"})]


async def test_the_consoles_refresh_with_null_params_gets_the_tools(tmp_path: Path) -> None:
    async with bridged(tmp_path, "--only", "echo,whoami", "--ignore-null-params") as endpoint:
        console = await endpoint.caller()
        for _ in range(2):
            assert await console.refresh() == ["echo", "whoami"]
        assert console.inbox == []


async def test_a_probe_that_asks_for_a_further_page_with_the_same_id_is_told_there_is_none(
    tmp_path: Path,
) -> None:
    async with bridged(tmp_path, "--only", "echo", "--tools", "30", "--page-size", "7") as endpoint:
        probe = await endpoint.caller()
        first = await probe.request("tools/list", id=2)
        assert len(first["result"]["tools"]) == 31 and "nextCursor" not in first["result"]
        for cursor in ("more", 7, {"page": 2}):
            refused = await probe.request("tools/list", {"cursor": cursor}, id=2)
            assert refused["id"] == 2 and refused["error"]["code"] == -32602
        for none in ("", None):
            assert await probe.request("tools/list", {"cursor": none}, id=2) == first
        assert text(await probe.call("echo", {"text": "alive"})) == "alive"


# Without a server, and without success


async def test_without_a_server_there_are_answers_and_a_call_is_told_so_with_the_agents_name(
    tmp_path: Path,
) -> None:
    async with served(tmp_path) as endpoint:
        robot = await endpoint.caller("kitchen")
        assert await robot.handshake() == {}
        assert robot.initialized["capabilities"] == {"tools": {"listChanged": True}}
        assert await (await endpoint.caller("kitchen")).refresh() == []
        await robot.ping()
        error = (await robot.call("echo"))["error"]
        words = f"agent {hashed('kitchen')}: no MCP server is connected"
        assert (error["code"], error["message"]) == (-32001, words)
        await endpoint.server("echo")  # and when there is one, it can be called by the same caller
        assert (await robot.tools())[0]["name"] == "echo"
        assert (await robot.call("echo"))["result"]


REFUSALS = {  # a server's own, in the ways that servers in use write them
    "plain": {"error": {"code": -32000, "message": "plain"}},
    "with_null": {"result": None, "error": {"code": -32000, "message": "with null"}},
    "without_code": {"error": {"message": "without a code"}},
    "both": {"result": {}, "error": {"code": 1, "message": "both"}},
}
BAD = (
    "junk", "", "{", "[]", '[{"jsonrpc":"2.0","id":1,"method":"ping"}]', "null", "42", b"\xff\xfe",
    '{"jsonrpc":"2.0","id":{},"method":"ping"}', '{"jsonrpc":"2.0","id":null,"method":"ping"}',
    '{"jsonrpc":"2.0","id":1,"method":5}', '{"jsonrpc":"2.0","id":1,"method":"tools/call"}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":[]}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":7}}',
    '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"none"}}',
    '{"jsonrpc":"2.0","id":1,"method":"no/such/method"}', "[" * 5000,
)  # fmt: skip


async def test_no_error_has_a_result_beside_it() -> None:
    async with local(call_timeout=0.05) as endpoint:
        callers = [await endpoint.caller(agent) for agent in ("nobody", "one", "two")]
        await endpoint.server("silent", *REFUSALS, agent="one", replies=REFUSALS)
        for name in ("a", "b"):
            await endpoint.server(f"of_{name}", agent="two", server_id=name)
        for caller in callers:
            for frame in BAD:
                await caller.send(frame)
            for tool in ("silent", *REFUSALS):
                await caller.start_call(tool, id=tool)
            for tool in ("silent", *REFUSALS):
                assert (await caller.answer(tool))["error"]["message"]
        answers = [[json.loads(frame) for frame in caller.frames] for caller in callers]
        faults = [[each for each in those if "error" in each] for those in answers]
        every = len(BAD) + len(REFUSALS) + 1
        # where there is one server, it is asked for what nobody knows, and knows it
        assert [len(those) for those in faults] == [every, every - 1, every]
        assert [len(those) for those in answers] == [every, every, every]
        errors = [each for those in faults for each in those]
        assert [message for message in errors if "result" in message] == []
        assert all(message.keys() == {"jsonrpc", "id", "error"} for message in errors)
        assert {message["error"].get("code") for message in errors} >= {
            -32700, -32600, -32601, -32602, -32000, -32001,
        }  # fmt: skip


# What servers say by themselves


async def test_progress_and_the_servers_log_come_through(tmp_path: Path) -> None:
    async with bridged(tmp_path, "--only", "progress,say") as endpoint:
        caller, other = await endpoint.caller(), await endpoint.caller()
        for token in ("p", 0, 7):
            answer = await caller.call("progress", {"n": 2}, _meta={"progressToken": token})
            assert text(answer) == "done"
            news = [await caller.receive() for _ in range(2)]
            assert [each["method"] for each in news] == ["notifications/progress"] * 2
            told = [(each["params"]["progressToken"], each["params"]["progress"]) for each in news]
            assert told == [(token, 1), (token, 2)]
        await other.ping()
        assert other.inbox == []
        line = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "水开了"}}
        said = base64.b64encode(dump(line) + b"\n").decode()
        assert text(await caller.call("say", {"base64": said})) == "said"
        for each in (caller, other):  # whose it is cannot be known: it is for everyone of the agent
            assert await each.receive() == line


async def test_what_one_of_several_servers_says_comes_through_and_progress_to_its_caller() -> None:
    async with local() as endpoint:
        servers = [await endpoint.server("silent", server_id=name) for name in ("a", "b")]
        caller, other = await endpoint.caller(), await endpoint.caller()
        await caller.start_call("b__silent", id=0, _meta={"progressToken": 0})
        await servers[1].called("silent")
        token = servers[1].asked[-1]["params"]["_meta"]["progressToken"]
        for server in servers:  # the one that was not asked knows the token of another
            await server.notify("notifications/progress", {"progressToken": token, "progress": 1})
            await server.notify("notifications/message", {"data": "hello"})
            await server.ping()
        await caller.until(lambda: len(caller.inbox) == 3)
        methods = [each["method"].removeprefix("notifications/") for each in caller.inbox]
        assert sorted(methods) == ["message", "message", "progress"]
        await other.until(lambda: len(other.inbox) == 2)
        assert {each["method"] for each in other.inbox} == {"notifications/message"}


async def test_pings_and_requests_of_servers_are_answered_whatever_their_ids() -> None:
    async with local() as endpoint:
        server = await endpoint.server("silent")
        caller = await endpoint.caller()
        await caller.start_call("silent", id=0)
        await server.called("silent")
        inner = server.asked[-1]["id"]
        for id in (0, inner, "ping", 1.5):  # also that of the call it has not answered
            assert (await server.request("ping", id=id))["result"] == {}
            for method in ("roots/list", "sampling/createMessage", "tools/list"):
                refused = await server.request(method, id=id)
                assert refused["id"] == id and refused["error"]["code"] == -32601
        await caller.ping()
        assert caller.inbox == [] and len(caller.frames) == 1
        await server.send({"jsonrpc": "2.0", "id": inner, "result": {"content": []}})
        assert (await caller.answer(0))["result"] == {"content": []}
