"""What happened: frozen facts with a level and a sentence. Logs, counters and health subscribe to
them.

The sentence is for a user: `str(event)`. The fields are for machines:
`msgspec.structs.asdict(event)`. No event holds a secret or the content of a call.
"""

from typing import ClassVar

import msgspec

SHOWN = 10  # names in one sentence


class Event(msgspec.Struct, frozen=True):
    """A fact; `level` is debug, info, warning or error."""

    LEVEL: ClassVar[str] = "info"

    @property
    def level(self) -> str:
        """How much it matters."""
        return self.LEVEL


class ServerAdded(Event, frozen=True):
    """A server is to be kept alive from now on."""

    LEVEL: ClassVar[str] = "debug"
    server: str

    def __str__(self) -> str:
        return f"{self.server}: to be kept alive"


class ServerRemoved(Event, frozen=True):
    """A server is not kept alive any longer, and is gone."""

    LEVEL: ClassVar[str] = "debug"
    server: str

    def __str__(self) -> str:
        return f"{self.server}: not kept any longer"


class ServerStarting(Event, frozen=True):
    server: str
    pid: int

    def __str__(self) -> str:
        return f"{self.server}: started (pid {self.pid}), waiting for it to be ready"


class ServerReady(Event, frozen=True):
    """`seconds` from its start to its complete tool list."""

    server: str
    name: str
    version: str
    tools: int
    seconds: float

    def __str__(self) -> str:
        who = f"{self.name} {self.version}".strip()
        ready = f"{self.server}: ready in {self.seconds:.1f} s, {counted(self.tools, 'tool')}"
        return f"{ready} ({who})" if who else ready


class ServerDown(Event, frozen=True):
    """A server's process has ended, or could not be started; it is tried again in `retry_in`
    seconds."""

    LEVEL: ClassVar[str] = "error"
    server: str
    reason: str
    stderr: tuple[str, ...]
    retry_in: float

    def __str__(self) -> str:
        again = "restarting now" if self.retry_in <= 0 else f"next try in {self.retry_in:.1f} s"
        return f"{self.server}: {self.reason}; {again}{self.last_words}"

    @property
    def last_words(self) -> str:
        """The end of its stderr, to put behind a sentence; empty when it wrote nothing."""
        said = "".join(f"\n    {line}" for line in self.stderr)
        return f"; it last wrote:{said}" if said else ""


class ServerStopped(Event, frozen=True):
    server: str
    how: str

    def __str__(self) -> str:
        return f"{self.server}: stopped ({self.how})"


class ServerWrote(Event, frozen=True):
    """A line of a server's stderr."""

    server: str
    line: str

    def __str__(self) -> str:
        return f"{self.server} | {self.line}"


class NoiseOnStdout(Event, frozen=True):
    """A line on a server's stdout that is no JSON-RPC message; it went nowhere."""

    LEVEL: ClassVar[str] = "warning"
    server: str
    line: str

    def __str__(self) -> str:
        return f"{self.server}: not MCP on its stdout, ignored: {self.line}"


class TooLarge(Event, frozen=True):
    """A server wrote a message over the limit (bytes); it is discarded while it is read."""

    LEVEL: ClassVar[str] = "warning"
    server: str
    limit: int

    def __str__(self) -> str:
        return f"{self.server}: a message over {self.limit:,} bytes was discarded (maxMessageBytes)"


class ToolsChanged(Event, frozen=True):
    server: str
    tools: int

    def __str__(self) -> str:
        return f"{self.server}: its tool list changed, now {counted(self.tools, 'tool')}"


class ListingFailed(Event, frozen=True):
    LEVEL: ClassVar[str] = "warning"
    server: str
    reason: str

    def __str__(self) -> str:
        return f"{self.server}: its new tool list could not be read ({self.reason}); the old stays"


class Reloaded(Event, frozen=True):
    """The config was read again and is in effect, with these servers."""

    servers: tuple[str, ...]

    def __str__(self) -> str:
        return f"the config was read again; in effect with {enumerated(self.servers)}"


class ReloadFailed(Event, frozen=True):
    """The config was read again, but cannot be used; nothing has changed."""

    LEVEL: ClassVar[str] = "error"
    reason: str
    hint: str

    def __str__(self) -> str:
        said = "\n".join(filter(None, (self.reason, self.hint)))
        return f"the config was read again and left out, since it cannot be used:\n{said}"


class ToolCalled(Event, frozen=True, gc=False):
    """A tool call was answered after `seconds`; `outcome` is "ok", "tool error" or why it failed:
    one of a few. `asked` and `answered` are the bytes of its params and of the whole answer;
    `endpoint` is where the call came from."""

    server: str
    tool: str
    client: str
    seconds: float
    outcome: str
    endpoint: str = ""
    asked: int = 0
    answered: int = 0

    @property
    def level(self) -> str:
        """A warning when the server did not answer; that a tool says no is its own affair."""
        return "info" if self.outcome in ("ok", "error", "tool error") else "warning"

    def __str__(self) -> str:
        sizes = f"{self.asked:,} bytes asked, {self.answered:,} answered"
        by = f" for {self.endpoint}" if self.endpoint else ""
        took = f"{self.seconds * 1000:.0f} ms"
        return f"{self.server}: {self.tool} → {self.outcome} in {took}{by} ({sizes})"


class StaleAnswer(Event, frozen=True):
    """An answer to a request whose asker is gone, gave up, or was told of a time-out."""

    LEVEL: ClassVar[str] = "debug"
    server: str

    def __str__(self) -> str:
        return f"{self.server}: an answer came too late and was dropped"


def enumerated(names: tuple[str, ...]) -> str:
    """These names in a sentence, the first few of them."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


def counted(number: int, noun: str) -> str:
    """So many of these, in a sentence."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
