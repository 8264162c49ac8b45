"""From a server's part of the config to its `Launch`."""

from pathlib import Path

import pytest

from xzpipe.config.model import Own
from xzpipe.config.servers import (
    Surroundings,
    from_command,
    is_off,
    launch,
    name_of,
    read,
    table,
)
from xzpipe.config.settings import Overrides, effective
from xzpipe.core.launch import Launch
from xzpipe.errors import UsageError

ENV = {
    "PATH": "/bin",
    "HOME": "/",
    "SECRET": "s3cret",
    "COPY": "wss://h/?token=abcdef",
    "MCP_ENDPOINT": "wss://h/?token=abcdef",
}

SECRETS = ("abcdef",)


@pytest.fixture
def around(tmp_path):
    return Surroundings(tmp_path, ENV, effective(Own(), ENV, Overrides()))


def started(
    raw: object, around: Surroundings, problems: list[str] | None = None, name: str = "s"
) -> Launch:
    noted = [] if problems is None else problems
    return launch(read(name, raw, f"mcpServers.{name}", around, noted), around, SECRETS, noted)


def problems_of(raw: object, around: Surroundings, name: str = "s") -> list[str]:
    problems: list[str] = []
    started(raw, around, problems, name)
    return problems


def test_a_server_becomes_a_launch(around, tmp_path):
    (tmp_path / "sub").mkdir()
    raw = {
        "type": "STDIO",
        "command": "uvx",
        "args": ["x", 8080, True, "${SECRET}"],
        "env": {"DEBUG": False, "KEY": "${SECRET}", "PORT": 1},
        "cwd": "sub",
        "timeout": 30,
        "startTimeout": 5,
        "autoApprove": ["${NOT_OURS}"],
    }
    problems: list[str] = []
    result = started(raw, around, problems)
    assert problems == []
    assert result.argv == ("uvx", "x", "8080", "true", "s3cret")
    assert result.cwd == str(tmp_path / "sub")
    assert (result.call_timeout, result.start_timeout) == (30.0, 5.0)
    assert result.env == {
        "PATH": "/bin",
        "HOME": "/",
        "SECRET": "s3cret",
        "DEBUG": "false",
        "KEY": "s3cret",
        "PORT": "1",
    }


def test_what_is_not_given_has_a_default(around):
    result = started({"command": "x"}, around)
    assert (result.cwd, result.call_timeout, result.start_timeout) == (None, 300.0, 60.0)


def test_a_timeout_is_in_seconds_however_long(around):
    assert started({"command": "x", "timeout": 60000}, around).call_timeout == 60000.0


def test_what_the_children_get_holds_no_token(around):
    """Our rule: whoever has the token can play the user's device."""
    raw = {
        "command": "abcdef",
        "args": ["ab", "--url=${COPY}"],
        "env": {"A": "${MCP_ENDPOINT}", "B": "abc"},
    }
    assert problems_of(raw, around) == [
        f"mcpServers.s.{place}: holds an endpoint's token or header, which a server must not get"
        for place in ("command", "args[1]", "env.A")
    ]


def test_a_command_holds_no_token_either(around):
    with pytest.raises(UsageError, match="COMMAND: holds an endpoint's token") as caught:
        from_command(["x", "--token=abcdef"], around, SECRETS)
    assert "abcdef" not in caught.value.message


@pytest.mark.parametrize("value", [3.1, 1e3, float("inf")])
def test_a_number_that_may_be_spelt_in_many_ways_is_to_be_quoted(around, value):
    raw = {"command": "x", "args": ["a", value], "env": {"A": value}}
    assert [each.partition(", got")[0] for each in problems_of(raw, around)] == [
        f"mcpServers.s.{place}: expected a string" for place in ("args[1]", "env.A")
    ]
    assert all(each.endswith("; quote it") for each in problems_of(raw, around))


def test_a_tilde_is_the_home_of_the_environment(around):
    assert started({"command": "x", "cwd": "~"}, around).cwd == "/"
    assert problems_of({"command": "x", "cwd": "~x"}, around) == [
        "mcpServers.s.cwd: expected a folder that exists; ~x is none"
    ]


def test_a_missing_folder_is_shown_as_written(around):
    assert problems_of({"command": "x", "cwd": "${SECRET}/a"}, around) == [
        "mcpServers.s.cwd: expected a folder that exists; ${SECRET}/a is none"
    ]
    assert r"'\x1b' is none" in problems_of({"command": "x", "cwd": "\x1b"}, around)[0]


def test_a_folder_with_an_unset_variable_is_one_problem(around):
    assert len(problems_of({"command": "x", "cwd": "${NONE}/a"}, around)) == 1


@pytest.mark.parametrize(
    "kind",
    ["sse", "http", "streamablehttp", "streamable-http", "streamableHttp", "streamable_http"],
)
def test_a_remote_server_is_refused_with_a_way_out(around, kind):
    (problem,) = problems_of({"type": kind, "url": "https://s3cret"}, around)
    assert "starts only stdio servers so far" in problem
    assert "mcp-proxy" in problem
    assert "s3cret" not in problem


def test_a_url_alone_is_a_remote_server(around):
    assert "remote" in problems_of({"url": "https://x"}, around)[0]
    assert problems_of({"url": "https://x", "command": "x"}, around) == []


@pytest.mark.parametrize(
    ("raw", "problem"),
    [
        ("x", ": expected an object, got a string"),
        ({}, ".command: expected the program to start, found nothing"),
        ({"command": ""}, ".command: expected the program to start, found nothing"),
        ({"type": "stdio", "url": "u"}, ".command: expected the program to start, found nothing"),
        ({"type": "ws", "command": "x"}, ".type: expected stdio, sse, http or streamable-http"),
        (
            {"transportType": "ws", "command": "x"},
            ".transportType: expected stdio, sse, http or streamable-http",
        ),
        ({"args": [[]]}, ".args[0]: expected a string, got a list"),
        ({"env": {"A": None}}, ".env.A: expected a string, got null"),
        (
            {"command": "x", "env": {"A=B": "1"}},
            ".env.A=B: expected a variable's name, not empty and without =",
        ),
        (
            {"command": "x", "env": {"": "1"}},
            ".env.'': expected a variable's name, not empty and without =",
        ),
    ],
)
def test_a_wrong_server_is_refused(around, raw, problem):
    assert problem in [each.removeprefix("mcpServers.s") for each in problems_of(raw, around)]


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "a\x1bb", "\u2028"])
def test_a_name_without_letters_or_with_control_characters_is_refused(around, name):
    assert "expected a name" in problems_of({"command": "x"}, around, name)[0]


def test_any_other_name_is_a_name(around):
    assert problems_of({"command": "x"}, around, "计算器 👩‍💻") == []


def test_all_problems_of_a_server_are_reported(around):
    raw = {"args": 1, "env": {"A": None, "B": "${B}"}, "timeout": "x", "cwd": "none"}
    places = [each.partition(": ")[0] for each in problems_of(raw, around)]
    expected = ["env.B", "args", "timeout", "command", "env.A", "cwd"]
    assert places == [f"mcpServers.s.{each}" for each in expected]


@pytest.mark.parametrize(
    ("raw", "off"),
    [
        ({"disabled": True}, True),
        ({"enabled": False}, True),
        ({"isActive": False}, True),
        ({"disabled": False, "enabled": True, "isActive": True}, False),
        ({"disabled": "true"}, False),
        ({}, False),
        ([], False),
    ],
)
def test_a_server_is_switched_off_in_three_ways(raw, off):
    assert is_off(raw) is off


@pytest.mark.parametrize(
    ("tree", "key", "problem"),
    [
        ({"mcpServers": {"a": 1}}, "mcpServers", None),
        ({"servers": {"a": 1}, "mcpServers": None}, "servers", None),
        ({}, "mcpServers", "mcpServers: names no server; expected at least one"),
        ({"servers": {}}, "servers", "servers: names no server; expected at least one"),
        (
            {"servers": [1]},
            "servers",
            "servers: expected an object of servers by name, got a list",
        ),
        (
            {"servers": {"a": 1}, "mcpServers": {"b": 1}},
            "mcpServers",
            "servers: expected one of mcpServers and servers, found both; keep one",
        ),
    ],
)
def test_the_servers_stand_under_one_of_two_keys(tree, key, problem):
    problems: list[str] = []
    assert table(tree, problems)[0] == key
    assert problems == ([problem] if problem else [])


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("python server.py", "server"),
        ("python3.11 -u /srv/calc.py --port 1", "calc"),
        ("/usr/bin/python -m xzpipe.demo.calculator", "xzpipe.demo.calculator"),
        ("uvx mcp-proxy-for-aws==1.7.0 URL", "mcp-proxy-for-aws"),
        ("npx -y @scope/server-x@latest", "server-x"),
        ("uvx mcp-server-time[all]", "mcp-server-time"),
        ("./server.sh", "server"),
        ("docker run x", "docker"),
        ("node --version", "node"),
        ("/", "server"),
        ("python \x1b", "python"),
        ("\x1b", "server"),
        ("python -c pass", "python"),
        ("bash -lc server", "bash"),
        ("node -e 1", "node"),
        ("node --eval x", "node"),
        ("python a;b.py", "python"),
        ("npx @scope", "npx"),
        ("python .", "python"),
        ("python " + "x" * 33, "python"),
        ("x" * 33, "server"),
        ("python 计算器.py", "计算器"),
        ("uvx pkg>=1", "pkg"),
    ],
)
def test_a_command_gives_the_server_its_name(command, name):
    assert name_of(command.split(" ")) == name


def test_an_inline_script_is_no_name():
    assert name_of(["python", "-u", "-c", "import os; print(os.environ)"]) == "python"
    assert name_of(["python", "import os"]) == "python"


def test_a_command_is_started_as_it_was_given(around):
    result = from_command(["python", "a.py"], around, SECRETS)
    assert result.argv == ("python", "a.py")
    assert "COPY" not in result.env
    assert result.env["PATH"] == "/bin"
    assert Path(result.name) == Path("a")
