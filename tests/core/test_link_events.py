import pytest

from xzpipe.core import link_events
from xzpipe.core.events import Event
from xzpipe.core.link_events import (
    BadFrame,
    LinkAdded,
    LinkAnswered,
    LinkClosed,
    LinkDialling,
    LinkDown,
    LinkRemoved,
    LinkRenewed,
    LinkUp,
    LinkWaiting,
    ModeSwitched,
    Refused,
)

SENTENCES = [
    (
        BadFrame("link", "not JSON"),
        "warning",
        "link: a message that is none was refused: not JSON",
    ),
    (LinkWaiting("link"), "debug", "link: the link waits for its server to be ready"),
    (
        LinkAdded("link", "home", "wss://host/mcp/", None),
        "debug",
        "link: to be linked to wss://host/mcp/",
    ),
    (LinkRemoved("link"), "debug", "link: not linked any longer"),
    (LinkDialling("link"), "debug", "link: connecting"),
    (LinkAnswered("link", 0.0416), "debug", "link: a ping was answered in 42 ms"),
    (LinkUp("link", "wss://host/mcp/", ""), "info", "link: connected to wss://host/mcp/"),
    (
        LinkUp("link", "wss://host/mcp/", "http://proxy"),
        "info",
        "link: connected to wss://host/mcp/ through the proxy http://proxy",
    ),
    (
        LinkDown("link", "refused", "", 0.0, 0.0),
        "warning",
        "link: refused; reconnecting now",
    ),
    (
        LinkDown("link", "closed with 4004", "See the server's log", 75.0, 1.25),
        "warning",
        "link: closed with 4004 after 75 s; next try in 1.2 s. See the server's log",
    ),
    (
        ModeSwitched("home", ("calc", "time")),
        "warning",
        "home: it keeps one connection per token, so calc, time share one from now on; "
        'to start that way, set "mode": "aggregate" in xzpipe.endpoints.home',
    ),
    (
        ModeSwitched("endpoint", ("calc", "time")),
        "warning",
        "endpoint: it keeps one connection per token, so calc, time share one from now on; "
        'to start that way, set "mode": "aggregate" in xzpipe',
    ),
    (
        LinkRenewed("calc", 5.0, 1.0),
        "info",
        "calc: its tool list changed; connecting anew, so that the endpoint reads it",
    ),
    (LinkClosed("link"), "info", "link: link closed"),
    (
        Refused(401, "the token is missing"),
        "warning",
        "a connection was refused (HTTP 401): the token is missing",
    ),
]


@pytest.mark.parametrize(("event", "level", "sentence"), SENTENCES)
def test_an_event_is_a_sentence_with_a_level(event, level, sentence):
    assert (event.level, str(event)) == (level, sentence)


def test_every_event_has_its_sentence():
    here = {each for each in Event.__subclasses__() if each.__module__ == link_events.__name__}
    assert here == {type(event) for event, _, _ in SENTENCES}
