"""The local endpoint, from both of its sides: bare clients play servers and callers."""

import contextlib
import json
import urllib.request
from collections.abc import AsyncIterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from tests.servers.session import WAIT, Session
from xzpipe.core.admission import Rules
from xzpipe.core.events import Event, ToolCalled
from xzpipe.core.link_events import Refused
from xzpipe.core.verdict import REPLACED
from xzpipe.errors import UsageError
from xzpipe.serve import EndpointServer, Serving, listening

pytestmark = pytest.mark.anyio

GREETING = {"protocolVersion": "2024-11-05", "capabilities": {}, "serverInfo": {"name": "calc"}}


class Local:
    """The endpoint under test, and those who connect to it."""

    def __init__(self, endpoint: EndpointServer, events: list[Event]) -> None:
        self.endpoint = endpoint
        self.events = events
        self.stack = contextlib.AsyncExitStack()

    def url(self, side: str, token: str = "t", query: str = "") -> str:
        root = f"ws://127.0.0.1:{self.endpoint.port}/mcp_endpoint"
        return f"{root}/{side}/?token={token}{query}"

    async def connect(self, url: str) -> ClientConnection:
        return await self.stack.enter_async_context(connect(url, proxy=None, close_timeout=1))

    async def server(
        self, *tools: str, token: str = "t", server_id: str | None = None
    ) -> "ToolServer":
        query = f"&server_id={server_id}" if server_id is not None else ""
        server = ToolServer(await self.connect(self.url("mcp", token, query)), tools)
        await self.stack.enter_async_context(server.serving())
        with anyio.fail_after(WAIT):
            await server.listed.wait()
        return server

    async def caller(self, token: str = "t") -> "Caller":
        caller = Caller(await self.connect(self.url("call", token)))
        await self.stack.enter_async_context(caller.reading())
        return caller


class ToolServer:
    """A server's end: answers everything at once, calls with its name and the arguments."""

    def __init__(self, connection: ClientConnection, tools: tuple[str, ...]) -> None:
        self.connection = connection
        self.tools = tools
        self.asked: list[dict[str, Any]] = []
        self.listed = anyio.Event()

    @contextlib.asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._serve)
            yield
            tasks.cancel_scope.cancel()

    async def _serve(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            async for frame in self.connection:
                await self._answer(json.loads(frame))

    async def _answer(self, message: dict[str, Any]) -> None:
        self.asked.append(message)
        if message.get("params", {}).get("name") == "silent":
            return
        results = {
            "initialize": GREETING,
            "tools/list": {"tools": [{"name": name} for name in self.tools]},
            "tools/call": {"content": [], "tools": self.tools, "given": message.get("params")},
            "ping": {},
        }
        if "id" in message:
            answer = {"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]}
            await self.connection.send(json.dumps(answer))
        if message["method"] == "tools/list":
            self.listed.set()

    async def closed(self) -> tuple[int | None, str | None]:
        with anyio.fail_after(WAIT):
            await self.connection.wait_closed()
        return self.connection.close_code, self.connection.close_reason


class Caller(Session):
    """A caller's end."""

    def __init__(self, connection: ClientConnection) -> None:
        super().__init__()
        self.connection = connection

    async def send_raw(self, data: bytes, *, binary: bool = False) -> None:
        await self.connection.send(data, text=not binary)

    @contextlib.asynccontextmanager
    async def reading(self) -> AsyncIterator[None]:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._read)
            yield
            tasks.cancel_scope.cancel()

    async def _read(self) -> None:
        with contextlib.suppress(ConnectionClosed):
            while True:
                self._arrived(await self.connection.recv(decode=False))
        self._ended()

    async def tools(self) -> list[dict[str, Any]]:
        answer = await self.request("tools/list")
        found: list[dict[str, Any]] = answer["result"]["tools"]
        return found

    async def knows(self, *names: str) -> None:
        """Wait until these are the tools: a server's end may be seen a moment later."""
        with anyio.fail_after(WAIT):
            while sorted(tool["name"] for tool in await self.tools()) != sorted(names):
                pass


RULES = {"key", "most", "most_of_agent"}


def agent_of(token: str) -> str:
    """The agent is what stands before the first dash; nobody's tokens begin with one."""
    if token.startswith("-"):
        raise UsageError("this token is not of this endpoint")
    return token.partition("-")[0]


@contextlib.asynccontextmanager
async def local(**options: Any) -> AsyncIterator[Local]:
    events: list[Event] = []
    rules = Rules(agent_of=agent_of, **{k: v for k, v in options.items() if k in RULES})
    rest = {key: value for key, value in options.items() if key not in RULES}
    async with listening(Serving(rules, **rest), events.append) as endpoint:
        here = Local(endpoint, events)
        async with here.stack:
            yield here


async def status_of(url: str) -> int:
    with pytest.raises(InvalidStatus) as refused:
        await connect(url, proxy=None)
    return refused.value.response.status_code


# The door


@pytest.mark.parametrize(
    ("target", "status"),
    [
        ("/", 200),  # by way of the next
        ("/mcp_endpoint/", 200),
        ("/mcp_endpoint/health", 401),
        ("/mcp_endpoint/health?key=wrong", 401),
        ("/mcp_endpoint/mcp?token=t", 404),
        ("/mcp_endpoint/other/?token=t", 404),
        ("//mcp_endpoint/mcp/?token=t", 404),
        ("/mcp_endpoint/mcp/", 401),
        ("/mcp_endpoint/mcp/?token=", 401),
        ("/mcp_endpoint/mcp/?token=-other", 401),
        ("/mcp_endpoint/call/?server_id=a", 401),
    ],
)
async def test_what_is_no_way_in_is_refused(target, status):
    async with local() as here:
        assert await status_of(f"ws://127.0.0.1:{here.endpoint.port}{target}") == status


async def test_there_is_a_limit_to_connections_in_all_and_of_each_agent():
    async with local(most=5, most_of_agent=3) as here:
        for _ in range(3):
            await here.connect(here.url("call", "a"))
        assert await status_of(here.url("mcp", "a")) == 429
        for _ in range(2):
            await here.connect(here.url("call", "b"))
        assert await status_of(here.url("call", "b")) == 429
        assert await status_of(here.url("call", "c")) == 429
        assert [event.status for event in here.events if isinstance(event, Refused)] == [429] * 3


async def test_an_agent_without_connections_is_forgotten():
    async with local(most=1) as here:
        for n in range(10):
            async with connect(here.url("call", str(n)), proxy=None):
                pass
            with anyio.fail_after(WAIT):
                while here.endpoint._agents:
                    await anyio.lowlevel.checkpoint()


async def test_tokens_of_one_agent_meet_and_others_never_do():
    async with local() as here:
        await here.server("add", token="a-1")
        await (await here.caller("a-2")).knows("add")
        await (await here.caller("b-1")).knows()
        refused = (await (await here.caller("b-1")).call("add", {}))["error"]
        assert (refused["code"], refused["message"]) == (
            -32001,
            "agent b: no MCP server is connected",
        )


async def test_what_the_endpoint_is_and_how_it_is_can_be_asked_over_http():
    async with local(key="hush-hush") as here:
        await here.server("add", "sub", token="a", server_id="calc")
        await here.server("now", token="a", server_id="time")
        await (await here.caller("b")).ping()
        root = f"http://127.0.0.1:{here.endpoint.port}"
        about = await fetched(f"{root}/")
        assert about["result"]["status"] == "running"
        health = (await fetched(f"{root}/mcp_endpoint/health?key=hush-hush"))["result"]
        assert health == {
            "status": "success",
            "connections": {
                "mcp_server_connections": 2,
                "robot_connections": 1,
                "total_connections": 3,
                "multi_server_support": True,
                "available_agents": ["a"],
                "total_tools": 3,
                "mcp_servers": {
                    "a": {
                        "calc": {"tools_count": 2, "tools": ["add", "sub"]},
                        "time": {"tools_count": 1, "tools": ["now"]},
                    },
                    "b": {},
                },
            },
        }


async def fetched(url: str) -> Any:
    def fetch() -> Any:
        with urllib.request.urlopen(url, timeout=WAIT) as response:
            assert response.headers["Content-Type"] == "application/json"
            return json.load(response)

    return await anyio.to_thread.run_sync(fetch)


async def test_scripts_of_other_pages_are_not_let_in_unless_they_are_named():
    async with local(origins=("https://mine",)) as here:
        url = here.url("call")
        async with connect(url, proxy=None, origin="https://mine"):
            pass
        with pytest.raises(InvalidStatus) as refused:
            await connect(url, proxy=None, origin="https://other")
        assert refused.value.response.status_code == 403


async def test_a_peer_that_answers_no_pings_is_dropped_and_one_that_does_is_not():
    async with local(ping_interval=0.1) as here:
        alive = await here.caller()
        dead = await here.connect(here.url("mcp"))
        dead.transport.pause_reading()
        with anyio.fail_after(WAIT):
            while here.endpoint._agents["t"].connections > 1:
                await anyio.lowlevel.checkpoint()
        await alive.ping()


async def test_a_frame_over_the_limit_closes_its_connection():
    async with local(max_message_bytes=1000) as here:
        connection = await here.connect(here.url("call"))
        await connection.send("x" * 1001)
        with anyio.fail_after(WAIT):
            await connection.wait_closed()
        assert connection.close_code == 1009


# Towards servers


async def test_towards_servers_it_is_the_official_broker():
    async with local() as here:
        server = await here.server("add")
        initialize, initialized, listing = server.asked
        assert (initialize["id"], initialize["method"]) == (0, "initialize")
        assert initialize["params"]["protocolVersion"] == "2024-11-05"
        assert (initialized["method"], "id" in initialized) == ("notifications/initialized", False)
        assert (listing["id"], listing["method"]) == (1, "tools/list")


async def test_a_server_that_does_not_answer_initialize_is_closed_with_4004():
    async with local(initialize_within=0.05) as here:
        connection = await here.connect(here.url("mcp"))
        with anyio.fail_after(WAIT):
            await connection.wait_closed()
        assert (connection.close_code, connection.close_reason) == (4004, "Internal server error")


async def test_a_server_with_an_id_that_is_taken_takes_the_place():
    async with local() as here:
        old = await here.server("add", server_id="calc")
        new = await here.server("add", "sub", server_id="calc")
        assert await old.closed() == (1000, REPLACED)
        caller = await here.caller()
        await caller.knows("add", "sub")
        assert (await caller.call("add"))["result"]["tools"] == ["add", "sub"]
        assert "tools/call" in [each["method"] for each in new.asked]


async def test_servers_without_an_id_stand_beside_each_other():
    async with local() as here:
        await here.server("add")
        await here.server("time")
        await (await here.caller()).knows("add", "time")


async def test_a_server_may_have_any_id_and_keep_it():
    async with local() as here:
        for name in ("server-1", "unnamed-1", "unnamed-2"):
            await here.server(f"of_{name}", server_id=name)
        await here.server("add")
        await here.server("time")
        caller = await here.caller()
        await caller.knows("of_server-1", "of_unnamed-1", "of_unnamed-2", "add", "time")
        labels = [tool["server_id"] for tool in await caller.tools()]
        assert sorted(labels) == ["server-1", *(f"unnamed-{n}" for n in (1, 2, 3, 4))]


async def test_an_id_does_not_throw_out_a_server_that_was_given_none():
    async with local() as here:
        nameless = await here.server("add")
        await here.server("sub", server_id="unnamed-1")
        caller = await here.caller()
        await caller.knows("add", "sub")
        await here.server("mul", server_id="unnamed-1")
        await caller.knows("add", "mul")
        assert nameless.connection.close_code is None


async def test_a_server_that_comes_back_has_its_place_however_full_it_is():
    async with local(most_of_agent=1) as here:
        await here.server("add", server_id="calc")
        assert await status_of(here.url("mcp", query="&server_id=time")) == 429
        await here.server("sub", server_id="calc")


async def test_a_server_that_speaks_like_one_that_was_replaced_is_just_gone():
    async with local() as here:
        leaving = await here.server("add", server_id="calc")
        await leaving.connection.close(1000, REPLACED)
        await (await here.caller()).knows()
        await here.server("add", server_id="calc")
        await (await here.caller()).knows("add")


async def test_a_server_that_leaves_takes_its_tools_along():
    async with local() as here:
        await here.server("add", server_id="calc")
        leaving = await here.server("time", server_id="time")
        caller = await here.caller()
        await caller.knows("add", "time")
        await leaving.connection.close()
        await caller.knows("add")


async def test_frames_that_are_no_messages_do_no_harm():
    async with local() as here:
        server = await here.server("add")
        for frame in ("", "junk", b"\xff\x00", "[]", '{"jsonrpc":"2.0","id":99,"result":{}}'):
            await server.connection.send(frame)
        caller = await here.caller()
        assert (await caller.call("add"))["result"]["tools"] == ["add"]


# Towards callers


async def test_the_tools_of_several_servers_are_one_list_that_names_them():
    async with local() as here:
        await here.server("add", "sub", server_id="calc")
        await here.server("time", server_id="time")
        caller = await here.caller()
        tools = await caller.tools()
        assert {tool["name"]: tool["server_id"] for tool in tools} == {
            "add": "calc", "sub": "calc", "time": "time",
        }  # fmt: skip
        assert (await caller.call("time", {"zone": "UTC"}))["result"]["given"]["arguments"] == {
            "zone": "UTC"
        }


async def test_tokens_do_not_see_each_other():
    async with local() as here:
        await here.server("add", token="one")
        await here.server("time", token="two")
        await (await here.caller("one")).knows("add")
        await (await here.caller("two")).knows("time")
        answer = await (await here.caller("one")).call("time")
        assert answer["error"]["code"] == -32602


@pytest.mark.parametrize(
    "id", [b"0", b"-1", b'"0"', b'""', b'"\xe6\x99\xba"', b"9007199254740993", b"1.0", b"1e2"]
)
async def test_an_answer_has_the_id_of_its_request_byte_for_byte(id):
    async with local() as here:
        await here.server("add")
        caller = await here.caller()
        await caller.send_raw(
            b'{"jsonrpc":"2.0","id":%b,"method":"tools/call","params":{"name":"add"}}' % id
        )
        with anyio.fail_after(WAIT):
            answer = await caller.receive_raw()
        assert answer.startswith(b'{"jsonrpc":"2.0","id":%b,"result":{' % id)


async def test_callers_use_the_same_ids_at_the_same_time():
    async with local() as here:
        await here.server("add")
        callers = [await here.caller() for _ in range(5)]
        for number, caller in enumerate(callers):
            await caller.start_call("add", {"n": number}, id=1)
        for number, caller in enumerate(callers):
            assert (await caller.answer(1))["result"]["given"]["arguments"] == {"n": number}
        calls = [event for event in here.events if isinstance(event, ToolCalled)]
        assert len({call.client for call in calls}) == 5


async def test_without_a_server_a_call_is_answered_with_an_error():
    async with local() as here:
        answer = await (await here.caller()).call("add")
        assert answer["error"] == {"code": -32001, "message": "agent t: no MCP server is connected"}


async def test_a_server_has_as_long_for_a_call_as_was_said():
    async with local(call_timeout=0.05) as here:
        await here.server("silent")
        answer = await (await here.caller()).call("silent")
        assert answer["error"]["code"] == -32000


async def test_a_caller_that_leaves_costs_others_nothing():
    async with local() as here:
        server = await here.server("add")
        leaving, staying = await here.caller(), await here.caller()
        await leaving.start_call("add")
        leaving.connection.transport.abort()
        assert (await staying.call("add"))["result"]
        await server.connection.ping()


# Its end


async def test_in_the_end_every_connection_is_closed():
    async with contextlib.AsyncExitStack() as stack:
        async with listening(Serving(Rules(agent_of)), lambda _: None) as endpoint:
            urls = [Local(endpoint, []).url(side) for side in ("mcp", "call")]
            ends = [await stack.enter_async_context(connect(url, proxy=None)) for url in urls]
        for connection in ends:
            with anyio.fail_after(WAIT):
                await connection.wait_closed()
            assert connection.close_code == 1001


async def test_a_port_may_be_chosen_and_one_that_is_taken_is_refused():
    async with local() as here:
        with pytest.raises((OSError, BaseExceptionGroup)) as failed:
            async with listening(Serving(Rules(agent_of), port=here.endpoint.port), lambda _: None):
                pass
        error = failed.value
        assert isinstance(error, OSError) or error.subgroup(OSError)
