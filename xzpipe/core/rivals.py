"""Whether links of ours to one endpoint throw each other out."""

from xzpipe.core.verdict import REPLACED, Cause, Failure

SOON = 10.0  # seconds; an endpoint that keeps one connection ends the older as the newer begins
WINDOW = 60.0  # seconds
ENOUGH = 3  # times in a window; once or twice is chance
TROUBLE = {1001, 1006, 1008, 1009, 1011, 1012, 1013, 4004}  # closed for reasons of their own


class Rivals:
    """The links of ours to one endpoint. Times in seconds, on one clock."""

    def __init__(self) -> None:
        self._began: dict[str, float] = {}
        self._replaced: list[float] = []

    def dialled(self, link: str, now: float) -> None:
        """A link begins; it may come to be or not."""
        self._began[link] = now

    def ended(self, link: str, failure: Failure, now: float) -> bool:
        """A link has ended, or did not come to be; whether another connection took its place.

        Some self-hosted endpoints say so (wire.md §3). Where an endpoint does not, it shows: time
        and again, it ends a link in good order as soon as another of ours begins, and keeps that.
        """
        began = self._began.pop(link, now)
        if failure.cause is not Cause.CLOSED:
            return False
        if (failure.code, failure.reason) == (1000, REPLACED):
            return True
        if not self._began:
            self._replaced.clear()  # nobody took its place
        if len(self._began) != 1 or failure.code in TROUBLE:
            return False
        [newer] = self._began.values()
        if newer < began or now - newer >= SOON:
            return False
        self._replaced = [*(at for at in self._replaced if now - at < WINDOW), now]
        return len(self._replaced) >= ENOUGH
