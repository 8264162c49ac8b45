"""Warnings: what is near a known key, and what is not read."""

import pytest

from xzpipe.config.lint import warnings


def of_server(**server: object) -> list[str]:
    return warnings({"mcpServers": {"s": {"command": "x"} | server}})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("comand", "command"),
        ("Command", "command"),
        ("arg", "args"),
        ("environment", "env"),
        ("envs", "env"),
        ("enable", "enabled"),
        ("disable", "disabled"),
        ("transport_type", "transportType"),
        ("transport", "transportType"),
        ("cmd", "command"),
        ("startTimout", "startTimeout"),
        ("workingDirectory", "cwd"),
        ("endpoints", "endpoint"),
        ("tool", "tools"),
    ],
)
def test_a_key_near_a_known_one_is_warned_of(key, meant):
    assert of_server(**{key: 1}) == [f"mcpServers.s.{key}: is not read; did you mean {meant}?"]


# of Claude, Cline, Cursor, VS Code, mcphub, 78/mcp-calculator …, which share these files
FOREIGN = (
    "$schema alwaysAllow author autoApprove description disabledTools gallery headers icon "
    "iconPath id inputs license name restart sse_read_timeout tags version x somethingElse"
)


@pytest.mark.parametrize("key", FOREIGN.split())
def test_a_key_of_another_program_passes(key):
    assert of_server(**{key: 1}) == []
    assert warnings({key: 1}) == []


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("mcpServer", "mcpServers"),
        ("mcp_servers", "mcpServers"),
        ("xzPipe", "xzpipe"),
        ("server", "servers"),
    ],
)
def test_a_misspelt_top_key_is_warned_of(key, meant):
    assert warnings({key: {}}) == [f"{key}: is not read; did you mean {meant}?"]


def test_a_misspelt_setting_is_an_error_and_no_warning():
    assert warnings({"xzpipe": {"endpont": 1, "backoff": {"initail": 1}, "zzz": 1}}) == []


def test_an_env_file_is_not_read():
    assert "put its variables into env" in of_server(envFile=".env")[0]


@pytest.mark.parametrize("key", ["timeout", "startTimeout"])
def test_a_timeout_in_milliseconds_is_warned_of(key):
    assert of_server(**{key: 3600}) == []
    assert of_server(**{key: 60000}) == [
        f"mcpServers.s.{key}: {key} is in seconds; 60000 looks like milliseconds"
    ]
    assert of_server(**{key: "60000"}) == []


def test_a_token_in_clear_is_warned_of_and_not_shown():
    (warning,) = warnings({"xzpipe": {"endpoint": "wss://h/?token=abc"}})
    assert "MCP_ENDPOINT" in warning
    assert "abc" not in warning
    assert warnings({"xzpipe": {"endpoint": "wss://h/?token=${TOKEN}"}}) == []
    assert warnings({"xzpipe": {"endpoint": "wss://h/"}}) == []


@pytest.mark.parametrize(
    ("tree", "place", "var"),
    [
        ({"xzpipe": {"endpoints": {"a b": {"url": "ws://h/?token=s3cret"}}}}, "a b.url", "A_B"),
        ({"xzpipe": {"endpoints": {"a b": {"token": "s3cret"}}}}, "a b.token", "A_B"),
        ({"servers": {"s": {"endpoint": "ws://h/?a=1&token=s3cret"}}}, "s.endpoint", "S"),
    ],
)
def test_the_token_of_any_endpoint_in_clear_is_warned_of(tree, place, var):
    head = "servers" if "servers" in tree else "xzpipe.endpoints"
    assert warnings(tree) == [
        f"{head}.{place}: holds its token in clear; put the URL into MCP_ENDPOINT_{var} or .env"
    ]


@pytest.mark.parametrize(
    "tree",
    [
        {"endpoints": {"a": {"url": "ws://h/?token=${T}", "urlFile": "x"}, "b": {"token": "${T}"}}},
        {"endpoints": {"a": {"token": ""}, "b": {"token": 1, "url": None}, "c": 1}},
        {"endpoints": []},
    ],
)
def test_a_token_that_is_elsewhere_is_not_warned_of(tree):
    assert (
        warnings({"xzpipe": tree, "servers": {"s": {"endpoint": "home", "url": "x?token=y"}}}) == []
    )


def test_a_server_that_is_off_is_not_looked_at():
    tree = {"servers": {"a": {"disabled": True, "comand": 1}, "b": {}}}
    assert warnings(tree) == []


@pytest.mark.parametrize("part", [None, [], "x", 1, {"s": []}])
def test_a_part_of_a_wrong_type_is_passed_over(part):
    assert warnings({"mcpServers": part, "xzpipe": part}) == []
