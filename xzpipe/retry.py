"""Keeping something alive: one life after another, with the waits of a backoff between them.

The only module that knows tenacity.
"""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import anyio
from tenacity import AsyncRetrying, RetryCallState, retry_if_result

from xzpipe.core.backoff import Backoff


@dataclass(frozen=True, slots=True)
class Ended:
    """How one life went: seconds it `lived`, and what it wants before the next.

    `at_least` seconds; or `exactly` so many, which leaves the backoff as it is. `announce` is told
    the seconds until the next life.
    """

    lived: float
    announce: Callable[[float], None]
    at_least: float = 0.0
    exactly: float | None = None


async def keep(
    one_life: Callable[[], Awaitable[Ended]],
    backoff: Backoff,
    sleep: Callable[[float], Awaitable[None]] = anyio.sleep,
) -> None:
    """Live, and live again, until cancelled. An exception of a life is a bug of ours and ends it
    all."""

    def wait(state: RetryCallState) -> float:
        assert state.outcome is not None
        ended: Ended = state.outcome.result()
        delay = ended.exactly
        if delay is None:
            delay = backoff.next(ended.lived, ended.at_least)
        ended.announce(delay)
        return delay

    # by result, not always: an exception, cancellation among them, must come through
    again = retry_if_result(lambda _: True)
    await AsyncRetrying(retry=again, wait=wait, sleep=sleep)(one_life)
