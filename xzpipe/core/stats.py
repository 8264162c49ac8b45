"""Events → how everything is, and what was counted. Nothing is polled and nothing grows without a
limit."""

from dataclasses import dataclass

from xzpipe.core.counts import Counts
from xzpipe.core.events import (
    Event,
    ServerAdded,
    ServerDown,
    ServerReady,
    ServerRemoved,
    ServerStarting,
    ToolCalled,
    ToolsChanged,
)
from xzpipe.core.link_events import (
    LinkAdded,
    LinkAnswered,
    LinkDialling,
    LinkDown,
    LinkRemoved,
    LinkRenewed,
    LinkUp,
    LinkWaiting,
)
from xzpipe.core.status import (
    Close,
    Exit,
    LinkStatus,
    ServerStatus,
    Status,
    Tally,
)


@dataclass(slots=True)
class _Server:
    state: str = "starting"
    since: float = 0.0
    pid: int | None = None
    began: float | None = None  # this life
    starts: int = 0
    retry_at: float | None = None
    exit: ServerDown | None = None
    exit_at: float = 0.0
    tools: int = 0


@dataclass(slots=True)
class _Link:
    endpoint: str
    address: str
    expires: int | None
    state: str = "waiting"
    since: float = 0.0
    attempts: int = 0
    connects: int = 0
    retry_at: float | None = None
    close: LinkDown | LinkRenewed | None = None
    close_at: float = 0.0
    round_trip: float | None = None


class Stats:
    """Hears every event of one bridge. `now` is in seconds, on a clock that does not go back."""

    def __init__(self, version: str, name: str, pid: int, now: float) -> None:
        self._about = version, name, pid
        self._began = now
        self._servers: dict[str, _Server] = {}
        self._links: dict[str, _Link] = {}
        self._calls = Counts()

    def heard(self, event: Event, now: float) -> None:
        """Something happened."""
        if type(event) is ToolCalled:
            self._calls.add(event, now)
            return
        server, link = getattr(event, "server", ""), getattr(event, "link", "")
        if isinstance(event, ServerRemoved):
            self._servers.pop(server, None)
        elif isinstance(event, LinkRemoved):
            self._links.pop(link, None)
        elif isinstance(event, LinkAdded):
            self._links[link] = _Link(event.endpoint, event.address, event.expires, since=now)
        elif link in self._links:
            _move_link(self._links[link], event, now)
        elif isinstance(event, ServerAdded | ServerReady):
            _move_server(self._servers.setdefault(server, _Server(since=now)), event, now)
        elif server in self._servers:
            _move_server(self._servers[server], event, now)

    def status(self, now: float) -> Status:
        """How everything is."""
        servers = tuple(self._server(*each, now) for each in self._servers.items())
        links = tuple(_link(*each, now) for each in self._links.items())
        reasons = (
            *(f"server {each.name}: {_why(each)}" for each in servers if each.state != "ready"),
            *(f"link {each.name}: {_why(each)}" for each in links if each.state != "up"),
        )
        any_server = any(each.state == "ready" for each in servers) or not servers
        any_link = any(each.state == "up" for each in links) or not links
        version, name, pid = self._about
        return Status(
            version,
            name,
            pid,
            now - self._began,
            not reasons,
            any_server and any_link,
            reasons,
            servers,
            links,
            self._calls.recent(now),
        )

    def tallies(self) -> tuple[Tally, ...]:
        """All calls since the start, by server, tool and outcome."""
        return self._calls.tallies()

    def _server(self, name: str, server: _Server, now: float) -> ServerStatus:
        totals = self._calls.of(name)
        down = server.exit
        return ServerStatus(
            name,
            server.state,
            now - server.since,
            pid=server.pid,
            uptime=None if server.began is None else now - server.began,
            restarts=max(0, server.starts - 1),
            retry_in=_until(server.retry_at, now),
            last_exit=Exit(down.reason, down.stderr, now - server.exit_at) if down else None,
            tools=server.tools,
            calls=totals.calls,
            errors=totals.errors,
            latency=totals.latency,
            bytes_in=totals.asked,
            bytes_out=totals.answered,
        )


def _move_server(server: _Server, event: Event, now: float) -> None:
    before = server.state
    match event:
        case ServerStarting():
            server.state = "starting"
            server.pid, server.began, server.retry_at = event.pid, now, None
            server.starts += 1
        case ServerReady():
            server.state, server.tools = "ready", event.tools
        case ServerDown():
            server.state = "down"
            server.pid = server.began = None
            server.exit, server.exit_at, server.retry_at = event, now, now + event.retry_in
        case ToolsChanged():
            server.tools = event.tools
    if server.state != before:
        server.since = now


def _move_link(link: _Link, event: Event, now: float) -> None:
    before = link.state
    match event:
        case LinkWaiting():
            link.state, link.retry_at = "waiting", None
        case LinkDialling():
            link.state, link.retry_at = "connecting", None
            link.attempts += 1
        case LinkUp():
            link.state, link.attempts = "up", 0
            link.connects += 1
        case LinkAnswered():
            link.round_trip = event.seconds
        case LinkDown() | LinkRenewed():
            link.state, link.round_trip = "down", None
            link.close, link.close_at = event, now
            link.retry_at = now + event.retry_in
    if link.state != before:
        link.since = now


def _link(name: str, link: _Link, now: float) -> LinkStatus:
    down = link.close
    return LinkStatus(
        name,
        link.endpoint,
        link.address,
        link.state,
        now - link.since,
        attempts=link.attempts,
        connects=link.connects,
        retry_in=_until(link.retry_at, now),
        last_close=Close(down.cause, down.hint, down.lived, now - link.close_at) if down else None,
        round_trip=link.round_trip,
        expires=link.expires,
    )


def _why(each: ServerStatus | LinkStatus) -> str:
    last = each.last_exit if isinstance(each, ServerStatus) else each.last_close
    if each.state in ("waiting", "connecting", "starting") or last is None:
        return each.state
    return f"{each.state}: {last.reason if isinstance(last, Exit) else last.cause}"


def _until(when: float | None, now: float) -> float | None:
    return None if when is None else max(0.0, when - now)
