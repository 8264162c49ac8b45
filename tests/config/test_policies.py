"""`tools` and `headers` of a config, and what is wrong in them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.config.model import Tools
from xzpipe.config.policies import Notes, http_headers, is_glob, tool_policy
from xzpipe.core.policy import ToolPolicy

NAMES = st.sampled_from(["a", "b", "c", "d e", "*", "a*", ""])


def noted(tools: Tools | list[str]) -> Notes:
    notes = Notes()
    tool_policy(tools, "here", notes)
    return notes


def test_a_policy_is_taken_as_it_is_written():
    notes = Notes()
    tools = Tools(
        allow=["a*", "b"],
        deny=["ab"],
        rename={"b": "c", "x.y": "x_y"},
        describe={"b": "What b does.\nAnd how."},
        user_only=["a?"],
    )
    assert tool_policy(tools, "here", notes) == ToolPolicy(
        ("a*", "b"),
        ("ab",),
        {"b": "c", "x.y": "x_y"},
        {"b": "What b does.\nAnd how."},
        ("a?",),
    )
    assert notes == Notes()


def test_a_plain_list_is_what_is_allowed():
    notes = Notes()
    assert tool_policy(["*"], "here", notes) == ToolPolicy(allow=("*",))
    assert tool_policy(Tools(), "here", notes) == ToolPolicy(allow=None)
    assert notes == Notes()


def test_no_tool_let_through_is_warned_of_where_it_is_said():
    assert noted([]).warnings == ["here: is empty, so no tool is let through"]
    assert noted(Tools(allow=[])).warnings == ["here.allow: is empty, so no tool is let through"]


@pytest.mark.parametrize("new", ["", "a b", "a.b", "计算", "a\n", "x" * 65])
def test_a_new_name_is_one_that_every_assistant_takes(new):
    notes = noted(Tools(rename={"old": new}))
    assert notes.problems == [
        "here.rename.old: expected 1 to 64 letters, digits, _ and - as the new name"
    ]
    assert noted(Tools(rename={"old": "x" * 64})) == Notes()


def test_two_tools_may_not_get_one_name():
    notes = noted(Tools(rename={"a": "x", "b": "y", "c": "x"}))
    assert notes.problems == [
        "here.rename.c: expected a new name of its own, found that of here.rename.a"
    ]


@pytest.mark.parametrize(
    ("more", "where"),
    [
        ({"allow": ["a", "b"]}, "here.allow[1]"),
        ({"describe": {"b": "text"}}, "here.describe.b"),
        ({"user_only": ["b"]}, "here.userOnly[0]"),
        ({"rename": {"a": "b", "b": "b"}}, "here.rename.b"),
    ],
)
def test_a_new_name_may_not_be_that_of_a_tool_which_keeps_its_own(more, where):
    problems = noted(Tools(**{"rename": {"a": "b"}, **more})).problems
    expected = (
        f"here.rename.a: expected a new name, found that of a tool at {where}; "
        "names there are those before the renaming"
    )
    assert expected in problems
    assert len(problems) == 1 + ("rename" in more)  # of the last, two are one name as well


@pytest.mark.parametrize(
    "tools",
    [
        Tools(rename={"a": "b", "b": "a"}),
        Tools(rename={"a": "b", "b": "c"}, describe={"b": "text"}),
        Tools(rename={"a": "a"}, describe={"a": "text"}),
        Tools(allow=["b*"], rename={"a": "b"}),
        Tools(deny=["b"], rename={"a": "b"}),
    ],
)
def test_a_name_that_is_free_is_a_new_name(tools):
    """Also when its tool gets another, only a glob matches it, or its tool is denied."""
    assert noted(tools) == Notes()


def test_what_is_said_of_a_denied_tool_is_warned_of():
    notes = noted(Tools(deny=["a*"], rename={"ab": "x", "b": "y"}, describe={"ac": "text"}))
    assert notes.warnings == [
        "here.rename.ab: does nothing, since here.deny holds that tool back",
        "here.describe.ac: does nothing, since here.deny holds that tool back",
    ]
    assert notes.problems == []


@given(
    st.builds(
        Tools,
        allow=st.none() | st.lists(NAMES),
        rename=st.dictionaries(NAMES, NAMES),
        describe=st.dictionaries(NAMES, NAMES),
        user_only=st.lists(NAMES),
    )
)
def test_a_policy_without_problems_makes_no_two_of_its_tools_one(tools):
    if not noted(tools).problems:
        literals = {*(tools.allow or []), *tools.user_only, *tools.rename, *tools.describe}
        old = sorted(name for name in literals if not is_glob(name) or name in tools.rename)
        new = [tools.rename.get(name, name) for name in old]
        assert len(set(new)) == len(new)


@pytest.mark.parametrize(("text", "glob"), [("a-b.c", False), ("a?", True), ("[a]", True)])
def test_a_glob_is_told_from_a_name(text, glob):
    assert is_glob(text) is glob


def test_headers_are_taken_as_they_are():
    notes = Notes()
    headers = {"X-Key": "k k", "Authorization": "Bearer 密"}
    assert http_headers(headers, "here", notes) == headers
    assert notes == Notes()


@pytest.mark.parametrize("name", ["", "a b", "a:b", "键", "a\n"])
def test_a_header_has_a_name_of_http(name):
    notes = Notes()
    http_headers({name: "v"}, "here", notes)
    (problem,) = notes.problems
    assert problem.endswith(": expected a header's name: letters, digits, - and _")
    assert "\n" not in problem


@pytest.mark.parametrize(
    "name",
    [
        "Host",
        "connection",
        "UPGRADE",
        "Content-Length",
        "Transfer-Encoding",
        "Sec-WebSocket-Key",
        "sec-websocket-extensions",
    ],
)
def test_what_the_handshake_sets_is_not_for_the_config(name):
    notes = Notes()
    http_headers({name: "v"}, "here", notes)
    assert notes.problems == [f"here.{name}: is set by the handshake; remove it"]


@pytest.mark.parametrize("value", ["s3cret\r\nX: y", "s3cret\0", "s3cret\x7f", "s3cret\udcff"])
def test_a_header_cannot_smuggle_another_and_is_not_shown(value):
    notes = Notes()
    http_headers({"X-Key": value}, "here", notes)
    assert notes.problems == [
        "here.X-Key: expected text without line breaks and control characters"
    ]
