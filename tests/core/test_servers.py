"""The lives of servers, as the hub sees them; told through the hub."""

import pytest

from tests.core.kit import (
    GONE,
    GREETING,
    INITIALIZE,
    INITIALIZED,
    LIST_CHANGED,
    answer,
    ask,
    bridged,
    call,
    called,
    cancelled,
    listing,
    merged,
    note,
    refusal,
    seeing,
    start,
    tools_of,
)
from xzpipe.core import jsonrpc
from xzpipe.core.effects import DropClient, DropServer, ToClient, ToServer, WakeAt
from xzpipe.core.events import ListingFailed, ServerReady, StaleAnswer, ToolsChanged
from xzpipe.core.hub import Hub
from xzpipe.core.plan import View
from xzpipe.core.servers import DEAD_FOR, LISTING_TIMEOUT

CHANGED = note("tools/list_changed")


RESTARTING = "MCP server calc is restarting, try again in a moment"


def relist(id):
    return ToServer("calc", ask(id, "tools/list", b"{}"))


def test_a_handshake_from_start_to_ready():
    hub = Hub()
    assert hub.server_started("calc", 5.0, start_timeout=20.0) == [
        ToServer("calc", INITIALIZE),
        WakeAt(25.0),
    ]
    assert not hub.ready(View())
    assert hub.server_line("calc", answer(b"1", GREETING), 5.5) == [
        ToServer("calc", INITIALIZED),
        relist(b"2"),
    ]
    assert hub.server_line("calc", answer(b"2", listing("a", cursor=b'"p2"')), 6.0) == [
        ToServer("calc", ask(b"3", "tools/list", b'{"cursor":"p2"}'))
    ]
    assert hub.server_line("calc", answer(b"3", listing("b")), 6.5) == [
        ServerReady("calc", "Calc", "1.2", 2, 1.5)
    ]
    assert hub.ready(View())
    assert hub.tick(25.0) == []


def test_towards_servers_ids_may_start_at_zero():
    hub = Hub(first_id=0)
    [asked, _] = hub.server_started("calc", 0.0)
    assert asked.line.startswith(b'{"jsonrpc":"2.0","id":0,"method":"initialize"')
    hub.server_line("calc", answer(b"0", GREETING), 0.0)
    assert hub.server_line("calc", answer(b"1", listing("a")), 0.0) == [
        ServerReady("calc", "Calc", "1.2", 1, 0.0)
    ]


def test_a_server_of_prompts_alone_is_ready_without_tools():
    hub = Hub()
    hub.server_started("calc", 0.0)
    hub.server_line("calc", answer(b"1", GREETING), 0.0)
    assert hub.server_line("calc", refusal(b"2", -32601, "Method not found"), 1.0) == [
        ServerReady("calc", "Calc", "1.2", 0, 1.0)
    ]


def test_an_error_on_initialize_ends_this_life():
    hub = Hub()
    hub.server_started("calc", 0.0)
    assert hub.server_line("calc", refusal(b"1", -32603, "No AWS credentials"), 1.0) == [
        DropServer("calc", "it answered initialize with an error: No AWS credentials")
    ]
    assert not hub.ready(View())
    assert hub.server_exited("calc", "exit code 1", 1.0) == []


def test_a_list_that_cannot_be_used_ends_a_life_that_is_starting():
    hub = Hub()
    hub.server_started("calc", 0.0)
    hub.server_line("calc", answer(b"1", GREETING), 0.0)
    assert hub.server_line("calc", answer(b"2", b"[]"), 0.0) == [
        DropServer("calc", "its answer to tools/list is not a list of tools")
    ]


def test_a_list_of_endless_pages_ends_a_life_that_is_starting():
    hub = Hub()
    hub.server_started("calc", 0.0)
    effects = hub.server_line("calc", answer(b"1", GREETING), 0.0)
    asked = 2
    while not isinstance(effects[-1], DropServer):
        effects = hub.server_line("calc", answer(b"%d" % asked, listing(cursor=b'"x"')), 0.0)
        asked += 1
    assert effects == [DropServer("calc", "its tool list has no end")]
    assert asked == 203


def test_a_server_that_is_not_ready_in_time_is_dropped_and_initialize_is_not_cancelled():
    hub = Hub()
    hub.server_started("calc", 0.0, start_timeout=60.0)
    assert hub.tick(59.9) == [WakeAt(60.0)]
    assert hub.tick(60.0) == [DropServer("calc", "it did not answer initialize within 60 s")]
    assert hub.server_line("calc", answer(b"1", GREETING), 61.0) == [StaleAnswer("calc")]
    assert hub.tick(999.0) == []


def test_the_time_to_start_is_for_the_whole_handshake():
    hub = Hub()
    hub.server_started("calc", 0.0, start_timeout=60.0)
    hub.server_line("calc", answer(b"1", GREETING), 50.0)
    assert hub.tick(60.0) == [
        ToServer("calc", cancelled(b"2", "time-out")),
        DropServer("calc", "it did not answer tools/list within 10 s"),
    ]


def test_each_life_is_initialized_once_whoever_connects():
    hub = bridged()
    asked = []
    for link in ("link", "next", "third"):
        hub.client_joined(link, seeing("calc"))
        asked += hub.client_text(link, ask(b"0", "initialize", b"{}"), 1.0)
        asked += hub.client_text(link, INITIALIZED, 1.0)
        hub.client_left(link, 2.0)
    assert [each for each in asked if not isinstance(each, ToClient)] == []
    hub.server_exited("calc", "exit code 1", 3.0)
    lines = [each.line for each in hub.server_started("calc", 4.0) if isinstance(each, ToServer)]
    assert [b'"method":"initialize"' in line for line in lines] == [True]


def test_what_a_server_told_stays_known_while_it_is_down_and_restarting():
    hub = bridged("add", "sub")

    def answers():
        assert hub.client_text("link", ask(b"0", "initialize", b"{}"), 1.0) == [
            ToClient("link", answer(b"0", GREETING))
        ]
        assert hub.client_text("link", ask(b'"p"', "ping"), 1.0) == [
            ToClient("link", answer(b'"p"', b"{}"))
        ]
        assert tools_of(hub) == ["add", "sub"]

    answers()
    hub.client_text("link", call(b"7"), 1.0)  # the server is busy
    answers()
    hub.server_exited("calc", "exit code 1", 2.0)
    answers()
    hub.server_started("calc", 3.0)
    answers()
    hub.server_line("calc", answer(b"4", b'{"serverInfo":{"name":"New"}}'), 3.5)
    answers()
    hub.server_line("calc", answer(b"5", listing("mul")), 4.0)
    assert hub.client_text("link", ask(b"0", "initialize"), 5.0) == [
        ToClient("link", answer(b"0", b'{"serverInfo":{"name":"New"}}'))
    ]
    assert tools_of(hub) == ["mul"]


def test_calls_are_refused_while_a_server_is_down():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    assert hub.client_text("link", call(b"7"), 2.0) == [
        ToClient("link", refusal(b"7", -32001, RESTARTING))
    ]


def test_calls_are_held_while_a_server_starts():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    hub.server_started("calc", 2.0)
    assert hub.client_text("link", call(b"7"), 3.0) == []
    assert hub.client_text("link", call(b"8"), 4.0) == []
    assert hub.server_line("calc", answer(b"3", GREETING), 5.0) == [
        ToServer("calc", INITIALIZED),
        relist(b"6"),
    ]
    assert hub.server_line("calc", answer(b"6", listing("add")), 6.0) == [
        ServerReady("calc", "Calc", "1.2", 1, 4.0),
        ToServer("calc", call(b"4")),
        ToServer("calc", call(b"5")),
    ]
    assert hub.server_line("calc", answer(b"5"), 6.5) == [
        ToClient("link", answer(b"8")),
        called("calc", "add", "link", 2.5, "ok"),
    ]


def test_held_calls_are_told_when_the_start_fails():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    hub.server_started("calc", 2.0)
    hub.client_text("link", call(b"7"), 3.0)
    assert hub.server_exited("calc", "exit code 1", 5.0) == [
        ToClient("link", refusal(b"7", -32000, GONE)),
        called("calc", "add", "link", 2.0, "server gone"),
    ]
    assert start(hub, now=6.0) == [ServerReady("calc", "Calc", "1.2", 1, 0.0)]


def test_held_calls_time_out_or_are_taken_back_without_a_word_to_the_server():
    hub = bridged()
    hub.server_exited("calc", "exit code 1", 1.0)
    hub.server_started("calc", 2.0, start_timeout=60.0, call_timeout=10.0)
    hub.client_text("link", call(b"7"), 3.0)
    hub.client_text("link", call(b"8"), 4.0)
    hub.client_text("link", call(b"9"), 5.0)
    assert hub.client_text("link", note("cancelled", b'{"requestId":8}'), 6.0) == []
    assert hub.tick(13.0) == [
        ToClient("link", refusal(b"7", -32000, "MCP server 'calc' did not answer within 10 s")),
        called("calc", "add", "link", 10.0, "no answer"),
        WakeAt(15.0),
    ]
    assert hub.client_left("link", 14.0) == []
    hub.server_line("calc", answer(b"3", GREETING), 14.0)
    assert hub.server_line("calc", answer(b"7", listing("add")), 14.0) == [
        ServerReady("calc", "Calc", "1.2", 1, 12.0)
    ]


def test_a_lost_server_does_not_trouble_the_others():
    hub = merged(calc=("add",), time=("now",))
    hub.client_text("link", call(b"1", "add"), 1.0)
    hub.client_text("link", call(b"2", "now"), 1.0)
    assert hub.server_exited("calc", "exit code 1", 2.0) == [
        ToClient("link", refusal(b"1", -32000, GONE)),
        called("calc", "add", "link", 1.0, "server gone"),
        WakeAt(2.0 + DEAD_FOR),
    ]
    assert hub.server_line("time", answer(b"3"), 3.0) == [
        ToClient("link", answer(b"2")),
        called("time", "now", "link", 2.0, "ok"),
    ]


def test_what_a_dead_server_still_says_goes_nowhere():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    hub.server_exited("calc", "exit code 1", 2.0)
    assert hub.server_line("calc", answer(b"3"), 3.0) == []
    assert hub.server_line("calc", ask(b"1", "ping"), 3.0) == []
    assert hub.server_exited("calc", "exit code 1", 3.0) == []


def test_an_answer_from_an_earlier_life_is_dropped():
    hub = bridged()
    hub.client_text("link", call(b"7"), 1.0)
    hub.server_exited("calc", "exit code 1", 2.0)
    start(hub, now=3.0)
    hub.client_text("link", call(b"7"), 4.0)
    assert hub.server_line("calc", answer(b"3"), 5.0) == [StaleAnswer("calc")]
    assert hub.server_line("calc", answer(b"6"), 6.0) == [
        ToClient("link", answer(b"7")),
        called("calc", "add", "link", 2.0, "ok"),
    ]


def test_a_server_nobody_started_is_not_heard():
    hub = Hub()
    assert hub.server_line("calc", answer(b"1"), 0.0) == []
    assert hub.server_exited("calc", "exit code 1", 0.0) == []
    assert hub.server_removed("calc", 0.0) == []
    assert hub.ready_for("calc", 0.0) == 0.0


def test_it_is_known_for_how_long_a_life_has_been_ready():
    hub = Hub()
    hub.server_started("calc", 1.0)
    assert hub.ready_for("calc", 5.0) == 0.0
    hub = Hub()
    start(hub, now=1.0)
    assert hub.ready_for("calc", 5.0) == 4.0
    hub.server_exited("calc", "exit code 1", 6.0)
    hub.server_started("calc", 7.0)
    assert hub.ready_for("calc", 8.0) == 0.0


# A changed tool list


def test_a_changed_list_is_read_again_and_told():
    hub = bridged("add")
    tools_of(hub)
    assert hub.server_line("calc", CHANGED, 1.0) == [relist(b"3")]
    assert tools_of(hub) == ["add"]
    page = answer(b"3", listing("add", cursor=b'"2"'))
    assert hub.server_line("calc", page, 2.0) == [
        ToServer("calc", ask(b"4", "tools/list", b'{"cursor":"2"}'))
    ]
    assert hub.server_line("calc", answer(b"4", listing("sub")), 3.0) == [
        ToolsChanged("calc", 2),
        ToClient("link", LIST_CHANGED),
    ]
    assert tools_of(hub) == ["add", "sub"]


def test_a_list_that_is_the_same_after_all_is_not_told():
    hub = bridged("add")
    tools_of(hub)
    hub.server_line("calc", CHANGED, 1.0)
    assert hub.server_line("calc", answer(b"3", listing("add")), 2.0) == []


def test_changes_while_a_list_is_read_are_read_once_more():
    hub = bridged("add")
    assert hub.server_line("calc", CHANGED, 1.0) == [relist(b"3")]
    assert hub.server_line("calc", CHANGED, 1.1) == []
    assert hub.server_line("calc", CHANGED, 1.2) == []
    assert hub.server_line("calc", answer(b"3", listing("sub")), 2.0) == [
        ToolsChanged("calc", 1),
        relist(b"4"),
    ]
    assert hub.server_line("calc", answer(b"4", listing("sub")), 3.0) == []


def test_changes_during_the_handshake_are_read_once_it_is_done():
    """server-everything says three times that its list changed, right away (wire.md §6)."""
    hub = Hub()
    hub.server_started("calc", 0.0)
    hub.server_line("calc", answer(b"1", GREETING), 0.0)
    for _ in range(3):
        assert hub.server_line("calc", CHANGED, 0.5) == []
    assert hub.server_line("calc", answer(b"2", listing("add")), 1.0) == [
        ServerReady("calc", "Calc", "1.2", 1, 1.0),
        relist(b"3"),
    ]


def test_a_list_that_cannot_be_read_again_leaves_the_old_one():
    hub = bridged("add")
    hub.server_line("calc", CHANGED, 1.0)
    assert hub.server_line("calc", refusal(b"3", -32603, "boom"), 2.0) == [
        ListingFailed("calc", "it answered tools/list with an error: boom")
    ]
    assert tools_of(hub) == ["add"]
    assert hub.server_line("calc", CHANGED, 3.0) == [relist(b"4")]
    hub.server_line("calc", answer(b"4", listing("sub")), 4.0)
    assert tools_of(hub) == ["sub"]


def test_a_change_during_a_reading_that_fails_is_read_once_more():
    hub = bridged("add")
    hub.server_line("calc", CHANGED, 1.0)
    hub.server_line("calc", CHANGED, 2.0)
    assert hub.tick(1.0 + LISTING_TIMEOUT) == [
        ToServer("calc", cancelled(b"3", "time-out")),
        ListingFailed("calc", "it did not answer tools/list within 60 s"),
        relist(b"4"),
        WakeAt(1.0 + 2 * LISTING_TIMEOUT),
    ]
    assert hub.server_line("calc", answer(b"3", listing("old")), 62.0) == [StaleAnswer("calc")]
    assert hub.server_line("calc", answer(b"4", listing("new")), 63.0) == [ToolsChanged("calc", 1)]


def test_a_reading_that_a_crash_cut_short_is_forgotten():
    hub = bridged("add")
    hub.server_line("calc", CHANGED, 1.0)
    hub.server_line("calc", CHANGED, 1.0)
    assert hub.server_exited("calc", "exit code 1", 2.0) == [WakeAt(2.0 + DEAD_FOR)]
    assert start(hub, now=3.0) == [ServerReady("calc", "Calc", "1.2", 1, 0.0)]


def test_a_restart_with_other_tools_is_told():
    hub = bridged("add")
    tools_of(hub)
    hub.server_exited("calc", "exit code 1", 1.0)
    assert start(hub, tools=("sub",), now=2.0) == [
        ServerReady("calc", "Calc", "1.2", 1, 0.0),
        ToClient("link", LIST_CHANGED),
    ]


def test_a_client_that_rereads_on_connect_is_dropped_for_a_new_list():
    hub = bridged("add")
    hub.client_joined("broker", seeing("calc"), rereads=True)
    tools_of(hub, "broker")
    hub.server_line("calc", CHANGED, 1.0)
    assert hub.server_line("calc", answer(b"3", listing("sub")), 2.0) == [
        ToolsChanged("calc", 1),
        ToClient("broker", LIST_CHANGED),
        WakeAt(4.0),
    ]
    assert hub.tick(4.0) == [DropClient("broker", "its tool list changed")]


@pytest.mark.parametrize("how", ["restarted", "removed"])
def test_such_a_client_is_dropped_however_the_list_came_to_change(how):
    hub = bridged("add")
    hub.client_joined("broker", View(), rereads=True)
    tools_of(hub, "broker")
    if how == "removed":
        effects = hub.server_removed("calc", 2.0)
    else:
        hub.server_exited("calc", "exit code 1", 1.0)
        effects = start(hub, tools=("sub",), now=2.0)
    assert effects[-2:] == [ToClient("broker", LIST_CHANGED), WakeAt(4.0)]
    hub.tick(3.9)
    assert hub.tick(4.0)[0] == DropClient("broker", "its tool list changed")


def test_such_a_client_is_not_dropped_in_the_middle_of_a_call():
    hub = bridged("add")
    hub.client_joined("broker", seeing("calc"), rereads=True)
    tools_of(hub, "broker")
    hub.client_text("broker", call(b"1"), 0.0)
    hub.server_line("calc", CHANGED, 1.0)
    hub.server_line("calc", answer(b"4", listing("sub")), 2.0)
    assert hub.tick(4.0) == [WakeAt(5.0)]
    hub.server_line("calc", answer(b"3"), 4.5)
    assert hub.tick(5.0) == [DropClient("broker", "its tool list changed")]


def test_a_removed_server_answers_its_callers_and_leaves_the_lists():
    hub = merged(calc=("add",), time=("now",))
    tools_of(hub)
    hub.client_text("link", call(b"7", "add"), 1.0)
    words = "MCP server 'calc' went away before it answered: it was removed"
    assert hub.server_removed("calc", 2.0) == [
        ToClient("link", refusal(b"7", -32000, words)),
        called("calc", "add", "link", 1.0, "server gone"),
        WakeAt(2.0 + DEAD_FOR),
        ToClient("link", LIST_CHANGED),
    ]
    assert tools_of(hub) == ["now"]
    assert hub.client_text("link", call(b"8", "add"), 3.0) == [
        ToClient("link", refusal(b"8", -32602, "unknown tool: add"))
    ]
    assert hub.server_line("calc", answer(b"3"), 3.0) == []
    assert hub.server_started("calc", 4.0)[0] == ToServer("calc", INITIALIZE)


# Pings


def pinged():
    hub = Hub(ping_every=30.0)
    assert start(hub) == [ServerReady("calc", "Calc", "1.2", 1, 0.0), WakeAt(30.0)]
    assert hub.tick(30.0) == [ToServer("calc", ask(b"3", "ping", b"{}")), WakeAt(60.0)]
    return hub


@pytest.mark.parametrize("pong", [answer(b"3", b"{}"), refusal(b"3", -32601, "no")])
def test_a_server_that_answers_its_pings_is_pinged_again(pong):
    hub = pinged()
    assert hub.server_line("calc", pong, 31.0) == []
    assert hub.tick(60.0) == [ToServer("calc", ask(b"4", "ping", b"{}")), WakeAt(90.0)]


def test_a_server_that_answers_no_ping_by_the_next_is_dropped():
    hub = pinged()
    assert DropServer("calc", "it did not answer ping within 30 s") in hub.tick(60.0)
    hub.server_exited("calc", "dropped", 61.0)
    assert hub.tick(90.0) == [WakeAt(61.0 + DEAD_FOR)]
    assert hub.tick(61.0 + DEAD_FOR) == []


def test_a_ping_that_is_answered_while_the_list_is_read_is_no_list():
    hub = pinged()
    hub.server_line("calc", CHANGED, 31.0)
    assert hub.server_line("calc", answer(b"3", b"{}"), 32.0) == []
    assert hub.server_line("calc", answer(b"4", listing("sub")), 33.0) == [ToolsChanged("calc", 1)]


def test_a_server_is_pinged_only_while_it_is_ready():
    hub = pinged()
    hub.server_line("calc", answer(b"3", b"{}"), 31.0)
    hub.server_exited("calc", "exit code 1", 40.0)
    hub.server_started("calc", 50.0, start_timeout=600.0)
    assert hub.tick(60.0) == [WakeAt(40.0 + DEAD_FOR)]
    assert hub.tick(40.0 + DEAD_FOR) == [WakeAt(650.0)]


def test_among_several_a_server_that_restarts_says_so_at_once_and_costs_the_others_nothing():
    hub = merged(calc=("add",), time=("now",))
    hub.server_exited("calc", "exit code 1", 1.0)
    refused = [ToClient("link", refusal(b"7", -32001, RESTARTING))]
    assert hub.client_text("link", call(b"7"), 2.0) == refused
    hub.server_started("calc", 3.0)
    assert hub.client_text("link", call(b"7"), 4.0) == refused
    assert hub.client_text("link", call(b"8", "now"), 4.0) == [ToServer("time", call(b"3", "now"))]


def test_a_server_that_is_dead_for_long_leaves_the_list_and_is_back_on_it_when_it_is_ready():
    hub = merged(calc=("add",), time=("now",))
    assert tools_of(hub) == ["add", "now"]
    assert WakeAt(1.0 + DEAD_FOR) in hub.server_exited("calc", "exit code 1", 1.0)
    hub.server_started("calc", 20.0)
    hub.server_exited("calc", "exit code 1", 21.0)
    hub.tick(1.0 + DEAD_FOR - 0.1)
    assert tools_of(hub) == ["add", "now"]
    assert ToClient("link", LIST_CHANGED) in hub.tick(1.0 + DEAD_FOR)
    assert tools_of(hub) == ["now"]
    refused = [ToClient("link", refusal(b"7", -32001, RESTARTING))]
    assert hub.client_text("link", call(b"7"), 40.0) == refused
    assert ToClient("link", LIST_CHANGED) in restart(hub, 50.0)
    assert tools_of(hub) == ["add", "now"]
    hub.tick(50.0 + 2 * DEAD_FOR)
    assert tools_of(hub) == ["add", "now"]


def test_a_server_that_is_back_soon_never_leaves_the_list():
    hub = merged(calc=("add",), time=("now",))
    tools_of(hub)
    hub.server_exited("calc", "exit code 1", 1.0)
    assert ToClient("link", LIST_CHANGED) not in restart(hub, 2.0)
    assert ToClient("link", LIST_CHANGED) not in hub.tick(1.0 + DEAD_FOR)


def test_a_server_alone_in_its_view_stays_listed_however_long_it_is_dead():
    hub = bridged()
    tools_of(hub)
    hub.server_exited("calc", "exit code 1", 1.0)
    assert hub.tick(1.0 + DEAD_FOR) == []
    assert tools_of(hub) == ["add"]


def restart(hub, now):
    """A new life of calc, with the tools of the last; the effects of its last answer."""
    [asked, *_] = hub.server_started("calc", now)
    first = int(bytes(jsonrpc.parse(asked.line).id))
    hub.server_line("calc", answer(b"%d" % first, GREETING), now)
    return hub.server_line("calc", answer(b"%d" % (first + 1), listing("add")), now)
