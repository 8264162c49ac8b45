"""Why a link ended or could not be opened → what to do about it, and one sentence for the user.

The codes and their meanings are from wire.md §1 and §3.
"""

from dataclasses import dataclass
from enum import Enum

REFUSED = 60.0  # seconds at least after a refusal that only a person can mend
LONGEST_ASKED = 3600.0  # seconds; a Retry-After beyond it must not silence a bridge for days
REPLACED = "新连接替换"
RELIST = "its tool list changed"  # we close a link, so that it is read again


class Cause(Enum):
    """What kind of thing happened."""

    CLOSED = "closed"  # the WebSocket was closed; `code` and `reason` say how
    STATUS = "status"  # the handshake got an HTTP status other than 101
    DNS = "dns"
    REFUSED = "refused"
    TLS = "tls"
    TIMEOUT = "timeout"
    PROXY = "proxy"
    NETWORK = "network"  # anything else that the system reports
    OURS = "ours"  # we closed it


@dataclass(frozen=True, slots=True)
class Failure:
    """The end of a link, or of an attempt at one. `reason` is the peer's or the system's
    wording."""

    cause: Cause
    code: int = 0
    reason: str = ""
    retry_after: float | None = None  # seconds, from the header of a status
    cookie: str = ""  # name=value, from the Set-Cookie header of a status


class Action(Enum):
    """What to do next."""

    RETRY = "retry"  # after the delay of the backoff, and `at_least` seconds
    RETRY_WITH_COOKIE = "retry with cookie"  # at once, but only once
    RENEW = "renew"  # soon, whatever the backoff: we have closed it for that
    GIVE_WAY = "give way"  # another connection took the place: after the longest delay


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, why in words, and what the user can do about it."""

    action: Action
    cause: str
    hint: str = ""
    at_least: float = 0.0


_ANEW = "Copy the endpoint address anew from the console"
_CLOSED = {
    1000: ("the endpoint ended the connection", ""),
    1001: ("the endpoint is going away", ""),
    1006: ("the connection was lost", ""),
    1008: ("the endpoint refuses this token", f"{_ANEW}; in it, + / = must stay %-encoded"),
    1009: ("a message was too big", "Endpoints may take as little as 1 MiB: let the tool say less"),
    1011: ("the endpoint had an internal error", ""),
    4004: (
        "the endpoint missed an answer, or had an internal error",
        "If this comes 10 s after each connect, a server is too slow to answer",
    ),
}
_STATUS = {
    400: ("the endpoint says the address is malformed", f"{_ANEW}: the token may be cut off"),
    401: ("the endpoint refuses this token", _ANEW),
    403: (
        "the endpoint refuses this address",
        "The path or the token is wrong; a self-hosted one is /mcp_endpoint/mcp/?token=…",
    ),
    404: (
        "there is no endpoint at this address",
        "Check the path; behind nginx, /mcp_endpoint/ must be forwarded as a WebSocket",
    ),
    426: ("the endpoint's firewall turned us away, cookie or not", ""),
    429: ("the endpoint says there are too many connections", ""),
    503: ("the endpoint is overloaded, or in maintenance", ""),
}
_OTHER = {
    Cause.DNS: ("the endpoint's name cannot be resolved", "Check the host name and the network"),
    Cause.REFUSED: ("nothing listens at the endpoint's address", "Check the host and the port"),
    Cause.TLS: ("no secure connection", "Check this machine's clock and CA certificates"),
    Cause.TIMEOUT: ("the endpoint did not answer in time", "Check network, firewall and proxy"),
    Cause.PROXY: ("the proxy could not be used", "See the setting `proxy`: env, none, or a URL"),
    Cause.NETWORK: ("no connection", ""),
}
_BY_A_PERSON = {400, 401, 403, 404}


def judge(failure: Failure) -> Verdict:
    """What the end of a link means."""
    if failure.cause is Cause.OURS and failure.reason == RELIST:
        return Verdict(Action.RENEW, RELIST)
    if failure.cause is Cause.OURS:
        return Verdict(Action.RETRY, f"closed, since {failure.reason}")
    if failure.cause is Cause.CLOSED:
        return _judge_close(failure)
    if failure.cause is Cause.STATUS:
        return _judge_status(failure)
    words, hint = _OTHER[failure.cause]
    return Verdict(Action.RETRY, _with_reason(words, failure.reason), hint)


def _judge_close(failure: Failure) -> Verdict:
    if failure.code == 1000 and failure.reason == REPLACED:
        return Verdict(
            Action.GIVE_WAY,
            "a newer connection with the same token took the place",
            "It keeps one connection per token. If a link of another server took it: set "
            '"mode": "aggregate" (or auto) in xzpipe; if another bridge did: end one of them',
        )
    words, hint = _CLOSED.get(failure.code, ("the endpoint closed the connection", ""))
    at_least = REFUSED if failure.code == 1008 else 0.0
    words = _with_reason(words, f"{failure.code} {failure.reason}".strip())
    return Verdict(Action.RETRY, words, hint, at_least)


def _judge_status(failure: Failure) -> Verdict:
    if failure.code == 426 and failure.cookie:
        return Verdict(Action.RETRY_WITH_COOKIE, "the endpoint's firewall wants its cookie back")
    words, hint = _STATUS.get(failure.code, ("the endpoint refused the connection", ""))
    asked = min(failure.retry_after or 0.0, LONGEST_ASKED)
    at_least = max(asked, REFUSED if failure.code in _BY_A_PERSON else 0.0)
    return Verdict(Action.RETRY, _with_reason(words, f"HTTP {failure.code}"), hint, at_least)


def _with_reason(words: str, reason: str) -> str:
    return f"{words} ({reason})" if reason else words
