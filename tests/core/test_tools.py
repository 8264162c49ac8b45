import json
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.kit import listing, tool
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


def listed(table):
    return [each["name"] for each in json.loads(table.payload)]


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
    table = made.table(["calc"])
    assert table.payload == b'[{ "name" : "add" },{"name":"sub"}]'
    assert table.routes == {"add": ("calc", "add"), "sub": ("calc", "sub")}


def test_only_the_names_that_clash_get_their_server_in_front():
    table = catalog(calc=("add", "now"), time=("now", "zone")).table(["calc", "time"])
    assert listed(table) == ["add", "calc__now", "time__now", "zone"]
    assert table.routes == {
        "add": ("calc", "add"),
        "calc__now": ("calc", "now"),
        "time__now": ("time", "now"),
        "zone": ("time", "zone"),
    }


def test_a_renamed_tool_is_otherwise_as_it_was():
    made = catalog(a=("x",))
    made.put("b", read(b'{"tools":[{"n": 1e400,"name" : "x","d":"\\ud800"}]}'))
    assert made.table("ab").payload == (
        b'[{"name":"a__x"},{"n":1e400,"name":"b__x","d":"\\ud800"}]'
    )


def test_names_clash_only_within_a_view():
    made = catalog(calc=("now",), time=("now",))
    assert made.table(["time"]).routes == {"now": ("time", "now")}
    assert made.table([]).payload == b"[]"
    assert made.table(["never ready"]).payload == b"[]"


def test_a_tool_that_is_really_called_so_keeps_its_name():
    table = catalog(a=("x", "b__x"), b=("x",)).table("ab")
    assert table.routes == {"a__x": ("a", "x"), "b__x": ("a", "b__x"), "b__b__x": ("b", "x")}


def test_tools_can_be_labelled_with_their_server():
    """As the endpoint server with several servers per agent lists them (wire.md §3)."""
    made = catalog(label=True, a=("x", "y"), b=("x",))
    assert made.table("ab").payload == (
        b'[{"name":"a__x","server_id":"a"},{"name":"y","server_id":"a"},'
        b'{"name":"b__x","server_id":"b"}]'
    )


def test_it_is_told_whether_a_list_differs_from_before():
    made = Catalog()
    assert made.put("calc", read(listing("a")))
    assert not made.put("calc", read(listing("a")))
    assert made.put("calc", read(listing("a", "b")))
    assert made.put("calc", read(b'{"tools":[%b,%b]}' % (tool("a"), tool("b", b',"n":2'))))
    assert made.remove("calc")
    assert not made.remove("calc")
    assert made.table(["calc"]).payload == b"[]"


NAMES = st.sampled_from(["x", "y", "a__x", "b__x", "c__x", "b__b__x", "a__b__x"])


@given(
    st.dictionaries(
        st.sampled_from(["a", "b", "c", "a__b"]),
        st.lists(NAMES, unique=True).map(tuple),
    )
)
def test_every_tool_is_listed_once_and_can_be_called(tools):
    table = catalog(**tools).table(tools)
    own = [(server, name) for server, names in tools.items() for name in names]
    assert listed(table) == list(table.routes)
    assert list(table.routes.values()) == own
    uses = Counter(name for _, name in own)
    for shown, (server, name) in table.routes.items():
        assert shown == name if uses[name] == 1 else shown.startswith(f"{server}__")
