"""From a plan to links: their names, addresses and views."""

import pytest

from xzpipe.core.endpoint import Endpoint
from xzpipe.core.plan import Mode, Plan, View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.shaping import Shape

URL = "ws://host/mcp/?token=abc"
BOTH = frozenset({"calc", "time"})
VIEW = View(servers=BOTH, own={"calc": ToolPolicy(deny=("x",))}, shape=Shape(8192), warn_tools=5)


def plan(name: str = "", url: str = URL, **more: object) -> Plan:
    return Plan(name, Endpoint(url), ("time", "calc"), VIEW, **more)


def test_apart_each_server_has_a_link_in_the_order_of_the_config():
    links = plan(rereads=False).apart()
    assert [link.name for link in links] == ["time", "calc"]
    assert [link.view.servers for link in links] == [{"time"}, {"calc"}]
    assert {link.address.url for link in links} == {URL}
    assert not any(link.rereads for link in links)


def test_a_link_sees_by_all_the_rules_of_its_plan():
    for link in [*plan().apart(), plan().together()]:
        assert (link.view.shape, link.view.warn_tools) == (Shape(8192), 5)
        assert link.view.own == {s: VIEW.own[s] for s in link.view.servers if s in VIEW.own}
        assert (link.view.name, link.view.endpoint) == (link.name, "endpoint")
        assert link.rereads


def test_together_there_is_one_link_for_all():
    link = plan(rereads=False).together()
    assert (link.name, link.view.servers, link.address.url) == ("endpoint", BOTH, URL)
    assert not link.rereads


def test_where_there_are_several_endpoints_a_link_bears_the_name_of_its_own():
    assert [link.name for link in plan("home").apart()] == ["time@home", "calc@home"]
    assert plan("home").together().name == "home"


def test_an_address_may_tell_servers_apart():
    asked = plan(server_id=True)
    assert [link.address.url for link in asked.apart()] == [
        f"{URL}&server_id=time",
        f"{URL}&server_id=calc",
    ]
    assert asked.together().address.url == f"{URL}&server_id=xzpipe"
    named = plan(url="ws://host/{server}/mcp/?token=abc")
    assert [link.address.url for link in named.apart()] == [
        "ws://host/time/mcp/?token=abc",
        "ws://host/calc/mcp/?token=abc",
    ]
    assert named.together().address.url == "ws://host/xzpipe/mcp/?token=abc"


@pytest.mark.parametrize(
    ("mode", "names"),
    [
        (Mode.AUTO, ["time", "calc"]),
        (Mode.SEPARATE, ["time", "calc"]),
        (Mode.AGGREGATE, ["endpoint"]),
    ],
)
def test_its_views_are_those_of_its_mode(mode, names):
    assert [view.name for view in plan(mode=mode).views()] == names


def test_a_plan_can_be_narrowed_to_some_servers():
    narrow = plan().only(frozenset({"calc", "other"}))
    assert narrow.servers == ("calc",)
    assert narrow.view.servers == {"calc"}
    assert narrow.view.own == VIEW.own


def test_nothing_secret_is_shown():
    shown = repr(plan(proxy="http://me:pass@proxy", headers={"X-Key": "hush"}))
    assert "abc" not in shown and "pass" not in shown and "hush" not in shown
