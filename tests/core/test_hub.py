import json
import sys

import pytest

from tests.core.kit import (
    GREETING,
    INITIALIZED,
    NO_ONE,
    answer,
    ask,
    bridged,
    call,
    called,
    listing,
    merged,
    note,
    refusal,
    seeing,
    start,
    tools_of,
)
from xzpipe import __version__
from xzpipe.core.effects import DropClient, DropServer, ToClient, ToServer, WakeAt
from xzpipe.core.events import (
    ListingFailed,
    NoiseOnStdout,
    ServerReady,
    TooLarge,
    ToolsChanged,
)
from xzpipe.core.hub import Hub
from xzpipe.core.lines import Overlong
from xzpipe.core.link_events import BadFrame
from xzpipe.core.notes import NotDescribed
from xzpipe.core.plan import View

DEEP = b"[" * 100_000 + b"]" * 100_000
WORDS = "tools/call needs params with a tool's name"

# Frames from the endpoint


@pytest.mark.parametrize(
    ("frame", "id", "code", "words"),
    [
        (b"hello", b"null", -32700, "not JSON"),
        (b"", b"null", -32700, "not JSON"),
        (b"[" * 100_000, b"null", -32700, "not JSON"),
        (DEEP, b"null", -32700, "not JSON"),
        (
            b'{"id":1,"method":"tools/call","params":%b}' % DEEP,
            b"null",
            -32700,
            "not a JSON object",
        ),
        (b'{"id":1,"method":"ping"', b"null", -32700, "not a JSON object"),
        (b'{"id":"\xff","method":"ping"}', b"null", -32700, "not UTF-8 at byte 7"),
        (b"[%b]" % ask(b"1", "ping"), b"null", -32600, "batches are not supported"),
        (b"[]", b"null", -32600, "batches are not supported"),
        (b"null", b"null", -32600, "a message must be an object"),
        (b"17", b"null", -32600, "a message must be an object"),
        (b"{}", b"null", -32600, "neither a request nor a response"),
        (b'{"id":"x","params":{}}', b'"x"', -32600, "neither a request nor a response"),
        (b'{"id":0,"method":["ping"]}', b"0", -32600, "method must be a string"),
        (b'{"id":null,"method":"ping"}', b"null", -32600, "an id must be a string or a number"),
        (b'{"id":{},"method":"ping"}', b"null", -32600, "an id must be a string or a number"),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)
def test_a_bad_frame_is_refused_and_reported(frame, id, code, words):
    assert bridged().client_text("link", frame, 1.0) == [
        ToClient("link", refusal(id, code, words)),
        BadFrame("link", words),
    ]


@pytest.mark.parametrize(
    "frame", [answer(b"3"), refusal(b"0", -32603, "x"), answer(b"null"), answer(b"[]")]
)
def test_an_answer_from_a_client_goes_nowhere(frame):
    assert bridged().client_text("link", frame, 1.0) == [
        BadFrame("link", "an answer to nothing that was asked")
    ]


@pytest.mark.parametrize("method", ["initialize", "tools/call", "ping", ""])
def test_a_request_without_an_id_is_not_passed_on(method):
    frame = json.dumps({"jsonrpc": "2.0", "method": method, "params": {"name": "add"}}).encode()
    assert bridged().client_text("link", frame, 1.0) == [
        BadFrame("link", f"a request without an id: {method}")
    ]


@pytest.mark.parametrize("params", [b"", b"null", b"5", b"[]", b'["add"]', b"{}", b'{"name":7}'])
def test_a_call_without_a_tools_name_is_refused(params):
    for hub in (bridged(), bridged(""), Hub()):
        hub.client_joined("link", seeing("calc"))
        assert hub.client_text("link", ask(b'"x"', "tools/call", params), 1.0) == [
            ToClient("link", refusal(b'"x"', -32602, WORDS))
        ]


def test_a_call_of_an_unknown_tool_is_refused():
    assert bridged().client_text("link", call(b"7", "s\\ud800b"), 1.0) == [
        ToClient("link", refusal(b"7", -32602, "unknown tool: s\ud800b"))
    ]


def test_a_call_before_any_server_was_ready_is_refused():
    hub = Hub()
    hub.client_joined("link", View())
    refused = [ToClient("link", refusal(b"7", -32001, NO_ONE))]
    assert hub.client_text("link", call(b"7"), 1.0) == refused
    hub.server_started("calc", 2.0)
    assert hub.client_text("link", call(b"7"), 3.0) == refused


@pytest.mark.parametrize(("method", "params"), [("ping", b"null"), ("tools/list", b"null")])
def test_params_of_null_do_no_harm(method, params):
    """The console of self-hosted servers writes `"params":null` (wire.md §3)."""
    [reply, *_] = bridged().client_text("link", ask(b"2", method, params), 1.0)
    assert "result" in json.loads(reply.text)


def test_no_nesting_is_too_deep_for_the_hub():
    """Between what can be read and what cannot lies what is read once, but not twice."""
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit()):
        hub = merged(a=("x",), b=("x",))
        rest = b',"_meta":{"progressToken":1},"arguments":' + b"[" * depth + b"]" * depth
        [first, *_] = hub.client_text("link", call(b"7", "a__x", rest), 1.0)
        if isinstance(first, ToServer):
            assert hub.undeliverable(first, 1.0)[0] == (
                ToClient("link", refusal(b"7", -32000, "MCP server 'a' is overloaded"))
            )
        else:
            assert json.loads(first.text)["error"]["code"] in (-32700, -32602)


def test_tools_nested_too_deep_for_the_hub_are_no_list():
    for depth in range(sys.getrecursionlimit() - 300, sys.getrecursionlimit()):
        hub = merged(a=("x",), b=("x",))
        tools_of(hub)
        hub.server_line("a", note("tools/list_changed"), 1.0)
        deep = b'{"tools":[{"name":"x","inputSchema":' + b"[" * depth + b"]" * depth + b"}]}"
        [first, *_] = hub.server_line("a", answer(b"3", deep), 1.0)
        assert isinstance(first, ToolsChanged | ListingFailed | NoiseOnStdout)
        assert hub.client_text("link", ask(b"0", "tools/list"), 1.0)[0].text


def test_a_client_nobody_knows_is_not_heard():
    hub = bridged()
    assert hub.client_text("stranger", call(b"1"), 1.0) == []
    assert hub.client_left("stranger", 1.0) == []
    hub.client_left("link", 1.0)
    assert hub.client_text("link", call(b"1"), 1.0) == []


# What the hub answers itself


def test_a_view_of_one_shows_the_servers_own_greeting():
    assert bridged().client_text("link", ask(b"0", "initialize"), 1.0) == [
        ToClient("link", answer(b"0", GREETING))
    ]


@pytest.mark.parametrize("servers", [{}, {"calc": ("add",), "time": ("now",)}])
def test_a_view_of_several_or_none_is_greeted_by_xzpipe(servers):
    hub = merged(**servers)
    [reply] = hub.client_text("link", ask(b'""', "initialize", b"{}"), 1.0)
    assert json.loads(reply.text)["id"] == ""
    assert json.loads(reply.text)["result"]["serverInfo"] == {
        "name": "xzpipe",
        "version": __version__,
    }


def test_a_view_of_one_that_was_never_ready_is_greeted_by_xzpipe():
    hub = Hub()
    hub.server_started("calc", 0.0)
    hub.client_joined("link", seeing("calc"))
    [reply] = hub.client_text("link", ask(b"0", "initialize"), 1.0)
    assert json.loads(reply.text)["result"]["serverInfo"]["name"] == "xzpipe"
    assert tools_of(hub) == []


def test_a_view_of_several_merges_the_tools():
    hub = merged(calc=("add", "now"), time=("now", "zone"))
    assert tools_of(hub) == ["add", "calc__now", "time__now", "zone"]


def test_a_client_sees_nothing_outside_its_view():
    hub = merged(calc=("add",), time=("now",), music=("play",))
    hub.client_joined("small", seeing("time", "music"))
    assert tools_of(hub, "small") == ["play", "now"]
    assert hub.client_text("small", call(b"1", "add"), 1.0) == [
        ToClient("small", refusal(b"1", -32602, "unknown tool: add"))
    ]


def test_listed_tools_can_be_labelled_with_their_server():
    hub = Hub(label_servers=True)
    start(hub)
    hub.client_joined("link", View())
    assert hub.client_text("link", ask(b"0", "tools/list"), 1.0) == [
        ToClient("link", answer(b"0", b'{"tools":[{"name":"add","server_id":"calc"}]}')),
        NotDescribed("calc", ("add",)),
    ]
    assert tools_of(hub) == ["add"]
    assert hub.client_text("link", ask(b"0", "tools/list"), 1.0)[1:] == []  # it is said once


# Other requests and notifications


@pytest.mark.parametrize("method", ["prompts/list", "resources/read", "x/你好"])
@pytest.mark.parametrize("params", [b"", b'{ "uri":"x" }', b"[1e400]"])
def test_a_view_of_one_passes_other_requests_through(method, params):
    hub = bridged()
    frame = ask(b'"x"', method, params)
    [asked] = hub.client_text("link", frame, 1.0)
    assert asked.server == "calc"
    assert json.loads(asked.line) == json.loads(frame) | {"id": 3}
    assert asked.line.endswith(b',"params":%b}' % params if params else b"}")
    assert hub.server_line("calc", answer(b"3"), 1.0) == [ToClient("link", answer(b'"x"'))]


def test_a_view_of_several_refuses_other_requests():
    hub = merged(calc=("add",), time=("now",))
    assert hub.client_text("link", ask(b"0", "prompts/list"), 1.0) == [
        ToClient("link", refusal(b"0", -32601, "method not found: prompts/list"))
    ]


def test_other_requests_are_refused_while_the_one_server_is_down():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    words = "MCP server calc is restarting, try again in a moment"
    refused = [ToClient("link", refusal(b"0", -32001, words))]
    assert hub.client_text("link", ask(b"0", "prompts/list"), 1.0) == refused
    hub.server_removed("calc", 2.0)
    refused = [ToClient("link", refusal(b"0", -32001, "MCP server 'calc' is not running"))]
    assert hub.client_text("link", ask(b"0", "prompts/list"), 1.0) == refused


def test_notifications_pass_through_a_view_of_one():
    hub = bridged()
    hub.client_joined("all", View())
    hub.client_joined("other", seeing("time"))
    said = note("roots/list_changed", b'{ "x": 1e400 }')
    assert hub.client_text("link", said, 1.0) == [ToServer("calc", said)]
    assert hub.client_text("other", said, 1.0) == []
    told = note("message", b'{"level":"info","data":"\\ud800"}')
    assert hub.server_line("calc", told, 1.0) == [ToClient("link", told), ToClient("all", told)]
    hub.server_exited("calc", "exit code 1", 2.0)
    assert hub.client_text("link", said, 3.0) == []


def test_of_notifications_only_those_of_a_log_pass_through_a_view_of_several():
    hub = merged(calc=("add",), time=("now",))
    hub.client_joined("other", seeing("time"))
    assert hub.client_text("link", note("roots/list_changed"), 1.0) == []
    assert hub.server_line("calc", note("resources/list_changed", b"{}"), 1.0) == []
    said = note("message", b"{}")
    assert hub.server_line("calc", said, 1.0) == [ToClient("link", said)]


def test_the_server_is_not_told_twice_that_it_is_initialized():
    assert bridged().client_text("link", INITIALIZED, 1.0) == []


# Requests of servers


@pytest.mark.parametrize("id", [b"3", b"0", b'"3"', b"1e2", rb'"\ud800"'])
def test_a_server_may_ask_under_any_id_even_one_that_is_pending(id):
    """server-everything asks for the roots under the id 0 (wire.md §6)."""
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.server_line("calc", ask(id, "ping"), 1.0) == [ToServer("calc", answer(id, b"{}"))]
    assert hub.server_line("calc", ask(id, "roots/list", b"{}"), 1.0) == [
        ToServer("calc", refusal(id, -32601, "method not found: roots/list"))
    ]
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"7"))


def test_a_request_that_a_server_takes_back_is_none_of_the_clients():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.server_line("calc", note("cancelled", b'{"requestId":3}'), 1.0) == []
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"7"))


# Noise


@pytest.mark.parametrize(
    "line",
    [
        b"Listening on port 8080",
        b"\x1b[32mready\x1b[0m",
        b"{'jsonrpc': '2.0', 'id': 3, 'result': {}}",
        b'{"jsonrpc":"2.0","id":3,"result":',
        b"[]",
        b'[{"jsonrpc":"2.0","id":3,"result":{}}]',
        b"3",
        b"null",
        b'"ping"',
        b"{}",
        b'{"level":"info","msg":"hello"}',
        b'{"level":"info","method":"GET","url":"/"}',
        b'{"level":"info","method":"GET","id":"req-1"}',
        b'{"jsonrpc":"1.0","method":"notifications/message"}',
        b'{"jsonrpc":"2.0","id":null,"error":{"code":-32700}}',
        b'{"jsonrpc":"2.0","id":"3","result":{}}',
        b'{"jsonrpc":"2.0","id":3.0,"result":{}}',
        b'{"jsonrpc":"2.0","id":99,"result":{}}',
        b'{"jsonrpc":"2.0","id":null,"method":"ping"}',
    ],
)
def test_noise_of_a_server_goes_nowhere(line):
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.server_line("calc", line, 1.0) == [NoiseOnStdout("calc", line.decode())]
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"7"))


@pytest.mark.parametrize("line", [b"", b" ", b"\t \r"])
def test_a_blank_line_is_not_even_noise(line):
    assert bridged().server_line("calc", line, 1.0) == []


def test_noise_is_shown_in_part():
    hub = bridged()
    assert hub.server_line("calc", b"x" * 201, 1.0) == [NoiseOnStdout("calc", "x" * 200 + "…")]
    assert hub.server_line("calc", b"x" * 200, 1.0) == [NoiseOnStdout("calc", "x" * 200)]
    assert hub.server_line("calc", b"\xc4\xe3", 1.0) == [NoiseOnStdout("calc", "��")]
    assert hub.server_line("calc", b'{"jsonrpc":"\xc4"}', 1.0) == [
        NoiseOnStdout("calc", '{"jsonrpc":"�"}')
    ]


def test_an_answer_with_bytes_that_are_not_utf8_is_mended():
    """Children on Windows may write GBK (78/mcp-calculator#9)."""
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.server_line(
        "calc", answer(b"3", '{"s":"你'.encode("gbk") + b'","n":1e400}'), 2.0
    ) == [
        ToClient("link", answer(b"7", '{"s":"��","n":1e400}'.encode())),
        called("calc", "add", "link", 1.0, "ok"),
    ]


# Lines over the limit


LIMIT = 1000
TOO_LARGE = "the answer of MCP server 'calc' is over the limit of 1000 bytes"


TAIL = Overlong(b'xxx"},"jsonrpc":"2.0","id":3}', ended=True)


def small():
    hub = Hub(max_message_bytes=LIMIT)
    start(hub)
    hub.client_joined("link", View())
    return hub


def test_the_caller_is_told_of_an_answer_over_the_limit_once():
    hub = small()
    hub.client_text("link", call(b'"x"'), 1.0)
    head = Overlong(b'{"jsonrpc":"2.0","id":3,"result":{"a":"xxx')
    assert hub.server_overlong("calc", head, 2.0) == [
        TooLarge("calc", LIMIT),
        ToClient("link", refusal(b'"x"', -32000, TOO_LARGE)),
        called("calc", "add", "link", 1.0, "answer too large"),
    ]
    assert hub.server_overlong("calc", TAIL, 3.0) == []


def test_the_id_of_an_answer_over_the_limit_may_come_last():
    hub = small()
    hub.client_text("link", call(b"0"), 1.0)
    head = Overlong(b'{"result":{"a":"xxx')
    assert hub.server_overlong("calc", head, 1.0) == [TooLarge("calc", LIMIT)]
    assert hub.server_overlong("calc", TAIL, 1.0) == [
        ToClient("link", refusal(b"0", -32000, TOO_LARGE)),
        called("calc", "add", "link", 0.0, "answer too large"),
    ]


def test_a_request_of_a_server_over_the_limit_is_no_answer():
    hub = small()
    hub.client_text("link", call(b"0"), 1.0)
    part = b'{"jsonrpc":"2.0","id":3,"method":"sampling/createMessage","params":{"x":"'
    assert hub.server_overlong("calc", Overlong(part), 1.0) == [TooLarge("calc", LIMIT)]
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"0"))


def test_a_tool_list_over_the_limit_is_a_failed_start():
    hub = Hub(max_message_bytes=LIMIT)
    hub.server_started("calc", 0.0)
    hub.server_line("calc", answer(b"1", GREETING), 0.0)
    head = Overlong(b'{"jsonrpc":"2.0","id":2,"result":{"tools":[')
    assert hub.server_overlong("calc", head, 1.0) == [
        TooLarge("calc", LIMIT),
        DropServer("calc", "its answer is over the limit of 1000 bytes"),
    ]


def test_an_answer_behind_a_print_without_a_line_end_is_found():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    assert hub.server_line("calc", b"Loading... " + answer(b"3"), 1.0)[:2] == [
        NoiseOnStdout("calc", "Loading... "),
        ToClient("link", answer(b"7")),
    ]


def test_null_params_are_left_out_on_the_way_to_a_server():
    """wire.md §6: a popular server never answers a request that has them."""
    hub = bridged()
    frame = b'{"jsonrpc":"2.0","id":0,"method":"resources/list","params":null}'
    sent = ToServer("calc", b'{"jsonrpc":"2.0","id":3,"method":"resources/list"}')
    assert hub.client_text("link", frame, 1.0)[0] == sent


# Outboxes that are full


def test_a_call_that_a_server_does_not_take_fails_at_once():
    hub = bridged()
    [asked] = hub.client_text("link", call(b'"x"'), 1.0)
    overloaded = [
        ToClient("link", refusal(b'"x"', -32000, "MCP server 'calc' is overloaded")),
        called("calc", "add", "link", 1.0, "overloaded"),
    ]
    assert hub.undeliverable(asked, 2.0) == overloaded
    assert hub.undeliverable(asked, 2.0) == []


def test_a_server_that_takes_nothing_while_it_starts_is_dropped():
    hub = Hub()
    [asked, _] = hub.server_started("calc", 0.0)
    assert hub.undeliverable(asked, 1.0) == [DropServer("calc", "it does not read its stdin")]


def test_a_server_that_does_not_take_the_question_for_its_list_keeps_the_old():
    hub = bridged()
    [asked] = hub.server_line("calc", note("tools/list_changed"), 1.0)
    assert hub.undeliverable(asked, 1.0) == [ListingFailed("calc", "it does not read its stdin")]
    assert hub.server_line("calc", note("tools/list_changed"), 2.0) == [
        ToServer("calc", ask(b"4", "tools/list", b"{}"))
    ]


def test_an_answer_of_ours_that_a_server_does_not_take_is_nobodys_loss():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    for lost in hub.server_line("calc", ask(b"3", "ping"), 1.0):
        assert hub.undeliverable(lost, 1.0) == []
    assert hub.undeliverable(ToServer("calc", note("cancelled", b'{"requestId":3}')), 1.0) == []
    assert hub.server_line("calc", answer(b"3"), 1.0)[0] == ToClient("link", answer(b"7"))


def test_a_client_that_takes_nothing_is_dropped():
    hub = bridged()
    lost = ToClient("link", answer(b"7"))
    assert hub.undeliverable(lost, 1.0) == [
        DropClient("link", "it does not take what is sent to it")
    ]
    hub.client_left("link", 2.0)
    assert hub.undeliverable(lost, 3.0) == []


def test_what_is_not_sent_cannot_be_lost():
    hub = bridged()
    assert hub.undeliverable(WakeAt(1.0), 1.0) == []


# Time


def test_nothing_pending_needs_no_wake():
    hub = Hub()
    assert hub.tick(0.0) == []
    hub.client_joined("link", View())
    assert start(hub) == [ServerReady("calc", "Calc", "1.2", 1, 0.0)]
    assert hub.tick(60.0) == []
    asked = ToServer("calc", call(b"3"))
    assert hub.client_text("link", call(b"7"), 100.0) == [WakeAt(400.0), asked]
    hub.server_line("calc", answer(b"3"), 101.0)
    assert hub.tick(400.0) == []
    assert hub.tick(500.0) == []


def test_one_wake_serves_for_all_that_is_later():
    hub = bridged()
    assert hub.tick(60.0) == []
    hub.client_text("link", call(b"1"), 100.0)
    assert hub.client_text("link", call(b"2"), 200.0) == [ToServer("calc", call(b"4"))]
    assert hub.tick(300.0) == [WakeAt(400.0)]
    assert hub.tick(400.0)[-1] == WakeAt(500.0)


def test_a_view_is_ready_when_one_of_its_servers_is():
    hub = merged(calc=("add",))
    hub.server_started("time", 0.0)
    assert hub.ready(View())
    assert hub.ready(seeing("calc", "time"))
    assert not hub.ready(seeing("time"))
    assert not hub.ready(seeing())
    hub.server_exited("calc", "exit code 1", 1.0)
    assert not hub.ready(View())


def test_a_list_of_no_tools_is_a_list():
    hub = bridged()
    hub.server_line("calc", note("tools/list_changed"), 1.0)
    hub.server_line("calc", answer(b"3", listing()), 1.0)
    assert tools_of(hub) == []
