"""`check`, `tools` and `call`, on real servers."""

import base64
import contextlib
import json
import os
import pty
import subprocess
import sys
from collections.abc import Iterator

import jsonschema
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import alive, entry, stub
from xzpipe.cli.inspect import arguments_of
from xzpipe.errors import UsageError

TOKEN = "SECRET-TOKEN"


# check


def test_check_shows_what_would_run_and_starts_nothing(xzpipe, tmp_path):
    diary = tmp_path / "diary"
    servers = {
        "calc": {**entry("--diary", str(diary)), "timeout": 30, "startTimeout": 5},
        "off": {"command": "x", "disabled": True},
        "missing": {"command": "no-such-command-xyz"},
    }
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    done = xzpipe("check", env={"MCP_ENDPOINT": f"wss://h/mcp/?token={TOKEN}"})
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["server", "command", "folder", "start", "within", "call", "within"]
    assert lines[1].startswith("calc ")
    assert lines[1].split()[-4:] == ["5", "s", "30", "s"]
    assert lines[2].startswith("missing  no-such-command-xyz  (not found)")
    assert lines[3].split() == ["off", "switched", "off"]
    assert "endpoint: wss://h/mcp/?token=***" in lines
    assert lines[-1].startswith("1 of the commands cannot be found")
    assert not diary.exists()


def test_check_prints_the_schema_of_configs(xzpipe):
    schema = json.loads(xzpipe("check", "--schema").stdout)
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate({"mcpServers": {"one": entry()}}, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"xzpipe": {"backoff": {"initial": -1}}}, schema)


# tools


def test_tools_are_listed_with_their_arguments(xzpipe):
    done = xzpipe("tools", "--", *stub("--only", "echo,size"))
    header, *rows = done.stdout.splitlines()
    assert header.split() == ["tool", "arguments", "description"]
    assert [row.split() for row in rows] == [
        ["echo", "text", "The", "same", "text."],
        ["size", "bytes", "A", "text", "of", "that", "many", "x."],
    ]
    assert done.stderr == ""


def test_tools_of_several_servers_and_pages_are_one_list(xzpipe, tmp_path):
    servers = {
        "one": entry("--only", "echo,size,env", "--pages", 3),
        "two": entry("--only", "whoami"),
    }
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    found = json.loads(xzpipe("tools", "--json").stdout)
    assert sorted(tool["name"] for tool in found) == ["echo", "env", "size", "whoami"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in found)


def test_a_server_that_cannot_be_used_is_reported_and_the_others_are_listed(xzpipe, tmp_path):
    servers = {"bad": entry("--exit-at-start", 3), "good": entry("--only", "echo")}
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    done = xzpipe("tools")
    assert "echo" in done.stdout
    assert "bad: it exited with code 3" in done.stderr
    assert "ModuleNotFoundError" in done.stderr


# call


@pytest.mark.parametrize(
    ("arguments", "input"),
    [
        (["text=25 * 17"], ""),
        ([' {"text": "25 * 17"}'], ""),
        (["-"], '{"text": "25 * 17"}\n'),
    ],
)
def test_arguments_are_given_in_three_ways(arguments, input, xzpipe):
    done = xzpipe("call", "echo", *arguments, "--", *stub(), input=input)
    assert done.stdout == "25 * 17\n"
    assert done.stderr == ""


def test_the_whole_result_can_be_had(xzpipe):
    done = xzpipe("call", "echo", "text=你好", "--json", "--", *stub())
    assert json.loads(done.stdout) == {"content": [{"type": "text", "text": "你好"}]}


def test_values_are_text_where_the_tool_wants_text_and_json_elsewhere(xzpipe):
    words = ["text=17", "more=[1, 2]", "flag=true", "word=plain", "none="]
    done = xzpipe("call", "echo_raw", *words, "--json", "--", *stub())
    raw = json.loads(json.loads(done.stdout)["content"][0]["text"])["params"]
    given = json.loads(base64.b64decode(raw))["arguments"]
    assert given == {"text": 17, "more": [1, 2], "flag": True, "word": "plain", "none": ""}


SCHEMA = {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}, "any": {}}}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ((), {}),
        (("text=17", "n=17", "any=17"), {"text": "17", "n": 17, "any": 17}),
        (("text=true", "text2=true"), {"text": "true", "text2": True}),
        (("text=a=b",), {"text": "a=b"}),
        (("text=",), {"text": ""}),
        (('any={"a":1}', "n=x"), {"any": {"a": 1}, "n": "x"}),
        (('{"text": 5}',), {"text": 5}),
    ],
)
def test_words_become_arguments(words, given):
    assert arguments_of(words, SCHEMA) == given


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plain",), "expected key=value, got 'plain'"),
        (("=x",), "expected key=value, got ''"),
        (("a=1", "{}"), "expected key=value, got '{}'"),
        (("{",), "the arguments are not JSON: "),
        (('{"a": 1} x',), "the arguments are not JSON: "),
    ],
)
def test_words_that_are_no_arguments_are_a_usage_error(words, message):
    with pytest.raises(UsageError) as refused:
        arguments_of(words, SCHEMA)
    assert refused.value.message.startswith(message)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_text_arrives_where_text_is_wanted(given):
    given = {key: text for key, text in given.items() if "=" not in key}
    words = tuple(f"{key}={text}" for key, text in given.items())
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return  # it is JSON then
    schema = {"properties": {key: {"type": "string"} for key in given}}
    assert arguments_of(words, schema) == given


@pytest.mark.parametrize(
    "schema", [{}, {"properties": None}, {"properties": [1]}, {"properties": {"a": True}}]
)
def test_a_schema_may_say_nothing(schema):
    assert arguments_of(("a=1",), schema) == {"a": 1}


def test_arguments_on_stdin_must_be_an_object(xzpipe):
    done = xzpipe("call", "echo", "-", "--", *stub(), input="[1]", code=2)
    assert done.stderr == "error: the arguments must be a JSON object\n"


def test_a_tool_that_there_is_not_is_an_error_with_those_that_there_are(xzpipe):
    done = xzpipe("call", "nope", "--", *stub("--only", "echo,size"), code=1)
    assert done.stderr == "error: there is no tool 'nope'\nhint: There are: echo, size\n"


def test_a_refused_call_is_an_error_and_not_a_bug(xzpipe):
    done = xzpipe("call", "frame", "bytes=1", "--", *stub(), code=1)
    assert done.stderr.startswith("error: A frame has at least ")
    assert done.stderr.endswith(" (-32602)\n")


def test_a_tool_that_failed_has_exit_code_1_and_its_words_on_stderr(xzpipe):
    result = {"content": [{"type": "text", "text": "no such city"}], "isError": True}
    encoded = base64.b64encode(json.dumps(result).encode()).decode()
    done = xzpipe("call", "reply", f"base64={encoded}", "--", *stub(), code=1)
    assert (done.stdout, done.stderr) == ("", "no such city\n")


def test_at_a_terminal_control_characters_are_shown_and_not_obeyed():
    ours, theirs = pty.openpty()
    command = ["call", "echo", "text=\x1b[2Jevil", "--", *stub()]
    argv = [sys.executable, "-m", "xzpipe", *command]
    subprocess.run(argv, stdin=subprocess.DEVNULL, stdout=theirs, check=True, timeout=30)
    os.close(theirs)
    assert os.read(ours, 1000) == b"\\x1b[2Jevil\r\n"
    os.close(ours)


def test_into_a_file_a_text_goes_as_it_is(xzpipe):
    text = "\x1b[31mred\x1b[0m\t文"
    assert xzpipe("call", "echo", f"text={text}", "--", *stub()).stdout == f"{text}\n"


@pytest.mark.parametrize("result", ["42", '{"content": 42}'])
def test_an_odd_result_is_no_bug(result, xzpipe):
    encoded = base64.b64encode(result.encode()).decode()
    done = xzpipe("call", "reply", f"base64={encoded}", "--", *stub(), code=None)
    assert done.returncode in (0, 1)
    assert "Traceback" not in done.stderr


def test_a_server_that_dies_in_the_call_is_an_error(xzpipe):
    done = xzpipe("call", "die", "code=9", "--", *stub(), code=1)
    assert "it exited with code 9 (-32000)" in done.stderr


def test_no_server_leaves_anything_behind(xzpipe, tmp_path):
    diary = tmp_path / "diary"
    xzpipe("call", "whoami", "--", *stub("--grandchild", "--diary", diary))
    pids = [int(line.split()[1]) for line in diary.read_text().splitlines()]
    assert len(pids) == 2
    assert not any(map(alive, pids))


# over an endpoint


@contextlib.contextmanager
def local_endpoint(*args: str) -> Iterator[str]:
    """`xzpipe run --local` on a server; the address that it announces."""
    process = subprocess.Popen(
        [sys.executable, "-m", "xzpipe", "run", "--local", "--log-format", "json", *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        try:
            lines = iter(process.stdout.readline, "")
            address = next(line for line in lines if "MCP_ENDPOINT=" in line)
            while '"LinkUp"' not in process.stderr.readline():
                pass
            yield address.split("'")[1]
        finally:
            process.terminate()


def test_a_local_endpoint_is_listed_and_called_from_elsewhere(xzpipe):
    with local_endpoint("--", *stub("--only", "echo")) as url:
        listed = xzpipe("tools", "--endpoint", url)
        called = xzpipe("call", "echo", "text=hi", "--endpoint", url)
    assert listed.stdout.splitlines()[0].split()[:2] == ["tool", "server"]
    assert "echo" in listed.stdout
    assert called.stdout == "hi\n"


def test_an_endpoint_that_cannot_be_reached_is_an_error_without_its_token(xzpipe):
    url = f"ws://127.0.0.1:1/mcp_endpoint/mcp/?token={TOKEN}"
    done = xzpipe("tools", "--endpoint", url, code=1)
    assert "nothing listens at the endpoint's address" in done.stderr
    assert TOKEN not in done.stderr
    done = xzpipe("call", "x", "--endpoint", "wss://api.xiaozhi.me/?token=x", code=2)
    assert "has no side to call from" in done.stderr
