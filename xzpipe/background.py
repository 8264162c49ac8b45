"""A text stream that a thread empties, so that who stalls in reading it does not stall the writer.

A terminal after Ctrl-S, a full pipe and a log driver that blocks are such readers; a bridge that
waits for one of them misses the endpoint's pings.
"""

import atexit
import os
import queue
import threading

MOST = 10_000  # texts that wait; further ones are dropped, and counted
MOST_CHARACTERS = 16 * 2**20  # in them: a line of a server's stderr may have 64 KiB
LAST = 1.0  # seconds for what waits to be written when the program ends


class BackgroundStream:
    """Writes to a file descriptor. As much of a text stream as log handlers and rich ask for."""

    encoding = "utf-8"

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._texts: queue.Queue[str | None] = queue.Queue(MOST)
        self._dropped = 0
        self._characters = 0
        self._counting = threading.Lock()
        self._thread = threading.Thread(target=self._empty, name="xzpipe-log", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    def write(self, text: str) -> int:
        """Queue a text; never waits."""
        with self._counting:
            if self._characters + len(text) > MOST_CHARACTERS or self._texts.full():
                self._dropped += 1
            else:
                self._characters += len(text)
                self._texts.put_nowait(text)
        return len(text)

    def flush(self) -> None:
        """Nothing: what is queued is on its way."""

    def isatty(self) -> bool:
        """Whether a person reads it."""
        return os.isatty(self._descriptor)

    def fileno(self) -> int:
        """The descriptor behind it."""
        return self._descriptor

    def close(self) -> None:
        """Write what waits, for no longer than `LAST` seconds."""
        try:
            self._texts.put(None, timeout=LAST)
        except queue.Full:
            return  # nobody has read for long, and nobody will now
        self._thread.join(LAST)

    def _empty(self) -> None:
        while (text := self._texts.get()) is not None:
            with self._counting:
                self._characters -= len(text)
            self._write(text)
            if self._dropped:
                dropped, self._dropped = self._dropped, 0
                self._write(f"{dropped} log lines were dropped: nobody was reading them\n")

    def _write(self, text: str) -> None:
        data = text.encode(self.encoding, "backslashreplace")
        try:
            while data:
                data = data[os.write(self._descriptor, data) :]
        except OSError:
            pass  # whoever read it is gone
