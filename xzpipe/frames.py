"""WebSocket connections that hand over each message in the turn of the loop in which it arrived.

The library's `recv` wakes a task for each message and its `send` makes a system call for each, and
that costs more than all the rest of a relay (tests/benchmarks). Its connection classes are made to
be subclassed (`create_connection`), and its protocol object to be used (Sans-I/O).
"""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any

from websockets.asyncio.client import ClientConnection
from websockets.asyncio.connection import Connection
from websockets.asyncio.server import ServerConnection
from websockets.frames import DATA_OPCODES, Frame
from websockets.protocol import Event, State

Receive = Callable[[bytes], object]


class Frames(Connection):
    """Mixed into the library's connections. Messages go to whom `hand_to` was told."""

    taken_within = 120.0  # seconds for what was written to leave; 16 MiB at 1.1 Mbit/s

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.bug: Exception | None = None  # what `receive` raised; the connection is cut then
        self.on_answered: Callable[[float], object] | None = None  # seconds, of each ping
        self._receive: Receive | None = None
        self._early: list[bytes] = []  # what came before anyone was there to take it
        self._parts: list[bytes] = []  # of a fragmented message; the protocol bounds their sum
        self._stuck: asyncio.TimerHandle | None = None

    def hand_to(self, receive: Receive) -> None:
        """Hand every message to `receive` from now on, those that are here already at once."""
        self._receive = receive
        early, self._early = self._early, []
        for message in early:
            self._deliver(message)

    def pack(self, messages: list[bytes]) -> Sequence[bytes]:
        """What to write to the transport to send these messages; nothing once it is closing."""
        if self.protocol.state is not State.OPEN:
            return ()
        for message in messages:
            self.protocol.send_text(message)
        return self.protocol.data_to_send()

    def process_event(self, event: Event) -> None:
        if not isinstance(event, Frame) or event.opcode not in DATA_OPCODES:
            before = self.latency
            super().process_event(event)
            if self.on_answered is not None and self.latency != before:
                self.on_answered(self.latency)
            return
        self._parts.append(bytes(event.data))
        if event.fin:
            message = self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)
            self._parts.clear()
            self._deliver(message)

    def _deliver(self, message: bytes) -> None:
        if self._receive is None:
            self._early.append(message)
            return
        try:
            self._receive(message)
        except Exception as bug:  # the loop would only log it
            self.bug = bug
            self.transport.abort()

    # A peer that takes nothing for too long is gone, though its TCP may not say so. The library's
    # pings do not find out, since they wait behind what is not taken.

    def pause_writing(self) -> None:
        super().pause_writing()
        self._stuck = self.loop.call_later(self.taken_within, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._unstick()

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        self._unstick()

    def _unstick(self) -> None:
        if self._stuck is not None:
            self._stuck.cancel()


class Dialled(Frames, ClientConnection):
    """A connection that we opened."""


class Accepted(Frames, ServerConnection):
    """A connection that was opened to us."""
