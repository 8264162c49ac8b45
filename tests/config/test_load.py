"""Finding, reading and refusing config files."""

import json
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from xzpipe.config.load import MAX_NODES, Config, Overrides, environment, find, load
from xzpipe.errors import ConfigError, UsageError

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
)
KEYS = st.sampled_from(
    "mcpServers servers xzpipe backoff initial maximum command args env cwd type url timeout "
    "disabled endpoint proxy callTimeout s endpoints tools headers allow deny rename describe "
    "userOnly servers mode serverId resultLimit joinText urlFile token warnTools home".split()
)
CONFIGS = st.recursive(
    JSON | st.sampled_from(["stdio", "sse", "${A}", "${B}", "x", "*", "ws://h/", "home", "auto"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=5),
)
YAML_TEXT = st.lists(
    st.sampled_from(
        [
            *"-:?[]{},#&*!|>'\"%@`~<= \n\tab0",
            "\n  ",
            "!!int ",
            "&a ",
            "*a",
            "<<: ",
            "---\n",
            "%YAML ",
            "mcpServers:",
            '"\\U',
            "FFFFFFFF",
            "\\x00",
            "command: ",
            "\u2028",
            "😀",
        ]
    )
).map("".join)
ANY = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def loaded(tmp_path, content: object, env: dict[str, str] | None = None, name="mcp_config.json"):
    """The config with `content`: bytes, text, or a tree to be written as JSON."""
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return load(tmp_path / name, env or {}, tmp_path, overrides=Overrides())


def refused(tmp_path, content: object, name="mcp_config.json", env=None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        loaded(tmp_path, content, env, name)
    assert all(each.startswith(name) for each in caught.value.problems)
    return caught.value


# Loading


def test_the_example_loads_without_a_warning(pytestconfig):
    root = pytestconfig.rootpath
    config = load(root / "mcp_config.json.example", {}, root, overrides=Overrides())
    assert [each.name for each in config.servers] == ["calculator", "time"]
    assert config.servers[0].argv == ("python", "-m", "xzpipe.demo.calculator")
    assert config.disabled == ("agentcore-gateway",)
    assert config.warnings == ()


def test_yaml_has_the_same_keys(tmp_path):
    text = """
# comments are taken
mcpServers:
  calc:
    command: python
    args: [-m, calc, 8080, true, True, no, 0x1F, 1:30, 007, "7", "3.10", null-ish]
    env: {PORT: 8080, DEBUG: off}
  1:
    command: &program uvx
    args:
      - *program
  off: {disabled: true}
xzpipe: {callTimeout: 1.5e1, endpoint: ~, proxy:}
"""
    config = loaded(tmp_path, text, name="mcp_config.yaml")
    calc, one = config.servers
    assert calc.argv == tuple(
        "python -m calc 8080 true true no 0x1F 1:30 007 7 3.10 null-ish".split()
    )
    assert calc.env == {"PORT": "8080", "DEBUG": "off"}
    assert (one.name, one.argv) == ("1", ("uvx", "uvx"))
    assert config.disabled == ("off",)
    assert calc.call_timeout == config.settings.call_timeout == 15.0


@pytest.mark.parametrize("name", ["c.json", "c.yaml"])
def test_a_number_with_a_fraction_or_an_exponent_is_to_be_quoted(tmp_path, name):
    text = '{"servers": {"s": {"command": "x", "args": [-1, true, 3.10, 1e3]}}}'
    assert refused(tmp_path, text, name).problems == (
        f"{name}: servers.s.args[2]: expected a string, got 3.1; quote it",
        f"{name}: servers.s.args[3]: expected a string, got 1000.0; quote it",
    )


def test_a_byte_order_mark_is_passed_over(tmp_path):
    text = b'\xef\xbb\xbf{"servers": {"s": {"command": "x"}}}'
    assert loaded(tmp_path, text).servers[0].name == "s"


def test_what_is_switched_off_is_not_looked_at(tmp_path):
    tree = {"servers": {"s": {"disabled": True, "type": "sse", "args": 1, "env": {"A": "${NO}"}}}}
    config = loaded(tmp_path, tree)
    assert (config.servers, config.disabled, config.warnings) == ((), ("s",), ())


def test_warnings_name_the_file(tmp_path):
    config = loaded(tmp_path, {"servers": {"s": {"command": "x", "arg": []}}})
    assert config.warnings == ("mcp_config.json: servers.s.arg: is not read; did you mean args?",)


def test_a_relative_path_is_relative_to_the_working_directory(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.json").write_text('{"servers": {"s": {"command": "x", "cwd": "."}}}')
    path = find("sub/c.json", {}, tmp_path)
    config = load(path, {}, tmp_path, overrides=Overrides())
    assert config.servers[0].cwd == str(tmp_path / "sub")


def test_a_command_needs_no_file(tmp_path):
    config = load(None, {"PATH": "/bin"}, tmp_path, overrides=Overrides(), command=["uvx", "a"])
    assert config.path is None
    assert [each.name for each in config.servers] == ["a"]
    assert config.servers[0].env == {"PATH": "/bin"}


def test_a_command_without_a_named_file_reads_none(tmp_path):
    (tmp_path / "mcp_config.json").write_text("{broken")
    (tmp_path / ".env").write_text("MCP_ENDPOINT=wss://h/")
    config = load(None, {}, tmp_path, command=["x"])
    assert [each.argv for each in config.servers] == [("x",)]
    assert (config.disabled, config.warnings) == ((), ())
    assert [(plan.address.url, plan.servers) for plan in config.plans] == [("wss://h/", ("x",))]


def test_with_a_command_only_the_settings_of_the_file_are_read(tmp_path):
    path = tmp_path / "c.json"
    path.write_text('{"mcpServers": 1, "comand": 1, "xzpipe": {"callTimeout": 7}}')
    config = load(path, {}, tmp_path, overrides=Overrides(), command=["x"])
    assert config.servers[0].call_timeout == 7.0
    assert config.warnings == ()


# Settings and the environment


def test_the_environment_wins_over_dotenv_and_that_beside_the_config_over_the_other(tmp_path):
    for folder, text in (("a", "X=a\nY=a\nZ=a"), ("b", "X=b\nY=b\nW=b")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / ".env").write_text(text)
    merged = environment({"X": "real"}, tmp_path / "a", tmp_path / "b")
    assert merged == {"X": "real", "Y": "a", "Z": "a", "W": "b"}


def test_the_endpoint_may_come_from_dotenv_and_stays_from_the_servers(tmp_path):
    (tmp_path / ".env").write_text("MCP_ENDPOINT=wss://h/?token=abcdef\nKEY=k\nCOPY=x-abcdef\n")
    tree = {"servers": {"s": {"command": "x", "env": {"K": "${KEY}"}}}}
    config = loaded(tmp_path, tree)
    assert config.plans[0].address.url == "wss://h/?token=abcdef"
    assert config.secrets == ("abcdef",)
    assert config.servers[0].env == {"KEY": "k", "K": "k"}
    assert "abcdef" not in repr(replace(config, servers=()))


def test_no_server_gets_the_token_wherever_the_endpoint_came_from(tmp_path):
    tree = {"servers": {"x": {"command": "x", "args": ["${URL}"]}}}
    url = "wss://h/?token=abcdef"
    problem = "servers.x.args[0]: holds an endpoint's token or header, which a server must not get"
    for env in ({"URL": url, "MCP_ENDPOINT": url}, {"URL": "abcdef", "MCP_ENDPOINT": url}):
        assert refused(tmp_path, tree, env=env).problems == (f"mcp_config.json: {problem}",)
    own = tree | {"xzpipe": {"endpoint": "${URL}"}}
    assert refused(tmp_path, own, env={"URL": url}).problems == (f"mcp_config.json: {problem}",)
    off = {"servers": {"x": tree["servers"]["x"] | {"disabled": True}, "y": {"command": "y"}}}
    assert loaded(tmp_path, off, {"URL": url, "MCP_ENDPOINT": url}).servers[0].name == "y"


def test_a_dotenv_that_is_no_text_is_refused(tmp_path):
    (tmp_path / ".env").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"\.env: expected UTF-8"):
        loaded(tmp_path, {})


def test_a_variable_that_is_no_number_is_named(tmp_path):
    with pytest.raises(UsageError, match="XZPIPE_BACKOFF_MAX"):
        loaded(tmp_path, {"servers": {"s": {"command": "x"}}}, {"XZPIPE_BACKOFF_MAX": "much"})


# Finding


def test_a_config_is_found_in_the_working_directory_json_first(tmp_path):
    assert find(None, {}, tmp_path) is None
    for name in ("mcp_config.yml", "mcp_config.yaml", "mcp_config.json"):
        (tmp_path / name).touch()
        assert find(None, {"MCP_CONFIG": ""}, tmp_path) == tmp_path / name


def test_a_variable_that_is_set_but_empty_hides_nothing(tmp_path):
    (tmp_path / ".env").write_text("MCP_ENDPOINT=wss://h/mcp/?token=fromdotenv\n")
    assert environment({"MCP_ENDPOINT": "", "OTHER": ""}, tmp_path) == {
        "MCP_ENDPOINT": "wss://h/mcp/?token=fromdotenv",
        "OTHER": "",
    }


def test_the_command_line_names_the_file_before_the_environment(tmp_path):
    for name in ("a", "b", "c", "mcp_config.json"):
        (tmp_path / name).touch()
    assert find("a", {"MCP_CONFIG": "b"}, tmp_path) == tmp_path / "a"
    assert find(None, {"MCP_CONFIG": "~/b", "HOME": str(tmp_path)}, tmp_path) == tmp_path / "b"
    (tmp_path / ".env").write_text("MCP_CONFIG=c")
    assert find(None, {}, tmp_path) == tmp_path / "c"


@pytest.mark.parametrize("name", ["none.json", "a\0b", "x" * 300, "a/\x1b"])
def test_a_named_file_that_does_not_exist_is_an_error(tmp_path, name):
    with pytest.raises(ConfigError, match="no such file; --config names it"):
        find(name, {}, tmp_path)
    with pytest.raises(ConfigError, match="no such file; MCP_CONFIG names it"):
        find(None, {"MCP_CONFIG": name}, tmp_path)


def test_without_file_and_command_the_three_ways_are_told(tmp_path):
    with pytest.raises(ConfigError, match="no config file was found") as caught:
        load(None, {}, tmp_path, overrides=Overrides())
    assert all(way in caught.value.hint for way in ("--config", "MCP_CONFIG", "mcp_config.json"))


# Refusing


def test_all_problems_of_a_file_are_reported_at_once(tmp_path):
    tree = {
        "mcpServers": {
            "calc": {"command": "x", "args": "-m calc", "env": {"A": "${UNSET}"}},
            "far": {"url": "https://x"},
        },
        "xzpipe": {"nope": 1, "endpont": 1, "backoff": {"initial": -1}},
        "mcpServer": {},
    }
    error = refused(tmp_path, tree)
    text = error.message
    assert len(error.problems) == 6
    assert text.count("endpont") == 1
    assert "endpont" not in error.hint
    assert "found an unknown key; did you mean endpoint?" in text
    assert "mcp_config.json: mcpServers.calc.args: expected a list of strings, got a string" in text
    assert "mcp_config.json: mcpServers.calc.env.A: expected the environment variable UNSET" in text
    assert "mcp_config.json: mcpServers.far: a remote server" in text
    assert "mcp_config.json: xzpipe.nope: expected one of mode, serverId, " in text
    assert "mcp_config.json: xzpipe.backoff.initial: expected seconds above 0" in text
    assert "did you mean mcpServers?" in error.hint


def test_no_sentence_holds_what_a_variable_stood_for(tmp_path):
    server = dict.fromkeys(["command", "cwd", "type", "transportType", "url", "timeout"], "${S}")
    server |= {"args": "${S}", "disabled": "${S}", "env": {"A": "${S}"}}
    own = dict.fromkeys(["endpoint", "proxy", "callTimeout", "maxMessageBytes"], "${S}")
    tree = {"servers": {"s": server, "t": {"command": "x", "cwd": "${S}"}}, "xzpipe": own}
    error = refused(tmp_path, tree, env={"S": "hunter2"})
    assert len(error.problems) > 6
    assert "hunter2" not in error.message + error.hint


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"a": 1 // c\n}', ":1:9: not valid JSON: JSON has no comments"),
        ('# c\n{"a": 1}', ":1:1: not valid JSON: JSON has no comments"),
        ('{\n"a": [1,]}', "not valid JSON: JSON has no trailing commas"),
        ('{"a": 1, }', "not valid JSON: JSON has no trailing commas"),
        ('{"a": 1', ":1:8: not valid JSON: expecting ',' delimiter"),
        ("{'a': 1}", ":1:2: not valid JSON: expecting property name"),
        ('{"a": ' + "1" * 5000 + "}", "not valid JSON: a number beyond bounds"),
        ("", ": expected an object at the top, got nothing"),
        (" \n", ": expected an object at the top, got nothing"),
        ("[1]", ": expected an object at the top, got a list"),
        ("[" * 5000 + "]" * 5000, ": nested too deeply to be a config"),
        ("[" * 60 + "]" * 60, ": nested too deeply to be a config"),
        (
            '{"servers":\n {"s": {},\n "t": {},\n "s" : {"command": "x"}}}',
            ": servers.s: expected once, found again (lines 2 and 4)",
        ),
        (
            '{"s": 1, "s": 2, "pad": "' + "x" * 2**15 + '"}',
            ": s: expected once, found again\n",
        ),
        (
            '{"servers": {"s": {"command": "a"}, "t": {"command": "b", "command": "x"}}}',
            ": servers.t.command: expected once, found again",
        ),
        (
            '{"servers": {"s": {"command": "x", "description": "a\\u0000"}}}',
            ": servers.s.description: expected text, found a NUL or half a character",
        ),
        (
            '{"servers": {"s": {"command": "x", "env": {"\\ud800": ""}}}}',
            ": servers.s.env: expected text, found a NUL or half a character",
        ),
        (
            '{"servers": {"s": {"command": "x"}}, "xzpipe": {"callTimeout": NaN}}',
            ": xzpipe.callTimeout: expected seconds above 0, a year at most, got NaN",
        ),
        (
            '{"servers": {"s": {"command": "x"}}, "xzpipe": 1}',
            ": xzpipe: expected an object, got 1",
        ),
    ],
)
def test_json_that_is_no_config_is_refused(tmp_path, text, problem):
    assert problem in refused(tmp_path, text).message


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", ":1:6: not valid YAML: "),
        ("a:\n\tb: 1", ":2:1: not valid YAML: "),
        ("a: 1\n---\nb: 2", ":2:1: not valid YAML: but found another document"),
        ("a: !!python/object:os.system {}", ":1:4: not valid YAML: tags are not read"),
        ("a: !!binary aGk=", "tags are not read"),
        ("a: !x 1", "tags are not read"),
        ("[a]: 1", ":1:1: not valid YAML: expected a key that is a string"),
        (
            "a: &a {b: 1}\nc:\n  <<: *a",
            ":3:3: not valid YAML: expected a key that is a string, and no merge key",
        ),
        ("a: *b", "found undefined alias"),
        ("&a [*a]", ": nested too deeply to be a config"),
        ("[" * 500, ": nested too deeply to be a config"),
        ("a: " + "1" * 5000, "not valid YAML: a character or a number beyond bounds"),
        ('a: "\\UFFFFFFFF"', "not valid YAML: "),
        ("a: \x01", "not valid YAML: a character or a number beyond bounds"),
        ("# nothing", ": expected an object at the top, got nothing"),
        ("- a", ": expected an object at the top, got a list"),
        ("just words", ": expected an object at the top, got a string"),
        (
            "servers:\n  s: {command: x}\n  t: {command: x}\n  s: {command: y}",
            ": servers.s: expected once, found again (lines 2 and 4)",
        ),
    ],
)
def test_yaml_that_is_no_config_is_refused(tmp_path, text, problem):
    assert problem in refused(tmp_path, text, "mcp_config.yaml").message


def test_yaml_aliases_cannot_multiply_without_end(tmp_path):
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    error = refused(tmp_path, "\n".join(lines), "mcp_config.yaml")
    assert "too many values; aliases multiply them" in error.message
    assert MAX_NODES < 10**8


@pytest.mark.parametrize("data", [b"\x7fELF\x02\x01\0\0", b"\xff\xfe{\0}\0", b"\x80", b"{}\0"])
def test_binary_junk_is_refused(tmp_path, data):
    for name in ("c.json", "c.yaml"):
        assert "expected UTF-8 text" in refused(tmp_path, data, name).message


def test_a_folder_is_refused(tmp_path):
    (tmp_path / "mcp_config.json").mkdir()
    with pytest.raises(ConfigError, match=r"^mcp_config\.json: expected a file, found a folder"):
        load(find(None, {}, tmp_path), {}, tmp_path, overrides=Overrides())


def outcome(tmp_path, content: object, name: str) -> None:
    try:
        config = loaded(tmp_path, content, {"A": "a"}, name)
    except ConfigError as error:
        assert error.problems
        assert all(each.startswith(name) for each in error.problems)
        error.message.encode()
    else:
        assert isinstance(config, Config)


@ANY
@given(st.binary(), st.sampled_from(["c.json", "c.yaml"]))
def test_any_bytes_are_a_config_or_an_error(tmp_path, data, name):
    outcome(tmp_path, data, name)


@ANY
@given(YAML_TEXT)
def test_any_yaml_is_a_config_or_an_error(tmp_path, text):
    outcome(tmp_path, text, "c.yaml")


@ANY
@given(CONFIGS, st.sampled_from(["c.json", "c.yaml"]))
def test_any_tree_is_a_config_or_an_error(tmp_path, tree, name):
    outcome(tmp_path, tree, name)


@ANY
@given(st.dictionaries(KEYS, CONFIGS))
def test_any_server_is_a_config_or_an_error(tmp_path, server):
    outcome(tmp_path, {"mcpServers": {"s": server}, "xzpipe": server}, "c.json")
