"""xzpipe's own settings: command line > environment > .env > config file > default, in one place.

Pure. What concerns endpoints is in `endpoints`.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

from xzpipe.config.model import Own
from xzpipe.errors import UsageError


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the command line said; None where it said nothing. Waits are in seconds."""

    endpoint: str | None = field(default=None, repr=False)
    mode: str | None = None
    backoff_initial: float | None = None
    backoff_max: float | None = None
    backoff_reset: float | None = None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings in effect. Times are in seconds."""

    backoff_initial: float
    backoff_maximum: float
    backoff_reset: float
    max_message_bytes: int
    call_timeout: float


def effective(own: Own, env: Mapping[str, str], overrides: Overrides) -> Settings:
    """The settings in effect; `env` already holds what `.env` adds to the environment.

    Raises UsageError for what is no time, and for a first wait above the longest.
    """
    initial = _seconds("initial", overrides.backoff_initial, env, own.backoff.initial)
    maximum = _seconds("max", overrides.backoff_max, env, own.backoff.maximum)
    if initial > maximum:
        raise UsageError(
            f"the first wait, {initial:g} s, is longer than the longest, {maximum:g} s",
            "Look at --backoff-*, XZPIPE_BACKOFF_* and xzpipe.backoff in the config file.",
        )
    return Settings(
        backoff_initial=initial,
        backoff_maximum=maximum,
        backoff_reset=_seconds("reset", overrides.backoff_reset, env, own.backoff.reset_after),
        max_message_bytes=own.max_message_bytes,
        call_timeout=own.call_timeout,
    )


def _seconds(name: str, value: float | str | None, env: Mapping[str, str], file: float) -> float:
    place = f"--backoff-{name}"
    if value is None:
        place = f"XZPIPE_BACKOFF_{name.upper()}"
        value = env.get(place) or file
    try:
        seconds = float(value)
    except ValueError:
        seconds = math.nan
    if 0 < seconds < math.inf:
        return seconds
    raise UsageError(f"{place}: expected seconds above 0", "For example 30, or 0.5.")
