"""What several commands take: the config, the log, and a command behind `--`."""

import json

import pytest

from tests.servers import entry, stub
from xzpipe.cli.main import execute
from xzpipe.cli.options import Asked
from xzpipe.config.load import Config
from xzpipe.core.plan import Mode

TOKEN = "SECRET-TOKEN"


def config(folder, name="mcp_config.json", **servers) -> str:
    path = folder / name
    path.write_text(json.dumps({"mcpServers": servers}))
    return str(path)


# The config


def test_without_a_config_it_says_where_one_is_looked_for(xzpipe):
    done = xzpipe("check", code=2)
    assert done.stderr.startswith("error: no config file was found\nhint: ")
    assert "--config" in done.stderr
    assert "MCP_CONFIG" in done.stderr


@pytest.mark.parametrize("way", ["here", "-c", "MCP_CONFIG", ".env"])
def test_a_config_is_found(way, xzpipe, tmp_path):
    path = config(tmp_path, "mcp_config.json" if way == "here" else "other.json", one=entry())
    args = [way, path] if way.startswith("-") else []
    env = {"MCP_CONFIG": path} if way == "MCP_CONFIG" else {}
    if way == ".env":
        (tmp_path / ".env").write_text(f"MCP_CONFIG={path}\n")
    assert "one" in xzpipe("check", *args, env=env).stdout


def test_a_config_that_is_missing_or_wrong_is_a_usage_error(xzpipe, tmp_path):
    assert "--config names it" in xzpipe("check", "-c", "none.json", code=2).stderr
    (tmp_path / "mcp_config.json").write_text('{"mcpServers": {"a": {}, "b": {"command": 1}}}')
    done = xzpipe("check", code=2)
    assert "mcp_config.json: mcpServers.a.command: " in done.stderr
    assert "mcp_config.json: mcpServers.b.command: " in done.stderr


def test_a_server_that_there_is_not_is_a_usage_error(xzpipe, tmp_path):
    config(tmp_path, one=entry(), two={**entry(), "disabled": True})
    done = xzpipe("run", "three", "--local", code=2)
    assert done.stderr == "error: there is no server 'three'\nhint: There are: one\n"
    done = xzpipe("run", "two", "--local", code=2)
    assert done.stderr.startswith("error: the server 'two' is switched off\nhint: ")
    config(tmp_path, two={**entry(), "disabled": True})
    done = xzpipe("tools", code=2)
    assert done.stderr.endswith("error: every server of the config is switched off\n")


def test_warnings_are_shown_and_stop_nothing(xzpipe, tmp_path):
    (tmp_path / "mcp_config.json").write_text(
        json.dumps({"mcpServers": {"one": {**entry(), "comand": "x"}}})
    )
    done = xzpipe("check")
    assert done.stderr.startswith("warning: mcp_config.json: ")


# The endpoint


def test_an_endpoint_file_that_cannot_be_read_is_a_usage_error(xzpipe, tmp_path):
    config(tmp_path, one=entry())
    done = xzpipe("run", "--endpoint-file", "none", code=2)
    assert done.stderr == "error: --endpoint-file none: No such file or directory\n"
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    done = xzpipe("run", "--endpoint-file", "binary", code=2)
    assert done.stderr == "error: --endpoint-file binary: it is not a text file\n"


def test_an_endpoint_that_is_none_is_refused_and_not_shown(xzpipe, tmp_path):
    config(tmp_path, one=entry())
    (tmp_path / "endpoint").write_text(f" {TOKEN}\n")
    for done in (
        xzpipe("run", "--endpoint-file", "endpoint", code=2),
        xzpipe("run", env={"MCP_ENDPOINT": TOKEN}, code=2),
        xzpipe("tools", "--endpoint", TOKEN, code=2),
    ):
        assert "not a WebSocket address" in done.stderr
        assert "wss://api.xiaozhi.me/mcp/?token=" in done.stderr
        assert TOKEN not in done.stderr


# The command behind --


@pytest.mark.parametrize("command", ["run", "check", "tools", "call"])
def test_behind_the_dashes_a_command_is_expected(command, capsys):
    assert execute([command, "--"]) == 2
    assert "a command is expected after --" in capsys.readouterr().err


def test_what_stands_behind_the_dashes_is_the_commands_own(xzpipe):
    own = ["--only", "argv", "--name=--json"]
    done = xzpipe("call", "argv", "--json", "--", *stub(*own))
    argv = json.loads(json.loads(done.stdout)["content"][0]["text"])
    assert argv[-3:] == own


def test_a_command_needs_no_config_and_uses_no_server_of_one(xzpipe, tmp_path):
    config(tmp_path, other={"command": "no-such-command-xyz"})
    assert "no-such-command-xyz" not in xzpipe("check", "--", *stub()).stdout


# The log


def test_a_log_level_or_format_that_there_is_not_is_a_usage_error(xzpipe):
    done = xzpipe("tools", "--", *stub(), env={"XZPIPE_LOG_LEVEL": "chatty"}, code=2)
    assert done.stderr == "error: XZPIPE_LOG_LEVEL: expected one of debug, info, warning, error\n"
    done = xzpipe("tools", "--", *stub(), env={"XZPIPE_LOG_FORMAT": "xml"}, code=2)
    assert done.stderr == "error: XZPIPE_LOG_FORMAT: expected one of auto, rich, plain, json\n"


@pytest.mark.parametrize(
    ("args", "env", "levels"),
    [
        ([], {}, set()),
        (["-q"], {"XZPIPE_LOG_LEVEL": "debug"}, set()),
        ([], {"XZPIPE_LOG_LEVEL": "info"}, {"info"}),
        (["--log-level", "info", "-q"], {}, {"info"}),
    ],
)
def test_a_one_shot_command_logs_as_much_as_it_is_asked_to(args, env, levels, xzpipe):
    env = {"XZPIPE_LOG_FORMAT": "json", **env}
    done = xzpipe("call", "whoami", *args, "--", *stub(), env=env)
    assert {json.loads(line)["level"] for line in done.stderr.splitlines()} == levels
    assert done.stdout == "stub\n"


def test_a_server_named_twice_runs_once(xzpipe, tmp_path):
    config(tmp_path, one=entry())
    asked = Asked(config=str(tmp_path / "mcp_config.json"), servers=("one", "one"))
    assert [launch.name for launch in asked.load({}).servers] == ["one"]


# Several endpoints

ENDPOINTS = {
    "home": {"url": "ws://home/", "servers": ["one", "two"]},
    "away": {"url": "ws://away/", "servers": ["one"]},
}


def several(folder, **asked) -> Config:
    """A config with three servers, one of which no endpoint sees, as it was asked for."""
    servers = {name: entry() for name in ("one", "two", "three")}
    tree = {"mcpServers": servers, "xzpipe": {"endpoints": ENDPOINTS}}
    (folder / "mcp_config.json").write_text(json.dumps(tree))
    return Asked(config=str(folder / "mcp_config.json"), **asked).load({})


def test_what_is_linked_is_narrowed_to_the_servers_that_are_named(tmp_path):
    def linked(*names: str) -> list[tuple[str, tuple[str, ...]]]:
        plans = several(tmp_path, servers=names).plans
        assert all(plan.view.servers == frozenset(plan.servers) for plan in plans)
        return [(plan.name, plan.servers) for plan in plans]

    assert linked() == [("home", ("one", "two")), ("away", ("one",))]
    assert linked("one") == [("home", ("one",)), ("away", ("one",))]
    assert linked("two") == [("home", ("two",))]
    assert linked("three", "two") == [("home", ("two",))]
    assert linked("three") == []


def test_an_endpoint_of_the_command_line_is_the_only_one(tmp_path):
    (tmp_path / "url").write_text("ws://file/\n")
    for asked in ({"endpoint": "ws://file/"}, {"endpoint_file": str(tmp_path / "url")}):
        (plan,) = several(tmp_path, servers=("three",), **asked).plans
        assert (plan.name, plan.address.url, plan.servers) == ("", "ws://file/", ("three",))


def test_the_mode_is_that_of_the_command_line(tmp_path):
    assert {plan.mode for plan in several(tmp_path).plans} == {Mode.AUTO}
    assert {plan.mode for plan in several(tmp_path, mode="separate").plans} == {Mode.SEPARATE}


def test_an_address_that_is_none_is_found_by_check(xzpipe, tmp_path):
    config(tmp_path, one=entry())
    done = xzpipe("check", env={"MCP_ENDPOINT": f"ftp://h/?token={TOKEN}"}, code=2)
    assert done.stderr.startswith("error: the endpoint: not a WebSocket address\n")
    assert TOKEN not in done.stderr


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--local", "--endpoint", "ws://h/"], "--local is an endpoint of its own"),
        (["--local", "--endpoint-file", "x"], "--local is an endpoint of its own"),
        (["--endpoint", "ws://h/", "--endpoint-file", "x"], "two ways to say one thing"),
        (["--endpoint", " "], "--endpoint: it is empty"),
        (["--endpoint-file", "empty"], "--endpoint-file: it is empty"),
    ],
)
def test_what_cannot_be_meant_is_a_usage_error(args, words, xzpipe, tmp_path):
    """An empty file must not let another endpoint of the environment be dialled."""
    config(tmp_path, one=entry())
    (tmp_path / "empty").write_text("\n")
    done = xzpipe("run", *args, env={"MCP_ENDPOINT": "ws://127.0.0.1:9/?token=x"}, code=2)
    assert words in done.stderr


def test_a_command_needs_no_config_and_minds_none_that_is_not_named(xzpipe, tmp_path):
    (tmp_path / "mcp_config.json").write_text("not JSON")
    assert "echo" in xzpipe("tools", "--", *stub("--only", "echo")).stdout
    done = xzpipe("tools", "-c", "mcp_config.json", "--", *stub(), code=2)
    assert "mcp_config.json:1:1" in done.stderr


@pytest.mark.parametrize("place", ["group", "command", ".env", "environment"])
def test_how_to_log_may_be_said_in_any_place(place, xzpipe, tmp_path):
    config(tmp_path, one=entry("--only", "echo"))
    said = ["--log-level", "info", "--log-format", "json"]
    env = {"XZPIPE_LOG_LEVEL": "info", "XZPIPE_LOG_FORMAT": "json"}
    if place == ".env":
        (tmp_path / ".env").write_text("\n".join(f"{k}={v}" for k, v in env.items()))
    group, own = (said, []) if place == "group" else ([], said)
    done = xzpipe(
        *group,
        "tools",
        *(own if place == "command" else []),
        env=env if place == "environment" else {},
    )
    assert [json.loads(line)["event"] for line in done.stderr.splitlines()].count("ServerReady")
