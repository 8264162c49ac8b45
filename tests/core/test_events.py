import pytest

from xzpipe.core import events
from xzpipe.core.events import (
    ListingFailed,
    NoiseOnStdout,
    Reloaded,
    ReloadFailed,
    ServerAdded,
    ServerDown,
    ServerReady,
    ServerRemoved,
    ServerStarting,
    ServerStopped,
    ServerWrote,
    StaleAnswer,
    TooLarge,
    ToolCalled,
    ToolsChanged,
)

SENTENCES = [
    (ServerStarting("calc", 42), "info", "calc: started (pid 42), waiting for it to be ready"),
    (
        ServerReady("calc", "Calc", "1.2", 1, 0.34),
        "info",
        "calc: ready in 0.3 s, 1 tool (Calc 1.2)",
    ),
    (ServerReady("calc", "Calc", "", 0, 12.0), "info", "calc: ready in 12.0 s, 0 tools (Calc)"),
    (ServerReady("calc", "", "", 2, 0.0), "info", "calc: ready in 0.0 s, 2 tools"),
    (ServerDown("calc", "exit code 1", (), 0.0), "error", "calc: exit code 1; restarting now"),
    (
        ServerDown("calc", "exit code 1", ("Traceback", "KeyError: 'x'"), 2.0),
        "error",
        "calc: exit code 1; next try in 2.0 s; it last wrote:\n    Traceback\n    KeyError: 'x'",
    ),
    (ServerStopped("calc", "SIGTERM"), "info", "calc: stopped (SIGTERM)"),
    (ServerWrote("calc", "hello"), "info", "calc | hello"),
    (NoiseOnStdout("calc", "hi"), "warning", "calc: not MCP on its stdout, ignored: hi"),
    (
        TooLarge("calc", 16 * 2**20),
        "warning",
        "calc: a message over 16,777,216 bytes was discarded (maxMessageBytes)",
    ),
    (ToolsChanged("calc", 1), "info", "calc: its tool list changed, now 1 tool"),
    (
        ListingFailed("calc", "no"),
        "warning",
        "calc: its new tool list could not be read (no); the old stays",
    ),
    (
        ToolCalled("calc", "add", "link", 0.1234, "ok"),
        "info",
        "calc: add → ok in 123 ms (0 bytes asked, 0 answered)",
    ),
    (
        ToolCalled("calc", "add", "calc#1", 0.1234, "server gone", "home", 20, 1234),
        "warning",
        "calc: add → server gone in 123 ms for home (20 bytes asked, 1,234 answered)",
    ),
    (
        Reloaded(("calc", "time")),
        "info",
        "the config was read again; in effect with calc, time",
    ),
    (
        ReloadFailed("c.json:1:2: not valid JSON", ""),
        "error",
        "the config was read again and left out, since it cannot be used:\n"
        "c.json:1:2: not valid JSON",
    ),
    (ServerAdded("calc"), "debug", "calc: to be kept alive"),
    (ServerRemoved("calc"), "debug", "calc: not kept any longer"),
    (StaleAnswer("calc"), "debug", "calc: an answer came too late and was dropped"),
]


@pytest.mark.parametrize(("event", "level", "sentence"), SENTENCES)
def test_an_event_is_a_sentence_with_a_level(event, level, sentence):
    assert (event.level, str(event)) == (level, sentence)


def test_every_event_has_its_sentence():
    kinds = set(events.Event.__subclasses__())
    here = {each for each in kinds if each.__module__ == events.__name__}
    assert here == {type(event) for event, _, _ in SENTENCES}
