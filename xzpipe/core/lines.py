"""Chunks of bytes → lines, in bounded memory. Only b"\\n" ends a line: U+2028 and the like are
content."""

import re
from dataclasses import dataclass

WINDOW = 4096  # bytes kept of either end of a line over the limit: enough to hold a JSON-RPC id


@dataclass(frozen=True, slots=True)
class Overlong:
    """One end of a line that is over the limit: its head when the limit is passed, its tail when it
    ends (`ended`)."""

    part: bytes
    ended: bool = False


class LineSplitter:
    """Feed chunks, get whole lines without their ends. A line over `limit` bytes is never held."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._begun = bytearray()  # the line that has not ended yet; its tail once over the limit
        self._discarding = False

    def feed(self, chunk: bytes) -> list[bytes | Overlong]:
        """The lines that end in this chunk, in order; `Overlong` in place of one over the limit."""
        *ended, rest = chunk.split(b"\n")
        found: list[bytes | Overlong] = []
        for line in ended:
            if self._begun:
                self._keep(line, found)
                line = bytes(self._begun)
                self._begun.clear()
            if self._discarding:
                found.append(Overlong(line[-WINDOW:], ended=True))
                self._discarding = False
            elif len(line) > self._limit:
                found += Overlong(line[:WINDOW]), Overlong(line[-WINDOW:], ended=True)
            else:
                found.append(line.removesuffix(b"\r"))
        if rest:
            self._keep(rest, found)
        return found

    def _keep(self, part: bytes, found: list[bytes | Overlong]) -> None:
        self._begun += part
        if len(self._begun) > self._limit and not self._discarding:
            self._discarding = True
            found.append(Overlong(bytes(self._begun[:WINDOW])))
        if self._discarding:
            del self._begun[:-WINDOW]


_HEAD = re.compile(rb'\s*\{\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+)\s*,'
                   rb'\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"(?:result|error)"')  # fmt: skip
_TAIL = re.compile(rb'[}\]"el\d]\s*,\s*(?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?"id"\s*:\s*(\d+)\s*'
                   rb'(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?\}\s*$')  # fmt: skip


def answered_id(part: bytes) -> bytes | None:
    """The raw id of a response, read from one end of it; None when it does not stand there."""
    found = _HEAD.match(part) or _TAIL.search(part)
    return found[1] if found else None
