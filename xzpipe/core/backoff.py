"""How long to wait before the next try: doubling, with jitter, over again after a good life."""

from collections.abc import Callable

JITTER = 0.2  # up to this part of a delay is taken off, so that many bridges do not return as one


class Backoff:
    """The delays of one thing that is kept alive. Times in seconds.

    A life shorter than `reset_after` counts as a failure even if it began well, or a peer that
    accepts and hangs up would be hammered.
    """

    def __init__(
        self,
        initial: float,
        maximum: float,
        reset_after: float,
        rng: Callable[[], float],
        at_once: bool = False,
    ) -> None:
        """`rng` gives numbers from 0 to 1. `at_once`: a good life is followed by no delay at
        all."""
        self.maximum = maximum
        self._initial = initial
        self._reset_after = reset_after
        self._rng = rng
        self._at_once = at_once
        self._failures = 0

    def next(self, lived: float, at_least: float = 0.0) -> float:
        """The delay after a life of `lived` seconds; `at_least` is what the peer asked for."""
        if lived >= self._reset_after:
            self._failures = 0
            if self._at_once:
                return at_least
        # the exponent is capped: 2.0**1024 overflows, and after months of failures it gets there
        base = min(self._initial * 2.0 ** min(self._failures, 64), self.maximum)
        self._failures += 1
        return max(base * (1.0 - JITTER * self._rng()), at_least)
