"""Ids and payloads come back as they were sent, byte for byte."""

import base64
import json
from collections.abc import AsyncIterator

import pytest

from tests.e2e.running import linked
from tests.endpoints import Peer
from tests.servers.session import text, value

pytestmark = pytest.mark.anyio

IDS = [
    "0", "-1", "1.0", "1e2", str(2**53), str(2**53 + 1), str(2**64), "1", '"1"', '""', '"\u2028"',
    '"идентификатор"', '"😀"', r'"\ud83d"', r'"\u0000"', '"a\\"},{\\"b"', '"' + "x" * 5000 + '"',
]  # fmt: skip

ODD = {
    "a line separator": '"\u2028 \u2029 \u0085"',
    "a line separator, escaped": r'"\u2028 \u2029 \u0085"',
    "a lone surrogate": r'"cut \ud83d in half"',
    "surrogates the wrong way round": r'"\ude00\ud83d"',
    "NUL": r'"\u0000 \u0001 \u001f"',
    "astral characters": '"😀 𝕏 𠜎"',
    "an astral character, escaped": r'"\ud83d\ude00"',
    "not normalized": '"e\u0301 é \ufeff \ufffe"',
    "escapes": r'"\/ \b\f\r\n\t \\ \" \u0041"',
    "big and exact numbers": "[12345678901234567890123, 1.0, 1.10, -0, -0.0, 1E400, 1e-400]",
    "spaces": '{ "a" : [ 1 ,\t2 ] , "b" : { } }',
    "a key twice": '{"a":1,"a":2}',
    "an envelope inside": '{"jsonrpc":"2.0","id":7,"method":"ping","result":{},"error":{}}',
    "a progress token elsewhere": '{"progressToken":5,"_meta":{"progressToken":5}}',
    "nothing": "null",
    "deep": "[" * 400 + "]" * 400,
}  # fmt: skip


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Peer]:
    async with linked(tmp_path_factory.mktemp("payloads")) as (endpoint, _, peer):
        yield peer
        assert len(endpoint.attempts) == 1
        assert peer.binary_frames == 0


@pytest.fixture
async def peer(shared: Peer) -> AsyncIterator[Peer]:
    """The endpoint's side; a test must have received whatever was sent to it."""
    yield shared
    assert shared.inbox == []


def request(id: str, method: str, params: str = "{}") -> str:
    return f'{{"id":{id},"jsonrpc":"2.0","method":"{method}","params":{params}}}'


def call(id: str, tool: str, arguments: str = "{}") -> str:
    return request(id, "tools/call", f'{{"name":"{tool}","arguments":{arguments}}}')


async def received_params(peer: Peer) -> str:
    """The params that the server says it received in a call of `echo_raw`."""
    return base64.b64decode(value(await peer.receive())["params"]).decode()


@pytest.mark.parametrize("id", IDS)
@pytest.mark.parametrize("message", ["ping", "resources/list", "no/such/method", "tools/call"])
async def test_an_answer_has_the_very_id_of_its_request(peer: Peer, id: str, message: str) -> None:
    params = '{"name":"echo","arguments":{"text":"hello"}}' if message == "tools/call" else "{}"
    await peer.send(request(id, message, params))
    frame = await peer.receive_raw()
    assert frame.startswith(b'{"jsonrpc":"2.0","id":%b,' % id.encode())
    assert ("error" in json.loads(frame)) == (message == "no/such/method")


@pytest.mark.parametrize("order", ["first", "last"])
async def test_answers_in_any_order_reach_those_who_asked(peer: Peer, order: str) -> None:
    for number, id in enumerate(IDS):
        if order == "first":
            await peer.send(call(id, "echo", f'{{"text":"{number}"}}'))
        else:
            await peer.send(call(id, "hold", f'{{"key":"{number}"}}'))
    if order == "last":
        await peer.send(call('"release"', "release"))
    expected = list(enumerate(IDS))
    for number, id in expected if order == "first" else reversed(expected):
        frame = await peer.receive_raw()
        assert frame.startswith(b'{"jsonrpc":"2.0","id":%b,' % id.encode())
        assert text(json.loads(frame)) == str(number)
    if order == "last":
        assert value(await peer.receive()) == len(IDS)


async def test_an_id_that_is_in_flight_twice_is_answered_twice(peer: Peer) -> None:
    for key in ("first", "second"):
        await peer.send(call("1", "hold", f'{{"key":"{key}"}}'))
    await peer.send(call("1", "release"))
    answers = [await peer.receive() for _ in range(3)]
    assert [(a["id"], text(a)) for a in answers] == [(1, "second"), (1, "first"), (1, "2")]


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_arguments_reach_the_server_byte_for_byte(peer: Peer, odd: str) -> None:
    params = f'{{ "name" : "echo_raw" ,"arguments":{{"x":{odd}}},"clientId":null }}'
    await peer.send(request("7", "tools/call", params))
    assert await received_params(peer) == params


@pytest.mark.parametrize("odd", ODD.values(), ids=ODD)
async def test_a_result_reaches_the_endpoint_byte_for_byte(peer: Peer, odd: str) -> None:
    result = f'{{ "content":[] ,"x" : {odd} }}'.encode()
    await peer.send(call("5", "reply", f'{{"base64":"{base64.b64encode(result).decode()}"}}'))
    assert await peer.receive_raw() == b'{"jsonrpc":"2.0","id":5,"result":%b}' % result


@pytest.mark.parametrize("eol", ["\n", "\r\n", "\r"])
async def test_a_request_over_many_lines_is_one_line_for_the_server(peer: Peer, eol: str) -> None:
    params = {"name": "echo_raw", "arguments": {"text": "two\r\nlines, \u2028", "n": [1, 2.50, {}]}}
    pretty = json.dumps(params, indent=4, ensure_ascii=False).replace("\n", eol)
    await peer.send(
        f'{eol}{{{eol}"id": 9,{eol}"method": "tools/call",{eol}"params": {pretty}}}{eol}'
    )
    got = await received_params(peer)
    assert got == pretty.replace(eol, "")
    assert json.loads(got) == params


async def test_a_binary_frame_is_taken_like_a_text_frame(peer: Peer) -> None:
    await peer.send(call("0", "echo", '{"text":"你好"}').encode())
    assert text(await peer.receive()) == "你好"


async def test_a_tool_is_found_however_its_name_is_spelled(peer: Peer) -> None:
    await peer.send(call("1", r"\u0065cho", '{"text":"hello"}'))
    assert text(await peer.receive()) == "hello"
