"""The calling side: questions out, answers in, and an error for everything else."""

import json
from collections.abc import Callable
from typing import Any

import anyio
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers.session import WAIT
from xzpipe.client import EndpointSession, Session
from xzpipe.core.tools import MAX_PAGES
from xzpipe.errors import CallError, UsageError

pytestmark = pytest.mark.anyio

Reply = Callable[[dict[str, Any]], object]


class Far:
    """The other end of a session: answers each request with the next reply, at once."""

    def __init__(
        self, *replies: object, answer_within: float = WAIT, kind: type[Session] = Session
    ) -> None:
        self.session = kind(self.hear, answer_within)
        self.replies = list(replies)
        self.sent: list[dict[str, Any]] = []

    def hear(self, text: bytes) -> None:
        message = json.loads(text)
        self.sent.append(message)
        if "id" in message and self.replies:
            self.answer(message["id"], self.replies.pop(0))

    def answer(self, id: object, reply: object) -> None:
        members = reply if isinstance(reply, dict) else {"result": msgspec.Raw(reply)}
        self.session.receive(msgspec.json.encode({"jsonrpc": "2.0", "id": id, **members}))


def page(*names: str, cursor: object = None) -> dict[str, Any]:
    tools = [{"name": name} for name in names]
    more = {} if cursor is None else {"nextCursor": cursor}
    return {"result": {"tools": tools, **more}}


async def test_it_says_hello_and_that_it_is_ready():
    far = Far({"result": {"serverInfo": {"name": "calc"}}})
    assert await far.session.initialize() == {"serverInfo": {"name": "calc"}}
    hello, ready = far.sent
    assert (hello["method"], hello["params"]["protocolVersion"]) == ("initialize", "2024-11-05")
    assert ready == {"jsonrpc": "2.0", "method": "notifications/initialized"}


async def test_ids_count_from_one():
    far = Far(*[b"{}"] * 3)
    for _ in range(3):
        await far.session.request("ping", {})
    assert [each["id"] for each in far.sent] == [1, 2, 3]


async def test_every_page_of_tools_is_read():
    far = Far(page("a", "b", cursor="two"), page(cursor="three"), page("c"))
    assert [tool["name"] for tool in await far.session.tools()] == ["a", "b", "c"]
    assert [each["params"] for each in far.sent] == [{}, {"cursor": "two"}, {"cursor": "three"}]


@pytest.mark.parametrize("cursor", ["", None])
async def test_an_empty_cursor_is_the_end(cursor):
    far = Far({"result": {"tools": [{"name": "a"}], "nextCursor": cursor}})
    assert await far.session.tools() == [{"name": "a"}]


async def test_pages_without_end_are_not_read_without_end():
    far = Far(*[page("a", cursor="again")] * (MAX_PAGES + 1))
    assert len(await far.session.tools()) == MAX_PAGES


@pytest.mark.parametrize("result", [b"{}", b'{"tools":null}', b'{"tools":{}}', b'{"tools":["a"]}'])
async def test_a_list_that_is_none_is_a_call_error(result):
    with pytest.raises(CallError, match="not a list of tools"):
        await Far(result).session.tools()


async def test_a_call_passes_name_and_arguments_and_returns_the_whole_result():
    result = {"content": [{"type": "text", "text": "no"}], "isError": True}
    far = Far({"result": result})
    assert await far.session.call("add", {"a": 1, "文": None}) == result
    assert far.sent[0]["params"] == {"name": "add", "arguments": {"a": 1, "文": None}}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        ({"code": -32602, "message": "unknown tool: x"}, "unknown tool: x (-32602)"),
        ({"message": "no code"}, "no code (no code)"),
        ({"code": -32000}, "an error (-32000)"),
        ({}, "an error (no code)"),
        ("words", "an error (no code)"),
    ],
)
async def test_an_error_is_a_call_error_with_its_code(error, words):
    with pytest.raises(CallError) as failed:
        await Far({"error": error}).session.call("x", {})
    assert failed.value.message == words


@pytest.mark.parametrize("result", [b"42", b"[]", b"null", b'"text"', b"true"])
async def test_a_result_that_is_no_object_is_a_call_error(result):
    with pytest.raises(CallError, match="the answer to tools/call is not a JSON object"):
        await Far(result).session.call("x", {})


async def test_answers_find_their_questions_in_any_order():
    far = Far()
    answers: dict[str, Any] = {}

    async def ask(method: str) -> None:
        answers[method] = await far.session.request(method, {})

    async with anyio.create_task_group() as tasks:
        for method in "abc":
            tasks.start_soon(ask, method)
        await anyio.wait_all_tasks_blocked()
        for each in reversed(far.sent):
            far.answer(each["id"], {"result": {"to": each["method"]}})
    assert answers == {method: {"to": method} for method in "abc"}


async def test_what_answers_nothing_is_ignored():
    far = Far()
    session = far.session
    async with anyio.create_task_group() as tasks:

        async def ask() -> None:
            assert await session.request("ping", {}) == {"right": 1}

        tasks.start_soon(ask)
        await anyio.wait_all_tasks_blocked()
        for wrong in (
            b"junk", b"", b"[]", b"\xff", b'{"jsonrpc":"2.0","id":"1","result":{}}',
            b'{"jsonrpc":"2.0","id":2,"result":{}}', b'{"jsonrpc":"2.0","id":null,"result":{}}',
            b'{"jsonrpc":"2.0","id":1.0,"result":{}}', b'{"jsonrpc":"2.0","method":"x"}',
            b'{"jsonrpc":"2.0","id":1,"method":"roots/list"}',
        ):  # fmt: skip
            assert session.receive(wrong)
        far.answer(1, {"result": {"right": 1}})
        far.answer(1, {"result": {"right": 2}})


# JSON that is legal and odd

HALF = "\ud83d"  # half of an emoji, as servers write it that cut a string inside one


async def test_half_a_character_goes_both_ways():
    far = Far(b'{"content":[{"type":"text","text":"\\ud83d"}]}')
    answer = await far.session.call(f"tool {HALF}", {HALF: [HALF], "byte": "\udcff", "文": "文"})
    assert answer == {"content": [{"type": "text", "text": HALF}]}
    given = far.sent[0]["params"]
    assert given["name"] == f"tool {HALF}"
    assert given["arguments"] == {HALF: [HALF], "byte": "\udcff", "文": "文"}


async def test_tools_may_be_described_with_half_a_character():
    far = Far(b'{"tools":[{"name":"a","description":"\\ud83d"}]}')
    assert await far.session.tools() == [{"name": "a", "description": HALF}]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (float("nan"), "NaN"),
        ([float("inf")], "infinite"),
        (json.loads("[" * 900 + "]" * 900), "nested too deeply"),
    ],
    ids=["nan", "inf", "deep"],
)
async def test_arguments_that_json_has_no_form_for_are_refused_and_not_sent(value, words):
    far = Far(b"{}", b"{}")

    async def call(levels: int) -> None:
        await (call(levels - 1) if levels else far.session.call("x", {"a": value}))

    with pytest.raises(UsageError, match=words):
        await call(200)
    assert far.sent == []
    assert await far.session.call("x", {"a": 1}) == {}


@pytest.mark.parametrize(
    "answer",
    [
        b'{"jsonrpc":"2.0","id":1,"result":{"a":%b}}' % (b"[" * 5000 + b"]" * 5000),
        b'{"jsonrpc":"2.0","result":{"a":%b},"id":1}' % (b"[" * 5000 + b"]" * 5000),
        b'{"jsonrpc":"2.0","id":1,"result":{"a":NaN}}',
        b'{"jsonrpc":"2.0","id":1,"result":{"a":%b}}' % (b"[" * 930 + b"]" * 930),
        b'{"jsonrpc":"2.0","id":1,"result":{"a":%b}}' % (b"9" * 5000),
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"not JSON"}}',
    ],
    ids=["deep", "deep before the id", "NaN", "nearly too deep", "long number", "to nothing"],
)
async def test_an_answer_that_cannot_be_read_is_an_error_at_once(answer):
    far = Far()
    with pytest.raises(BaseExceptionGroup) as failed, anyio.fail_after(WAIT / 2):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(far.session.call, "x", {})
            await anyio.wait_all_tasks_blocked()
            deeply(100, far.session.receive, answer)
            await anyio.wait_all_tasks_blocked()
            far.answer(1, {"error": {"message": "came too late"}})
    assert failed.group_contains(CallError)
    assert not failed.group_contains(CallError, match="too late|are over")


def deeply(levels: int, act: Callable[[bytes], object], answer: bytes) -> None:
    """Do it with less of the stack left."""
    deeply(levels - 1, act, answer) if levels else act(answer)


@given(st.binary())
def test_nothing_that_comes_in_breaks_a_session(data):
    assert Session(lambda _: None).receive(data)


async def test_a_lost_channel_ends_every_wait():
    far = Far()
    failures: list[str] = []

    async def ask() -> None:
        with pytest.raises(CallError) as failed:
            await far.session.request("tools/list", {})
        failures.append(failed.value.message)

    with anyio.fail_after(WAIT / 2):
        async with anyio.create_task_group() as tasks:
            for _ in range(3):
                tasks.start_soon(ask)
            await anyio.wait_all_tasks_blocked()
            far.session.lost("the endpoint is going away (1001)")
    assert failures == ["no answer to tools/list: the endpoint is going away (1001)"] * 3
    with pytest.raises(CallError, match="going away"):
        await far.session.request("ping", {})
    assert len(far.sent) == 3


async def test_what_can_be_done_about_a_lost_channel_is_the_hint():
    far = Far()
    far.session.lost("the endpoint refuses this token", "Copy it anew")
    with pytest.raises(CallError) as failed:
        await far.session.initialize()
    assert failed.value.hint == "Copy it anew"


async def test_it_is_known_what_is_waited_for():
    far = Far(b"{}", page("a"))
    assert far.session.asks == ""
    await far.session.initialize()
    await far.session.tools()
    assert far.session.asks == "tools/list"


async def test_no_answer_in_time_is_a_call_error():
    with pytest.raises(CallError) as failed, anyio.fail_after(WAIT):
        await Far(answer_within=0.01).session.call("x", {})
    assert failed.value.message == "no answer to tools/call: 0.01 s are over"


async def test_a_late_answer_is_nobodys():
    far = Far(answer_within=0.01)
    with pytest.raises(CallError):
        await far.session.request("ping", {})
    far.answer(1, {"result": {"late": 1}})
    far.replies = [{"result": {"right": 1}}]
    assert await far.session.request("ping", {}) == {"right": 1}


# Progress


class Busy(Far):
    """A tool that tells of progress by these notifications, then ends."""

    def __init__(self, *told: object) -> None:
        super().__init__()
        self.told = told
        self.seen: list[tuple[float, float | None, str]] = []

    def hear(self, text: bytes) -> None:
        message = json.loads(text)
        self.sent.append(message)
        for params in self.told:
            self.tell(params)
        self.answer(message["id"], {"result": {}})

    def tell(self, params: object) -> None:
        notification = {"jsonrpc": "2.0", "method": "notifications/progress", "params": params}
        self.session.receive(json.dumps(notification).encode())

    def see(self, *moved: Any) -> None:
        self.seen.append(moved)


async def test_who_watches_a_call_is_told_of_its_progress():
    far = Busy(
        {"progressToken": 1, "progress": 1},
        {"progressToken": 1, "progress": 2.5, "total": 10, "message": f"half {HALF}"},
        {"progressToken": 1, "progress": 3, "total": None, "message": None},
    )
    assert await far.session.call("x", {"a": 1}, far.see) == {}
    assert far.sent[0]["params"] == {
        "name": "x",
        "arguments": {"a": 1},
        "_meta": {"progressToken": 1},
    }
    assert far.seen == [(1, None, ""), (2.5, 10, f"half {HALF}"), (3, None, "")]


async def test_no_progress_is_asked_for_that_nobody_watches():
    far = Busy({"progressToken": 1, "progress": 1})
    await far.session.call("x", {})
    assert "_meta" not in far.sent[0]["params"]


@pytest.mark.parametrize(
    "params",
    [
        None,
        [],
        {},
        {"progress": 1},
        {"progressToken": 2, "progress": 1},
        {"progressToken": "1", "progress": 1},
        {"progressToken": 1},
        {"progressToken": 1, "progress": "1"},
        {"progressToken": 1, "progress": True},
        {"progressToken": 1, "progress": int("9" * 400)},
    ],
    ids=str,
)
async def test_news_that_are_none_of_this_call_are_ignored(params):
    far = Busy(params)
    assert await far.session.call("x", {}, far.see) == {}
    assert far.seen == []


async def test_other_notifications_are_no_progress():
    far = Far()
    seen: list[object] = []
    params = {"progressToken": 1, "progress": 1}
    other = {"jsonrpc": "2.0", "method": "notifications/message", "params": params}
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(far.session.call, "x", {}, lambda *moved: seen.append(moved))
        await anyio.wait_all_tasks_blocked()
        far.session.receive(json.dumps(other).encode())
        far.answer(1, {"result": {}})
    assert seen == []


async def test_each_call_has_progress_of_its_own_and_none_after_its_end():
    far = Far()
    seen: dict[str, list[float]] = {"a": [], "b": []}

    async def call(tool: str) -> None:
        await far.session.call(tool, {}, lambda done, *_: seen[tool].append(done))

    async with anyio.create_task_group() as tasks:
        for tool in seen:
            tasks.start_soon(call, tool)
            await anyio.wait_all_tasks_blocked()
        tokens = [each["params"]["_meta"]["progressToken"] for each in far.sent]
        for done, token in enumerate(tokens):
            Busy.tell(far, {"progressToken": token, "progress": done})
        for each in far.sent:
            far.answer(each["id"], {"result": {}})
    for token in tokens:
        Busy.tell(far, {"progressToken": token, "progress": 9})
    assert seen == {"a": [0], "b": [1]}


# Over an endpoint

ABSENT = {"error": {"code": -32001, "message": "工具端未连接", "data": {}}, "result": None}
NO_SERVER = "no MCP server is connected to this endpoint"


def over_endpoint(*replies: object) -> EndpointSession:
    return Far(*replies, kind=EndpointSession).session


@pytest.mark.parametrize(
    "replies", [[ABSENT], [b"{}", ABSENT], [b"{}", page("a", cursor="b"), ABSENT]]
)
async def test_an_endpoint_without_a_server_is_told_of_by_what_a_user_can_do(replies):
    session = over_endpoint(*replies)
    with pytest.raises(CallError) as failed:
        await session.initialize()
        await session.tools()
    assert failed.value.message == NO_SERVER
    assert "MCP_ENDPOINT='…' xzpipe run" in failed.value.hint


async def test_over_an_endpoint_an_empty_list_is_no_list():
    with pytest.raises(CallError) as failed:
        await over_endpoint(page()).tools()
    assert failed.value.message.startswith(f"{NO_SERVER}, or none that has a tool")
    assert "xzpipe run" in failed.value.hint
    assert await over_endpoint(page(cursor="more"), page("a")).tools() == [{"name": "a"}]
    assert await Far(page()).session.tools() == []


async def test_a_listed_tool_whose_server_is_not_there_may_be_there_in_a_moment():
    """A server that is a bridge itself says so of one behind it."""
    words = "MCP server calc is restarting, try again in a moment"
    with pytest.raises(CallError) as failed:
        await over_endpoint({"error": {"code": -32001, "message": words}}).call("add", {})
    assert failed.value.message == f"no MCP server answers for this tool now: {words} (-32001)"
    assert "try again" in failed.value.hint


@pytest.mark.parametrize("code", [-32000, -32602, "-32001", None])
async def test_other_errors_over_an_endpoint_are_what_they_say(code):
    for ask in (EndpointSession.initialize, EndpointSession.tools):
        with pytest.raises(CallError) as failed:
            await ask(over_endpoint({"error": {"code": code, "message": "no"}}))
        assert failed.value.message == f"no ({json.dumps(code)})"


async def test_servers_of_ones_own_say_themselves_what_is_missing():
    with pytest.raises(CallError) as failed:
        await Far(ABSENT).session.initialize()
    assert failed.value.message == "工具端未连接 (-32001)"
