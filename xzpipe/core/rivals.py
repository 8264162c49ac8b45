"""Whether links of ours to one endpoint throw each other out."""

from dataclasses import dataclass

from xzpipe.core.verdict import REPLACED, Cause, Failure

SOON = 0.5  # seconds between the news that a link is up and that the older one is thrown out for it
ALONE = 0.7  # seconds that the older one must have been up; what ends sooner may end by itself
DIALLING = 10.0  # seconds that a link may be on its way
WINDOW = 60.0  # seconds
ENOUGH = 4  # times in a window, with no other end between them; less is chance
IN_GOOD_ORDER = {1000, 1005}  # 1005: without a code


@dataclass(slots=True)
class _Link:
    began: float
    up: float | None = None


class Rivals:
    """The links of ours to one endpoint. Times in seconds, on one clock. `share`: they are to make
    room for one that they share, when they are found to be rivals."""

    def __init__(self, share: bool = False) -> None:
        self.share = share
        self._links: dict[str, _Link] = {}
        self._replaced: list[float] = []

    def dialled(self, link: str, now: float) -> None:
        """A link begins; it may come to be or not."""
        self._links[link] = _Link(now)

    def opened(self, link: str, now: float) -> None:
        """A link is up."""
        self._links[link].up = now

    def closed(self, link: str) -> None:
        """A link is not kept any longer."""
        self._links.pop(link, None)

    def ended(self, link: str, failure: Failure, now: float) -> bool:
        """A link has ended, or did not come to be; whether another connection took its place.

        Some self-hosted endpoints say so (wire.md §3). Where an endpoint does not, it shows: time
        and again, it ends a link in good order just when another of ours is up, keeps that one, and
        ends none for any other reason.
        """
        ended = self._links.pop(link, _Link(now))
        if failure.cause is not Cause.CLOSED:
            return False
        if (failure.code, failure.reason) == (1000, REPLACED):
            return True
        if failure.code not in IN_GOOD_ORDER or not self._has_a_successor(now):
            self._replaced.clear()
            return False
        up = sum(each.up is not None for each in self._links.values())
        if up > 1 or ended.up is None or now - ended.up < ALONE:
            return False  # too much at once to tell
        self._replaced = [*(at for at in self._replaced if now - at < WINDOW), now]
        return len(self._replaced) >= ENOUGH

    def _has_a_successor(self, now: float) -> bool:
        """Whether another link has just come up, or is about to; and none was there before: an
        endpoint that lets two be side by side keeps more than one."""
        return bool(self._links) and all(
            now - each.began < DIALLING if each.up is None else now - each.up < SOON
            for each in self._links.values()
        )
