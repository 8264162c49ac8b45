"""How long a thing that is kept alive waits between its lives."""

from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.backoff import JITTER, Backoff

DOUBLING = [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 600.0, 600.0]


def backoff(jitter=0.0, at_once=False):
    return Backoff(1.0, 600.0, 60.0, lambda: jitter, at_once)


def test_delays_double_up_to_the_maximum():
    tries = backoff()
    assert [tries.next(0.0) for _ in DOUBLING] == DOUBLING


@given(st.lists(st.floats(0.0, 1.0), min_size=1, max_size=12))
def test_jitter_takes_off_a_fifth_at_most_and_adds_nothing(rolls):
    dice = iter(rolls)
    tries = Backoff(1.0, 600.0, 60.0, lambda: next(dice))
    for whole in DOUBLING[: len(rolls)]:
        assert whole * (1 - JITTER) <= tries.next(0.0) <= whole


def test_two_bridges_that_fail_together_do_not_return_together():
    assert backoff(0.1).next(0.0) != backoff(0.9).next(0.0)


def test_a_good_life_starts_the_delays_over():
    tries = backoff()
    assert [tries.next(lived) for lived in (0.0, 0.0, 0.0, 60.0, 0.0)] == [1.0, 2.0, 4.0, 1.0, 2.0]


def test_a_life_that_began_well_and_was_short_is_a_failure():
    tries = backoff()
    assert [tries.next(59.9) for _ in range(4)] == [1.0, 2.0, 4.0, 8.0]


def test_the_peer_may_ask_for_more_but_not_for_less():
    tries = backoff()
    assert tries.next(0.0, at_least=1000.0) == 1000.0
    assert tries.next(0.0, at_least=0.5) == 2.0
    assert tries.next(0.0, at_least=-5.0) == 4.0


def test_jitter_never_goes_below_what_the_peer_asked_for():
    assert backoff(jitter=1.0).next(0.0, at_least=1.0) == 1.0


def test_at_once_a_good_life_is_followed_by_no_delay():
    tries = backoff(at_once=True)
    assert [tries.next(lived) for lived in (0.0, 0.0, 60.0, 1.0, 1.0)] == [1.0, 2.0, 0.0, 1.0, 2.0]
    assert tries.next(60.0, at_least=7.0) == 7.0


def test_months_of_failures_do_not_overflow():
    tries = Backoff(1.0, float("inf"), 60.0, lambda: 0.0)
    delays = [tries.next(0.0) for _ in range(10_000)]
    assert delays[-1] == delays[64] == 2.0**64
    tries = backoff()
    assert {tries.next(0.0) for _ in range(10_000)} == set(DOUBLING)


@given(
    st.lists(st.tuples(st.floats(0, 200), st.floats(0, 3600)), max_size=50),
    st.floats(0.01, 10.0),
    st.floats(10.0, 3600.0),
)
def test_no_delay_is_outside_its_bounds(lives, initial, maximum):
    tries = Backoff(initial, maximum, 60.0, lambda: 0.5)
    for lived, at_least in lives:
        delay = tries.next(lived, at_least)
        assert max(at_least, initial * (1 - JITTER)) <= delay <= max(at_least, maximum)
