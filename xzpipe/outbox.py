"""What waits to be written to one peer.

It is bounded, so that a peer which does not read costs no memory; and what is queued in one turn of
the event loop leaves in one write, since system calls are dear.
"""

import asyncio
from collections.abc import Callable, Sequence

OUTBOX_BYTES = 64 * 2**20  # queued here or in the transport: a few of the largest messages
OUTBOX_MESSAGES = 4096  # of one turn: more than the answers to all requests that may be pending


class Outbox:
    """The way out to a transport. `pack` makes what is written of the messages of one turn."""

    def __init__(
        self,
        transport: asyncio.WriteTransport,
        pack: Callable[[list[bytes]], Sequence[bytes]],
    ) -> None:
        self._transport = transport
        self._pack = pack
        self._soon = asyncio.get_running_loop().call_soon
        self._messages: list[bytes] = []
        self._bytes = 0

    def put(self, message: bytes) -> bool:
        """Queue a message; False when there is no room, or nobody to read it. A message that is
        alone has room, whatever its size."""
        waiting = self._bytes + self._transport.get_write_buffer_size()
        if waiting and waiting + len(message) > OUTBOX_BYTES:
            return False
        if len(self._messages) >= OUTBOX_MESSAGES or self._transport.is_closing():
            return False
        if not self._messages:
            self._soon(self._flush)
        self._messages.append(message)
        self._bytes += len(message)
        return True

    def _flush(self) -> None:
        messages, self._messages, self._bytes = self._messages, [], 0
        if self._transport.is_closing():
            return
        packed = self._pack(messages)
        if packed:  # a connection in its closing handshake packs nothing, and takes nothing
            self._transport.writelines(packed)
