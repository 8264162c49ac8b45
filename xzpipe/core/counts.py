"""Tool calls, counted: by server, tool and outcome, with histograms, in bounded memory.

A call costs two appends; what it means for the counters is worked out for many at once, when there
are many or when somebody asks.
"""

from bisect import bisect_left, bisect_right
from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import groupby
from operator import attrgetter

from xzpipe.core.events import ToolCalled
from xzpipe.core.status import BUCKETS, SIZES, Call, Latency, Tally

RECENT = 30  # calls that are shown one by one
SAMPLE = 256  # calls of a server that its latency is worked out from
BATCH = 1024  # calls that are worked out at once
MOST_SERIES = 1000  # of server, tool and outcome; a scraper keeps each for ever
OTHER = "(other)"  # the server and the tool of calls beyond that

_KEY = attrgetter("server", "tool", "outcome")


@dataclass(slots=True)
class _Counted:
    count: int = 0
    seconds: float = 0.0
    buckets: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS) + 1))
    asked: list[int] = field(default_factory=lambda: [0] * (len(SIZES) + 1))
    answered: list[int] = field(default_factory=lambda: [0] * (len(SIZES) + 1))
    asked_bytes: int = 0
    answered_bytes: int = 0


@dataclass(slots=True)
class Totals:
    """All calls of one server."""

    calls: int = 0
    errors: int = 0
    asked: int = 0
    answered: int = 0
    sample: deque[float] = field(default_factory=lambda: deque(maxlen=SAMPLE))

    @property
    def latency(self) -> Latency | None:
        """Of the latest calls; None before the first."""
        if not self.sample:
            return None
        ordered = sorted(self.sample)
        last = len(ordered) - 1
        return Latency(ordered[round(last * 0.5)], ordered[round(last * 0.95)])


class Counts:
    """Every call of one bridge. Times in seconds."""

    def __init__(self) -> None:
        self._counted: dict[tuple[str, str, str], _Counted] = {}
        self._totals: dict[str, Totals] = {}
        self._fresh: list[ToolCalled] = []
        self._recent: deque[tuple[float, ToolCalled]] = deque(maxlen=RECENT)

    def add(self, call: ToolCalled, now: float) -> None:
        """A call was answered."""
        self._recent.append((now, call))
        self._fresh.append(call)
        if len(self._fresh) >= BATCH:
            self._digest()

    def of(self, server: str) -> Totals:
        """All calls of this server."""
        self._digest()
        return self._totals.get(server) or Totals()

    def recent(self, now: float) -> tuple[Call, ...]:
        """The latest calls, the newest first."""
        return tuple(
            Call(each.endpoint, each.server, each.tool, each.seconds, each.outcome, now - at)
            for at, each in reversed(self._recent)
        )

    def tallies(self) -> tuple[Tally, ...]:
        """All calls since the start, by server, tool and outcome; at most `MOST_SERIES` and one for
        each outcome."""
        self._digest()
        return tuple(
            Tally(
                *key,
                each.count,
                each.seconds,
                tuple(each.buckets),
                tuple(each.asked),
                tuple(each.answered),
                each.asked_bytes,
                each.answered_bytes,
            )
            for key, each in self._counted.items()
        )

    def _digest(self) -> None:
        fresh, self._fresh = self._fresh, []
        # sorting is stable, and of what is sorted already, cheap
        for key, calls in groupby(sorted(fresh, key=_KEY), _KEY):
            self._count(key, list(calls))

    def _count(self, key: tuple[str, str, str], calls: list[ToolCalled]) -> None:
        seconds = [call.seconds for call in calls]
        asked = Counter([call.asked for call in calls])
        answered = Counter([call.answered for call in calls])
        asked_bytes = sum(size * times for size, times in asked.items())
        answered_bytes = sum(size * times for size, times in answered.items())
        server, _, outcome = key
        if key not in self._counted and len(self._counted) >= MOST_SERIES:
            key = OTHER, OTHER, outcome
            server = server if server in self._totals else OTHER
        totals = self._totals.setdefault(server, Totals())
        totals.calls += len(calls)
        totals.errors += len(calls) if outcome != "ok" else 0
        totals.asked += asked_bytes
        totals.answered += answered_bytes
        totals.sample.extend(seconds[-SAMPLE:])
        counted = self._counted.setdefault(key, _Counted())
        counted.count += len(calls)
        counted.seconds += sum(seconds)
        counted.asked_bytes += asked_bytes
        counted.answered_bytes += answered_bytes
        for sizes, into in ((asked, counted.asked), (answered, counted.answered)):
            for size, times in sizes.items():
                into[bisect_left(SIZES, size)] += times
        seconds.sort()
        below = 0
        for at, bound in enumerate(BUCKETS):
            upto = bisect_right(seconds, bound, lo=below)
            counted.buckets[at] += upto - below
            below = upto
        counted.buckets[-1] += len(seconds) - below
