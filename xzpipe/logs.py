"""Events and log records → lines on stderr: rich at a terminal, plain elsewhere, JSON on request.

Every line passes `redact`, so that no token gets through, whoever logged it; and control characters
that a peer sent are shown, not obeyed.
"""

import json
import logging
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec

from xzpipe.background import BackgroundStream
from xzpipe.core.endpoint import redact
from xzpipe.core.events import Event, NoiseOnStdout, ToolCalled
from xzpipe.core.link_events import BadFrame

MOST = 20  # of a frequent event in a second; an assistant makes one call, and a line costs another
FREQUENT: dict[type[Event], str] = {
    ToolCalled: "tool calls",
    NoiseOnStdout: "lines that are not MCP",
    BadFrame: "bad messages",
}

_logger = logging.getLogger("xzpipe")
_NUMBERS = logging.getLevelNamesMapping()
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]")
_secrets: tuple[str, ...] = ()  # what no text may show, as `setup` was told
_SYSLOG = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3}


def setup(
    level: str, format: str, env: Mapping[str, str], secrets: tuple[str, ...]
) -> Callable[[Event], None]:
    """Send log records and events of at least `level` to stderr; what events are to be handed to.

    `auto` is rich on a terminal and plain elsewhere; under journald, which has clocks of its own,
    plain lines have a priority in place of the time.
    """
    if format == "auto":
        format = "rich" if sys.stderr.isatty() and env.get("TERM") != "dumb" else "plain"
    stream = _stream()
    handler = _rich(stream) if format == "rich" else logging.StreamHandler(stream)
    global _secrets
    _secrets = secrets
    handler.setFormatter(_formatter(format, env))
    number = _NUMBERS[level.upper()]
    _logger.handlers[:] = [handler]
    _logger.setLevel(number)
    _logger.propagate = False
    # what the library says above DEBUG, our events say in better words
    library = logging.getLogger("xzpipe.websocket")
    library.setLevel(logging.DEBUG if number <= logging.DEBUG else logging.CRITICAL)
    return EventLog()


def hide(secrets: tuple[str, ...]) -> None:
    """What no text may show from now on, besides what it may not show already."""
    global _secrets
    _secrets = tuple({*_secrets, *secrets})


def warn(text: str) -> None:
    """Log a warning that is no event."""
    _logger.warning("%s", text)


class EventLog:
    """Logs the events it is called with; of frequent ones, unless at debug, no more than a person
    can read and a memory card can bear."""

    def __init__(self, now: Callable[[], float] = monotonic) -> None:
        """`now` is in seconds."""
        self._now = now
        self._second = 0
        self._counts: Counter[type[Event]] = Counter()

    def __call__(self, event: Event) -> None:
        if type(event) in FREQUENT and not self._has_room(event):
            return
        number = _NUMBERS[event.level.upper()]
        if _logger.isEnabledFor(number):
            _logger.log(number, "%s", event, extra={"event": event})

    def _has_room(self, event: Event) -> bool:
        """Whether one more of this second is logged; says so once when not."""
        second = int(self._now())
        if second != self._second:
            self._second = second
            self._counts.clear()
        kind = type(event)
        self._counts[kind] += 1
        if self._counts[kind] <= MOST or _logger.isEnabledFor(logging.DEBUG):
            return True
        if self._counts[kind] == MOST + 1:
            what = FREQUENT[kind]
            _logger.warning("more than %d %s a second: the rest is not logged", MOST, what)
        return event.level == "warning" and kind is ToolCalled


def clean(text: str) -> str:
    """A text without secrets, for what is shown past the log."""
    return redact(text, _secrets)


def safe(text: str) -> str:
    """A text whose control characters are shown as \\xNN; its further lines are indented."""
    shown = _CONTROL.sub(lambda found: f"\\x{ord(found[0]):02x}", text)
    return shown.replace("\n", "\n    ")


def _formatter(format: str, env: Mapping[str, str]) -> logging.Formatter:
    if format == "json":
        return _Json()
    if format == "rich":
        return _Plain("%(message)s")
    if env.get("JOURNAL_STREAM"):
        return _Journal("%(message)s")
    return _Plain("%(asctime)s %(levelname)-7s %(message)s")


class _Plain(logging.Formatter):
    default_msec_format = None  # whole seconds; a `datefmt` would override rich's own format

    def format(self, record: logging.LogRecord) -> str:
        return safe(redact(super().format(record), _secrets))


class _Journal(_Plain):
    """Each line with its priority, as journald reads it (sd-daemon(3))."""

    def format(self, record: logging.LogRecord) -> str:
        priority = f"<{_SYSLOG.get(record.levelno, 5)}>"
        return priority + super().format(record).replace("\n", f"\n{priority}")


class _Json(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event: Event | None = getattr(record, "event", None)
        members: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": type(event).__name__ if event else "Log",
            **(msgspec.structs.asdict(event) if event else {"logger": record.name}),
            "message": super().format(record),
        }
        clean = {key: self._clean(value) for key, value in members.items()}
        return json.dumps(clean, ensure_ascii=False)

    def _clean(self, value: object) -> object:
        if isinstance(value, str):
            return redact(value, _secrets)
        return [self._clean(each) for each in value] if isinstance(value, tuple) else value


def _stream() -> Any:
    try:
        return BackgroundStream(sys.stderr.fileno())
    except (OSError, ValueError):  # it is a file in memory, or closed
        return sys.stderr


def _rich(stream: Any) -> logging.Handler:
    from rich.console import Console
    from rich.logging import RichHandler

    return RichHandler(
        console=Console(file=stream),
        show_path=False,
        markup=False,
        omit_repeated_times=False,
        log_time_format="[%X]",
    )
