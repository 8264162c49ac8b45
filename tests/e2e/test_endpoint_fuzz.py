"""Whatever callers and servers send, and whatever is asked for, an endpoint server goes on, and
other agents hear nothing of it."""

import asyncio
import json
import logging
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal, start_blocking_portal
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.json_values import LEAVES, VALUES
from tests.e2e.serving import Bare, Caller, Endpoint, asked, local
from tests.servers.session import Gone, value
from xzpipe.agent_token import agent_of, token_of
from xzpipe.core.admission import Rules

KEY = "6a369b7f1bcf4d3e8d123ece38bb9627"
TROUBLED = {  # agents of one server and of two, and their tools
    "kitchen": ("echo", "status"),
    "cellar": ("echo", "calc__status", "lamp__status"),
}
QUIET = "garden"  # is to hear nothing of it
TOKEN = {agent: token_of(agent, KEY) for agent in (*TROUBLED, QUIET)}
LIMIT = 20_000  # bytes of a message here; some are longer

# Frames

METHODS = st.sampled_from(
    ["initialize", "ping", "tools/list", "tools/call", "resources/list", "roots/list",
     "notifications/initialized", "notifications/cancelled", "notifications/progress",
     "notifications/message", "notifications/tools/list_changed", "", "x\n\u2028"],
).map(json.dumps)  # fmt: skip
# Large values are mapped, large strategies deferred: hypothesis may warn of those whose repr is
# large, and a warning fails the test.
LONG_ID = st.just("1").map(lambda digit: digit * 4000)  # Python reads no more than 4300 digits
IDS = st.one_of(
    LEAVES,
    LONG_ID,
    st.sampled_from(["0", "1", "2", "3", '"0"', "[0]", "1e99999", "-0.0"]),
)
TOOLS = st.sampled_from(["echo", "silent", "status", "calc__status"]).map(json.dumps)
CALLS = st.builds(
    '{{"name":{},"arguments":{},"requestId":{},"_meta":{{"progressToken":{}}}}}'.format,
    TOOLS | LEAVES, VALUES, IDS, IDS,
)  # fmt: skip
PROGRESS = st.builds('{{"progressToken":{},"progress":{}}}'.format, IDS, LEAVES)
LISTS = st.lists(
    st.builds('{{"name":{},"inputSchema":{}}}'.format, TOOLS | LEAVES, VALUES), max_size=4
).map(lambda tools: f'{{"tools":[{",".join(tools)}],"nextCursor":null}}')
GREETINGS = st.just('{"protocolVersion":"2024-11-05","capabilities":{},"serverInfo":{}}')
PAYLOADS = st.deferred(lambda: st.one_of(VALUES, CALLS, PROGRESS, LISTS, GREETINGS))
MEMBERS = {
    "jsonrpc": st.just('"2.0"') | LEAVES,
    "id": IDS,
    "method": METHODS | LEAVES,
    "params": PAYLOADS,
    "result": PAYLOADS,
    "error": PAYLOADS,
}
MESSAGES = st.one_of(
    st.builds('{{"jsonrpc":"2.0","id":{},"method":{},"params":{}}}'.format, IDS, METHODS, PAYLOADS),
    st.builds('{{"jsonrpc":"2.0","method":{},"params":{}}}'.format, METHODS, PAYLOADS),
    st.builds('{{"jsonrpc":"2.0","id":{},"result":{}}}'.format, IDS, PAYLOADS),
    st.builds('{{"jsonrpc":"2.0","id":{},"error":{}}}'.format, IDS, PAYLOADS),
    st.fixed_dictionaries({}, optional=MEMBERS).map(
        lambda found: "{" + ",".join(f'"{name}":{raw}' for name, raw in found.items()) + "}"
    ),
    st.lists(st.sampled_from(['{"jsonrpc":"2.0","id":1,"method":"ping"}', "1"])).map(
        lambda batch: f"[{','.join(batch)}]"
    ),
).map(lambda message: message.encode(errors="surrogatepass"))
DEEP = st.builds(
    lambda start, times, end: (start * times + end).encode(),
    st.sampled_from(["[", '{"a":', '{"jsonrpc":"2.0","id":1,"method":"x","params":[', '{"id":[']),
    st.sampled_from([10, 500, 3000, 19_000]),
    st.sampled_from(["", "]", "}"]),
)
BALANCED = st.builds(
    lambda start, depth: (start + "[" * depth + "]" * depth + "}}").encode(),
    st.sampled_from(
        ['{"jsonrpc":"2.0","id":1,"method":"tools/list","params":{"cursor":',
         '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"echo","arguments":',
         '{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calc__status",'
         '"_meta":{"progressToken":1},"arguments":',
         '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":',
         '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":',
         '{"jsonrpc":"2.0","id":0,"result":{"tools":'],
    ),
    st.sampled_from([100, 5000]) | st.integers(970, 1010),  # about where msgspec gives up
)  # fmt: skip
FRAMES = st.tuples(
    st.one_of(
        MESSAGES,
        MESSAGES,
        st.builds(lambda message, end: message[:end], MESSAGES, st.integers(0, 60)),
        st.binary(max_size=50),
        st.text(max_size=50).map(str.encode),
        DEEP,
        BALANCED,
        st.just(b" ").map(lambda space: space * (LIMIT + 1)),
    ),
    st.booleans(),  # whether as a binary frame
)
CONVERSATIONS = st.lists(FRAMES, max_size=12)
AGENTS = st.sampled_from(list(TROUBLED))
SERVER_IDS = st.sampled_from(["", "fuzz"])

# Targets of requests

PIECES = st.sampled_from(
    ["mcp/", "call/", "health", "/mcp_endpoint/", "//", "?", "&", "=", ";", "#", "%", "%74", "%00",
     "%ff", "+", " ", "[", "]", "http://", "token", "server_id", "key", "é", "\x00", "\n", "\r\n",
     "token=" + TOKEN["kitchen"].replace("+", "%2B"), TOKEN["kitchen"], KEY[:-1]],
)  # fmt: skip
LONG = st.just("x").map(lambda sign: sign * 9000)
QUERIES = st.lists(PIECES | LONG | st.text(max_size=4), max_size=8).map("".join)
TARGETS = st.one_of(
    QUERIES,
    st.builds(
        "{}{}".format, st.sampled_from(["//[", "http://[::1", "//[x]", "http://x:y/"]), QUERIES
    ),
    st.builds(
        "/mcp_endpoint/{}?{}".format, st.sampled_from(["mcp/", "call/", "health", ""]), QUERIES
    ),
)


Frames = list[tuple[bytes, bool]]


class Playground:
    """An endpoint server with agents that are troubled, and one that hears nothing of it."""

    def __init__(self, endpoint: Endpoint, callers: dict[str, Caller]) -> None:
        self.endpoint = endpoint
        self.bugs: list[Any] = []
        self._callers = callers
        self._said = 0

    async def call(self, agent: str, frames: Frames) -> None:
        """A caller who sends these frames."""
        one = await self.endpoint.bare("call", agent)
        await self._go_through(one, frames)
        await self._all_is_well(agent)

    async def serve(self, agent: str, greets: bool, server_id: str, frames: Frames) -> None:
        """A server that sends these frames, after a good start if it `greets`."""
        caller = self._callers[agent]
        one = await self.endpoint.bare("mcp", agent, server_id)
        if greets:
            listed = {"tools": [{"name": "echo"}, {"name": "silent"}]}
            for id, result in enumerate(({"capabilities": {}}, listed)):
                await one.send({"jsonrpc": "2.0", "id": id, "result": result})
            await one.ping()
        ids = [await caller.start_call(tool) for tool in ("silent", "echo")]
        await caller.ping()  # those before were passed on
        await self._go_through(one, frames)
        for id in ids:
            assert (await caller.answer(id)).keys() & {"result", "error"}
        await caller.knows(*TROUBLED[agent])  # it is gone, with all its tools
        await self._all_is_well(agent)

    async def _go_through(self, one: Bare, frames: Frames) -> None:
        with suppress(Gone):
            for frame, binary in frames:
                await one.send_raw(frame, binary=binary)
        await one.connection.close()  # answered after what was sent before was read

    async def _all_is_well(self, agent: str) -> None:
        answer = await self._callers[agent].call("echo", {"n": 1})
        assert value(answer) == ["calc", "echo", {"n": 1}]
        await self.all_is_quiet()

    async def ask(self, target: bytes) -> None:
        """A request for anything."""
        answer = await asked(self.endpoint.port, target)
        assert answer.status in (0, 101, 200, 307, 400, 401, 404, 414, 426), answer
        if answer.status == 101:
            assert TOKEN["kitchen"][:-1] in target.decode().replace("%2B", "+")
        if b"status" in answer.body:
            assert b"MCP Endpoint Server" in answer.body  # the only thing that needs no key
        await self.all_is_quiet()

    async def all_is_quiet(self) -> None:
        """Whoever is at the quiet agent is answered, and told nothing else."""
        quiet = self._callers[QUIET]
        assert value(await quiet.call("echo")) == ["calc", "echo", {}]
        self._said += 1
        assert len(quiet.frames) == self._said
        assert self.bugs == []


class Complaints(logging.Handler):
    """Keeps what the library logs of handlers that failed."""

    def __init__(self, bugs: list[Any]) -> None:
        super().__init__(logging.ERROR)
        self._bugs = bugs

    def emit(self, record: logging.LogRecord) -> None:
        self._bugs.append((record.getMessage(), record.exc_info))


@asynccontextmanager
async def playing() -> AsyncIterator[Playground]:
    rules = Rules(partial(agent_of, key=KEY), KEY)
    async with local(TOKEN.__getitem__, rules, max_message_bytes=LIMIT) as endpoint:
        for agent in TOKEN:
            await endpoint.server("echo", "status", agent=agent, server_id="calc")
        await endpoint.server("status", agent="cellar", server_id="lamp")
        callers = {agent: await endpoint.caller(agent) for agent in TOKEN}
        playground = Playground(endpoint, callers)
        loop, complaints = asyncio.get_running_loop(), Complaints(playground.bugs)
        loop.set_exception_handler(lambda _, context: playground.bugs.append(context))
        logger = logging.getLogger("xzpipe.websocket")
        logger.addHandler(complaints)
        try:
            yield playground
        finally:
            logger.removeHandler(complaints)


Ground = tuple[BlockingPortal, Playground]


@pytest.fixture(scope="module")
def ground() -> Iterator[Ground]:
    with (
        start_blocking_portal("asyncio") as portal,
        portal.wrap_async_context_manager(playing()) as playground,
    ):
        yield portal, playground


@settings(max_examples=300)
@given(agent=AGENTS, frames=CONVERSATIONS)
def test_whatever_a_caller_sends_others_are_answered(
    ground: Ground, agent: str, frames: Frames
) -> None:
    portal, playground = ground
    portal.call(playground.call, agent, frames)


@pytest.mark.parametrize("agent", TROUBLED)
def test_no_nesting_of_a_callers_is_too_deep(ground: Ground, agent: str) -> None:
    """Where it becomes too deep to be taken apart depends on how deep the program itself is."""
    portal, playground = ground
    start = b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":{"name":"calc__status",'
    start += b'"_meta":{"progressToken":1},"arguments":'
    depths = range(sys.getrecursionlimit() - 200, sys.getrecursionlimit() + 10)
    frames = [(start + b"[" * depth + b"]" * depth + b"}}", False) for depth in depths]
    portal.call(playground.call, agent, frames)


@settings(max_examples=300)
@given(agent=AGENTS, greets=st.booleans(), server_id=SERVER_IDS, frames=CONVERSATIONS)
def test_whatever_a_server_sends_others_are_answered(
    ground: Ground, agent: str, greets: bool, server_id: str, frames: Frames
) -> None:
    portal, playground = ground
    portal.call(playground.serve, agent, greets, server_id, frames)


@settings(max_examples=300)
@given(target=TARGETS)
def test_whatever_is_asked_for_only_a_token_lets_in_and_only_a_key_tells_all(
    ground: Ground, target: str
) -> None:
    portal, playground = ground
    portal.call(playground.ask, target.encode(errors="surrogatepass"))
