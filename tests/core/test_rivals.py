"""What ends of links look like where an endpoint keeps one connection, and where it does not."""

import pytest

from xzpipe.core.rivals import ENOUGH, SOON, WINDOW, Rivals
from xzpipe.core.verdict import REPLACED, Cause, Failure

ENDED = Failure(Cause.CLOSED, 1000, "bye")
LOST = Failure(Cause.CLOSED, 1006)


def fight(rivals: Rivals, turns: int, ended: Failure = ENDED, every: float = 2.0) -> list[bool]:
    """Two links that end each other: what is made of each end."""
    rivals.dialled("a", 0.0)
    found = []
    for turn in range(turns):
        older, newer = ("a", "b") if turn % 2 == 0 else ("b", "a")
        now = (turn + 1) * every
        rivals.dialled(newer, now)
        found.append(rivals.ended(older, ended, now + 0.1))
    return found


def test_an_endpoint_may_say_that_another_connection_took_the_place():
    rivals = Rivals()
    rivals.dialled("a", 0.0)
    assert rivals.ended("a", Failure(Cause.CLOSED, 1000, REPLACED), 5000.0)


def test_links_that_keep_replacing_each_other_show_it():
    assert fight(Rivals(), 4) == [False, False, True, True]


def test_it_shows_with_many_links_at_once_too():
    rivals = Rivals()
    found = []
    for number in range(10):
        rivals.dialled(f"link {number}", number / 100)
        if number:
            found.append(rivals.ended(f"link {number - 1}", ENDED, number / 100))
    assert found == [False] * (ENOUGH - 1) + [True] * (10 - ENOUGH)


@pytest.mark.parametrize(
    "ended",
    [
        LOST,
        Failure(Cause.CLOSED, 1001, "restarting"),
        Failure(Cause.CLOSED, 4004, "Internal server error"),
        Failure(Cause.OURS, reason="its tool list changed"),
        Failure(Cause.TIMEOUT),
        Failure(Cause.STATUS, 503),
    ],
    ids=str,
)
def test_trouble_is_no_replacement(ended):
    assert not any(fight(Rivals(), 10, ended))


def test_what_happens_seldom_is_chance():
    assert not any(fight(Rivals(), 20, every=WINDOW / (ENOUGH - 1) + 1))


def test_an_endpoint_that_ends_all_links_keeps_none():
    rivals = Rivals()
    for round in range(10):
        for link in ("a", "b", "c"):
            rivals.dialled(link, round * 2.0)
        for link in ("a", "b", "c"):
            assert not rivals.ended(link, ENDED, round * 2.0 + 0.1)


def test_an_end_long_after_the_other_began_is_of_its_own():
    rivals = Rivals()
    for turn in range(10):
        rivals.dialled("b", turn * 12.0)
        rivals.dialled("a", turn * 12.0)
        assert not rivals.ended("b", ENDED, turn * 12.0 + SOON)


def test_the_end_of_the_newer_is_no_replacement():
    rivals = Rivals()
    rivals.dialled("a", 0.0)
    for turn in range(10):
        rivals.dialled("b", turn + 1.0)
        assert not rivals.ended("b", ENDED, turn + 1.1)


def test_a_lost_connection_is_no_replacement_even_in_the_midst_of_a_fight():
    rivals = Rivals()
    fight(rivals, 4)
    rivals.dialled("b", 9.0)
    assert not rivals.ended("a", LOST, 9.1)


def test_a_lone_link_has_no_rival():
    rivals = Rivals()
    for turn in range(10):
        rivals.dialled("a", turn)
        assert not rivals.ended("a", ENDED, turn + 0.1)
