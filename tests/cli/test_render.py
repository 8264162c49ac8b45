"""Tables and results: what peers send is shown, not obeyed."""

import json

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


def test_of_other_content_it_is_said_what_it_is(capsys):
    render.result({"content": [{"type": "image", "data": "xxx"}, {"type": "resource"}]})
    assert capsys.readouterr().out == (
        "[image content: see --json]\n[resource content: see --json]\n"
    )


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
