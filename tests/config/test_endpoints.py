"""Which endpoints there are, and what each of them sees: configs as users write them, loaded."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xzpipe.config.load import Config, Overrides, load
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.plan import Mode, Plan, View
from xzpipe.core.policy import ToolPolicy
from xzpipe.core.shaping import Shape
from xzpipe.errors import ConfigError, UsageError

SHOWN = "mcp_config.json: "
HOME = {"url": "wss://home/?token=h0me-token"}
AWAY = {"url": "wss://away/?token=away-token"}


@pytest.fixture
def folder(tmp_path):
    return tmp_path


class World:
    """A folder with a config, an environment, and what comes of them."""

    def __init__(self, folder):
        self.folder = folder

    def load(self, servers="a b c", env=None, overrides=None, command=(), **own) -> Config:
        """The config with these servers: names, or entries without their command."""
        entries = {name: {} for name in servers.split()} if isinstance(servers, str) else servers
        tree = {
            "mcpServers": {name: {"command": "x", **each} for name, each in entries.items()},
            "xzpipe": own,
        }
        path = self.folder / "mcp_config.json"
        path.write_text(json.dumps(tree))
        return load(path, env or {}, self.folder, overrides=overrides, command=command)

    def plans(self, *args, warnings=(), **more) -> dict[str, Plan]:
        """The plans by name; `warnings` are all that there are besides those of clear tokens."""
        config = self.load(*args, **more)
        said = [each.removeprefix(SHOWN) for each in config.warnings]
        assert [each for each in said if "holds its token in clear" not in each] == list(warnings)
        assert len({plan.name for plan in config.plans}) == len(config.plans)
        return {plan.name: plan for plan in config.plans}

    def seen(self, *args, **more) -> dict[str, str]:
        """What each endpoint sees."""
        return {name: " ".join(plan.servers) for name, plan in self.plans(*args, **more).items()}

    def problems(self, *args, **more) -> list[str]:
        with pytest.raises(ConfigError) as caught:
            self.load(*args, **more)
        return [each.removeprefix(SHOWN) for each in caught.value.problems]


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


# The endpoint without a name


def test_alone_it_sees_all_servers_with_or_without_an_address(world):
    plan = Plan("", None, ("a", "b"), View(servers=frozenset("ab")))
    assert world.load("a b").plans == (plan,)
    (plan,) = world.load("a b", endpoint="wss://h/").plans
    assert (plan.address, plan.servers) == (Endpoint("wss://h/"), ("a", "b"))


@pytest.mark.parametrize("way", ["xzpipe.endpoint", "MCP_ENDPOINT"])
def test_beside_named_ones_it_is_there_if_it_is_given(world, way):
    own = {"endpoint": "wss://h/"} if way == "xzpipe.endpoint" else {}
    env = {} if own else {"MCP_ENDPOINT": "wss://h/"}
    both = {"home": {**HOME, "servers": ["a"]}}
    assert world.seen("a b", env, endpoints=both, **own) == {"": "a b", "home": "a"}
    servers = {"a": {"endpoint": "home"}, "b": {}}
    assert world.seen(servers, env, endpoints=both, **own) == {"": "b", "home": "a"}
    servers["b"] = {"endpoint": "home"}
    warning = f"{way}: is left out; each server has an endpoint of its own"
    assert world.seen(servers, env, endpoints=both, warnings=[warning], **own) == {"home": "a b"}


def test_on_the_command_line_it_stands_alone(world):
    """No other endpoint, no server's own; what is wrong with those does not matter, but what is
    secret stays so."""
    servers = {"a": {"endpoint": "wss://own/?token=0wn-token"}, "b": {"endpoint": "none"}}
    more = {"endpoints": {"home": HOME, "away": {"urlFile": "none"}, "x": {"servers": ["y"]}}}
    config = world.load(servers, overrides=Overrides(endpoint="wss://cli/?token=c1i-token"), **more)
    assert [(plan.name, plan.servers) for plan in config.plans] == [("", ("a", "b"))]
    assert config.secrets == ("0wn-token", "c1i-token", "h0me-token")


def test_with_a_command_it_stands_alone(world):
    env = {"MCP_ENDPOINT_B": "wss://b/?token=t0ken-b"}
    config = world.load("a", env, command=["uvx", "b"], endpoints={"home": HOME}, serverId=True)
    assert [(plan.name, plan.servers) for plan in config.plans] == [("", ("b",))]
    assert config.plans[0].address is None
    assert config.plans[0].server_id
    assert config.secrets == ("h0me-token", "t0ken-b")


def test_an_address_of_the_environment_that_is_none_is_a_usage_error(world):
    with pytest.raises(UsageError, match=r"^the endpoint: not a WebSocket address$"):
        world.load("a", {"MCP_ENDPOINT": "s3cret"})


# Endpoints with names


def test_each_endpoint_sees_the_servers_it_names_in_the_order_of_the_file(world):
    endpoints = {
        "home": {**HOME, "servers": ["c", "a"]},
        "away": {**AWAY, "servers": ["[bc]", "B"]},
    }
    assert world.seen("a b c B", endpoints=endpoints) == {"home": "a c", "away": "b c B"}
    assert world.seen("a b c", endpoints={"home": HOME, "away": {**AWAY, "servers": ["*"]}}) == {
        "home": "a b c",
        "away": "a b c",
    }


def test_a_server_goes_to_its_own_endpoint_only(world):
    servers = {"a": {"endpoint": "home"}, "b": {}, "c": {"endpoint": "Home"}}
    endpoints = {"home": {**HOME, "servers": ["b", "a"]}, "away": {**AWAY, "servers": ["*"]}}
    assert world.seen(servers, endpoints=endpoints) == {"home": "a b c", "away": "b"}
    endpoints = {"home": {**HOME, "servers": []}, "away": AWAY}
    assert world.seen(servers, endpoints=endpoints) == {"home": "a c", "away": "b"}


def test_a_server_with_an_address_has_an_endpoint_for_itself(world):
    servers = {"a": {"endpoint": "https://h/?token=t0ken-a"}, "b": {}}
    plans = world.plans(servers, endpoints={"home": HOME})
    assert {name: plan.servers for name, plan in plans.items()} == {"home": ("b",), "a": ("a",)}
    assert plans["a"].address == Endpoint("wss://h/?token=t0ken-a")
    servers = {"a": {"endpoint": "${URL}"}, "b": {}}
    env = {"URL": "ws://h/", "MCP_ENDPOINT": "ws://x/"}
    assert world.seen(servers, env) == {"": "b", "a": "a"}


def test_an_address_may_be_missing_until_it_is_dialled(world):
    assert world.plans("a", endpoints={"home": {}})["home"].address is None
    assert world.plans("a", endpoints={"home": None})["home"].address is None


def test_an_address_may_name_the_server(world):
    plan = world.plans("a", endpoints={"home": {"url": "ws://h/{server}", "serverId": True}})[
        "home"
    ]
    assert plan.apart()[0].address.url == "ws://h/a?server_id=a"


# Endpoints of the environment


def test_the_environment_wins_over_the_file(world, tmp_path):
    env = {"MCP_ENDPOINT_MY_HOME": "wss://env/"}
    for entry in (HOME, {"token": "x"}, {"urlFile": "none"}, {}):
        plan = world.plans("a", env, endpoints={"my-home": entry})["my-home"]
        assert plan.address == Endpoint("wss://env/")
    servers = {"a": {"endpoint": "wss://file/"}}
    assert world.plans(servers, {"MCP_ENDPOINT_A": "wss://env/"})["a"].address.url == "wss://env/"
    (tmp_path / ".env").write_text("MCP_ENDPOINT_HOME=wss://dotenv/")
    assert world.plans("a", endpoints={"home": {}})["home"].address.url == "wss://dotenv/"


def test_a_variable_makes_an_endpoint(world):
    env = {"MCP_ENDPOINT_LIVING_ROOM": "wss://h/"}
    plans = world.plans("a b", env)
    assert {name: plan.servers for name, plan in plans.items()} == {"living_room": ("a", "b")}
    assert plans["living_room"].address == Endpoint("wss://h/")
    servers = {"a": {"endpoint": "living-room"}, "b": {}}
    assert world.seen(servers, env | {"MCP_ENDPOINT": "wss://x/"}) == {
        "": "b",
        "living_room": "a b",
    }


def test_a_variable_named_like_a_server_is_that_servers_own(world):
    """So MCP2Xiaozhi has it; like every variable, it wins over the file."""
    env = {"MCP_ENDPOINT_MY_CALC": "wss://h/", "MCP_ENDPOINT": "wss://x/"}
    assert world.seen("my-calc b", env) == {"": "b", "my_calc": "my-calc"}
    servers = {"my-calc": {"endpoint": "home"}, "b": {}}
    assert world.seen(servers, env, endpoints={"home": HOME}) == {
        "": "b",
        "home": "b",
        "my_calc": "my-calc",
    }
    servers["my-calc"]["endpoint"] = "my-calc"
    assert world.seen(servers, env) == {"": "b", "my_calc": "my-calc"}


def test_a_variable_of_a_server_that_is_off_is_for_no_other(world):
    servers = {"a": {}, "b": {"disabled": True}}
    env = {"MCP_ENDPOINT": "wss://x/", "MCP_ENDPOINT_B": "wss://b/"}
    warning = "MCP_ENDPOINT_B: is left out; its servers are switched off"
    assert world.seen(servers, env, warnings=[warning]) == {"": "a"}


def test_a_variable_that_holds_no_address_is_named_and_not_shown(world):
    problem = "not a WebSocket address; it looks like wss://api.xiaozhi.me/mcp/?token=…"
    for servers in ({"a": {}}, {"a": {"endpoint": "wss://a/"}}):
        env = {"MCP_ENDPOINT_A": "s3cret"}
        assert world.problems(servers, env) == [f"MCP_ENDPOINT_A: {problem}"]
    assert world.problems({"a": {"endpoint": "x://s3cret"}}) == [
        f"mcpServers.a.endpoint: {problem}"
    ]


def test_a_variable_that_means_nothing_is_passed_over(world):
    """Kubernetes sets MCP_ENDPOINT_PORT and the like where a service has the name mcp-endpoint."""
    env = {"MCP_ENDPOINT_SERVICE_HOST": "10.0.0.1"}
    said = "is passed over; it names no endpoint and is no address"
    warnings = [f"MCP_ENDPOINT_SERVICE_HOST: {said}"]
    assert list(world.plans("a", env, warnings=warnings)) == [""]


# What is wrong


@pytest.mark.parametrize("name", ["", " ", "a\nb", "x" * 65])
def test_an_endpoint_has_a_name_that_can_be_shown(world, name):
    (problem,) = world.problems("a", endpoints={name: HOME})
    what = "expected a name of 1 to 64 characters, without control characters"
    assert problem.endswith(f": {what}")
    assert "\n" not in problem


def test_two_endpoints_have_two_variables(world):
    endpoints = {"my home": HOME, "My-Home": AWAY}
    assert world.problems("a", endpoints=endpoints) == [
        "xzpipe.endpoints.My-Home: expected a name of its own, found that of "
        "xzpipe.endpoints.my home: both are MCP_ENDPOINT_MY_HOME in the environment"
    ]
    servers = {"home": {"endpoint": "wss://h/"}}
    assert world.problems(servers, endpoints={"home": {}})[0] == (
        "mcpServers.home.endpoint: expected a name of its own, found that of "
        "xzpipe.endpoints.home: both are MCP_ENDPOINT_HOME in the environment"
    )


@pytest.mark.parametrize(
    ("endpoint", "endpoints", "way"),
    [
        ("livingrom", {"living-room": HOME}, "did you mean living-room?"),
        ("zzz", {"home": HOME}, "add it to xzpipe.endpoints"),
        ("home", {}, "add it to xzpipe.endpoints"),
    ],
)
def test_a_servers_own_endpoint_is_one_that_there_is(world, endpoint, endpoints, way):
    servers = {"a": {"endpoint": endpoint}, "b": {}}
    assert world.problems(servers, endpoints=endpoints) == [
        "mcpServers.a.endpoint: expected the name of an endpoint, or a URL, found neither; " + way
    ]


def test_an_empty_endpoint_of_a_server_is_none(world):
    assert world.seen({"a": {"endpoint": ""}}) == {"": "a"}


@pytest.mark.parametrize(
    ("glob", "problem"),
    [
        (
            "calculater",
            "expected the name of a server, or a glob, found neither; did you mean calculator?",
        ),
        ("zzz", "expected the name of a server, or a glob, found neither"),
        ("mine", "this server goes to xzpipe.endpoints.away and nowhere else"),
        ("alone", "this server goes to mcpServers.alone.endpoint and nowhere else"),
        ("env", "this server goes to MCP_ENDPOINT_ENV and nowhere else"),
    ],
)
def test_a_server_that_an_endpoint_names_is_one_for_it(world, glob, problem):
    servers = {
        "calculator": {},
        "mine": {"endpoint": "away"},
        "alone": {"endpoint": "wss://h/"},
        "env": {},
    }
    env = {"MCP_ENDPOINT_ENV": "wss://env/"}
    endpoints = {"home": {**HOME, "servers": ["calculator", glob]}, "away": AWAY}
    expected = [f"xzpipe.endpoints.home.servers[1]: {problem}"]
    assert world.problems(servers, env, endpoints=endpoints) == expected
    endpoints["home"]["servers"] = ["calculator", "${NAME}"]
    env["NAME"] = glob
    assert world.problems(servers, env, endpoints=endpoints) == expected


def test_what_an_endpoint_names_in_vain_is_warned_of(world):
    servers = {"a": {}, "b": {"disabled": True}, "own": {"endpoint": "away"}}
    endpoints = {"home": {**HOME, "servers": ["x*", "a", "b", "b?", "ow*"]}, "away": AWAY}
    at = "xzpipe.endpoints.home.servers"
    warnings = [
        f"{at}[0]: matches no server",
        f"{at}[2]: the server is switched off",
        f"{at}[3]: matches no server",
        f"{at}[4]: matches no server",
    ]
    seen = {"home": "a", "away": "a own"}
    assert world.seen(servers, endpoints=endpoints, warnings=warnings) == seen


@pytest.mark.parametrize("globs", [[], ["x*"], None])
def test_an_endpoint_without_servers_is_refused(world, globs):
    servers = {"a": {"endpoint": "away"}, "b": {"endpoint": "away"}}
    endpoints = {"home": {**HOME, "servers": globs}, "away": AWAY}
    problem = "xzpipe.endpoints.home: expected at least one server, found none for it"
    assert world.problems(servers, endpoints=endpoints) == [problem]


@pytest.mark.parametrize("globs", [["b"], ["b*"], None, []])
def test_an_endpoint_whose_servers_are_off_is_left_out(world, globs):
    own = {"endpoint": "home"} if globs == [] else {}
    servers = {"a": {"endpoint": "away"}, "b": {"disabled": True, **own}}
    endpoints = {"home": {**HOME, "servers": globs}, "away": AWAY}
    config = world.load(servers, endpoints=endpoints)
    assert [plan.name for plan in config.plans] == ["away"]
    warning = "xzpipe.endpoints.home: is left out; its servers are switched off"
    assert f"{SHOWN}{warning}" in config.warnings
    assert config.secrets == ("away-token", "h0me-token")


def test_without_servers_the_endpoints_are_not_blamed(world):
    assert world.problems({}, endpoints={"home": HOME}) == [
        "mcpServers: names no server; expected at least one"
    ]
    off = {"a": {"disabled": True}}
    assert world.seen(off) == world.seen(off, {"MCP_ENDPOINT": "wss://h/"}) == {}


def test_a_server_that_no_endpoint_sees_is_warned_of(world):
    endpoints = {"home": {**HOME, "servers": ["a"]}}
    warning = "mcpServers.b: no endpoint sees this server, so `run` does not start it"
    assert world.seen("a b", endpoints=endpoints, warnings=[warning]) == {"home": "a"}
    endpoints["home"]["servers"].append("zzz")
    with pytest.raises(ConfigError) as caught:
        world.load("a b", endpoints=endpoints)
    assert "no endpoint sees" not in caught.value.hint


def test_two_endpoints_of_one_address_are_warned_of(world):
    endpoints = {"home": HOME, "away": {"url": HOME["url"].replace("wss", "https") + "&x=1"}}
    said = "one connection may throw out the other"
    warnings = [f"xzpipe.endpoints.away: has the token of xzpipe.endpoints.home; {said}"]
    world.plans("a", endpoints=endpoints, warnings=warnings)
    env = {"MCP_ENDPOINT": HOME["url"]}
    warnings = [f"xzpipe.endpoints.home: has the token of MCP_ENDPOINT; {said}"]
    world.plans("a", env, endpoints={"home": HOME}, warnings=warnings)
    world.plans("a", endpoints={"home": {}, "away": {}})


def test_all_problems_come_at_once(world):
    endpoints = {
        "home": {"url": "s3cret", "headers": {"Host": "h"}, "tools": {"rename": {"a": ""}}},
        "away": {"servers": ["zzz"], "resultLimit": 511, "mode": "both"},
    }
    servers = {"a": {"endpoint": "zzz", "tools": {"allow": 1, "nope": 2}}, "b": {"args": 1}}
    places = [each.partition(": ")[0] for each in world.problems(servers, endpoints=endpoints)]
    assert sorted(places) == [
        "mcpServers.a.endpoint",
        "mcpServers.a.tools.allow",
        "mcpServers.a.tools.nope",
        "mcpServers.b.args",
        "xzpipe.endpoints.away.mode",
        "xzpipe.endpoints.away.resultLimit",
        "xzpipe.endpoints.away.servers[0]",
        "xzpipe.endpoints.home.headers.Host",
        "xzpipe.endpoints.home.tools.rename.a",
        "xzpipe.endpoints.home.url",
    ]


# What is said of an endpoint

EVERY = {
    "mode": "aggregate",
    "serverId": True,
    "resultLimit": 512,
    "joinText": True,
    "inlineSchemas": True,
    "headers": {"X-Key": "k"},
    "proxy": "none",
    "tools": ["t*"],
    "warnTools": 1,
    "warnListBytes": 2,
}


def shown(plan: Plan) -> dict[str, object]:
    """What a plan says of each key."""
    return {
        "mode": plan.mode.value,
        "serverId": plan.server_id,
        "resultLimit": plan.view.shape.result_limit or 0,
        "joinText": plan.view.shape.join_text,
        "inlineSchemas": plan.view.shape.inline_schemas,
        "headers": plan.headers,
        "proxy": plan.proxy,
        "tools": list(plan.view.policy.allow or []),
        "warnTools": plan.view.warn_tools,
        "warnListBytes": plan.view.warn_list_bytes,
    }


DEFAULTS = {
    "mode": "auto",
    "serverId": False,
    "resultLimit": 0,
    "joinText": False,
    "inlineSchemas": False,
    "headers": {},
    "proxy": "env",
    "tools": [],
    "warnTools": 32,
    "warnListBytes": 24576,
}


def test_what_is_not_given_has_a_default(world):
    assert shown(world.plans("a")[""]) == DEFAULTS


@pytest.mark.parametrize("key", EVERY)
def test_a_key_holds_for_every_endpoint_that_does_not_give_it(world, key):
    own = {key: EVERY[key]}
    expected = {**DEFAULTS, **own}
    servers = {"a": {}, "b": {"endpoint": "wss://b/"}}
    env = {"MCP_ENDPOINT": "wss://h/", "MCP_ENDPOINT_X": "wss://x/"}
    other = {"away": {key: DEFAULTS[key] if key != "tools" else {"deny": ["x"]}}}
    plans = world.plans(servers, env, endpoints={"home": HOME, **other}, **own)
    away = {**DEFAULTS, "tools": expected["tools"]}  # what one lets through, both do
    assert {name: shown(plan) for name, plan in plans.items()} == {
        "": expected,
        "home": expected,
        "b": expected,
        "x": expected,
        "away": away,
    }


@pytest.mark.parametrize("key", EVERY)
def test_an_endpoint_may_say_it_for_itself(world, key):
    plans = world.plans("a", endpoints={"home": {**HOME, key: EVERY[key]}, "away": AWAY})
    assert shown(plans["home"]) == {**DEFAULTS, key: EVERY[key]}
    assert shown(plans["away"]) == DEFAULTS


def test_the_command_line_gives_every_endpoint_its_mode(world):
    endpoints = {"home": {**HOME, "mode": "separate"}, "away": AWAY}
    overrides = Overrides(mode="aggregate")
    plans = world.plans("a", endpoints=endpoints, overrides=overrides, mode="auto")
    assert [plan.mode for plan in plans.values()] == [Mode.AGGREGATE, Mode.AGGREGATE]


OFFICIAL = "wss://api.xiaozhi.me/mcp/?token=abcdef"
SELF_HOSTED = "ws://pi:8004/mcp_endpoint/mcp/?token=abcdef"


@pytest.mark.parametrize(
    ("url", "own", "shape", "rereads"),
    [
        (OFFICIAL, {}, Shape(8192), True),
        (OFFICIAL, {"resultLimit": 0, "joinText": True}, Shape(None, join_text=True), True),
        (OFFICIAL, {"resultLimit": 1024}, Shape(1024), True),
        (SELF_HOSTED, {}, Shape(2**20, True, True), False),
        (SELF_HOSTED, {"joinText": False}, Shape(2**20, False, True), False),
        (SELF_HOSTED, {"resultLimit": 0, "inlineSchemas": False}, Shape(None, True), False),
        ("wss://h/", {"resultLimit": 600}, Shape(600), True),
        ("wss://h/", {}, Shape(), True),
    ],
)
def test_what_an_endpoint_needs_is_known_unless_it_is_said(world, url, own, shape, rereads):
    for plan in (
        world.plans("a", {"MCP_ENDPOINT": url}, **own)[""],
        world.plans("a", endpoints={"home": {"url": url}}, **own)["home"],
        world.plans("a", endpoints={"home": {"url": url, **own}})["home"],
    ):
        assert (plan.view.shape, plan.rereads) == (shape, rereads)


@pytest.mark.parametrize("limit", [1, 511])
def test_a_result_limit_leaves_room_to_say_that_it_was_cut(world, limit):
    what = f"expected a whole number, 512 or more, or 0 for none, got {limit}"
    assert world.problems("a", resultLimit=limit) == [f"xzpipe.resultLimit: {what}"]
    assert world.problems("a", endpoints={"home": {"resultLimit": limit}}) == [
        f"xzpipe.endpoints.home.resultLimit: {what}"
    ]


def test_the_policies_of_servers_and_of_the_endpoint_are_in_its_view(world):
    servers = {"a": {"tools": ["x*"]}, "b": {"tools": {"rename": {"u": "v"}}}, "c": {}}
    endpoints = {"home": {**HOME, "servers": ["a", "c"], "tools": {"deny": ["z"]}}, "away": AWAY}
    plans = world.plans(servers, endpoints=endpoints, tools={"userOnly": ["w"]})
    own = {"a": ToolPolicy(allow=("x*",)), "b": ToolPolicy(rename={"u": "v"})}
    both = ToolPolicy(deny=("z",), user_only=("w",))
    assert plans["home"].view == View("home", frozenset("ac"), own, both)
    assert plans["away"].view == View("away", frozenset("abc"), own, ToolPolicy(user_only=("w",)))


def test_the_policy_of_xzpipe_itself_is_checked_once(world):
    warning = "xzpipe.tools: is empty, so no tool is let through"
    world.plans("a", endpoints={"home": HOME, "away": AWAY}, tools=[], warnings=[warning])
    warning = "mcpServers.a.tools.allow: is empty, so no tool is let through"
    world.plans({"a": {"tools": {"allow": []}}}, warnings=[warning])


# Secrets


@pytest.mark.parametrize(
    "secret", ["h0me-token", "f1le-token", "0wn-token", "env-token", "k3y-key"]
)
@pytest.mark.parametrize("overrides", [Overrides(), Overrides(endpoint="wss://cli/")])
def test_no_server_gets_what_is_secret_at_any_endpoint(world, secret, overrides):
    (world.folder / "url").write_text("wss://h/?token=f1le-token")
    endpoints = {
        "home": HOME,
        "file": {"urlFile": "url"},
        "headed": {**AWAY, "headers": {"Authorization": "Bearer ${KEY}"}},
    }
    servers = {"a": {"endpoint": "wss://own/?token=0wn-token"}, "b": {}}
    env = {"MCP_ENDPOINT_X": "wss://x/?token=env-token", "KEY": "k3y-key", "COPY": f"<{secret}>"}
    config = world.load(servers, env, overrides, endpoints=endpoints)
    assert secret in config.secrets
    assert all(secret not in str(launch.env) for launch in config.servers)
    assert secret not in repr(config)
    servers["b"]["args"] = ["${COPY}"]
    (problem,) = world.problems(servers, env, overrides, endpoints=endpoints)
    assert problem.startswith("mcpServers.b.args[0]: holds an endpoint's token or header")
    with pytest.raises(UsageError, match="COMMAND: holds an endpoint's token"):
        world.load("b", env, command=["x", "h0me-token"], endpoints=endpoints)


# Whatever stands there

TEXT = st.sampled_from(
    ["a", "b", "*", "x*", "home", "HOME", "ws://h/{server}", "url", "", "s", "1"]
)
TOOLS = st.lists(TEXT, max_size=2) | st.fixed_dictionaries(
    {},
    optional={
        "allow": st.lists(TEXT, max_size=2),
        "deny": st.lists(TEXT, max_size=2),
        "rename": st.dictionaries(TEXT, TEXT, max_size=2),
        "describe": st.dictionaries(TEXT, TEXT, max_size=2),
        "userOnly": st.lists(TEXT, max_size=2),
    },
)
SAID = {
    "mode": st.sampled_from([*(mode.value for mode in Mode), None]),
    "resultLimit": st.sampled_from([0, 1, 600]),
    "headers": st.dictionaries(TEXT, TEXT, max_size=2),
    "tools": TOOLS,
}
ENTRY = {
    "url": TEXT,
    "urlFile": TEXT,
    "token": TEXT,
    "servers": st.lists(st.sampled_from(["a", "b", "*", "x*", "s"]), max_size=2),
    **SAID,
}
SERVERS = st.dictionaries(
    st.sampled_from(["a", "b", "s", "home"]),
    st.fixed_dictionaries(
        {}, optional={"endpoint": TEXT, "disabled": st.booleans(), "tools": TOOLS}
    ),
    min_size=1,
)
OWN = st.fixed_dictionaries(
    {},
    optional={
        **SAID,
        "endpoint": st.just("wss://one/"),
        "endpoints": st.dictionaries(
            st.sampled_from(["home", "HOME", "a", "x"]),
            st.fixed_dictionaries({}, optional=ENTRY),
            max_size=3,
        ),
    },
)
ENV = st.dictionaries(
    st.sampled_from(["MCP_ENDPOINT", "MCP_ENDPOINT_A", "MCP_ENDPOINT_HOME", "MCP_ENDPOINT_Z"]),
    st.just("wss://env/"),
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(SERVERS, OWN, ENV)
def test_every_plan_is_of_servers_that_are_on_and_a_server_with_its_own_goes_to_one(
    world, servers, own, env
):
    try:
        config = world.load(servers, env, **own)
    except ConfigError as error:
        assert all(each.startswith(SHOWN) for each in error.problems)
        return
    on = [launch.name for launch in config.servers]
    for plan in config.plans:
        assert plan.servers
        assert list(plan.servers) == [name for name in on if name in plan.servers]
        assert plan.view.servers == frozenset(plan.servers)
        assert plan.view.own.keys() == {name for name in on if "tools" in servers[name]}
    for name in on:
        plans = [plan.name for plan in config.plans if name in plan.servers]
        if servers[name].get("endpoint"):
            assert len(plans) == 1
        unseen = f"{SHOWN}mcpServers.{name}: no endpoint sees"
        assert bool(plans) is not any(each.startswith(unseen) for each in config.warnings)
