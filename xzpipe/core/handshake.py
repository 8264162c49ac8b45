"""What the hub asks a server before anyone may use it: initialize, then every page of tools/list.

2024-11-05 is asked for because it is what the broker speaks (wire.md §2): the server then behaves
as it would towards the broker, and its own answer can be passed on as it stands. No capabilities
are declared, so a server has nothing to ask of us but `ping`.
"""

from dataclasses import dataclass
from enum import Enum

from xzpipe import __version__
from xzpipe.core import jsonrpc, rawjson
from xzpipe.core.tools import Listing, ListingError

PROTOCOL = "2024-11-05"
INITIALIZE = (
    b'{"protocolVersion":"%b","capabilities":{},"clientInfo":{"name":"xzpipe","version":"%b"}}'
    % (PROTOCOL.encode(), __version__.encode())
)  # fmt: skip


class Phase(Enum):
    """Where a server's life stands: starting → ready → down."""

    STARTING = "starting"
    READY = "ready"
    DOWN = "down"


@dataclass(frozen=True, slots=True)
class Ask:
    """A request to send next."""

    method: str
    params: bytes


@dataclass(frozen=True, slots=True)
class Failed:
    """The server cannot be used."""

    reason: str


class Handshake:
    """One run of the handshake, or of the listing part of it alone when the tools have changed."""

    def __init__(self) -> None:
        self.greeting = b""  # the raw result of initialize
        self.listing = Listing()

    @staticmethod
    def first() -> Ask:
        return Ask("initialize", INITIALIZE)

    @staticmethod
    def relist() -> Ask:
        # with params, since there are servers that do not answer without or with null (wire.md §6)
        return Ask("tools/list", rawjson.EMPTY)

    def answered(self, method: str, message: jsonrpc.Message) -> Ask | Failed | None:
        """Take the answer to what was asked; what to ask next, why that is the end, or None when
        done."""
        if len(message.error):
            return self._refused(method, message.error)
        if method == "initialize":
            self.greeting = bytes(message.result)
            if not self.greeting.startswith(b"{"):
                return Failed("its answer to initialize is not an object")
            return self.relist()
        try:
            cursor = self.listing.page(bytes(message.result))
        except ListingError as problem:
            return Failed(str(problem))
        return None if cursor is None else Ask("tools/list", b'{"cursor":%b}' % cursor)

    def _refused(self, method: str, error: rawjson.Raw) -> Failed | None:
        try:
            found = rawjson.fields(error)
        except rawjson.NotJson:
            found = {}
        code = bytes(found.get("code", rawjson.ABSENT))
        if method == "tools/list" and code == b"%d" % jsonrpc.METHOD_NOT_FOUND:
            return None  # a server of prompts or resources alone
        said = rawjson.text(found.get("message")) or "no reason given"
        return Failed(f"it answered {method} with an error: {said}")


def who(greeting: bytes) -> tuple[str, str]:
    """The name and version in a raw initialize result; empty strings where it does not tell."""
    try:
        info = rawjson.fields(rawjson.fields(greeting)["serverInfo"])
    except (KeyError, rawjson.NotJson):
        return "", ""
    return rawjson.text(info.get("name")) or "", rawjson.text(info.get("version")) or ""
