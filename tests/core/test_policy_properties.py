"""What a view lists, for any tools and policies: each name is clean and stands for one tool, what
is denied can be reached by none, and what nothing was said about is as its server wrote it."""

import json
import re
from fnmatch import fnmatchcase

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.json_values import exact
from xzpipe.core import rawjson
from xzpipe.core.events import Event
from xzpipe.core.names import Wish, assigned
from xzpipe.core.notes import LongList, NameChanged, NotDescribed, RulesUnused
from xzpipe.core.plan import View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.tools import Catalog, Listing

CLEAN = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
SERVERS = ["a", "b", "a__b", "服 务", ""]
NASTY = ["a__x", "a__b__x", "a_b", "", "_", "天", "[x]", "x\ny"]
LONG = ["x" * 64, "x" * 65, "x" * 70 + "y", "é" * 64]
HASHED = [
    name
    for server in SERVERS[:2]
    for tool in ["", "天", "x" * 65]
    for name in assigned([Wish(server, tool, tool)]).values()
]

names = (
    st.sampled_from(["x", "y", "b__x", "a.b", "a b"])  # often the same
    | st.sampled_from([*NASTY, *LONG, *HASHED])
    | st.text("abx_.天\ud800", max_size=4)
)
texts = st.sampled_from(["", " ", "\u3000\n", "It adds.", "加法", "\ud800"])
keys = names | st.builds("{}__{}".format, st.sampled_from(SERVERS), names)
globs = keys | st.sampled_from(["*", "?", "a*", "*_*", "*__*", "[xy]", "[!x]*", "a__*", "[[]*"])
some_globs = st.lists(globs, max_size=3).map(tuple)
policies = st.builds(
    ToolPolicy,
    allow=st.sampled_from([None, None, None, ("*",), ("[!y]*", "天")]) | some_globs,
    deny=st.just(()) | some_globs,
    rename=st.dictionaries(keys, names, max_size=3),
    describe=st.dictionaries(keys, texts, max_size=3),
    user_only=some_globs,
)


@st.composite
def written(draw):
    """A tool as a server may write it."""
    members = [("name", json.dumps(draw(names))), ("n", "1.0e400")]
    if draw(st.booleans()):
        members.append(("description", json.dumps(draw(texts | st.none()))))
    comma, colon = draw(st.sampled_from([(",", ":"), (" , ", " : ")]))
    parts = [f'"{key}"{colon}{value}' for key, value in draw(st.permutations(members))]
    return f"{{{comma.join(parts)}}}".encode()


def read(tools):
    found = Listing()
    found.page(b'{"tools":%b}' % rawjson.array_of(tools))
    return found.tools


tool_lists = st.lists(written(), min_size=1, max_size=5).map(read)
offers = st.dictionaries(st.sampled_from(SERVERS), tool_lists, min_size=2, max_size=4) | (
    st.dictionaries(st.sampled_from(SERVERS), st.just(()) | tool_lists, max_size=1)
)
views = st.builds(
    View,
    name=st.just("view"),
    own=st.dictionaries(st.sampled_from(SERVERS), policies, max_size=3),
    policy=policies,
    warn_tools=st.integers(0, 6),
    warn_list_bytes=st.integers(0, 600),
)
hidings = st.frozensets(st.sampled_from(SERVERS), max_size=2)


def catalog(tools, label=False):
    made = Catalog(label)
    for server, offered in tools.items():
        made.put(server, offered)
    return made


def matches(patterns, *names):
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


def permits(policy, *names):
    allowed = policy.allow is None or matches(policy.allow, *names)
    return allowed and not matches(policy.deny, *names)


def outcome(view, server, tool):
    """What the policies say of a tool, step by step: (name, description, user-only), or None."""
    own, over = view.own.get(server, ToolPolicy()), view.policy
    if not permits(own, tool.name):
        return None
    name = own.rename.get(tool.name, tool.name)
    full = f"{server}__{name}"
    if not permits(over, name, full):
        return None
    text = own.describe.get(tool.name, json.loads(tool.raw).get("description"))
    text = over.describe.get(full, over.describe.get(name, text))
    user = matches(own.user_only, tool.name) or matches(over.user_only, name, full)
    return over.rename.get(full, over.rename.get(name, name)), text, user


def outcomes(view, tools):
    """The same of all tools that are not denied, by server and own name."""
    every = {
        (server, tool.name): outcome(view, server, tool)
        for server, offered in tools.items()
        for tool in offered
    }
    return {key: said for key, said in every.items() if said is not None}


def names_in(payload):
    return [each["name"] for each in json.loads(payload)]


@settings(max_examples=300)
@given(offers, views, hidings)
def test_each_tool_that_is_not_denied_is_reached_by_one_clean_name_and_no_other_is(
    tools, view, hidden
):
    table = catalog(tools).table(view, tools, hidden)
    assert all(map(CLEAN, table.routes))
    assert all(name == route.name for name, route in table.routes.items())
    reached = [(route.server, route.tool) for route in table.routes.values()]
    assert sorted(reached) == sorted(outcomes(view, tools))


@given(offers, views, hidings)
def test_what_is_listed_is_what_is_routed_without_the_hidden_and_without_the_users(
    tools, view, hidden
):
    table = catalog(tools).table(view, tools, hidden)
    said = outcomes(view, tools)
    shown = [each for each in table.routes.values() if each.server not in hidden]
    assert all(each.user_only == said[each.server, each.tool][2] for each in shown)
    assert names_in(table.user_payload) == [each.name for each in shown]
    assert names_in(table.payload) == [each.name for each in shown if not each.user_only]
    assert (table.payload is table.user_payload) == (not any(each.user_only for each in shown))
    assert table.user_payload == rawjson.array_of(each.raw for each in shown)


@given(offers, views, hidings)
def test_a_tool_is_listed_as_it_was_written_but_for_what_the_policies_change(tools, view, hidden):
    table = catalog(tools).table(view, tools, hidden)
    said = outcomes(view, tools)
    written = {(server, tool.name): tool for server in tools for tool in tools[server]}
    for name, route in table.routes.items():
        tool = written[route.server, route.tool]
        before = exact(tool.raw)
        text = said[route.server, route.tool][1]
        expected = before | {"name": name}
        if text is not None or "description" in before:
            expected["description"] = text
        assert list(exact(route.raw).items())[: len(before)] == [
            (key, expected[key]) for key in before
        ]
        assert exact(route.raw) == expected
        assert expected != before or route.raw == tool.raw
        assert route.described == bool(text and text.strip())


@given(offers, views, hidings, st.randoms())
def test_a_table_depends_on_no_order_but_that_of_its_tools(tools, view, hidden, rng):
    table = catalog(tools).table(view, tools, hidden)
    order = list(tools)
    rng.shuffle(order)
    turned = {server: tools[server] for server in order}
    assert catalog(turned).table(view, tools, hidden) == table
    other = catalog(turned).table(view, turned, hidden)
    assert other.routes == table.routes
    backwards = {server: tools[server][::-1] for server in tools}
    assert catalog(backwards).table(view, tools, hidden).routes == table.routes


@given(offers, views, hidings)
def test_hiding_a_server_changes_no_name_and_no_tool(tools, view, hidden):
    made = catalog(tools)
    assert made.table(view, tools, hidden).routes == made.table(view, tools).routes


@given(offers, views, hidings)
def test_the_notes_say_what_is_wrong_with_what_is_listed(tools, view, hidden):
    table = catalog(tools).table(view, tools, hidden)
    shown = [each for each in table.routes.values() if each.server not in hidden]
    said = outcomes(view, tools)
    expected: list[Event] = []
    for server, own in view.own.items():
        names = {tool.name for tool in tools.get(server, ())}
        if names and server not in hidden and (unused := own.unused(names)):
            expected.append(RulesUnused(server, unused))
    expected += [
        NameChanged(each.server, each.tool, each.name)
        for each in shown
        if each.name != said[each.server, each.tool][0]
    ]
    for server in tools:
        silent = tuple(e.tool for e in shown if e.server == server and not e.described)
        if silent:
            expected.append(NotDescribed(server, silent))
    count, size = len(json.loads(table.payload)), len(table.payload)
    if count > view.warn_tools or size > view.warn_list_bytes:
        expected.append(LongList("view", count, size))
    assert sorted(table.notes, key=str) == sorted(expected, key=str)


@given(offers, views)
def test_a_label_changes_no_name_and_nothing_else(tools, view):
    plain = catalog(tools).table(view, tools)
    labelled = catalog(tools, label=True).table(view, tools)
    assert list(labelled.routes) == list(plain.routes)
    for name, route in labelled.routes.items():
        assert exact(route.raw) == exact(plain.routes[name].raw) | {"server_id": route.server}
