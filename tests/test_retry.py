"""One life after another, with a fake sleep."""

import anyio
import pytest

from xzpipe.core.backoff import Backoff
from xzpipe.retry import Ended, keep

pytestmark = pytest.mark.anyio


class Enough(Exception):
    """Ends a test's chain of lives."""


class Story:
    """Lives as a script tells them; `happened` is the order of everything."""

    def __init__(self, *lives: dict[str, float | bool]) -> None:
        self.lives = list(lives)
        self.happened: list[object] = []

    async def one_life(self) -> Ended:
        if not self.lives:
            raise Enough
        self.happened.append("life")
        return Ended(
            announce=lambda wait: self.happened.append(("announced", wait)), **self.lives.pop(0)
        )

    async def sleep(self, seconds: float) -> None:
        self.happened.append(("slept", seconds))

    async def told(self) -> list[object]:
        with pytest.raises(Enough):
            await keep(self.one_life, Backoff(1.0, 600.0, 60.0, lambda: 0.0), self.sleep)
        return self.happened

    async def waits(self) -> list[float]:
        return [each[1] for each in await self.told() if each[0] == "slept"]


async def test_a_wait_is_announced_before_it_begins_and_then_comes_the_next_life():
    assert await Story({"lived": 0.0}, {"lived": 0.0}).told() == [
        "life", ("announced", 1.0), ("slept", 1.0),
        "life", ("announced", 2.0), ("slept", 2.0),
    ]  # fmt: skip


async def test_a_good_life_starts_the_waits_over():
    lives = [{"lived": lived} for lived in (0.0, 0.0, 60.0, 0.0)]
    assert await Story(*lives).waits() == [1.0, 2.0, 1.0, 2.0]


async def test_what_a_life_asks_for_is_waited():
    lives = {"lived": 0.0, "at_least": 30.0}, {"lived": 0.0, "at_least": 1.0}
    assert await Story(*lives).waits() == [30.0, 2.0]


async def test_an_exact_wait_leaves_the_backoff_as_it_is():
    lives = {"lived": 0.0}, {"lived": 9.0, "exactly": 0.5, "at_least": 5.0}, {"lived": 0.0}
    assert await Story(*lives).waits() == [1.0, 0.5, 2.0]


async def test_an_exception_of_a_life_ends_it_all():
    error = ValueError("a bug")

    async def one_life() -> Ended:
        raise error

    with pytest.raises(ValueError, match="a bug") as raised:
        await keep(one_life, Backoff(1.0, 600.0, 60.0, lambda: 0.0))
    assert raised.value is error


@pytest.mark.parametrize("when", ["life", "wait"])
async def test_cancellation_comes_through(when):
    begun = anyio.Event()

    async def forever(*_: object) -> None:
        begun.set()
        await anyio.sleep_forever()

    async def one_life() -> Ended:
        if when == "life":
            await forever()
        return Ended(0.0, lambda _: None)

    after = False
    async with anyio.create_task_group() as tasks:

        async def kept() -> None:
            nonlocal after
            with anyio.CancelScope() as scope:
                tasks.start_soon(cancel, scope)
                await keep(one_life, Backoff(1.0, 600.0, 60.0, lambda: 0.0), forever)
            assert scope.cancelled_caught
            after = True

        async def cancel(scope: anyio.CancelScope) -> None:
            await begun.wait()
            scope.cancel()

        tasks.start_soon(kept)
    assert after


async def test_an_exception_in_a_task_group_of_a_life_keeps_its_group():
    async def fails() -> None:
        raise Enough

    async def one_life() -> Ended:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(fails)
        return Ended(0.0, lambda _: None)

    with pytest.raises(ExceptionGroup) as raised:
        await keep(one_life, Backoff(1.0, 600.0, 60.0, lambda: 0.0))
    assert raised.group_contains(Enough)


async def test_the_real_sleep_can_be_cancelled():
    lives = 0

    async def one_life() -> Ended:
        nonlocal lives
        lives += 1
        return Ended(0.0, lambda _: scope.cancel())

    with anyio.fail_after(5), anyio.CancelScope() as scope:
        await keep(one_life, Backoff(600.0, 600.0, 60.0, lambda: 0.0))
    assert (lives, scope.cancelled_caught) == (1, True)
