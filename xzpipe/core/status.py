"""How a bridge is, as values: what `stats` makes of events, and every reader shows.

Durations are in seconds, never clock times: the clock of a small machine may be wrong until it has
a network. Absent is None.
"""

import msgspec

SERVER_STATES = ("starting", "ready", "down")
LINK_STATES = ("waiting", "connecting", "up", "down")

# Upper bounds of call durations in seconds; the last call limit of the broker is one of them
BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
# Upper bounds of message sizes in bytes; what endpoints take is among them (wire.md §2)
SIZES = (256, 1024, 4096, 8192, 32768, 131072, 1048576, 4194304, 16777216)


class Exit(msgspec.Struct, frozen=True):
    """How the latest life of a server ended, `ago` seconds ago; `stderr` are its last lines."""

    reason: str
    stderr: tuple[str, ...]
    ago: float


class Latency(msgspec.Struct, frozen=True):
    """How long the latest calls took, in seconds: half of them at most `p50`."""

    p50: float
    p95: float


class ServerStatus(msgspec.Struct, frozen=True):
    """One server, in `state` for `seconds`. `errors` are among `calls`; the bytes are those of
    calls (params in, whole answers out). `tools` is what it offers, whatever is shown of it."""

    name: str
    state: str
    seconds: float
    pid: int | None = None
    uptime: float | None = None
    restarts: int = 0
    retry_in: float | None = None
    last_exit: Exit | None = None
    tools: int = 0
    calls: int = 0
    errors: int = 0
    latency: Latency | None = None
    bytes_in: int = 0
    bytes_out: int = 0


class Close(msgspec.Struct, frozen=True):
    """Why a link last ended or could not be opened, in words; it had been up `lived` seconds."""

    cause: str
    hint: str
    lived: float
    ago: float


class LinkStatus(msgspec.Struct, frozen=True):
    """One link, in `state` for `seconds`. `attempts` is how often it was dialled since it was last
    up; `connects`, how often it has come up. `expires` is when its token does, in seconds since
    1970."""

    name: str
    endpoint: str
    address: str
    state: str
    seconds: float
    attempts: int = 0
    connects: int = 0
    retry_in: float | None = None
    last_close: Close | None = None
    round_trip: float | None = None
    expires: int | None = None


class Call(msgspec.Struct, frozen=True):
    """One of the latest calls: names and times, never what was said."""

    endpoint: str
    server: str
    tool: str
    seconds: float
    outcome: str
    ago: float


class Status(msgspec.Struct, frozen=True):
    """Everything at one moment. `reasons` say what keeps it from being `ready`: every server ready,
    every link up. `any_ready`: one server is ready, and one link up."""

    version: str
    name: str
    pid: int
    uptime: float
    ready: bool
    any_ready: bool
    reasons: tuple[str, ...]
    servers: tuple[ServerStatus, ...]
    links: tuple[LinkStatus, ...]
    calls: tuple[Call, ...]


class Tally(msgspec.Struct, frozen=True):
    """All calls of one tool with one outcome since the start. `buckets` are counts by `BUCKETS` and
    one beyond, not summed up; `asked` and `answered` likewise by `SIZES`."""

    server: str
    tool: str
    outcome: str
    count: int
    seconds: float
    buckets: tuple[int, ...]
    asked: tuple[int, ...]
    answered: tuple[int, ...]
    asked_bytes: int
    answered_bytes: int
