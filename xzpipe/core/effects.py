"""What the hub wants done: values, which `Bridge.perform` turns into IO."""

import msgspec

from xzpipe.core.events import Event


class ToServer(msgspec.Struct, frozen=True, gc=False):
    """One message for a server, without a newline in it or after it."""

    server: str
    line: bytes


class ToClient(msgspec.Struct, frozen=True, gc=False):
    """One message for a client."""

    client: str
    text: bytes


class DropServer(msgspec.Struct, frozen=True):
    """End this life of a server; `server_exited` is expected to follow."""

    server: str
    reason: str


class DropClient(msgspec.Struct, frozen=True):
    """Close a client's connection; `client_left` is expected to follow."""

    client: str
    reason: str


class WakeAt(msgspec.Struct, frozen=True):
    """Call `Hub.tick` at `when`, on the clock of the hub's `now`; replaces any later wake."""

    when: float


Effect = ToServer | ToClient | DropServer | DropClient | WakeAt | Event
