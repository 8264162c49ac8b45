"""Warnings: what is near a known key, and what is not read."""

import pytest

from xzpipe.config.lint import FOREIGN, near, warnings
from xzpipe.config.model import File, Server, keys


def of_server(**server: object) -> list[str]:
    return warnings({"mcpServers": {"s": {"command": "x"} | server}})


@pytest.mark.parametrize(
    ("key", "meant"),
    [
        ("comand", "command"),
        ("Command", "command"),
        ("arg", "args"),
        ("environ", "env"),
        ("envs", "env"),
        ("enable", "enabled"),
        ("disable", "disabled"),
        ("transport_type", "transportType"),
        ("transport", "type"),
        ("startTimout", "startTimeout"),
        ("workingDirectory", "cwd"),
    ],
)
def test_a_key_near_a_known_one_is_warned_of(key, meant):
    assert of_server(**{key: 1}) == [f"mcpServers.s.{key}: is not read; did you mean {meant}?"]


@pytest.mark.parametrize("key", [*sorted(FOREIGN - {"envFile"}), "somethingElse", "x"])
def test_a_key_of_another_program_passes(key):
    assert of_server(**{key: 1}) == []


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


def test_a_misspelt_setting_is_warned_of():
    assert warnings({"xzpipe": {"endpont": 1, "backoff": {"initail": 1}, "zzz": 1}}) == [
        "xzpipe.endpont: is not read; did you mean endpoint?",
        "xzpipe.backoff.initail: is not read; did you mean initial?",
    ]


def test_an_env_file_is_not_read():
    assert "put its variables into env" in of_server(envFile=".env")[0]


def test_a_timeout_in_milliseconds_is_warned_of():
    assert of_server(timeout=3600) == []
    assert "milliseconds" in of_server(timeout=60000)[0]
    assert of_server(timeout="60000") == []


def test_a_token_in_clear_is_warned_of_and_not_shown():
    (warning,) = warnings({"xzpipe": {"endpoint": "wss://h/?token=abc"}})
    assert "MCP_ENDPOINT" in warning
    assert "abc" not in warning
    assert warnings({"xzpipe": {"endpoint": "wss://h/?token=${TOKEN}"}}) == []
    assert warnings({"xzpipe": {"endpoint": "wss://h/"}}) == []


def test_a_config_with_every_server_off_is_warned_of():
    assert "every server is switched off" in warnings({"servers": {"s": {"disabled": True}}})[0]


def test_a_server_that_is_off_is_not_looked_at():
    tree = {"servers": {"a": {"disabled": True, "comand": 1}, "b": {}}}
    assert warnings(tree) == []


@pytest.mark.parametrize("part", [None, [], "x", 1, {"s": []}])
def test_a_part_of_a_wrong_type_is_passed_over(part):
    assert warnings({"mcpServers": part, "xzpipe": part}) == []


def test_a_known_key_is_near_itself():
    assert [near(key, keys(Server)) for key in keys(Server)] == list(keys(Server))
    assert near("environ", keys(File)) is None
