import json

import pytest

from tests.core.kit import listing, tool
from xzpipe.core.notes import LongList, NameChanged, NotDescribed
from xzpipe.core.plan import View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.shaping import Shape
from xzpipe.core.tools import MAX_LIST_BYTES, MAX_PAGES, Catalog, Listing, ListingError


def read(*pages):
    found = Listing()
    for page in pages:
        found.page(page)
    return found.tools


def catalog(*, label=False, **tools):
    made = Catalog(label)
    for server, names in tools.items():
        made.put(server, read(listing(*names)))
    return made


def names_in(payload):
    return [each["name"] for each in json.loads(payload)]


def routes(table):
    """What each listed name stands for: a server, and what it calls the tool."""
    return {name: (route.server, route.tool) for name, route in table.routes.items()}


ALL = View(name="all")


def test_the_pages_of_a_list_are_put_together_and_the_cursors_are_opaque():
    found = Listing()
    assert found.page(listing("a", "b", cursor=b'"\\ud800=="')) == b'"\\ud800=="'
    assert found.page(listing(cursor=b"0")) == b"0"
    assert found.page(listing("c")) is None
    assert [each.name for each in found.tools] == ["a", "b", "c"]


@pytest.mark.parametrize("end", [b"null", b'""'])
def test_a_cursor_that_says_nothing_is_the_end(end):
    """An empty string leads to the first page again; some servers always write the member."""
    assert Listing().page(listing("a", cursor=end)) is None


def test_a_tool_is_kept_as_it_was_written():
    raw = rb'{ "x":1e400, "name":"a\u0064d" , "description":"\ud800" }'
    [found] = read(b'{"tools":[ %b ]}' % raw)
    assert (found.name, found.raw) == ("add", raw)


def test_of_two_tools_of_one_name_the_first_is_kept():
    [found] = read(b'{"tools":[%b,%b]}' % (tool("a", b',"n":1'), tool("a", b',"n":2')))
    assert found.raw == tool("a", b',"n":1')


@pytest.mark.parametrize(
    ("result", "problem"),
    [
        (b"null", "its answer to tools/list is not a list of tools"),
        (b"[]", "its answer to tools/list is not a list of tools"),
        (b"{}", "its answer to tools/list is not a list of tools"),
        (b'{"tools":null}', "its answer to tools/list is not a list of tools"),
        (b'{"tools":["add"]}', "its answer to tools/list is not a list of tools"),
        (b'{"tools":[{}]}', "a tool in its list has no name"),
        (b'{"tools":[{"name":5}]}', "a tool in its list has no name"),
    ],
)
def test_what_is_no_list_of_tools_is_refused(result, problem):
    with pytest.raises(ListingError, match=problem):
        Listing().page(result)


def test_pages_without_end_are_refused():
    found = Listing()
    for _ in range(MAX_PAGES):
        found.page(listing("a", cursor=b'"again"'))
    with pytest.raises(ListingError, match="its tool list has no end"):
        found.page(listing("a"))


def test_pages_that_grow_without_end_are_refused():
    found = Listing()
    page = b'{"tools":[],"nextCursor":"x","pad":"%b"}' % (b"x" * (MAX_LIST_BYTES // 2))
    found.page(page)
    with pytest.raises(ListingError, match="its tool list has no end"):
        found.page(page)


def test_a_view_of_one_lists_the_tools_as_their_server_wrote_them():
    made = Catalog()
    made.put("calc", read(b'{"tools":[{ "name" : "add" },{"name":"sub"}]}'))
    table = made.table(ALL, ["calc"])
    assert table.payload == b'[{ "name" : "add" },{"name":"sub"}]'
    assert routes(table) == {"add": ("calc", "add"), "sub": ("calc", "sub")}


def test_only_the_names_that_clash_get_their_server_in_front():
    table = catalog(calc=("add", "now"), time=("now", "zone")).table(ALL, ["calc", "time"])
    assert names_in(table.payload) == ["add", "calc__now", "time__now", "zone"]
    assert routes(table) == {
        "add": ("calc", "add"),
        "calc__now": ("calc", "now"),
        "time__now": ("time", "now"),
        "zone": ("time", "zone"),
    }


def test_a_renamed_tool_is_otherwise_as_it_was():
    made = catalog(a=("x",))
    made.put("b", read(b'{"tools":[{"n": 1e400,"name" : "x","d":"\\ud800"}]}'))
    assert made.table(ALL, "ab").payload == (
        b'[{"name":"a__x"},{"n":1e400,"name":"b__x","d":"\\ud800"}]'
    )


def test_names_clash_only_within_a_view():
    made = catalog(calc=("now",), time=("now",))
    assert routes(made.table(ALL, ["time"])) == {"now": ("time", "now")}
    assert made.table(ALL, []).payload == b"[]"
    assert made.table(ALL, ["never ready"]).payload == b"[]"


def test_denied_tools_clash_with_nothing():
    view = View(own={"time": ToolPolicy(deny=("now",))})
    table = catalog(calc=("now",), time=("now", "zone")).table(view, ["calc", "time"])
    assert routes(table) == {"now": ("calc", "now"), "zone": ("time", "zone")}


def test_a_tool_that_is_really_called_so_keeps_its_name():
    table = catalog(a=("x", "b__x"), b=("x",)).table(ALL, "ab")
    own, real, other = table.routes
    assert (own, real) == ("a__x", "b__x")
    assert other.startswith("b__x_")
    assert list(routes(table).values()) == [("a", "x"), ("a", "b__x"), ("b", "x")]


def test_tools_can_be_labelled_with_their_server():
    """As the endpoint server with several servers per agent lists them (wire.md §3)."""
    made = catalog(label=True, a=("x", "y"), b=("x",))
    assert made.table(ALL, "ab").payload == (
        b'[{"name":"a__x","server_id":"a"},{"name":"y","server_id":"a"},'
        b'{"name":"b__x","server_id":"b"}]'
    )


def test_a_policy_renames_and_describes_and_leaves_the_rest():
    made = Catalog()
    made.put(
        "calc", read(b'{"tools":[{"x": 1.0,"name" : "add"},{ "name":"sub" },%b]}' % tool("no"))
    )
    own = ToolPolicy(deny=("no",), rename={"add": "plus"}, describe={"add": "Adds.", "no": "-"})
    table = made.table(View(own={"calc": own, "other": ToolPolicy(allow=())}), ["calc"])
    assert table.payload == (b'[{"x":1.0,"name":"plus","description":"Adds."},{ "name":"sub" }]')
    assert routes(table) == {"plus": ("calc", "add"), "sub": ("calc", "sub")}
    assert table.routes["plus"].raw == b'{"x":1.0,"name":"plus","description":"Adds."}'


@pytest.mark.parametrize("before", [b"null", b'"Old."', b"[5]"])
def test_a_description_is_rewritten_where_it_stands(before):
    made = Catalog()
    made.put("a", read(b'{"tools":[{"description": %b,"name" : "x"}]}' % before))
    view = View(policy=ToolPolicy(describe={"a__x": "New."}))
    assert made.table(view, "a").payload == b'[{"description":"New.","name":"x"}]'


def test_what_a_policy_says_already_is_not_rewritten():
    made = Catalog()
    raw = rb'{ "name" : "x", "description" : "It \u0061dds." }'
    made.put("a", read(b'{"tools":[%b]}' % raw))
    policy = ToolPolicy(rename={"x": "x"}, describe={"x": "It adds."})
    assert made.table(View(policy=policy), "a").payload == b"[%b]" % raw


def test_the_users_tools_are_routed_and_listed_apart():
    view = View(policy=ToolPolicy(user_only=("re*",)))
    table = catalog(a=("reboot", "x"), b=("reset",)).table(view, "ab")
    assert names_in(table.payload) == ["x"]
    assert names_in(table.user_payload) == ["reboot", "x", "reset"]
    assert {name: route.user_only for name, route in table.routes.items()} == {
        "reboot": True, "x": False, "reset": True,
    }  # fmt: skip


def test_without_tools_for_the_user_there_is_one_list():
    view = View(own={"b": ToolPolicy(user_only=("*",))})
    table = catalog(a=("x",), b=("y",)).table(view, "ab", hidden={"b"})
    assert table.user_payload is table.payload


def test_a_hidden_server_is_routed_but_not_listed():
    table = catalog(a=("x", "y"), b=("x", "z.z")).table(ALL, "ab", hidden={"b", "unknown"})
    assert names_in(table.payload) == names_in(table.user_payload) == ["a__x", "y"]
    assert routes(table) == {
        "a__x": ("a", "x"), "y": ("a", "y"), "b__x": ("b", "x"), "z_z": ("b", "z.z"),
    }  # fmt: skip
    assert table.notes == (NameChanged("a", "x", "a__x"), NotDescribed("a", ("x", "y")))


SCHEMA = b'{ "$defs":{"n":{"type":"integer"}},"properties":{"x":{"$ref":"#/$defs/n"}}}'


def test_schemas_are_listed_without_references_where_that_is_asked_for():
    made = Catalog()
    flat = b'{"name": "y","inputSchema": {"type": "object"}, "outputSchema":null}'
    rest = b',"inputSchema":%b,"outputSchema":%b,"other":%b' % (SCHEMA, SCHEMA, SCHEMA)
    made.put("a", read(b'{"tools":[%b,%b]}' % (tool("x", rest), flat)))
    assert made.table(ALL, "a").payload == b"[%b,%b]" % (tool("x", rest), flat)
    table = made.table(View(shape=Shape(inline_schemas=True)), "a")
    first = json.loads(table.routes["x"].raw)
    assert first["inputSchema"]["properties"] == {"x": {"type": "integer"}}
    assert first["outputSchema"] == first["inputSchema"]
    assert first["other"] == json.loads(SCHEMA)
    assert list(first) == ["name", "inputSchema", "outputSchema", "other"]
    assert table.routes["y"].raw == flat


def test_a_tool_that_says_nothing_of_itself_is_noted_by_its_own_name():
    made = Catalog()
    rests = [b"", b',"description":null', b',"description":" \\n\\u3000"', b',"description":5']
    named = [tool(f"n{at}", rest) for at, rest in enumerate(rests)]
    good = tool("good", b',"description":"Adds."')
    made.put("a", read(b'{"tools":[%b,%b]}' % (good, b",".join(named))))
    own = ToolPolicy(
        rename={"n0": "m"}, describe={"n1": "Now it does."}, deny=("n3",), user_only=("n2",)
    )
    table = made.table(View(own={"a": own}), "a")
    assert table.notes == (NotDescribed("a", ("n0", "n2")),)
    assert [route.described for route in table.routes.values()] == [True, False, True, False]


def test_a_description_can_be_taken_away():
    made = Catalog()
    made.put("a", read(b'{"tools":[%b]}' % tool("x", b',"description":"Adds."')))
    table = made.table(View(policy=ToolPolicy(describe={"x": ""})), "a")
    assert table.payload == b'[{"name":"x","description":""}]'
    assert table.notes == (NotDescribed("a", ("x",)),)


def described(*names):
    return b",".join(tool(name, b',"description":"."') for name in names)


def test_a_name_that_had_to_change_is_noted_and_one_that_was_wanted_is_not():
    made = Catalog()
    made.put("a", read(b'{"tools":[%b]}' % described("x", "y", "z.z")))
    made.put("b", read(b'{"tools":[%b]}' % described("x")))
    table = made.table(View(own={"a": ToolPolicy(rename={"y": "why"})}), "ab")
    assert table.notes == (
        NameChanged("a", "x", "a__x"),
        NameChanged("a", "z.z", "z_z"),
        NameChanged("b", "x", "b__x"),
    )


def test_a_list_that_is_too_long_is_noted():
    made = Catalog()
    made.put("a", read(b'{"tools":[%b]}' % described("x", "y", "u")))
    size = len(b"[%b]" % described("x", "y"))
    note = LongList("phone", 2, size)
    user = ToolPolicy(user_only=("u",))

    def notes(tools, list_bytes):
        view = View("phone", policy=user, warn_tools=tools, warn_list_bytes=list_bytes)
        return made.table(view, "a").notes

    assert notes(2, size) == ()
    assert notes(1, size) == notes(2, size - 1) == notes(0, 0) == (note,)


def test_it_is_told_whether_a_list_differs_from_before():
    made = Catalog()
    assert made.put("calc", read(listing("a")))
    assert not made.put("calc", read(listing("a")))
    assert made.put("calc", read(listing("a", "b")))
    assert made.put("calc", read(b'{"tools":[%b,%b]}' % (tool("a"), tool("b", b',"n":2'))))
    assert made.remove("calc")
    assert not made.remove("calc")
    assert made.table(ALL, ["calc"]).payload == b"[]"
