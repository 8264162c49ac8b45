"""Lines on a server's stdout that are no messages as they stand: what is in them all the same."""

from xzpipe.core.jsonrpc import is_message
from xzpipe.core.lines import WINDOW, answered_id

EXCERPT = 200  # bytes of noise that an event shows


def parted(line: bytes) -> tuple[bytes, bytes]:
    """The noise in a line, and the message behind it; that is empty when the line holds none."""
    mended = line.decode(errors="replace").encode()  # Windows servers write other encodings
    glued = max(mended.find(b'{"jsonrpc"'), 0)  # behind a print that did not end its line
    message = mended[glued:]
    return (mended[:glued], message) if message != line and is_message(message) else (line, b"")


def lost_id(line: bytes) -> bytes | None:
    """The raw id of the request that a line which cannot be read may have been the answer to."""
    if not line.endswith(b"}"):  # a log would break off anywhere; an answer with NaN in it does not
        return None
    return answered_id(line[:WINDOW]) or answered_id(line[-WINDOW:])


def excerpt(line: bytes) -> str:
    """The beginning of a line, to be shown."""
    return line[:EXCERPT].decode(errors="replace") + ("…" if len(line) > EXCERPT else "")
