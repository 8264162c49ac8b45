from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.counts import BATCH, MOST_SERIES, OTHER, RECENT, SAMPLE, Counts
from xzpipe.core.events import ToolCalled
from xzpipe.core.status import BUCKETS, SIZES, Latency


def call(server="calc", tool="add", seconds=0.1, outcome="ok", asked=10, answered=20):
    return ToolCalled(server, tool, "link#1", seconds, outcome, "home", asked, answered)


CALLS = st.builds(
    call,
    st.sampled_from(["calc", "time"]),
    st.sampled_from(["add", "now"]),
    st.floats(0, 1000) | st.sampled_from(BUCKETS),
    st.sampled_from(["ok", "error", "server gone"]),
    st.integers(0, 2**25) | st.sampled_from(SIZES),
    st.integers(0, 2**25),
)


def counted(calls):
    counts = Counts()
    for each in calls:
        counts.add(each, 0.0)
    return counts


def up_to(bounds, values):
    """How many are at most each bound, and how many there are."""
    return [*(sum(value <= bound for value in values) for bound in bounds), len(values)]


def summed(buckets):
    return [sum(buckets[: at + 1]) for at in range(len(buckets))]


@given(st.lists(CALLS, max_size=60))
def test_every_call_is_in_the_one_tally_it_belongs_to(calls):
    tallies = {(each.server, each.tool, each.outcome): each for each in counted(calls).tallies()}
    assert set(tallies) == {(each.server, each.tool, each.outcome) for each in calls}
    for key, tally in tallies.items():
        mine = [each for each in calls if (each.server, each.tool, each.outcome) == key]
        assert tally.count == len(mine)
        assert tally.seconds == pytest.approx(sum(each.seconds for each in mine))
        assert tally.asked_bytes == sum(each.asked for each in mine)
        assert tally.answered_bytes == sum(each.answered for each in mine)
        assert summed(tally.buckets) == up_to(BUCKETS, [each.seconds for each in mine])
        assert summed(tally.asked) == up_to(SIZES, [each.asked for each in mine])
        assert summed(tally.answered) == up_to(SIZES, [each.answered for each in mine])


@given(st.lists(CALLS, max_size=60))
def test_the_totals_of_a_server_are_those_of_its_calls(calls):
    counts = counted(calls)
    for server in ("calc", "time"):
        mine = [each for each in calls if each.server == server]
        totals = counts.of(server)
        assert totals.calls == len(mine)
        assert totals.errors == sum(each.outcome != "ok" for each in mine)
        assert (totals.asked, totals.answered) == (
            sum(each.asked for each in mine),
            sum(each.answered for each in mine),
        )


def test_calls_are_counted_whenever_somebody_asks():
    counts = Counts()
    for number in range(1, 2 * BATCH + 10):
        counts.add(call(), 0.0)
        if number in (1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH + 9):
            assert counts.of("calc").calls == counts.tallies()[0].count == number


def test_the_latency_is_that_of_the_latest_calls():
    slow = [call(seconds=9.0)] * SAMPLE
    quick = [call(seconds=number / 100) for number in range(1, 101)]
    assert counted([]).of("calc").latency is None
    assert counted(quick).of("calc").latency == Latency(0.51, 0.95)
    assert counted([*slow, *quick[:1] * SAMPLE]).of("calc").latency == Latency(0.01, 0.01)
    assert counted([call(seconds=0.5)]).of("calc").latency == Latency(0.5, 0.5)


def test_the_latest_calls_are_shown_newest_first_and_no_more_than_a_few():
    counts = Counts()
    for number in range(RECENT + 5):
        counts.add(call(tool=f"tool-{number}"), float(number))
    shown = counts.recent(100.0)
    assert [each.tool for each in shown] == [f"tool-{n}" for n in range(RECENT + 4, 4, -1)]
    assert shown[0].ago == 100.0 - (RECENT + 4)
    assert (shown[0].endpoint, shown[0].server, shown[0].outcome) == ("home", "calc", "ok")


def test_names_without_end_are_counted_as_others():
    calls = [call(tool=f"tool-{number}") for number in range(MOST_SERIES + 50)]
    calls += [call(server=f"server-{number}", outcome="error") for number in range(50)]
    counts = counted(calls)
    tallies = counts.tallies()
    assert len(tallies) == MOST_SERIES + 2
    rest = Counter({each.outcome: each.count for each in tallies if each.server == OTHER})
    assert rest == {"ok": 50, "error": 50}
    assert sum(each.count for each in tallies) == len(calls)
    assert counts.of("calc").calls == MOST_SERIES + 50  # of a server that is known, all
    assert counts.of(OTHER).calls == 50
