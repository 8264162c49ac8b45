import json

import pytest

from tests.core.kit import LIST_CHANGED, listing, seeing
from xzpipe.core.effects import DropClient, ToClient
from xzpipe.core.notes import NameChanged, NotDescribed
from xzpipe.core.pending import FOREVER
from xzpipe.core.plan import View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.tools import Listing
from xzpipe.core.views import MAX_SAID, PATIENCE, QUIET, RETRY, SPACING, Client, Views

TOLD = ToClient("link", LIST_CHANGED)
DROPPED = DropClient("link", "its tool list changed")


def tools(*names):
    found = Listing()
    found.page(listing(*names))
    return found.tools


def views(*servers, rereads=False):
    """These servers with one tool each, and "link" that sees them all and has listed them."""
    made = Views(label_servers=False)
    for server in servers:
        made.add_server(server)
        made.put_tools(server, tools(f"of_{server}"), 0.0)
    made.clients["link"] = Client(View(), rereads)
    made.table(made.clients["link"])
    return made


@pytest.mark.parametrize(
    ("view", "servers", "only"),
    [
        (seeing("a"), (), "a"),
        (seeing("a"), ("a", "b"), "a"),
        (seeing("a", "b"), ("a",), None),
        (seeing(), ("a",), None),
        (View(), ("a",), "a"),
        (View(), ("a", "b"), None),
        (View(), (), None),
    ],
)
def test_a_view_may_be_of_one_server(view, servers, only):
    assert views(*servers).only(Client(view, rereads=False)) == only


def test_a_view_lists_its_servers_in_the_order_of_their_names():
    made = views("b", "c", "a")
    assert list(made.table(made.clients["link"]).routes) == ["of_a", "of_b", "of_c"]
    assert list(made.table(Client(seeing("c", "a", "x"), False)).routes) == ["of_a", "of_c"]


def test_a_changed_list_is_told_to_those_who_have_read_it():
    made = views("a")
    made.clients["new"] = Client(View(), rereads=False)
    made.clients["elsewhere"] = Client(seeing("b"), rereads=False)
    made.table(made.clients["elsewhere"])
    assert made.put_tools("a", tools("other"), 1.0) == [TOLD]
    assert made.next_due() == FOREVER
    assert list(made.table(made.clients["link"]).routes) == ["other"]
    assert list(made.table(made.clients["new"]).routes) == ["other"]


def test_the_same_list_is_no_change():
    assert views("a").put_tools("a", tools("of_a"), 1.0) is None


def test_a_server_without_tools_changes_nothing():
    made = views("a")
    made.add_server("b")
    assert made.put_tools("b", (), 1.0) == []
    assert made.remove_server("b", 2.0) == []


def test_a_removed_server_takes_its_tools_along():
    made = views("a", "b")
    assert made.remove_server("b", 1.0) == [TOLD]
    assert list(made.table(made.clients["link"]).routes) == ["of_a"]
    assert made.remove_server("b", 2.0) == []


def test_a_client_that_rereads_on_connect_is_dropped_when_it_has_been_quiet():
    made = views("a", rereads=True)
    made.put_tools("a", tools("x"), 10.0)
    made.put_tools("a", tools("y"), 11.0)
    assert made.next_due() == 11.0 + QUIET
    assert made.due(12.9) == []
    assert made.due(13.0) == [DROPPED]
    assert made.due(14.0) == []
    assert made.next_due() == FOREVER


def test_such_a_drop_waits_for_calls_on_their_way_as_long_as_these_may_last():
    made = views("a", rereads=True)
    made.put_tools("a", tools("x"), 0.0)
    made.put_tools("a", tools("y"), 0.5)
    made.clients["link"].owed = 1
    made.clients["link"].owed_until = 300.0
    waits = []
    while not (effects := made.due(made.next_due())):
        waits.append(made.next_due())
        made.clients["link"].owed_until += 1.0  # and calls that came later do not prolong it
    assert effects == [DROPPED]
    assert waits[:2] == [0.5 + QUIET + RETRY, 0.5 + QUIET + 2 * RETRY]
    assert waits[-1] == 300.0


def test_such_a_drop_happens_when_the_last_call_is_answered():
    made = views("a", rereads=True)
    made.put_tools("a", tools("x"), 0.0)
    made.clients["link"].owed = 1
    made.clients["link"].owed_until = 300.0
    assert made.due(QUIET) == []
    made.clients["link"].owed = 0
    assert made.due(QUIET + RETRY) == [DROPPED]


def test_a_list_that_never_comes_to_rest_drops_its_clients_nevertheless():
    made = views("a", rereads=True)
    for second in range(30):
        made.put_tools("a", tools(f"tool_{second}"), float(second))
        assert made.due(float(second)) == []
    assert made.next_due() == PATIENCE
    assert made.due(PATIENCE) == [DROPPED]


def test_a_server_that_is_dead_for_long_leaves_the_lists_of_several_but_not_its_own():
    made = views("a", "b", rereads=True)
    alone = made.clients["alone"] = Client(seeing("b"), rereads=False)
    made.table(alone)
    assert made.hide("b", 1.0) == [TOLD]
    assert made.next_due() == 1.0 + QUIET
    assert json.loads(made.table(made.clients["link"]).payload) == [{"name": "of_a"}]
    assert json.loads(made.table(alone).payload) == [{"name": "of_b"}]


def test_calls_to_a_server_that_is_dead_for_long_still_find_it():
    made = views("a", "b")
    made.hide("b", 1.0)
    assert made.table(made.clients["link"]).routes["of_b"].server == "b"


def test_a_server_that_is_back_with_the_same_tools_is_listed_again():
    made = views("a", "b")
    made.hide("b", 1.0)
    assert made.put_tools("b", tools("of_b"), 2.0) == [TOLD]
    assert made.put_tools("b", tools("of_b"), 3.0) is None


def test_a_server_that_was_removed_is_not_hidden_when_it_comes_anew():
    made = views("a", "b")
    made.hide("b", 1.0)
    made.remove_server("b", 2.0)
    made.add_server("b")
    assert made.put_tools("b", tools("of_b"), 3.0) == [TOLD]
    assert "of_b" in made.table(made.clients["link"]).payload.decode()


def said(made):
    return made.listed(made.clients["link"], user_tools=False)[1]


def test_what_is_to_be_said_of_a_list_is_said_once():
    made = views("a", "b")
    assert said(made) == [NotDescribed("a", ("of_a",)), NotDescribed("b", ("of_b",))]
    made.put_tools("b", tools("of_b", "more"), 1.0)
    assert said(made) == []
    made.add_server("c")
    made.put_tools("c", tools("of_c"), 1.0)
    assert said(made) == [NotDescribed("c", ("of_c",))]


def test_a_server_that_changes_for_ever_is_not_told_of_for_ever():
    made = views("a", "b")
    told = 0
    for number in range(2 * MAX_SAID):
        for server in ("a", "b"):
            made.put_tools(server, tools(f"tool_{number}"), 0.0)
        told += len([note for note in said(made) if isinstance(note, NameChanged)])
    assert MAX_SAID - 2 <= told <= MAX_SAID + 2


USERS = View(policy=ToolPolicy(user_only=("mine",)))


@pytest.mark.parametrize(("asks", "told"), [(False, []), (True, [TOLD])])
def test_a_change_that_a_client_is_not_shown_is_none_for_it(asks, told):
    made = views("a")
    made.clients["link"] = Client(USERS, rereads=False)
    payload, _ = made.listed(made.clients["link"], asks)
    assert json.loads(payload) == [{"name": "of_a"}]
    assert made.put_tools("a", tools("of_a", "mine"), 1.0) == told


def test_a_name_that_a_client_was_told_means_the_same_tool_while_that_is_clear():
    made = views("a")
    link = made.clients["link"]
    made.listed(link, False)
    made.add_server("b")
    made.put_tools("b", tools("of_a"), 1.0)  # now there are two: a__of_a and b__of_a
    assert made.route(link, "of_a").server == "a"
    assert made.route(link, "b__of_a").server == "b"
    made.listed(link, False)
    assert made.route(link, "of_a") is None
    made.put_tools("a", tools("other"), 2.0)
    assert made.route(link, "a__of_a") is None


def test_a_view_is_not_dropped_again_and_again():
    made = views("a", rereads=True)
    made.put_tools("a", tools("x"), 10.0)
    assert made.due(10.0 + QUIET) == [DROPPED]
    made.clients["link"] = Client(View(), rereads=True)  # it is back
    made.table(made.clients["link"])
    made.put_tools("a", tools("y"), 15.0)
    assert made.next_due() == 10.0 + QUIET + SPACING
    made.put_tools("a", tools("z"), 16.0)
    assert made.next_due() == 10.0 + QUIET + SPACING
