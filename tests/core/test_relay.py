"""Requests on their way and their answers; told through the hub."""

import json

import pytest

from tests.core.kit import (
    GONE,
    answer,
    ask,
    bridged,
    call,
    called,
    cancelled,
    merged,
    note,
    refusal,
    seeing,
    start,
)
from xzpipe.core.effects import DropServer, ToClient, ToServer, WakeAt
from xzpipe.core.events import NoiseOnStdout, StaleAnswer
from xzpipe.core.hub import Hub
from xzpipe.core.plan import View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.relay import MAX_HELD_BYTES, MAX_PENDING
from xzpipe.core.servers import DEAD_FOR
from xzpipe.core.shaping import Shape

IDS = [
    b"0",
    b"-1",
    b"9007199254740993",
    b"123456789012345678901234567890",
    b"1.0",
    b"1e2",
    b'""',
    b'"7"',
    '"идентификатор"'.encode(),
    rb'"\u0041\/\ud83d\ude00\u0000"',
    rb'"\ud800"',
]
LATE = ToServer("calc", cancelled(b"3", "time-out"))


def done(seconds=0.0, outcome="ok", tool="add", server="calc", client="link"):
    return called(server, tool, client, seconds, outcome)


def test_a_call_from_end_to_end():
    hub = bridged()
    assert hub.client_text("link", call(b"7"), 1.0) == [ToServer("calc", call(b"3"))]
    assert hub.server_line("calc", answer(b"3"), 1.5) == [ToClient("link", answer(b"7")), done(0.5)]
    assert hub.server_line("calc", answer(b"3"), 1.6) == [StaleAnswer("calc")]


@pytest.mark.parametrize("id", IDS)
def test_an_id_comes_back_byte_for_byte(id):
    hub = bridged()
    assert hub.client_text("link", call(id), 1.0) == [ToServer("calc", call(b"3"))]
    assert hub.server_line("calc", answer(b"3"), 1.0) == [ToClient("link", answer(id)), done()]
    assert hub.client_text("link", ask(id, "ping"), 1.0) == [ToClient("link", answer(id, b"{}"))]


def test_answers_may_come_in_any_order():
    hub = bridged()
    for id in IDS:
        hub.client_text("link", call(id), 1.0)
    for inner, id in reversed([*enumerate(IDS, start=3)]):
        assert hub.server_line("calc", answer(b"%d" % inner), 1.0) == [
            ToClient("link", answer(id)),
            done(),
        ]


def test_two_requests_with_the_same_id_are_both_answered():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    hub.client_text("link", call(b"7"), 1.0)
    for inner, result in ((b"4", b'"second"'), (b"3", b'"first"')):
        assert hub.server_line("calc", answer(inner, result), 2.0) == [
            ToClient("link", answer(b"7", result)),
            done(1.0),
        ]


PAYLOADS = [
    b'{ "n": [ 1e400 , 0.1000, 12345678901234567890123, -0 ] }',
    '{"s":"\u2028\u2029\x85 é 你好 😀"}'.encode(),
    rb'{"s":"\u2028\u0000\ud83d\ude00\ud800\/"}',
    b'"\x7f"',
    b"null",
]


@pytest.mark.parametrize("payload", PAYLOADS)
def test_payloads_pass_byte_for_byte(payload):
    hub = bridged()
    rest = b' , "arguments" : %b' % payload
    assert hub.client_text("link", call(b"7", rest=rest), 1.0) == [
        ToServer("calc", call(b"3", rest=rest))
    ]
    assert hub.server_line("calc", answer(b"3", payload), 1.0) == [
        ToClient("link", answer(b"7", payload)),
        done(),
    ]
    hub.client_text("link", call(b"7"), 1.0)
    error = b'{"jsonrpc":"2.0","id":%b,"error":%b}'
    if payload != b"null":
        assert hub.server_line("calc", error % (b"4", payload), 1.0) == [
            ToClient("link", error % (b"7", payload)),
            done(outcome="error"),
        ]


def test_a_request_printed_over_many_lines_becomes_one():
    hub = bridged()
    pretty = (
        '{\r\n  "jsonrpc": "2.0",\r\n  "id": "a b",\n  "method": "tools/call",\n  "params": {\r\n'
        '    "name": "add",\r\n\r\n    "arguments": { "s": "\\r\\n\u2028", "n": 1.0 }\n  }\n}\n'
    )
    params = '{    "name": "add",    "arguments": { "s": "\\r\\n\u2028", "n": 1.0 }  }'
    assert hub.client_text("link", pretty.encode(), 1.0) == [
        ToServer("calc", ask(b"3", "tools/call", params.encode()))
    ]
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b'"a b"'))


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_no_end_of_a_line_reaches_a_server(end):
    assert bridged().client_text("link", call(b"7", rest=b',%b"a":1' % end), 1.0) == [
        ToServer("calc", call(b"3", rest=b',"a":1'))
    ]


def test_two_numbers_on_two_lines_do_not_become_one():
    [refused, _] = bridged().client_text("link", call(b"7", rest=b',"a":[1\n2]'), 1.0)
    assert json.loads(refused.text)["error"]["code"] == -32700


def test_an_error_goes_out_without_a_result_key():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    both = b'{"jsonrpc":"2.0","id":3,"result":null,"error":{"message":"no code at all"}}'
    assert hub.server_line("calc", both, 1.0) == [
        ToClient("link", b'{"jsonrpc":"2.0","id":7,"error":{"message":"no code at all"}}'),
        done(outcome="error"),
    ]


def test_an_error_of_null_is_a_success():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    both = b'{"jsonrpc":"2.0","id":3,"result":{},"error":null}'
    assert hub.server_line("calc", both, 1.0) == [ToClient("link", answer(b"7", b"{}")), done()]


@pytest.mark.parametrize("flag", [b'"isError":true', b'"isError": true'])
def test_a_tool_that_failed_is_counted_as_such(flag):
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    result = b'{"content":[],%b}' % flag
    assert hub.server_line("calc", answer(b"3", result), 1.0) == [
        ToClient("link", answer(b"7", result)),
        done(outcome="tool error"),
    ]


def test_a_server_that_dies_in_calls_has_every_caller_told_at_once():
    hub = bridged()
    hub.client_joined("next", seeing("calc"))
    hub.client_text("link", call(b"7"), 1.0)
    hub.client_text("next", call(b'"x"'), 2.0)
    hub.client_text("link", ask(b"8", "prompts/list"), 2.0)
    assert hub.server_exited("calc", "exit code 1", 3.0) == [
        ToClient("link", refusal(b"7", -32000, GONE)),
        done(2.0, "server gone"),
        ToClient("next", refusal(b'"x"', -32000, GONE)),
        done(1.0, "server gone", client="next"),
        ToClient("link", refusal(b"8", -32000, GONE)),
        WakeAt(3.0 + DEAD_FOR),
    ]
    assert hub.tick(1000.0) == []


def test_a_call_that_takes_too_long_fails_and_is_taken_back():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.tick(300.9) == [WakeAt(301.0)]
    assert hub.tick(301.0) == [
        LATE,
        ToClient("link", refusal(b"7", -32000, "MCP server 'calc' did not answer within 300 s")),
        done(300.0, "no answer"),
    ]
    assert hub.server_line("calc", answer(b"3"), 302.0) == [StaleAnswer("calc")]


def test_each_server_has_its_own_time_limit():
    hub = merged(calc=("add",), time=("now",))
    hub.server_exited("time", "exit code 1", 0.0)
    start(hub, "time", ("now",), call_timeout=2.5)
    hub.client_text("link", call(b"1", "add"), 10.0)
    assert hub.client_text("link", call(b"2", "now"), 10.0)[0] == WakeAt(12.5)
    words = "MCP server 'time' did not answer within 2.5 s"
    assert ToClient("link", refusal(b"2", -32000, words)) in hub.tick(12.5)


def test_a_reply_from_before_a_reconnect_is_dropped():
    hub = bridged()
    hub.client_text("link", call(b"1"), 1.0)
    assert hub.client_left("link", 2.0) == [ToServer("calc", cancelled(b"3", "the caller is gone"))]
    hub.client_joined("link#2", seeing("calc"))
    assert hub.client_text("link#2", call(b"1"), 3.0) == [ToServer("calc", call(b"4"))]
    assert hub.server_line("calc", answer(b"3", b'"old"'), 4.0) == [StaleAnswer("calc")]
    assert hub.server_line("calc", answer(b"4", b'"new"'), 5.0) == [
        ToClient("link#2", answer(b"1", b'"new"')),
        done(2.0, client="link#2"),
    ]


def test_only_what_the_lost_client_asked_is_taken_back():
    hub = bridged()
    hub.client_joined("next", seeing("calc"))
    hub.client_text("link", call(b"1"), 1.0)
    hub.client_text("next", call(b"1"), 1.0)
    hub.client_text("link", ask(b"2", "prompts/list"), 1.0)
    assert hub.client_left("link", 2.0) == [
        ToServer("calc", cancelled(b"3", "the caller is gone")),
        ToServer("calc", cancelled(b"5", "the caller is gone")),
    ]
    assert hub.client_left("link", 2.0) == []
    assert hub.server_line("calc", answer(b"4"), 2.0)[0] == ToClient("next", answer(b"1"))


def test_no_server_answers_for_another():
    hub = merged(calc=("add",), time=("now",))
    hub.client_text("link", call(b"1", "add"), 1.0)
    assert hub.server_line("time", answer(b"3"), 1.0) == [
        NoiseOnStdout("time", answer(b"3").decode())
    ]
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"1"))


def test_a_request_too_many_is_refused_and_the_next_is_welcome_again():
    hub = bridged()
    hub.client_joined("next", seeing("calc"))
    for id in range(MAX_PENDING):
        hub.client_text("link", call(b"%d" % id), 1.0)
    words = f"{MAX_PENDING} requests are waiting for an answer already"
    refused = [ToClient("link", refusal(b'"x"', -32000, words))]
    assert hub.client_text("link", call(b'"x"'), 1.0) == refused
    assert hub.client_text("link", ask(b'"x"', "prompts/list"), 1.0) == refused
    assert hub.client_text("link", ask(b'"x"', "ping"), 1.0) == [
        ToClient("link", answer(b'"x"', b"{}"))
    ]
    assert hub.client_text("next", call(b"1"), 1.0) == [ToServer("calc", call(b"1027"))]
    hub.server_line("calc", answer(b"3"), 2.0)
    assert hub.client_text("link", call(b'"x"'), 2.0) == [ToServer("calc", call(b"1028"))]


def test_a_cancelled_request_is_cancelled_at_its_server_and_gets_no_answer():
    hub = bridged()
    hub.client_text("link", call(b'"a"'), 1.0)
    hub.client_text("link", call(b"0"), 1.0)
    assert hub.client_text("link", note("cancelled", b'{"requestId": 0 ,"reason":"x"}'), 2.0) == [
        ToServer("calc", cancelled(b"4", "the caller cancelled it"))
    ]
    assert hub.server_line("calc", answer(b"4"), 3.0) == [StaleAnswer("calc")]
    assert hub.client_text("link", note("cancelled", b'{"requestId":0}'), 3.0) == []
    assert hub.server_line("calc", answer(b"3"), 3.0)[0] == ToClient("link", answer(b'"a"'))


@pytest.mark.parametrize("params", [b"", b"{}", b"null", b'{"requestId":3}', b'{"requestId":""}'])
def test_only_a_request_of_its_own_can_be_cancelled_by_a_client(params):
    hub = bridged()
    hub.client_joined("next", seeing("calc"))
    hub.client_text("next", call(b"3"), 1.0)
    assert hub.client_text("link", note("cancelled", params), 2.0) == []
    assert hub.server_line("calc", answer(b"3"), 3.0)[0] == ToClient("next", answer(b"3"))


@pytest.mark.parametrize("token", [b"0", b"7", b"-1", b'"t"', b'""', rb'"\ud800\u0041"', b"1e2"])
def test_progress_tokens_are_rewritten_both_ways(token):
    hub = bridged()
    rest = b',"arguments":{ "n": 1e400 },"_meta":{"progressToken": %b ,"clientId":null}'
    asked = b',"arguments":{ "n": 1e400 },"_meta":{"progressToken":3,"clientId":null}'
    assert hub.client_text("link", call(b"7", rest=rest % token), 1.0) == [
        ToServer("calc", call(b"3", rest=asked))
    ]
    progress = b'{"progressToken":%b,"progress":0.50,"message":"\\ud800"}'
    assert hub.server_line("calc", note("progress", progress % b"3"), 1.0) == [
        ToClient("link", note("progress", progress % token))
    ]
    hub.server_line("calc", answer(b"3"), 2.0)
    assert hub.server_line("calc", note("progress", progress % b"3"), 3.0) == []


def test_equal_tokens_of_two_clients_are_kept_apart():
    hub = merged(calc=("add", "x"), time=("x",))
    hub.client_joined("next", View())
    rest = b',"_meta":{"progressToken":1}'
    hub.client_text("link", call(b"1", "calc__x", rest), 1.0)
    assert hub.client_text("next", call(b"1", "calc__x", rest), 1.0) == [
        ToServer("calc", call(b"4", "x", b',"_meta":{"progressToken":4}'))
    ]
    progress = [hub.server_line("calc", note("progress", b'{"progressToken":%d}' % n), 1.0)
                for n in (4, 3)]  # fmt: skip
    told = note("progress", b'{"progressToken":1}')
    assert progress == [[ToClient("next", told)], [ToClient("link", told)]]


@pytest.mark.parametrize(
    "params",
    [b"", b"[]", b"{}", b'{"progressToken":2}', b'{"progressToken":"3"}', b'{"progressToken":4}'],
)
def test_progress_nobody_asked_for_goes_nowhere(params):
    hub = bridged()
    hub.client_text("link", call(b"7", rest=b',"arguments":{"progressToken":1}'), 1.0)
    hub.client_text("link", call(b"8"), 1.0)
    assert hub.server_line("calc", note("progress", params), 1.0) == []


def test_progress_of_the_hubs_own_questions_goes_nowhere():
    hub = bridged()
    hub.server_line("calc", note("tools/list_changed"), 1.0)
    assert hub.server_line("calc", note("progress", b'{"progressToken":3}'), 1.0) == []


def test_a_call_under_a_name_of_ours_reaches_the_server_under_its_own():
    hub = merged(calc=("now",), time=("now", "zone"))
    rest = rb',"arguments":{ "n": 0.1000, "s":"\ud800" },"serialNumber":null'
    assert hub.client_text("link", call(b"7", "time__now", rest), 1.0) == [
        ToServer("time", call(b"3", "now", rest))
    ]
    assert hub.server_line("time", answer(b"3"), 2.0) == [
        ToClient("link", answer(b"7")),
        done(1.0, tool="now", server="time"),
    ]
    assert hub.client_text("link", call(b"8", "now"), 3.0) == [
        ToClient("link", refusal(b"8", -32602, "unknown tool: now"))
    ]


# An answer that cannot be read

BAD = "the answer of MCP server 'calc' is not valid JSON-RPC"


@pytest.mark.parametrize(
    "line",
    [
        b'{"jsonrpc":"2.0","id":3,"result":{"value":NaN}}',
        b'{"result":{"value":Infinity},"jsonrpc":"2.0","id":3}',
        b'{"result":{"value":NaN,"s":"%b"},"jsonrpc":"2.0","id":3}' % (b"x" * 9_000),
        b'{"jsonrpc":"2.0","id":3,"result":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"jsonrpc":"2.0","id":3,"error":null}',
    ],
    ids=["NaN", "Infinity", "long", "deep", "null"],
)
def test_the_caller_is_told_of_an_answer_that_is_not_valid(line):
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    [noise, *told] = hub.server_line("calc", line, 2.0)
    assert isinstance(noise, NoiseOnStdout)
    assert told == [ToClient("link", refusal(b"7", -32000, BAD)), done(1.0, "bad answer")]


def test_a_broken_off_line_settles_nothing():
    """Somebody may have printed the first so many bytes of an answer into his log."""
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    half = b'{"jsonrpc":"2.0","id":3,"result":{"content":[{"type":"te'
    assert hub.server_line("calc", half, 2.0) == [NoiseOnStdout("calc", half.decode())]
    assert hub.server_line("calc", answer(b"3"), 2.0)[0] == ToClient("link", answer(b"7"))


def test_a_handshake_that_cannot_be_read_has_failed():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    hub.server_started("calc", 2.0)
    assert hub.server_line("calc", b'{"jsonrpc":"2.0","id":3,"result":{"x":NaN}}', 3.0)[1:] == [
        DropServer("calc", "its answer is not valid JSON-RPC")
    ]


def test_what_is_held_for_a_server_that_starts_is_bounded_by_bytes():
    hub = bridged()
    hub.server_exited("calc", GONE, 1.0)
    hub.server_started("calc", 1.0)
    rest = b',"arguments":{"x":"%b"}' % (b"x" * (MAX_HELD_BYTES // 2))
    assert [type(each) for each in hub.client_text("link", call(b"0", "add", rest), 1.0)] == []
    [told, _] = hub.client_text("link", call(b"1", "add", rest), 1.0)
    assert told == ToClient("link", refusal(b"1", -32000, "MCP server 'calc' is overloaded"))


def test_an_answer_is_shaped_for_the_endpoint_that_gets_it():
    hub = Hub()
    start(hub)
    for client, limit in (("small", 300), ("large", None)):
        view = View(servers=frozenset({"calc"}), shape=Shape(limit))
        hub.client_joined(client, view)
    long = b'{"content":[{"type":"text","text":"%b"}]}' % (b"x" * 1000)
    hub.client_text("small", call(b"7"), 1.0)
    hub.client_text("large", call(b"7"), 1.0)
    [small, _] = hub.server_line("calc", answer(b"3", long), 2.0)
    assert len(small.text) <= 300
    assert json.loads(small.text)["id"] == 7
    [large, _] = hub.server_line("calc", answer(b"4", long), 2.0)
    assert large.text == answer(b"7", long)


def test_an_error_is_shaped_too_and_stays_an_error():
    hub = Hub()
    start(hub)
    hub.client_joined("link", View(servers=frozenset({"calc"}), shape=Shape(300)))
    hub.client_text("link", call(b"7"), 1.0)
    error = b'{"code":-1,"message":"%b","data":5}' % (b"x" * 1000)
    told = b'{"jsonrpc":"2.0","id":3,"error":%b}' % error
    [reply, called] = hub.server_line("calc", told, 2.0)
    assert len(reply.text) <= 300
    assert json.loads(reply.text)["error"]["code"] == -1
    assert called.outcome == "error"


def test_what_is_no_call_is_never_shaped():
    hub = Hub()
    start(hub)
    hub.client_joined("link", View(servers=frozenset({"calc"}), shape=Shape(300)))
    hub.client_text("link", ask(b"7", "resources/read"), 1.0)
    long = b'{"contents":["%b"]}' % (b"x" * 1000)
    assert hub.server_line("calc", answer(b"3", long), 2.0) == [
        ToClient("link", answer(b"7", long))
    ]


def test_a_tool_is_called_by_the_name_that_its_server_gave_it():
    hub = Hub()
    start(hub)
    policy = ToolPolicy(rename={"add": "plus"})
    hub.client_joined("link", View(servers=frozenset({"calc"}), own={"calc": policy}))
    assert hub.client_text("link", call(b"7", "plus"), 1.0) == [ToServer("calc", call(b"3", "add"))]
    unknown = refusal(b"8", -32602, "unknown tool: add")
    assert hub.client_text("link", call(b"8", "add"), 1.0) == [ToClient("link", unknown)]


def test_a_view_does_not_let_denied_tools_be_called():
    hub = Hub()
    start(hub, tools=("add", "drop"))
    policy = ToolPolicy(deny=("drop",))
    hub.client_joined("link", View(servers=frozenset({"calc"}), policy=policy))
    for name in ("drop", "calc__drop"):
        unknown = refusal(b"8", -32602, f"unknown tool: {name}")
        assert hub.client_text("link", call(b"8", name), 1.0) == [ToClient("link", unknown)]
