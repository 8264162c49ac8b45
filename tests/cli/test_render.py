"""Tables and results: what peers send is shown, not obeyed."""

import json
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from xzpipe.cli import render
from xzpipe.errors import CallError

EVIL = "\x1b[2Jevil\x07"


def test_a_table_of_tools_names_arguments_and_the_first_line_of_the_description(capsys):
    schema = {"properties": {"a": {}, "b": {}}}
    add = {"name": "add", "description": " Adds.\nAnd more.", "inputSchema": schema}
    render.tools([add, {"name": "bare"}])
    header, first, second = capsys.readouterr().out.splitlines()
    assert header.split() == ["tool", "arguments", "description"]
    assert first.split() == ["add", "a,", "b", "Adds."]
    assert second.split() == ["bare"]


def test_servers_are_named_where_the_endpoint_names_them(capsys):
    render.tools([{"name": "add", "server_id": "calc"}, {"name": "sub"}])
    header, add, _ = capsys.readouterr().out.splitlines()
    assert header.split()[:2] == ["tool", "server"]
    assert add.split() == ["add", "calc"]


def test_what_a_server_wrote_is_no_markup_and_no_control_sequence(capsys):
    render.tools(
        [
            {
                "name": f"[red]{EVIL}[/red]",
                "description": f"{EVIL} [link=x]",
                "inputSchema": {"properties": {EVIL: {}}},
                "server_id": EVIL,
            }
        ]
    )
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "[red]\\x1b[2Jevil\\x07[/red]" in out
    assert "[link=x]" in out


@pytest.mark.parametrize(
    "tool",
    [
        {},
        {"name": None, "description": None, "inputSchema": None},
        {"name": 5, "description": ["x"], "inputSchema": [1]},
        {"name": "x", "inputSchema": {"properties": [1, 2]}},
        {"name": "x", "inputSchema": {"properties": 7}},
    ],
)
def test_an_odd_tool_is_shown_somehow(tool, capsys):
    render.tools([tool])
    assert len(capsys.readouterr().out.splitlines()) == 2


def test_a_long_description_is_not_cut(capsys):
    render.tools([{"name": "x", "description": "word " * 200 + "end"}])
    assert "end" in capsys.readouterr().out


def test_the_texts_of_a_result_go_to_stdout_as_they_are(capsys):
    texts = [{"type": "text", "text": text} for text in ("one\ntwo", EVIL, "你好")]
    render.result({"content": texts})
    assert capsys.readouterr() == (f"one\ntwo\n{EVIL}\n你好\n", "")


MIXED = {
    "content": [
        {"type": "image", "data": "xxx", "mimeType": "image/png"},
        {"type": "text", "text": "a cat"},
        {"type": "audio", "data": "xxx"},
        {"type": "resource", "resource": {"blob": "xxx", "mimeType": "text/css"}},
        {"type": "resource", "resource": {"text": "words"}},
        {"type": "image", "image": "as devices have it"},
    ]
}


def test_of_other_content_it_is_said_what_it_is_and_how_to_get_it(capsys):
    render.result(MIXED)
    assert capsys.readouterr().out.splitlines() == [
        "[image content, image/png: see --save DIR, or --json]",
        "a cat",
        "[audio content: see --save DIR, or --json]",
        "[resource content, text/css: see --save DIR, or --json]",
        "[resource content: see --json]",
        "[image content: see --json]",
    ]


def test_what_was_saved_is_where_it_was_saved_to(capsys):
    render.result(MIXED, {0: Path("out/cat-1.png"), 3: Path("out/cat-2.css")})
    assert capsys.readouterr().out.splitlines() == [
        "out/cat-1.png",
        "a cat",
        "[audio content: see --json]",
        "out/cat-2.css",
        "[resource content: see --json]",
        "[image content: see --json]",
    ]


@pytest.mark.parametrize("text", ["\x1b[2J", "\x9b2J", "\x7f", "\u2028", "\ud83d", "你好 😀"])
def test_json_holds_no_control_characters_and_the_same_value(text, capsys):
    render.json_of([{text: text}])
    out = capsys.readouterr().out
    assert json.loads(out) == [{text: text}]
    assert all(sign.isprintable() or sign == "\n" for sign in out)
    assert ("你好 😀" in out) == ("你" in text)


def test_json_that_is_too_deep_is_a_call_error():
    deep: list[object] = []
    for _ in range(2000):
        deep = [deep]
    with pytest.raises(CallError, match="nested too deeply"):
        render.json_of(deep)


def test_the_texts_of_a_failure_go_to_stderr(capsys):
    render.result({"content": [{"type": "text", "text": "no"}], "isError": True})
    assert capsys.readouterr() == ("", "no\n")


@pytest.mark.parametrize(
    "found", [{}, {"content": None}, {"content": 42}, {"content": "text"}, {"content": {"a": 1}}]
)
def test_a_result_without_content_shows_nothing(found, capsys):
    render.result(found)
    assert capsys.readouterr() == ("", "")


def test_odd_content_is_shown_somehow(capsys):
    render.result({"content": [1, None, {}, {"type": "text"}, {"type": EVIL}]})
    said = capsys.readouterr().out
    assert len(said.splitlines()) == 5


# Progress


def shown(*moves: str, env: dict[str, str] | None = None) -> str:
    """What is written to a terminal of 80 columns while a bar is told of these moves; without
    colours."""
    lines = [
        "from xzpipe.cli import render",
        "with render.progress() as watch:",
        "    assert watch",
    ]
    script = "\n    ".join(["\n".join(lines), *(f"watch{move}" for move in moves)])
    ours, theirs = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", script],
        stderr=theirs,
        env={"TERM": "xterm", "COLUMNS": "80", **(env or {})},
        check=True,
        timeout=30,
    )
    os.close(theirs)
    return re.sub(r"\x1b\[[\d;]*m", "", read_all(ours))


def read_all(terminal: int) -> str:
    found = b""
    try:
        while data := os.read(terminal, 4096):
            found += data
    except OSError:  # nobody holds its other end any more
        pass
    os.close(terminal)
    return found.decode()


GONE = "\r\n\x1b[?25h\r\x1b[1A\x1b[2K"  # the cursor is back, and the line is empty


def test_progress_is_a_bar_that_leaves_nothing_behind():
    out = shown("(1, 4, 'one of four')", "(2, 4, 'half')")
    assert "━ 25% one of four" in out
    assert "━ 50% half" in out
    assert out.endswith(GONE)


def test_progress_without_an_end_is_a_number():
    assert "━ 12 files" in shown("(12, None, 'files')")


def test_without_progress_there_is_no_bar():
    assert shown() == ""


def test_a_message_is_one_line_that_is_shown_and_not_obeyed():
    out = shown(r"(1, 2, '\x1b[2J[red]evil\nand\tmore')")
    assert r"\x1b[2J[red]evil and more" in out
    long = shown("(1, 2, 'long ' * 100000)")
    assert "━ 50% long" in long and "…" in long
    assert long.count("\n") == 1


@pytest.mark.parametrize(
    ("move", "share"),
    [
        ("(9, 4, '')", "100%"),
        ("(-1, 4, '')", "0%"),
        ("(1, -4, '')", "0%"),
        ("(3, 0, '')", "3"),
        ("(1e308, 1e-320, '')", "100%"),
    ],
)
def test_odd_progress_is_shown_somehow(move, share):
    assert f"━ {share} " in shown(move)


def test_where_nobody_would_see_it_there_is_no_bar(capsys):
    with render.progress() as watch:
        assert watch is None
    assert capsys.readouterr() == ("", "")
    with pytest.raises(subprocess.CalledProcessError):
        shown("(1, 2, '')", env={"TERM": "dumb"})
