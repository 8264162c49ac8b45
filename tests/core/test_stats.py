from xzpipe.core.events import (
    ServerAdded,
    ServerDown,
    ServerReady,
    ServerRemoved,
    ServerStarting,
    ServerWrote,
    ToolCalled,
    ToolsChanged,
)
from xzpipe.core.link_events import (
    LinkAdded,
    LinkAnswered,
    LinkClosed,
    LinkDialling,
    LinkDown,
    LinkRemoved,
    LinkRenewed,
    LinkUp,
    LinkWaiting,
)
from xzpipe.core.stats import Stats
from xzpipe.core.status import Close, Exit, Latency, LinkStatus, ServerStatus

ADDRESS = "wss://host/mcp/?token=***"
ADDED = LinkAdded("calc", "home", ADDRESS, 1800000000)
UP = LinkUp("calc", ADDRESS, "")
READY = ServerReady("calc", "Calc", "1", 3, 0.5)
EXIT = ServerDown("calc", "it exited with code 1", ("KeyError: 'x'",), 2.0)
LOST = LinkDown("calc", "the connection was lost", "Wait", 30.0, 4.0)


def told(*events):
    """What was heard at 0 s, 1 s, 2 s and so on."""
    stats = Stats("1.0", "here", 42, 0.0)
    for now, event in enumerate(events):
        stats.heard(event, float(now))
    return stats


def server(*events, at):
    (status,) = told(*events).status(float(at)).servers
    return status


def link(*events, at):
    (status,) = told(ADDED, *events).status(float(at)).links
    return status


def test_a_server_starts_gets_ready_dies_and_comes_back():
    life = (ServerAdded("calc"), ServerStarting("calc", 7), READY, EXIT, ServerStarting("calc", 8))
    assert server(*life[:1], at=5) == ServerStatus("calc", "starting", 5.0)
    assert server(*life[:2], at=5) == ServerStatus("calc", "starting", 5.0, pid=7, uptime=4.0)
    ready = ServerStatus("calc", "ready", 3.0, pid=7, uptime=4.0, tools=3)
    assert server(*life[:3], at=5) == ready
    last = Exit("it exited with code 1", ("KeyError: 'x'",), 1.0)
    down = ServerStatus("calc", "down", 1.0, retry_in=1.0, last_exit=last, tools=3)
    assert server(*life[:4], at=4) == down
    again = server(*life, READY, at=8)
    assert (again.state, again.restarts, again.pid, again.retry_in) == ("ready", 1, 8, None)
    assert again.last_exit == Exit("it exited with code 1", ("KeyError: 'x'",), 5.0)


def test_a_next_try_is_never_in_the_past():
    assert server(ServerAdded("calc"), EXIT, at=100).retry_in == 0.0


def test_what_a_server_writes_changes_nothing():
    assert server(ServerAdded("calc"), ServerWrote("calc", "hi"), at=3).seconds == 3.0


def test_a_changed_list_changes_the_number_of_tools():
    assert server(ServerAdded("calc"), READY, ToolsChanged("calc", 9), at=3).tools == 9


def test_a_link_waits_connects_falls_and_comes_back():
    waits = LinkStatus("calc", "home", ADDRESS, "waiting", 2.0, expires=1800000000)
    assert link(at=2) == link(LinkWaiting("calc"), at=2) == waits
    dialling = link(LinkWaiting("calc"), LinkDialling("calc"), at=3)
    assert (dialling.state, dialling.seconds, dialling.attempts) == ("connecting", 1.0, 1)
    life = LinkWaiting("calc"), LinkDialling("calc"), UP, LinkAnswered("calc", 0.05)
    up = link(*life, at=6)
    assert (up.state, up.seconds, up.attempts, up.connects) == ("up", 3.0, 0, 1)
    assert (up.round_trip, up.last_close) == (0.05, None)
    down = link(*life, LOST, at=6)
    assert (down.state, down.seconds, down.retry_in, down.round_trip) == ("down", 1.0, 3.0, None)
    assert down.last_close == Close("the connection was lost", "Wait", 30.0, 1.0)
    tries = link(*life, LOST, LinkDialling("calc"), LOST, LinkDialling("calc"), at=8)
    assert (tries.state, tries.attempts, tries.retry_in) == ("connecting", 2, None)
    back = link(*life, LOST, LinkDialling("calc"), UP, at=8)
    assert (back.state, back.connects, back.attempts) == ("up", 2, 0)
    assert back.last_close == Close("the connection was lost", "Wait", 30.0, 3.0)


def test_a_link_that_is_renewed_is_down_for_a_moment():
    renewed = link(LinkDialling("calc"), UP, LinkRenewed("calc", 5.0, 1.0), at=3)
    assert (renewed.state, renewed.retry_in) == ("down", 1.0)
    assert renewed.last_close == Close("its tool list changed", "", 5.0, 0.0)


def test_what_is_removed_is_shown_no_more():
    stats = told(ServerAdded("calc"), READY, ADDED, UP, ServerRemoved("calc"), LinkRemoved("calc"))
    assert (stats.status(9.0).servers, stats.status(9.0).links) == ((), ())
    for late in (ServerDown("calc", "", (), 1.0), LinkClosed("calc"), LinkDialling("calc")):
        stats.heard(late, 9.0)
    assert (stats.status(9.0).servers, stats.status(9.0).links) == ((), ())


def test_it_is_ready_when_every_server_and_every_link_is():
    begun = told(ServerAdded("calc"), ADDED).status(2.0)
    assert (begun.ready, begun.any_ready) == (False, False)
    assert begun.reasons == ("server calc: starting", "link calc: waiting")
    half = told(ServerAdded("calc"), ADDED, READY).status(3.0)
    assert (half.ready, half.any_ready, half.reasons) == (False, False, ("link calc: waiting",))
    whole = told(ServerAdded("calc"), ADDED, READY, UP).status(4.0)
    assert (whole.ready, whole.any_ready, whole.reasons) == (True, True, ())


def test_one_that_is_down_says_why_and_another_is_enough_for_any():
    life = (ServerAdded("calc"), ServerAdded("time"), READY, ADDED, UP)
    one = told(*life, ServerDown("time", "it is not there", (), 9.0)).status(9.0)
    assert (one.ready, one.any_ready) == (False, True)
    assert one.reasons == ("server time: down: it is not there",)
    cut = told(*life, LOST).status(9.0)
    assert cut.reasons == ("server time: starting", "link calc: down: the connection was lost")


def test_where_nothing_is_to_be_kept_it_is_ready():
    assert told().status(1.0).ready and told().status(1.0).any_ready


def test_a_server_that_connects_to_an_endpoint_server_is_known_once_it_is_ready():
    status = server(READY, at=2)
    assert (status.state, status.seconds, status.tools) == ("ready", 2.0, 3)


def test_calls_are_shown_and_counted_for_their_server():
    call = ToolCalled("calc", "add", "calc#1", 0.25, "ok", "home", 10, 20)
    stats = told(ServerAdded("calc"), call, call)
    status = stats.status(3.0)
    (shown,) = status.servers
    assert (shown.calls, shown.errors, shown.bytes_in, shown.bytes_out) == (2, 0, 20, 40)
    assert shown.latency == Latency(0.25, 0.25)
    assert [each.ago for each in status.calls] == [1.0, 2.0]
    assert [each.count for each in stats.tallies()] == [2]


def test_it_says_whose_status_it_is():
    status = told().status(12.5)
    assert (status.version, status.name, status.pid, status.uptime) == ("1.0", "here", 42, 12.5)
