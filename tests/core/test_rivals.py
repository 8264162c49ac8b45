"""What ends of links look like where an endpoint keeps one connection, and where it does not."""

from random import Random

import pytest

from xzpipe.core.rivals import DIALLING, ENOUGH, SOON, WINDOW, Rivals
from xzpipe.core.verdict import REPLACED, Cause, Failure

ENDED = Failure(Cause.CLOSED, 1000, "bye")
LOST = Failure(Cause.CLOSED, 1006)


def fight(rivals: Rivals, turns: int, ended: Failure = ENDED, every: float = 2.0) -> list[bool]:
    """Two links that end each other: what is made of each end."""
    rivals.dialled("a", 0.0)
    rivals.opened("a", 0.0)
    found = []
    for turn in range(turns):
        older, newer = ("a", "b") if turn % 2 == 0 else ("b", "a")
        now = (turn + 1) * every
        rivals.dialled(newer, now)
        rivals.opened(newer, now)
        found.append(rivals.ended(older, ended, now + 0.1))
    return found


def test_an_endpoint_may_say_that_another_connection_took_the_place():
    rivals = Rivals()
    rivals.dialled("a", 0.0)
    assert rivals.ended("a", Failure(Cause.CLOSED, 1000, REPLACED), 5000.0)


def test_links_that_keep_replacing_each_other_show_it():
    assert fight(Rivals(), 5) == [False, False, False, True, True]


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
        for link in ("b", "a"):
            rivals.dialled(link, turn * 12.0)
            rivals.opened(link, turn * 12.0)
        assert not rivals.ended("b", ENDED, turn * 12.0 + SOON)


def test_a_link_that_never_comes_to_be_takes_no_place():
    rivals = Rivals()
    for turn in range(10):
        for link in ("b", "a"):
            rivals.dialled(link, turn * 12.0)
        assert not rivals.ended("b", ENDED, turn * 12.0 + DIALLING)


@pytest.mark.parametrize("life", [0.1, 0.5, 2.0, 5.0, 30.0])
@pytest.mark.parametrize("links", [2, 3, 10])
def test_links_that_all_end_by_themselves_after_a_while_are_no_rivals(links, life):
    """An endpoint, or a proxy before it, that ends every connection after so many seconds."""
    for seed in range(100):
        rng, rivals = Random(seed), Rivals()
        waits = {f"link {number}": 1.0 for number in range(links)}
        todo = [(rng.random() * 3, link, "dials") for link in waits]
        while todo:
            now, link, what = todo.pop(todo.index(min(todo)))
            if now > 120:
                break
            if what == "dials":
                rivals.dialled(link, now)
                todo.append((now + 0.05, link, "is up"))
            elif what == "is up":
                rivals.opened(link, now)
                todo.append((now + life, link, "ends"))
            else:
                assert not rivals.ended(link, ENDED, now), (seed, now)
                waits[link] = min(waits[link] * 2, 600.0)
                todo.append((now + waits[link] * (0.8 + 0.2 * rng.random()), link, "dials"))


@pytest.mark.parametrize("links", [2, 3, 10, 50])
def test_rivals_are_found_whatever_their_waits(links):
    """The endpoint keeps the newest; each that was thrown out comes again after its wait."""
    for seed in range(50):
        rng, rivals, up = Random(seed), Rivals(), None
        waits = {f"link {number}": 1.0 for number in range(links)}
        todo = [(rng.random() * 0.1, link, "dials") for link in waits]
        found = False
        while not found:
            now, link, what = todo.pop(todo.index(min(todo)))
            assert now < 60
            if what == "dials":
                rivals.dialled(link, now)
                todo.append((now + 0.05, link, "is up"))
                continue
            rivals.opened(link, now)
            if up is not None:
                found = rivals.ended(up, ENDED, now + 0.01)
                waits[up] *= 2
                todo.append((now + waits[up] * (0.8 + 0.2 * rng.random()), up, "dials"))
            up = link


def test_the_end_of_the_newer_is_no_replacement():
    rivals = Rivals()
    rivals.dialled("a", 0.0)
    for turn in range(10):
        rivals.dialled("b", turn + 1.0)
        assert not rivals.ended("b", ENDED, turn + 1.1)


def test_a_lost_connection_is_no_replacement_even_in_the_midst_of_a_fight():
    rivals = Rivals()
    fight(rivals, ENOUGH)
    assert not rivals.ended("a", LOST, 2.0 * ENOUGH + 2)


def test_a_lone_link_has_no_rival():
    rivals = Rivals()
    for turn in range(10):
        rivals.dialled("a", turn)
        assert not rivals.ended("a", ENDED, turn + 0.1)
