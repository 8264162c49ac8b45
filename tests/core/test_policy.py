import pytest

from xzpipe.core.policy import EVERYTHING, Choice, ToolPolicy, chosen


def kept(policy, *names):
    return [name for name in names if policy.choose(name)]


def test_without_a_policy_a_tool_stays_as_it_is():
    assert EVERYTHING.choose("add", "calc__add") == Choice("add", None, False)
    assert chosen("calc", "add", EVERYTHING, EVERYTHING) == Choice("add")


def test_what_is_not_allowed_is_denied():
    assert kept(ToolPolicy(allow=("get_*", "set")), "get_x", "get", "set", "setup") == [
        "get_x",
        "set",
    ]


def test_to_allow_nothing_is_not_to_allow_everything():
    assert kept(ToolPolicy(allow=()), "a", "") == []


def test_deny_wins_over_allow():
    assert kept(ToolPolicy(allow=("*",), deny=("b*",)), "a", "b", "bc") == ["a"]
    assert kept(ToolPolicy(deny=("?",)), "a", "ab") == ["ab"]


@pytest.mark.parametrize(
    ("glob", "matched"),
    [
        ("get", ["get"]),
        ("*", ["get", "Get", "a.b", "天气", "x\ny", "[1]", ""]),
        ("[gG]et", ["get", "Get"]),
        ("天*", ["天气"]),
        ("x*", ["x\ny"]),
        ("[[]1]", ["[1]"]),
        ("", [""]),
    ],
)
def test_a_glob_matches_the_whole_name_and_case_counts(glob, matched):
    names = ["get", "Get", "a.b", "天气", "x\ny", "[1]", ""]
    assert kept(ToolPolicy(allow=(glob,)), *names) == matched
    assert kept(ToolPolicy(deny=(glob,)), *names) == [n for n in names if n not in matched]


def test_a_tool_is_renamed_described_and_kept_for_the_user_under_its_old_name():
    policy = ToolPolicy(
        rename={"old": "new", "new": "newer"}, describe={"old": "It is old."}, user_only=("old",)
    )
    assert policy.choose("old") == Choice("new", "It is old.", True)
    assert policy.choose("new") == Choice("newer", None, False)


def test_renaming_hides_no_tool_from_deny():
    assert ToolPolicy(deny=("old",), rename={"old": "new"}).choose("old") is None
    assert ToolPolicy(deny=("new",), rename={"old": "new"}).choose("old") == Choice("new")


def test_what_is_said_to_the_full_name_wins_over_what_is_said_to_the_plain_one():
    policy = ToolPolicy(
        rename={"x": "y", "a__x": "z"},
        describe={"a__x": "of a", "x": "of any"},
        user_only=("a__x",),
    )
    assert policy.choose("x", "a__x") == Choice("z", "of a", True)
    assert policy.choose("x", "b__x") == Choice("y", "of any", False)


def test_an_empty_text_is_one_too():
    policy = ToolPolicy(describe={"x": "", "a__x": ""}, rename={"x": ""})
    assert policy.choose("x", "a__x") == Choice("", "", False)


@pytest.mark.parametrize("glob", ["x", "calc__x", "calc__*"])
def test_an_endpoint_knows_a_tool_by_either_name(glob):
    assert chosen("calc", "x", EVERYTHING, ToolPolicy(deny=(glob,))) is None
    assert chosen("calc", "x", EVERYTHING, ToolPolicy(allow=(glob,))) == Choice("x")
    assert chosen("calc", "x", EVERYTHING, ToolPolicy(user_only=(glob,))).user_only
    assert chosen("time", "y", EVERYTHING, ToolPolicy(deny=(glob,))) == Choice("y")


@pytest.mark.parametrize("policy", [ToolPolicy(deny=("calc__x",)), ToolPolicy(allow=("calc__x",))])
def test_a_server_knows_its_tools_by_their_own_names_alone(policy):
    assert (chosen("calc", "x", policy, EVERYTHING) is None) == bool(policy.allow)


def test_an_endpoint_knows_a_tool_by_the_name_that_its_server_was_told_to_give_it():
    own = ToolPolicy(rename={"x": "y"})
    assert chosen("calc", "x", own, ToolPolicy(rename={"y": "z", "x": "no"})) == Choice("z")
    assert chosen("calc", "x", own, ToolPolicy(rename={"calc__y": "z"})) == Choice("z")
    assert chosen("calc", "x", own, ToolPolicy(deny=("x", "calc__x"))) == Choice("y")
    assert chosen("calc", "x", own, ToolPolicy(deny=("y",))) is None


def test_what_either_denies_is_denied():
    no = ToolPolicy(deny=("x",))
    assert chosen("calc", "x", no, ToolPolicy(allow=("x",))) is None
    assert chosen("calc", "x", ToolPolicy(allow=("x",)), no) is None


def test_the_endpoint_has_the_last_word_on_the_description():
    own, over = ToolPolicy(describe={"x": "server"}), ToolPolicy(describe={"x": "endpoint"})
    assert chosen("calc", "x", own, EVERYTHING).description == "server"
    assert chosen("calc", "x", own, over).description == "endpoint"
    assert chosen("calc", "x", own, ToolPolicy(describe={"x": ""})).description == ""


def test_a_tool_is_for_the_user_when_either_says_so():
    user = ToolPolicy(user_only=("*",))
    assert chosen("calc", "x", user, EVERYTHING).user_only
    assert chosen("calc", "x", EVERYTHING, user).user_only
    assert not chosen("calc", "x", ToolPolicy(user_only=("y",)), EVERYTHING).user_only
