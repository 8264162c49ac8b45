import pytest

from tests.core.kit import GREETING, answer, refusal
from xzpipe import __version__
from xzpipe.core.handshake import Ask, Failed, Handshake, who
from xzpipe.core.jsonrpc import parse

LIST = Ask("tools/list", b"{}")


def names(handshake):
    return [tool.name for tool in handshake.listing.tools]


def test_it_asks_as_the_broker_does_and_declares_nothing():
    assert Handshake.first() == Ask(
        "initialize",
        b'{"protocolVersion":"2024-11-05","capabilities":{},'
        b'"clientInfo":{"name":"xzpipe","version":"%b"}}' % __version__.encode(),
    )


def test_after_initialize_it_asks_for_the_tools_page_by_page():
    shake = Handshake()
    assert shake.answered("initialize", parse(answer(b"1", GREETING))) == LIST
    assert shake.greeting == GREETING
    first = answer(b"2", b'{"tools":[{"name":"add"}],"nextCursor":"a\\u0000/+=="}')
    assert shake.answered("tools/list", parse(first)) == Ask(
        "tools/list", b'{"cursor":"a\\u0000/+=="}'
    )
    assert shake.answered("tools/list", parse(answer(b"3", b'{"tools":[{"name":"sub"}]}'))) is None
    assert names(shake) == ["add", "sub"]


def test_an_error_on_initialize_is_a_failed_start():
    """mcp-proxy-for-aws without credentials answers so, and lists no tools later (wire.md §8)."""
    error = refusal(b"1", -32603, "No AWS credentials available.")
    assert Handshake().answered("initialize", parse(error)) == Failed(
        "it answered initialize with an error: No AWS credentials available."
    )


@pytest.mark.parametrize("error", [b"{}", b'"no"', b"[]", b'{"message":5}', b'{"message":""}'])
def test_an_error_may_say_nothing(error):
    message = parse(b'{"id":1,"error":%b}' % error)
    assert Handshake().answered("initialize", message) == Failed(
        "it answered initialize with an error: no reason given"
    )


@pytest.mark.parametrize("result", [b"null", b"[]", b'"ok"'])
def test_a_greeting_is_an_object(result):
    message = parse(answer(b"1", result))
    assert Handshake().answered("initialize", message) == Failed(
        "its answer to initialize is not an object"
    )


def test_a_server_that_knows_no_tools_list_has_no_tools():
    shake = Handshake()
    assert shake.answered("tools/list", parse(refusal(b"2", -32601, "Method not found"))) is None
    assert names(shake) == []


def test_any_other_error_on_tools_list_is_a_failure():
    message = parse(refusal(b"2", -32603, "boom"))
    assert Handshake().answered("tools/list", message) == Failed(
        "it answered tools/list with an error: boom"
    )


def test_a_method_that_is_not_found_is_no_excuse_for_initialize():
    message = parse(refusal(b"1", -32601, "Method not found"))
    assert isinstance(Handshake().answered("initialize", message), Failed)


def test_a_list_that_is_none_is_a_failure():
    message = parse(answer(b"2", b'{"tools":{}}'))
    assert Handshake().answered("tools/list", message) == Failed(
        "its answer to tools/list is not a list of tools"
    )


@pytest.mark.parametrize(
    ("greeting", "found"),
    [
        (GREETING, ("Calc", "1.2")),
        (rb'{"serverInfo":{"name":"\ud800","version":1}}', ("\ud800", "")),
        (b'{"serverInfo":{}}', ("", "")),
        (b'{"serverInfo":null}', ("", "")),
        (b"{}", ("", "")),
    ],
)
def test_a_greeting_may_tell_who_it_is(greeting, found):
    assert who(greeting) == found
