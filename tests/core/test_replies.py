import json

import pytest

from tests.core.kit import answer, ask, refusal
from xzpipe import __version__
from xzpipe.core import replies
from xzpipe.core.jsonrpc import Raw, parse


@pytest.mark.parametrize(
    ("params", "version"),
    [
        (b'{"protocolVersion":"2024-11-05"}', "2024-11-05"),
        (b'{"protocolVersion":"2025-11-25"}', "2025-11-25"),
        (b'{"protocolVersion":"2026-07-28"}', "2024-11-05"),
        (b'{"protocolVersion":"\\ud800"}', "2024-11-05"),
        (b'{"protocolVersion":5}', "2024-11-05"),
        (b"{}", "2024-11-05"),
        (b"null", "2024-11-05"),
        (b"", "2024-11-05"),
    ],
)
def test_our_own_greeting_agrees_to_a_version_it_knows(params, version):
    assert json.loads(replies.greeting(Raw(params))) == {
        "protocolVersion": version,
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": "xzpipe", "version": __version__},
    }


@pytest.mark.parametrize(
    "params", [b"", b"{}", b"null", b"[]", b'{"cursor":null}', b'{"cursor":""}']
)
def test_all_tools_are_on_the_first_page(params):
    message = parse(ask(b'"id"', "tools/list", params))
    assert replies.user_tools(message) is False
    assert replies.tools(message, b"[{}]") == answer(b'"id"', b'{"tools":[{}]}')


@pytest.mark.parametrize(
    ("asked", "heard"),
    [(b"true", True), (b"false", False), (b"null", False), (b'"true"', False)],
)
def test_the_tools_of_the_user_are_there_for_who_asks_for_them(asked, heard):
    message = parse(ask(b"0", "tools/list", b'{"cursor":"","withUserTools":%b}' % asked))
    assert replies.user_tools(message) is heard


@pytest.mark.parametrize("cursor", [b'"2"', b"0", b"{}"])
def test_there_is_no_second_page(cursor):
    message = parse(ask(b"0", "tools/list", b'{"cursor":%b}' % cursor))
    assert replies.user_tools(message) is None


def test_a_server_may_ping_and_ask_nothing_else():
    assert replies.to_server(parse(ask(b'"a"', "ping"))) == answer(b'"a"', b"{}")
    assert replies.to_server(parse(ask(b"0", "roots/list"))) == (
        refusal(b"0", -32601, "method not found: roots/list")
    )


def test_a_renamed_call_is_otherwise_as_it_was():
    params = rb'{ "arguments" : { "n": 0.1000 }, "name":"calc__add", "x":"\ud800" }'
    assert replies.renamed(params, "ad\nd") == (
        rb'{"arguments":{ "n": 0.1000 },"name":"ad\nd","x":"\ud800"}'
    )


@pytest.mark.parametrize("token", [b"0", b"-7", b'""', b'"\\ud800"', b"1.0"])
def test_a_progress_token_is_found_and_replaced(token):
    params = b'{"n": 1e400 , "_meta": {"a": [ 1 ],"progressToken":%b }}' % token
    assert replies.progress_token(params) == token
    assert replies.with_progress_token(params, b"41") == (
        b'{"n":1e400,"_meta":{"a":[ 1 ],"progressToken":41}}'
    )


@pytest.mark.parametrize(
    "params",
    [
        b"",
        b"[]",
        b"{}",
        b'{"progressToken":1}',
        b'{"_meta":null}',
        b'{"_meta":{}}',
        b'{"arguments":{"_meta":{"progressToken":1}}}',
    ],
)
def test_there_may_be_no_progress_token(params):
    assert replies.progress_token(params) == b""


@pytest.mark.parametrize(
    ("params", "id"),
    [
        (b'{"requestId" : 0 }', b"0"),
        (b'{"requestId":"a","reason":""}', b'"a"'),
        (b"{}", b""),
        (b"[1]", b""),
        (b"", b""),
    ],
)
def test_a_cancellation_names_a_request(params, id):
    assert replies.cancelled_id(Raw(params)) == id
