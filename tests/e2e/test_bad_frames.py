"""Whatever an endpoint sends, the connection holds; what can be answered is."""

from collections.abc import AsyncIterator

import pytest

from tests.e2e.running import Xzpipe, linked
from tests.endpoints import Peer
from tests.servers.session import text

pytestmark = pytest.mark.anyio

PARSE, REQUEST, PARAMS = -32700, -32600, -32602
DEEP = "[" * 100_000 + "]" * 100_000


def call(params: str) -> str:
    return f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}'


REFUSED: dict[str, tuple[str | bytes, int, int | None]] = {
    # what is sent: the code and the id of the answer
    "nothing": ("", PARSE, None),
    "blank": (" \r\n", PARSE, None),
    "text": ("hello", PARSE, None),
    "half": ('{"jsonrpc":"2.0","id":7,"method":"pi', PARSE, None),
    "two messages": ('{"id":7,"method":"ping"}\n{"id":8,"method":"ping"}', PARSE, None),
    "a byte order mark": ('\ufeff{"id":7,"method":"ping"}', PARSE, None),
    "a NUL": ('{"id":7,"method":"ping"}\0', PARSE, None),
    "a newline in a string": (call('{"name":"echo","arguments":{"text":"a\nb"}}'), PARSE, None),
    "NaN": (call('{"name":"echo","arguments":{"text":NaN}}'), PARSE, None),
    "not UTF-8": (b'{"id":7,"method":"ping","params":{"a":"\xff"}}', PARSE, None),
    "bytes": (bytes(range(256)), PARSE, None),
    "nested deeply": (DEEP, PARSE, None),
    "arguments nested deeply": (call(f'{{"name":"echo","arguments":{DEEP}}}'), PARSE, None),
    "never closed": ("[" * 100_000, PARSE, None),
    "objects never closed": ('{"a":' * 100_000, PARSE, None),
    "null": ("null", REQUEST, None),
    "a number": ("42", REQUEST, None),
    "a string": ('"ping"', REQUEST, None),
    "an empty object": ("{}", REQUEST, None),
    "an empty batch": ("[]", REQUEST, None),
    "a batch": ('[{"jsonrpc":"2.0","id":7,"method":"ping"}]', REQUEST, None),
    "no method": ('{"jsonrpc":"2.0","id":7}', REQUEST, 7),
    "method null": ('{"jsonrpc":"2.0","id":7,"method":null}', REQUEST, 7),
    "method a number": ('{"jsonrpc":"2.0","id":7,"method":5}', REQUEST, 7),
    "method a list": ('{"jsonrpc":"2.0","id":7,"method":["ping"]}', REQUEST, 7),
    "id null": ('{"jsonrpc":"2.0","id":null,"method":"ping"}', REQUEST, None),
    "id true": ('{"jsonrpc":"2.0","id":true,"method":"ping"}', REQUEST, None),
    "id an object": ('{"jsonrpc":"2.0","id":{},"method":"ping"}', REQUEST, None),
    "id a list": ('{"jsonrpc":"2.0","id":[7],"method":"tools/list"}', REQUEST, None),
    "a call of nothing": ('{"jsonrpc":"2.0","id":7,"method":"tools/call"}', PARAMS, 7),
    "params null": (call("null"), PARAMS, 7),
    "params a list": (call('["echo"]'), PARAMS, 7),
    "params a string": (call('"echo"'), PARAMS, 7),
    "no name": (call('{"arguments":{}}'), PARAMS, 7),
    "name null": (call('{"name":null}'), PARAMS, 7),
    "name a number": (call('{"name":5}'), PARAMS, 7),
    "an unknown tool": (call('{"name":"no such tool"}'), PARAMS, 7),
    "a tool that is half a character": (call(r'{"name":"\ud83d"}'), PARAMS, 7),
    "an unknown argument": (call('{"name":"echo","arguments":{"no":1}}'), PARAMS, 7),
    "an unknown cursor": (
        '{"jsonrpc":"2.0","id":7,"method":"tools/list","params":{"cursor":"x"}}', PARAMS, 7
    ),
}  # fmt: skip

IGNORED = {
    "an answer with an unknown id": '{"jsonrpc":"2.0","id":99,"result":{}}',
    "an answer with the id of a question of ours": '{"jsonrpc":"2.0","id":1,"result":{"tools":[]}}',
    "an error with id null": '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"?"}}',
    "a call without an id": '{"jsonrpc":"2.0","method":"tools/call","params":{"name":"echo"}}',
    "an unknown notification": '{"jsonrpc":"2.0","method":"notifications/no/such"}',
    "one with params null": '{"jsonrpc":"2.0","method":"notifications/no/such","params":null}',
    "initialized again": '{"jsonrpc":"2.0","method":"notifications/initialized"}',
    "cancelled, nothing": '{"jsonrpc":"2.0","method":"notifications/cancelled"}',
    "cancelled, unknown": (
        '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":99}}'
    ),
    "cancelled, no id": (
        '{"jsonrpc":"2.0","method":"notifications/cancelled","params":{"requestId":{}}}'
    ),
    "cancelled, no object": '{"jsonrpc":"2.0","method":"notifications/cancelled","params":[1]}',
    "progress of nothing": (
        '{"jsonrpc":"2.0","method":"notifications/progress","params":{"progressToken":1}}'
    ),
}

TAKEN = {
    # what is wrong with them does not matter
    "no version": '{"id":7,"method":"ping"}',
    "an old version": '{"jsonrpc":"1.0","id":7,"method":"ping","params":[]}',
    "params null": '{"jsonrpc":"2.0","id":7,"method":"tools/list","params":null}',
    "params a list": '{"jsonrpc":"2.0","id":7,"method":"tools/list","params":[]}',
    "initialize without params": '{"jsonrpc":"2.0","id":7,"method":"initialize"}',
    "initialize again": '{"jsonrpc":"2.0","id":7,"method":"initialize","params":{}}',
    "unknown members": '{"jsonrpc":"2.0","id":7,"method":"ping","params":{},"type":"mcp","x":[]}',
}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def link(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Xzpipe, Peer]]:
    async with linked(tmp_path_factory.mktemp("frames")) as (endpoint, xzpipe, peer):
        yield xzpipe, peer
        assert len(endpoint.attempts) == 1


@pytest.fixture
async def peer(link: tuple[Xzpipe, Peer]) -> AsyncIterator[Peer]:
    """The endpoint's side; after a test all is as before."""
    yield link[1]
    assert text(await link[1].call("echo", {"text": "still here"})) == "still here"
    assert link[1].inbox == []


@pytest.mark.parametrize(("frame", "code", "id"), REFUSED.values(), ids=REFUSED)
async def test_a_bad_frame_is_refused_and_the_connection_holds(
    peer: Peer, frame: str | bytes, code: int, id: int | None
) -> None:
    await peer.send_raw(frame.encode() if isinstance(frame, str) else frame)
    answer = await peer.receive()
    assert answer.keys() == {"jsonrpc", "id", "error"}
    assert (answer["error"]["code"], answer["id"]) == (code, id)
    assert answer["error"]["message"]


@pytest.mark.parametrize("frame", IGNORED.values(), ids=IGNORED)
async def test_a_frame_that_asks_for_nothing_is_not_answered(peer: Peer, frame: str) -> None:
    held = await peer.start_call("hold", {"key": "in flight"})
    await peer.send(frame)
    assert text(await peer.call("release")) == "1"
    assert text(await peer.answer(held)) == "in flight"


@pytest.mark.parametrize("frame", TAKEN.values(), ids=TAKEN)
async def test_a_frame_that_is_good_enough_is_answered(peer: Peer, frame: str) -> None:
    await peer.send(frame)
    answer = await peer.receive()
    assert answer["id"] == 7
    assert "result" in answer


async def test_a_bad_frame_is_told_of_in_the_log(link: tuple[Xzpipe, Peer], peer: Peer) -> None:
    xzpipe, _ = link
    await peer.send('hello, "unheard-of')
    assert "error" in await peer.receive()
    assert await xzpipe.event("BadFrame", reason="not JSON")
    await peer.call("stderr", {"bytes": 200})
    await xzpipe.event("ServerWrote")  # the log has got this far
    assert "unheard-of" not in xzpipe.log
