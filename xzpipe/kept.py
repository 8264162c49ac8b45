"""Things that are kept going by name, each in a task, and changed as one set into another."""

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Generic, TypeVar

import anyio
from anyio.abc import TaskGroup

T = TypeVar("T")


@dataclass(slots=True)
class _One(Generic[T]):
    value: T
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    ended: anyio.Event = field(default_factory=anyio.Event)


class Kept(Generic[T]):
    """What is kept now: for each name a value, and a task that runs `keep` with it."""

    def __init__(self, tasks: TaskGroup, keep: Callable[[T], Awaitable[object]]) -> None:
        self._tasks = tasks
        self._keep = keep
        self._all: dict[str, _One[T]] = {}

    async def change(self, wanted: Mapping[str, T]) -> None:
        """Keep these from now on. Tasks whose value is wanted as it is go on untouched; the others
        are ended, and waited for, before any begins."""
        over = [one for name, one in self._all.items() if wanted.get(name) != one.value]
        for one in over:
            one.scope.cancel()
        for one in over:
            await one.ended.wait()
        for name, value in wanted.items():
            if name not in self._all:
                self._all[name] = _One(value)
                self._tasks.start_soon(self._run, name, self._all[name])

    async def _run(self, name: str, one: _One[T]) -> None:
        try:
            with one.scope:
                await self._keep(one.value)
        finally:
            del self._all[name]
            one.ended.set()
