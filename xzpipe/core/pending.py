"""The requests on their way: inner id ↔ (client, outer id), so that each is answered once or not at
all."""

from collections.abc import Iterator

import msgspec

from xzpipe.core.effects import WakeAt

FOREVER = float("inf")


class Pending(msgspec.Struct, gc=False):
    """A request that a server has not answered yet. Times are on the hub's clock, in seconds.

    `client` is None when the hub itself asks. `outer` and `token` are raw JSON: the client's id,
    and its progress token (empty: none). `tool` is the server's own name of the tool, if it is a
    call; `size`, the bytes of its params.
    """

    client: str | None
    outer: bytes
    method: str
    asked: float
    deadline: float
    tool: str = ""
    token: bytes = b""
    size: int = 0


class PendingTable:
    """Pending requests by server and inner id. Inner ids are never used twice for one server."""

    def __init__(self, first_id: int) -> None:
        self._first_id = first_id
        self._next: dict[str, int] = {}
        self._by_server: dict[str, dict[int, Pending]] = {}

    def add(self, server: str, entry: Pending) -> int:
        """The inner id to ask `server` with."""
        inner = self._next.get(server, self._first_id)
        self._next[server] = inner + 1
        entries = self._by_server.get(server)
        if entries is None:
            entries = self._by_server[server] = {}
        entries[inner] = entry
        return inner

    def get(self, server: str, raw_id: bytes) -> Pending | None:
        """The request that `server` knows under this raw id, left in place."""
        return self._by_server.get(server, {}).get(_inner(raw_id))

    def take(self, server: str, raw_id: bytes) -> Pending | None:
        """The request that `server` answers with this raw id; it is pending no more."""
        found = self._by_server.get(server)
        return found.pop(_inner(raw_id), None) if found else None

    def was_asked(self, server: str, raw_id: bytes) -> bool:
        """Whether this raw id was ever handed out for `server`."""
        return self._first_id <= _inner(raw_id) < self._next.get(server, self._first_id)

    def take_server(self, server: str) -> list[Pending]:
        """Everything that `server` owes; nothing of it is pending any more."""
        return list(self._by_server.pop(server, {}).values())

    def of_client(self, client: str) -> list[tuple[str, int, Pending]]:
        """What is owed to `client`, as (server, inner id, request)."""
        return [found for found in self._all() if found[2].client == client]

    def overdue(self, now: float) -> list[tuple[str, int, Pending]]:
        """What should have been answered by `now`, as (server, inner id, request)."""
        return [found for found in self._all() if found[2].deadline <= now]

    def next_deadline(self) -> float:
        """When the first pending request will be overdue; infinity when nothing is pending."""
        return min((entry.deadline for _, _, entry in self._all()), default=FOREVER)

    def forget(self, server: str) -> None:
        """Let the ids of `server` start anew: nothing of an earlier life can answer any more."""
        self._next.pop(server, None)

    def _all(self) -> Iterator[tuple[str, int, Pending]]:
        for server, entries in self._by_server.items():
            for inner, entry in entries.items():
                yield server, inner, entry


class Alarm:
    """The next time at which the hub wants to be woken."""

    def __init__(self) -> None:
        self._at = FOREVER

    def by(self, when: float) -> list[WakeAt]:
        """Wake at `when` at the latest: what to do about it, which mostly is nothing."""
        if when >= self._at:
            return []
        self._at = when
        return [WakeAt(when)]

    def rang(self) -> None:
        """The hub was woken: nothing is set any more."""
        self._at = FOREVER


def _inner(raw_id: bytes) -> int:
    return int(raw_id) if raw_id.isdigit() and len(raw_id) < 20 else -1
