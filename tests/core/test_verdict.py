"""What the end of a link means: the table of wire.md §1 and §3, row by row."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.verdict import LONGEST_ASKED, REFUSED, REPLACED, Action, Cause, Failure, judge

RETRY, GIVE_WAY = Action.RETRY, Action.GIVE_WAY
COOKIE = Action.RETRY_WITH_COOKIE
HOUR = LONGEST_ASKED


def closed(code, reason=""):
    return Failure(Cause.CLOSED, code, reason)


def status(code, **more):
    return Failure(Cause.STATUS, code, **more)


TABLE = [
    # what happened, what to do, seconds at least, what the user reads
    (status(400), RETRY, REFUSED, "the endpoint says the address is malformed (HTTP 400)"),
    (status(401), RETRY, REFUSED, "the endpoint refuses this token (HTTP 401)"),
    (status(401, retry_after=1.0), RETRY, REFUSED, "the endpoint refuses this token (HTTP 401)"),
    (status(403), RETRY, REFUSED, "the endpoint refuses this address (HTTP 403)"),
    (status(404), RETRY, REFUSED, "there is no endpoint at this address (HTTP 404)"),
    (status(426), RETRY, 0, "the endpoint's firewall turned us away, cookie or not (HTTP 426)"),
    (status(426, cookie="acw_tc=1"), COOKIE, 0, "the endpoint's firewall wants its cookie back"),
    (status(404, cookie="a=1"), RETRY, REFUSED, "there is no endpoint at this address (HTTP 404)"),
    (status(429), RETRY, 0, "the endpoint says there are too many connections (HTTP 429)"),
    (
        status(429, retry_after=120.0),
        RETRY,
        120,
        "the endpoint says there are too many connections (HTTP 429)",
    ),
    (status(503), RETRY, 0, "the endpoint is overloaded, or in maintenance (HTTP 503)"),
    (
        status(503, retry_after=1e9),
        RETRY,
        HOUR,
        "the endpoint is overloaded, or in maintenance (HTTP 503)",
    ),
    (
        status(503, retry_after=float("inf")),
        RETRY,
        HOUR,
        "the endpoint is overloaded, or in maintenance (HTTP 503)",
    ),
    (
        status(503, retry_after=-30.0),
        RETRY,
        0,
        "the endpoint is overloaded, or in maintenance (HTTP 503)",
    ),
    (status(200), RETRY, 0, "the endpoint refused the connection (HTTP 200)"),
    (status(502), RETRY, 0, "the endpoint refused the connection (HTTP 502)"),
    (
        closed(4004, "Internal server error"),
        RETRY,
        0,
        "the endpoint missed an answer, or had an internal error (4004 Internal server error)",
    ),
    (
        closed(1008, "token解密失败"),
        RETRY,
        REFUSED,
        "the endpoint refuses this token (1008 token解密失败)",
    ),
    (closed(1009), RETRY, 0, "a message was too big (1009)"),
    (closed(1000), RETRY, 0, "the endpoint ended the connection (1000)"),
    (
        closed(1000, REPLACED),
        GIVE_WAY,
        0,
        "a newer connection with the same token took the place",
    ),
    (closed(1000, "bye"), RETRY, 0, "the endpoint ended the connection (1000 bye)"),
    (closed(1001), RETRY, 0, "the endpoint is going away (1001)"),
    (closed(1006), RETRY, 0, "the connection was lost (1006)"),
    (closed(1011, "oops"), RETRY, 0, "the endpoint had an internal error (1011 oops)"),
    (closed(4999, "?"), RETRY, 0, "the endpoint closed the connection (4999 ?)"),
    (Failure(Cause.DNS), RETRY, 0, "the endpoint's name cannot be resolved"),
    (Failure(Cause.REFUSED), RETRY, 0, "nothing listens at the endpoint's address"),
    (
        Failure(Cause.TLS, reason="certificate has expired"),
        RETRY,
        0,
        "no secure connection (certificate has expired)",
    ),
    (Failure(Cause.TIMEOUT), RETRY, 0, "the endpoint did not answer in time"),
    (Failure(Cause.PROXY), RETRY, 0, "the proxy could not be used"),
    (
        Failure(Cause.NETWORK, reason="Network is unreachable"),
        RETRY,
        0,
        "no connection (Network is unreachable)",
    ),
    (Failure(Cause.OURS, reason="it is stuck"), RETRY, 0, "closed, since it is stuck"),
]  # fmt: skip


@pytest.mark.parametrize(("failure", "action", "at_least", "words"), TABLE)
def test_every_end_has_its_verdict(failure, action, at_least, words):
    verdict = judge(failure)
    assert (verdict.action, verdict.at_least, verdict.cause) == (action, at_least, words)


@pytest.mark.parametrize(
    "failure",
    [
        *map(status, (400, 401, 403, 404)),
        *map(closed, (1008, 1009, 4004)),
        closed(1000, REPLACED),
        *map(Failure, (Cause.DNS, Cause.REFUSED, Cause.TLS, Cause.TIMEOUT, Cause.PROXY)),
    ],
    ids=str,
)
def test_what_the_user_can_mend_comes_with_a_hint(failure):
    assert judge(failure).hint


@given(
    st.builds(
        Failure,
        cause=st.sampled_from(Cause),
        code=st.integers(0, 5000),
        reason=st.text(max_size=20),
        retry_after=st.none() | st.floats(allow_nan=False),
        cookie=st.sampled_from(["", "acw_tc=1"]),
    )
)
def test_whatever_a_peer_does_there_is_a_sentence_and_a_bounded_wait(failure):
    verdict = judge(failure)
    assert verdict.cause.strip()
    assert 0.0 <= verdict.at_least <= LONGEST_ASKED
