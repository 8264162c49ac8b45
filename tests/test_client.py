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
from xzpipe.client import Session
from xzpipe.core.tools import MAX_PAGES
from xzpipe.errors import CallError, UsageError

pytestmark = pytest.mark.anyio

Reply = Callable[[dict[str, Any]], object]


class Far:
    """The other end of a session: answers each request with the next reply, at once."""

    def __init__(self, *replies: object, answer_within: float = WAIT) -> None:
        self.session = Session(self.hear, answer_within)
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
    assert not failed.group_contains(CallError, match="too late|time is up")


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


async def test_no_answer_in_time_is_a_call_error():
    with pytest.raises(CallError) as failed, anyio.fail_after(WAIT):
        await Far(answer_within=0.01).session.call("x", {})
    assert failed.value.message == "no answer to tools/call: time is up"


async def test_a_late_answer_is_nobodys():
    far = Far(answer_within=0.01)
    with pytest.raises(CallError):
        await far.session.request("ping", {})
    far.answer(1, {"result": {"late": 1}})
    far.replies = [{"result": {"right": 1}}]
    assert await far.session.request("ping", {}) == {"right": 1}
