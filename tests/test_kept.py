import anyio
import pytest

from tests.servers.session import Bell
from xzpipe.kept import Kept

pytestmark = pytest.mark.anyio


class Lives:
    """What is kept, and in which order it began and ended."""

    def __init__(self) -> None:
        self.log: list[str] = []
        self.bell = Bell()

    async def keep(self, value: str) -> None:
        self.log.append(f"+{value}")
        self.bell.ring()
        try:
            await anyio.sleep_forever()
        finally:
            self.log.append(f"-{value}")

    async def said(self, *log: str) -> None:
        await self.bell.until(lambda: len(self.log) >= len(log))
        assert self.log == list(log)


async def test_only_what_has_changed_ends_or_begins():
    lives = Lives()
    async with anyio.create_task_group() as tasks:
        kept = Kept(tasks, lives.keep)
        await kept.change({"a": "a1", "b": "b1"})
        await lives.said("+a1", "+b1")
        await kept.change({"a": "a1", "b": "b2", "c": "c1"})
        await lives.said("+a1", "+b1", "-b1", "+b2", "+c1")
        await kept.change({})
        assert sorted(lives.log[5:]) == ["-a1", "-b2", "-c1"]
        await kept.change({"a": "a1"})
        await lives.said(*lives.log[:8], "+a1")
        tasks.cancel_scope.cancel()
    assert lives.log[-1] == "-a1"


async def test_what_ends_by_itself_is_kept_again_when_it_is_wanted_again():
    lives = Lives()

    async def short(value: str) -> None:
        lives.log.append(value)
        lives.bell.ring()

    async with anyio.create_task_group() as tasks:
        kept = Kept(tasks, short)
        await kept.change({"a": "a1"})
        await lives.said("a1")
        await anyio.wait_all_tasks_blocked()
        await kept.change({"a": "a1"})
        await lives.said("a1", "a1")


async def test_an_error_comes_through_to_the_task_group():
    async def fail(value: str) -> None:
        raise ValueError(value)

    with pytest.raises(ExceptionGroup) as caught:
        async with anyio.create_task_group() as tasks:
            await Kept(tasks, fail).change({"a": "a1"})
    assert caught.group_contains(ValueError, match="a1")
