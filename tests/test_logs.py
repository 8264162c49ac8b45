"""What stands on stderr, in each format: readable, bounded to a line, and without secrets."""

import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.endpoints import TOKEN, broker
from tests.servers.session import WAIT
from xzpipe import logs
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.events import NoiseOnStdout, ServerDown, ServerReady, ToolCalled
from xzpipe.core.link_events import BadFrame, LinkClosed, LinkDown, LinkWaiting
from xzpipe.websocket import Dialling, dial

FORMATS = ["rich", "plain", "json"]
READY = ServerReady("calc", "Calculator", "1.2", 3, 0.25)
TIME = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d"
JWT = "eyJhbGciOiJFUzI1NiJ9.eyJ1c2VySWQiOjF9.c2ln"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def as_it_was_before() -> Iterator[None]:
    """Logging is the process's own: give it back as it was."""
    log, library = logging.getLogger("xzpipe"), logging.getLogger("xzpipe.websocket")
    before = log.handlers[:], log.level, log.propagate, library.level
    yield
    logs.setup("info", "plain", {}, ())
    log.handlers[:], level, log.propagate, library_level = before
    log.setLevel(level)
    library.setLevel(library_level)


def logged(capsys, *events, level="debug", format="plain", env=None, secrets=()) -> str:
    """What these events look like on stderr."""
    emit = logs.setup(level, format, env or {}, secrets)
    for event in events:
        emit(event)
    said = capsys.readouterr()
    assert said.out == ""
    return said.err


def unwrapped(text: str) -> str:
    """Without the line breaks that rich puts in."""
    return re.sub(r"\s+", "", text)


# Formats


def test_plain_lines_have_a_time_and_a_level(capsys):
    text = logged(capsys, READY, LinkDown("calc", "the connection was lost", "", 61.0, 2.0))
    first, second = text.splitlines()
    assert re.fullmatch(
        rf"{TIME} INFO    calc: ready in 0\.2 s, 3 tools \(Calculator 1\.2\)", first
    )
    assert re.fullmatch(
        rf"{TIME} WARNING calc: the connection was lost after 61 s; next try in 2\.0 s", second
    )


def test_under_journald_lines_have_a_priority_in_place_of_the_time(capsys):
    events = (
        LinkWaiting("a"), LinkClosed("a"), LinkDown("a", "x", "", 0.0, 1.0),
        ServerDown("a", "x", (), 1.0),
    )  # fmt: skip
    lines = logged(capsys, *events, env={"JOURNAL_STREAM": "8:12345"}).splitlines()
    assert [line[:3] for line in lines] == ["<7>", "<6>", "<4>", "<3>"]
    assert lines[1] == "<6>a: link closed"


def test_json_lines_carry_the_fields_of_their_event(capsys):
    down = ServerDown("calc", "it exited with code 1", ("Traceback:", "  no module"), 2.5)
    first, second = map(json.loads, logged(capsys, READY, down, format="json").splitlines())
    time = first.pop("time")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}\+00:00", time)
    assert first == {
        "level": "info", "event": "ServerReady", "server": "calc", "name": "Calculator",
        "version": "1.2", "tools": 3, "seconds": 0.25, "message": str(READY),
    }  # fmt: skip
    assert (second["level"], second["stderr"]) == ("error", ["Traceback:", "  no module"])


def test_json_lines_of_other_records_name_their_logger(capsys):
    logs.setup("info", "json", {}, ())
    logging.getLogger("xzpipe.other").warning("%s of %s", 1, "文")
    line = json.loads(capsys.readouterr().err)
    assert (line["event"], line["logger"], line["message"]) == ("Log", "xzpipe.other", "1 of 文")


def test_rich_lines_have_a_clock_and_take_no_markup(capsys):
    text = logged(capsys, LinkClosed("[red]calc[/red] :smile:"), format="rich")
    assert re.match(r"\[\d\d:\d\d:\d\d\] INFO ", text)
    assert "[red]calc[/red] :smile:: link closed" in text


SCRIPT = """
import os
from xzpipe import logs
from xzpipe.core.link_events import LinkClosed
logs.setup("info", "auto", os.environ, ())(LinkClosed("calc"))
"""


@pytest.mark.parametrize(
    ("term", "shape"),
    [("xterm", r"(\x1b\[[\d;]+m)*\[\d\d:\d\d:\d\d\]"), ("dumb", TIME)],
)
def test_auto_is_rich_at_a_terminal_that_can_show_it(term, shape):
    ours, theirs = pty.openpty()
    env = {"PATH": os.environ["PATH"], "TERM": term}
    subprocess.run([sys.executable, "-c", SCRIPT], stderr=theirs, env=env, check=True, timeout=WAIT)
    os.close(theirs)
    said = os.read(ours, 10_000).decode()
    os.close(ours)
    assert re.match(shape, said), said


def test_auto_is_plain_where_no_terminal_is(capsys):
    assert re.match(TIME, logged(capsys, READY, format="auto", env={"TERM": "xterm"}))


@pytest.mark.parametrize(
    ("level", "shown"),
    [("debug", "dhwe"), ("info", "hwe"), ("warning", "we"), ("error", "e")],
)
def test_what_is_below_the_level_is_not_shown(level, shown, capsys):
    events = (
        LinkWaiting("d"), LinkClosed("h"), LinkDown("w", "x", "", 0.0, 1.0),
        ServerDown("e", "x", (), 1.0),
    )  # fmt: skip
    text = logged(capsys, *events, level=level, env={"JOURNAL_STREAM": "8:1"})
    assert "".join(line[3] for line in text.splitlines()) == shown


CALLED = ToolCalled("calc", "add", "calc#1", 0.001, "ok")


@pytest.mark.parametrize("event", [CALLED, NoiseOnStdout("calc", "x"), BadFrame("calc", "x")])
def test_of_a_flood_a_readable_part_is_logged_and_the_rest_is_admitted(event, capsys):
    time = 100.0
    logs.setup("info", "plain", {"JOURNAL_STREAM": "8:1"}, ())
    emit = logs.EventLog(lambda: time)
    for _ in range(1000):
        emit(event)
    emit(LinkClosed("calc"))
    time = 101.0
    emit(event)
    *shown, admitted, other, again = capsys.readouterr().err.splitlines()
    assert len(shown) == logs.MOST and set(shown) == {again}
    assert admitted.startswith(f"<4>more than {logs.MOST} ")
    assert other == "<6>calc: link closed"


def test_no_call_that_failed_is_left_out_of_the_log(capsys):
    logs.setup("info", "plain", {"JOURNAL_STREAM": "8:1"}, ())
    emit = logs.EventLog(lambda: 100.0)
    for _ in range(100):
        emit(CALLED)
        emit(ToolCalled("calc", "add", "calc#1", 0.001, "server gone"))
    lines = capsys.readouterr().err.splitlines()
    assert lines.count("<4>calc: add → server gone in 1 ms (0 bytes asked, 0 answered)") == 100


def test_at_debug_everything_is_logged(capsys):
    logs.setup("debug", "plain", {"JOURNAL_STREAM": "8:1"}, ())
    emit = logs.EventLog(lambda: 100.0)
    for _ in range(100):
        emit(CALLED)
    assert len(capsys.readouterr().err.splitlines()) == 100


def test_setting_up_again_replaces_what_was_set_up(capsys):
    logs.setup("info", "json", {}, ())
    assert len(logged(capsys, READY).splitlines()) == 1


# One event, one line


def test_further_lines_are_indented(capsys):
    text = logged(capsys, LinkClosed("one\ntwo\n2026-01-01 00:00:00 ERROR   forged"))
    assert text.splitlines()[1:] == [
        "    two",
        "    2026-01-01 00:00:00 ERROR   forged: link closed",
    ]


@pytest.mark.parametrize("format", FORMATS)
def test_control_characters_are_shown_and_not_obeyed(format, capsys):
    evil = "\x1b[2J\x1b]0;title\x07 \r\x00\x9b31m \u2028 \x7f"
    text = logged(capsys, LinkClosed(evil), format=format)
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", text)
    if format == "json":
        assert json.loads(text)["link"] == evil
    else:
        assert "\\x1b[2J\\x1b]0;title\\x07" in text
        assert not re.search("[\x7f-\x9f\u2028]", text)


@given(st.text())
def test_a_safe_text_cannot_leave_its_place(text):
    shown = logs.safe(text)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029]", shown)
    assert all(line.startswith("    ") for line in shown.split("\n")[1:])


@pytest.mark.parametrize("format", FORMATS)
def test_half_a_character_does_not_break_the_log(format, capsys):
    assert "link closed" in logged(capsys, LinkClosed("\ud800"), format=format)


# Secrets


@pytest.mark.parametrize("format", FORMATS)
def test_no_event_shows_a_secret_in_any_field(format, capsys):
    secret = "SECRET+TOKEN/0123=="
    down = ServerDown(
        "calc", f"url wss://h/?token={secret}", (f"token is {secret}", f"key={JWT}"), 1.0
    )
    text = unwrapped(logged(capsys, down, format=format, secrets=(secret,)))
    assert "SECRET" not in text
    assert "eyJ1c2VySWQiOjF9" not in text
    assert "url" in text
    assert "***" in text


@pytest.mark.parametrize("format", FORMATS)
def test_no_traceback_shows_a_secret(format, capsys):
    logs.setup("info", format, {}, ("SECRET-TOKEN",))
    try:
        raise ValueError("cannot dial wss://h/mcp/?token=ANOTHER with SECRET-TOKEN")
    except ValueError:
        logging.getLogger("xzpipe.x").exception("it failed: %s", "SECRET-TOKEN")
    text = unwrapped(capsys.readouterr().err)
    assert "SECRET-TOKEN" not in text
    assert "ANOTHER" not in text
    assert "Traceback" in text
    assert "ValueError" in text


@pytest.mark.anyio
@pytest.mark.parametrize("format", FORMATS)
async def test_the_librarys_debug_log_is_shown_without_the_token(format, capsys):
    async with broker() as endpoint:
        address = Endpoint(endpoint.url.replace("ws://", "ws://user:pass@"))
        logs.setup("debug", format, {}, address.secrets)
        link = await dial(address, Dialling("none"), "acw_tc=1")
        peer = await endpoint.accept()
        await peer.send({"url": endpoint.url, "said": TOKEN})
        with anyio.move_on_after(WAIT) as scope:
            await link.run(lambda _: scope.cancel())
        await link.close()
    text = unwrapped(capsys.readouterr().err)
    assert "GET/mcp/?token=***HTTP/1.1" in text
    assert "Authorization:Basic***" in text
    assert TOKEN not in text


@pytest.mark.anyio
async def test_the_library_says_nothing_at_info(capsys):
    logs.setup("info", "plain", {}, ())
    async with broker() as endpoint:
        link = await dial(Endpoint(endpoint.url), Dialling("none"))
        (await endpoint.accept()).reset()
        with anyio.fail_after(WAIT):
            await link.run(lambda _: None)
        await link.close()
    assert capsys.readouterr().err == ""


def test_what_is_shown_past_the_log_is_cleaned_of_the_same_secrets():
    logs.setup("info", "plain", {}, ("SECRET-TOKEN",))
    assert logs.clean("about SECRET-TOKEN and key=x") == "about *** and key=***"


def test_under_journald_every_line_has_its_priority(capsys):
    down = ServerDown("calc", "it exited with code 1", ("Traceback", "NameError"), 1.0)
    text = logged(capsys, down, env={"JOURNAL_STREAM": "8:1"})
    assert text.splitlines() == [
        "<3>calc: it exited with code 1; next try in 1.0 s; it last wrote:",
        "<3>        Traceback",
        "<3>        NameError",
    ]
