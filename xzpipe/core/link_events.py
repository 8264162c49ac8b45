"""What happened to links, and at an endpoint server: events like those of `events`."""

from typing import ClassVar

from xzpipe.core.events import Event, enumerated


class BadFrame(Event, frozen=True):
    """A client sent what is not a JSON-RPC message, or an answer to a question nobody asked."""

    LEVEL: ClassVar[str] = "warning"
    client: str
    reason: str

    def __str__(self) -> str:
        return f"{self.client}: a message that is none was refused: {self.reason}"


class LinkAdded(Event, frozen=True):
    """A link is to be kept up from now on. `address` is without its token, which `expires` then
    (seconds since 1970), if it says so."""

    LEVEL: ClassVar[str] = "debug"
    link: str
    endpoint: str
    address: str
    expires: int | None

    def __str__(self) -> str:
        return f"{self.link}: to be linked to {self.address}"


class LinkRemoved(Event, frozen=True):
    """A link is not kept any longer, and is closed."""

    LEVEL: ClassVar[str] = "debug"
    link: str

    def __str__(self) -> str:
        return f"{self.link}: not linked any longer"


class LinkWaiting(Event, frozen=True):
    """The link is not dialled until a server of its view is ready."""

    LEVEL: ClassVar[str] = "debug"
    link: str

    def __str__(self) -> str:
        return f"{self.link}: the link waits for its server to be ready"


class LinkDialling(Event, frozen=True):
    LEVEL: ClassVar[str] = "debug"
    link: str

    def __str__(self) -> str:
        return f"{self.link}: connecting"


class LinkUp(Event, frozen=True):
    """`endpoint` is the address without its token; `proxy` names the proxy in use, if any."""

    link: str
    endpoint: str
    proxy: str

    def __str__(self) -> str:
        through = f" through the proxy {self.proxy}" if self.proxy else ""
        return f"{self.link}: connected to {self.endpoint}{through}"


class LinkDown(Event, frozen=True):
    """The link ended or could not be opened after having been up `lived` seconds."""

    LEVEL: ClassVar[str] = "warning"
    link: str
    cause: str
    hint: str
    lived: float
    retry_in: float

    def __str__(self) -> str:
        was = f" after {self.lived:.0f} s" if self.lived else ""
        again = "reconnecting now" if self.retry_in <= 0 else f"next try in {self.retry_in:.1f} s"
        return f"{self.link}: {self.cause}{was}; {again}" + (f". {self.hint}" if self.hint else "")


class LinkAnswered(Event, frozen=True):
    """The endpoint answered a ping of the keepalive after `seconds`."""

    LEVEL: ClassVar[str] = "debug"
    link: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.link}: a ping was answered in {self.seconds * 1000:.0f} ms"


class LinkRenewed(Event, frozen=True):
    """The link was closed after `lived` seconds, to be opened again soon: the endpoint reads tools
    only then."""

    link: str
    lived: float
    retry_in: float

    def __str__(self) -> str:
        return f"{self.link}: its tool list changed; connecting anew, so that the endpoint reads it"

    @property
    def cause(self) -> str:
        """As that of `LinkDown`."""
        return "its tool list changed"

    @property
    def hint(self) -> str:
        """As that of `LinkDown`: there is nothing to do."""
        return ""


class LinkClosed(Event, frozen=True):
    link: str

    def __str__(self) -> str:
        return f"{self.link}: link closed"


class ModeSwitched(Event, frozen=True):
    """An endpoint keeps one connection only: its servers share one link from now on."""

    LEVEL: ClassVar[str] = "warning"
    endpoint: str
    servers: tuple[str, ...]

    def __str__(self) -> str:
        place = "xzpipe" if self.endpoint == "endpoint" else f"xzpipe.endpoints.{self.endpoint}"
        return (
            f"{self.endpoint}: it keeps one connection per token, so {enumerated(self.servers)} "
            f'share one from now on; to start that way, set "mode": "aggregate" in {place}'
        )


class Refused(Event, frozen=True):
    """Someone was not let in by an endpoint server, and told so with an HTTP status."""

    LEVEL: ClassVar[str] = "warning"
    status: int
    reason: str

    def __str__(self) -> str:
        return f"a connection was refused (HTTP {self.status}): {self.reason}"
