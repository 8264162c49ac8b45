import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core.names import LONGEST, Wish, assigned, joined

CLEAN = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch


def named(*wishes):
    """The names by server and tool; a wish is (server, tool), or with the wanted name too."""
    made = assigned(Wish(server, tool, *(rest or (tool,))) for server, tool, *rest in wishes)
    return {(wish.server, wish.tool): name for wish, name in made.items()}


def hashed(stem):
    return re.compile(re.escape(stem) + "_[0-9a-f]{8}").fullmatch


def test_a_clean_name_that_nobody_else_wants_stays():
    assert named(("a", "x"), ("a", "get-Time_2"), ("b", "y" * 64), ("b", "old", "new")) == {
        ("a", "x"): "x",
        ("a", "get-Time_2"): "get-Time_2",
        ("b", "y" * 64): "y" * 64,
        ("b", "old"): "new",
    }


def test_what_two_servers_want_gets_the_server_in_front():
    assert named(("a", "x"), ("b", "x"), ("b", "y"), ("c", "z", "x")) == {
        ("a", "x"): "a__x",
        ("b", "x"): "b__x",
        ("b", "y"): "y",
        ("c", "z"): "c__x",
    }


@pytest.mark.parametrize("owner", ["a", "b", "c"])
def test_a_name_made_for_a_clash_does_not_take_that_of_a_tool_really_called_so(owner):
    names = named(("a", "x"), ("b", "x"), (owner, "b__x"))
    assert names[owner, "b__x"] == "b__x"
    assert names["a", "x"] == "a__x"
    assert hashed("b__x")(names["b", "x"])


def test_of_two_names_made_for_a_clash_that_are_the_same_neither_goes_through():
    names = named(("a", "b__x"), ("a__b", "x"), ("z", "b__x"), ("z", "x"))
    assert (names["z", "b__x"], names["z", "x"]) == ("z__b__x", "z__x")
    assert hashed("a__b__x")(names["a", "b__x"])
    assert hashed("a__b__x")(names["a__b", "x"])


def test_a_renamed_tool_does_not_take_the_name_of_another_of_its_server():
    names = named(("a", "new"), ("a", "old", "new"))
    assert names["a", "new"] == "new"
    assert hashed("new")(names["a", "old"])


def test_nor_does_it_once_another_server_clashes_with_both():
    names = named(("a", "new"), ("a", "old", "new"), ("b", "new"))
    assert (names["a", "new"], names["b", "new"]) == ("a__new", "b__new")
    assert hashed("a__new")(names["a", "old"])


def test_of_two_tools_renamed_alike_neither_goes_through():
    names = named(("a", "x", "new"), ("a", "y", "new"))
    assert all(map(hashed("new"), names.values()))


@pytest.mark.parametrize(
    ("wanted", "clean"),
    [("get.time", "get_time"), ("a b/c", "a_b_c"), ("天气x", "__x"), ("\ud800é1\n", "__1_")],
)
def test_other_characters_become_underscores(wanted, clean):
    assert named(("a", wanted)) == {("a", wanted): clean}


def test_a_server_put_in_front_is_cleaned_too():
    names = named(("my server", "x"), ("b", "x"))
    assert names == {("my server", "x"): "my_server__x", ("b", "x"): "b__x"}


@pytest.mark.parametrize(
    ("wanted", "stem"),
    [("", ""), ("_", "_"), ("-", "-"), ("天气", "__"), ("y" * 65, "y" * 55), ("é" * 65, "_" * 55)],
)
def test_a_name_that_says_nothing_or_is_too_long_gets_a_hash(wanted, stem):
    [name] = named(("a", wanted)).values()
    assert hashed(stem)(name)
    assert len(name) <= LONGEST


def test_a_clean_name_is_not_changed_for_an_unclean_one():
    names = named(("a", "get.time"), ("a", "get_time"), ("b", "get time"))
    assert names["a", "get_time"] == "get_time"
    assert hashed("get_time")(names["a", "get.time"])
    assert hashed("get_time")(names["b", "get time"])
    assert names["a", "get.time"] != names["b", "get time"]


def test_a_name_asked_for_is_not_changed_for_one_that_was_made():
    names = named(("a", "old", "get_time"), ("b", "get.time"))
    assert names["a", "old"] == "get_time"
    names = named(("a", "old", "b__x"), ("a", "x"), ("b", "x"))
    assert (names["a", "old"], names["a", "x"]) == ("b__x", "a__x")
    assert hashed("b__x")(names["b", "x"])


def test_a_name_made_for_a_clash_is_not_changed_for_one_that_is_unclean_too():
    names = named(("a", "x"), ("b", "x"), ("c", "a.!x"), ("d", "old", "a._x"))
    assert (names["a", "x"], names["b", "x"]) == ("a__x", "b__x")
    assert hashed("a__x")(names["c", "a.!x"])
    assert hashed("a__x")(names["d", "old"])


def test_of_two_unclean_names_that_become_the_same_neither_goes_through():
    assert all(map(hashed("get_time"), named(("a", "get.time"), ("a", "get time")).values()))


def test_a_hash_that_another_tool_is_called_by_is_not_used():
    """However often: a server could know them, as they depend on nothing secret."""
    wishes = [("a", "天")]
    for _ in range(5):
        names = named(*wishes)
        wishes.append(("evil", names["a", "天"]))
    names = named(*wishes)
    assert all(names["evil", tool] == tool for server, tool in wishes if server == "evil")
    assert len(set(names.values())) == 6


def test_a_hash_is_the_same_at_every_start():
    """An assistant may remember a name; these are no business of Python's own hash."""
    assert named(("a", "天气"), ("b", "")) == {("a", "天气"): "___69ecf4ca", ("b", ""): "_10e99e6d"}


def test_the_hash_tells_servers_and_tools_apart():
    long = "y" * 70
    names = named(("a", "b" + long), ("ab", long), ("a", "b" + long + "c"), ("a\x00", "b" + long))
    assert len(set(names.values())) == 4


def test_of_two_hashes_that_are_the_same_one_is_another():
    """These two tools were searched for."""
    first, second = ("a", "t55398", "new"), ("a", "t106595", "new")
    alone = named(("a", "new"), first)["a", "t55398"]
    assert alone == named(("a", "new"), second)["a", "t106595"]
    both = named(("a", "new"), first, second)
    assert both == named(second, ("a", "new"), first)
    assert len(set(both.values())) == 3
    assert alone in both.values()


NASTY = ["x", "y", "b__x", "a__b__x", "b", "a.b", "a b", "a_b", "", "_", "天", "x" * 64, "x" * 65]
HASHED = [named((server, tool))[server, tool] for server in "ab" for tool in ("", "天", "x" * 65)]
NAMES = st.sampled_from(NASTY + HASHED) | st.text("ab_.天\ud800", max_size=4)
SERVERS = st.sampled_from(["a", "b", "a__b", "服务", "s.1", ""])
WISHES = st.lists(
    st.builds(Wish, SERVERS, NAMES, NAMES), max_size=12, unique_by=lambda w: (w.server, w.tool)
)


@given(WISHES)
def test_each_tool_gets_a_clean_name_of_its_own(wishes):
    names = assigned(wishes)
    assert set(names) == set(wishes)
    assert all(map(CLEAN, names.values()))
    assert len(set(names.values())) == len(wishes)


@given(WISHES, st.randoms())
def test_the_order_of_the_wishes_does_not_count(wishes, rng):
    before = assigned(wishes)
    rng.shuffle(wishes)
    assert assigned(wishes) == before


@given(WISHES, WISHES)
def test_no_tool_loses_a_clean_name_to_one_that_fits_it_less(some, more):
    """What has a clean name by itself keeps it, whatever comes, unless another server wants it."""
    known = {(wish.server, wish.tool) for wish in some}
    every = some + [wish for wish in more if (wish.server, wish.tool) not in known]
    names = assigned(every)
    for wish in some:
        wanted_by = {other.server for other in every if other.name == wish.name}
        if len(wanted_by) > 1:
            assert names[wish] != wish.name
        elif not wish.renamed and CLEAN(wish.name) and re.search("[A-Za-z0-9]", wish.name):
            assert names[wish] == wish.name


@given(WISHES)
def test_a_name_is_changed_for_a_reason_alone(wishes):
    """It is unclean, or others could have it too."""
    names = assigned(wishes)
    forms = {}
    for wish in wishes:
        clash = any(o.name == wish.name and o.server != wish.server for o in wishes)
        form = joined(wish.server, wish.name) if clash else wish.name
        forms[wish] = re.sub("[^A-Za-z0-9_-]", "_", form)
    for wish, form in forms.items():
        rivals = [other for other in forms.values() if other == form]
        if len(rivals) == 1 and len(form) <= LONGEST and re.search("[A-Za-z0-9]", form):
            assert names[wish] == form
        else:
            assert names[wish] == form or hashed(form[:55])(names[wish])
