"""`check`, `tools` and `call`, on real servers."""

import base64
import contextlib
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import jsonschema
import pytest

from tests.servers import alive, entry, stub

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
    assert any(line.startswith("missing  no-such-command-xyz  (not found)") for line in lines)
    assert ["off", "switched", "off"] in [line.split() for line in lines]
    assert ["endpoint", "address", "mode", "servers"] in [line.split() for line in lines]
    linked = ["endpoint", "wss://h/mcp/?token=***", "auto", "calc,", "missing"]
    assert linked in [line.split() for line in lines]
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
    assert header.split() == ["tool", "server", "arguments", "bytes", "description"]
    assert [row.split() for row in rows] == [
        ["echo", "stub", "text", "118", "The", "same", "text."],
        ["size", "stub", "bytes", "128", "A", "text", "of", "that", "many", "x."],
    ]
    assert done.stderr == ""


def policed(folder, **settings) -> None:
    """A config with two servers under policies, and these settings."""
    tools = {"rename": {"size": "length"}, "describe": {"size": "How long"}, "userOnly": ["size"]}
    servers = {
        "one": {**entry("--only", "echo,size,whoami"), "tools": {**tools, "deny": ["who*"]}},
        "two": entry("--only", "echo"),
    }
    tree = {"mcpServers": servers, "xzpipe": settings}
    (folder / "mcp_config.json").write_text(json.dumps(tree))


def test_tools_are_listed_as_the_policies_make_them(xzpipe, tmp_path):
    policed(tmp_path, mode="aggregate", warnTools=1)
    done = xzpipe("tools")
    header, *rows = [re.split(r"  +", line.rstrip()) for line in done.stdout.splitlines()]
    assert header == ["tool", "server", "its own name", "arguments", "bytes", "description"]
    assert rows == [
        ["one__echo", "one", "echo", "text", "123", "The same text."],
        ["length", "one", "size", "bytes", "116", "How long (for users only)"],
        ["two__echo", "two", "echo", "text", "123", "The same text."],
    ]
    warned = [line.split("WARNING ")[1] for line in done.stderr.splitlines()]
    assert warned == [
        "endpoint: 2 tools in one list of 249 bytes; an assistant may not take them all: "
        "choose with tools.allow or tools.deny",
        "one: its tool echo is listed as one__echo (see tools.rename)",
        "two: its tool echo is listed as two__echo (see tools.rename)",
    ]


def test_where_each_server_has_a_link_of_its_own_none_clash(xzpipe, tmp_path):
    policed(tmp_path)
    rows = [line.split()[:2] for line in xzpipe("tools").stdout.splitlines()[1:]]
    assert rows == [["echo", "one"], ["length", "one"], ["echo", "two"]]


def test_tools_can_be_seen_as_in_another_mode_and_by_scripts(xzpipe, tmp_path):
    policed(tmp_path)
    found = json.loads(xzpipe("tools", "--mode", "aggregate", "--json").stdout)
    assert [each["name"] for each in found] == ["one__echo", "length", "two__echo"]
    length = found[1]
    assert (length["server"], length["tool"], length["userOnly"]) == ("one", "size", True)
    assert length["bytes"] == 116 and length["inputSchema"]["type"] == "object"


def test_a_tool_that_cannot_be_read_is_named(xzpipe, tmp_path):
    odd = '{"name":"odd","n":' + "9" * 5001 + "}"
    lines = [
        '{"jsonrpc":"2.0","id":1,"result":{"protocolVersion":"2024-11-05"}}',
        '{"jsonrpc":"2.0","id":2,"result":{"tools":[' + odd + "]}}",
    ]
    (tmp_path / "says").write_text("\n".join(lines) + "\n")
    done = xzpipe("tools", "--", "sh", "-c", "cat says; cat > /dev/null", code=1)
    assert "its tool odd cannot be read" in done.stderr and "Traceback" not in done.stderr


def test_tools_are_listed_for_each_of_several_endpoints(xzpipe, tmp_path):
    policed(tmp_path, endpoints={"home": {"mode": "aggregate"}, "work": {"servers": ["two"]}})
    lines = xzpipe("tools").stdout.splitlines()
    assert [line for line in lines if line.endswith(":")] == ["home:", "work:"]
    found = json.loads(xzpipe("tools", "--json").stdout)
    assert {name: [tool["name"] for tool in tools] for name, tools in found.items()} == {
        "home": ["one__echo", "length", "two__echo"],
        "work": ["echo"],
    }


def test_what_is_denied_cannot_be_called_from_here_either(xzpipe, tmp_path):
    policed(tmp_path)
    assert xzpipe("call", "length", "bytes=3").stdout == "xxx\n"
    assert "there is no tool 'whoami'" in xzpipe("call", "whoami", code=1).stderr


def test_tools_of_several_servers_and_pages_are_one_list(xzpipe, tmp_path):
    servers = {
        "one": entry("--only", "echo,size,env", "--pages", 3),
        "two": entry("--only", "whoami"),
    }
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    found = json.loads(xzpipe("tools", "--json").stdout)
    assert sorted(tool["name"] for tool in found) == ["echo", "env", "size", "whoami"]
    assert all(tool["inputSchema"]["type"] == "object" for tool in found)


BAD = "bad: it exited with code 3; it last wrote: ModuleNotFoundError: No module named 'fastmcp'\n"


def told(done):
    """What was said on stderr. That a process ends may be noticed by its stdin first."""
    return done.stderr.replace("it does not read its stdin; ", "")


@pytest.fixture
def one_of_two(tmp_path):
    """A config with a server that cannot start and one that can."""
    servers = {"bad": entry("--exit-at-start", 3), "good": entry("--only", "echo")}
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))


@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_server_that_cannot_be_used_is_reported_and_the_others_are_listed(
    option, xzpipe, one_of_two
):
    done = xzpipe("tools", *option, code=1)
    assert "echo" in done.stdout
    assert told(done) == f"error: {BAD}"


def test_without_a_server_that_can_be_used_nothing_is_listed(xzpipe, tmp_path):
    done = xzpipe("tools", "--", "false", code=1)
    assert (done.stdout, told(done)) == ("", "error: false: it exited with code 1\n")
    done = xzpipe("call", "x", "--", *stub("--init-error", "no \x1b[2J licence"), code=1)
    assert "error: stub: it answered initialize with an error: no \\x1b[2J licence" in done.stderr
    servers = {"bad": entry("--exit-at-start", 3), "none": {"command": "no-such-command-xyz"}}
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    for command in (["tools"], ["call", "x"]):
        done = xzpipe(*command, code=1)
        assert done.stdout == ""
        assert "bad: it exited with code 3; it last wrote:\n" in told(done)
        assert "Traceback (most recent call last):\n" in done.stderr
        assert "none: " in done.stderr and "no-such-command-xyz" in done.stderr
        assert "next try" not in done.stderr and "restarting" not in done.stderr


def test_what_a_server_that_failed_has_said_is_shown_and_not_obeyed(xzpipe, tmp_path):
    script = "import sys; sys.exit('\\x1b[2J wss://h/?token=SECRET-TOKEN')"
    servers = {"bad": {"command": sys.executable, "args": ["-c", script]}, "good": entry()}
    (tmp_path / "mcp_config.json").write_text(json.dumps({"mcpServers": servers}))
    done = xzpipe("tools", code=1)
    assert "bad: it exited with code 1; it last wrote: \\x1b[2J wss://h/?token=***\n" in told(done)


@pytest.mark.parametrize("command", [["tools"], ["call", "echo"]])
@pytest.mark.parametrize("more", [["--config", "c.json"], ["--", "true"]])
def test_an_endpoint_and_servers_of_ones_own_are_a_contradiction(command, more, xzpipe):
    done = xzpipe(*command, "--endpoint", "ws://127.0.0.1:1/mcp/?token=x", *more, code=2)
    assert done.stderr.startswith("error: --endpoint calls servers that run elsewhere")


def test_check_warns_of_what_may_be_a_mistake(xzpipe, tmp_path):
    config = {"mcpServers": {"one": {**entry(), "comand": "x"}}}
    (tmp_path / "mcp_config.json").write_text(json.dumps(config))
    assert xzpipe("check").stderr.startswith("warning: mcp_config.json: ")
    assert "comand" in xzpipe("tools").stderr


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


def test_arguments_on_stdin_must_be_an_object(xzpipe):
    done = xzpipe("call", "echo", "-", "--", *stub(), input="[1]", code=2)
    assert done.stderr == "error: the arguments must be a JSON object\n"


def test_a_tool_that_there_is_not_is_an_error_with_those_that_there_are(xzpipe):
    done = xzpipe("call", "nope", "--", *stub("--only", "echo,size"), code=1)
    assert done.stderr == "error: there is no tool 'nope'\nhint: There are: echo, size\n"


def test_a_tool_that_is_not_listed_may_be_one_of_a_server_that_failed(xzpipe, one_of_two):
    done = xzpipe("call", "nope", code=1)
    assert told(done) == (
        "error: there is no tool 'nope', and not every server could be asked:\n"
        f"       {BAD}"
        "hint: There are: echo\n"
    )


def test_a_call_is_made_whatever_became_of_other_servers(xzpipe, one_of_two):
    done = xzpipe("call", "echo", "text=hi")
    assert (done.stdout, told(done)) == ("hi\n", f"error: {BAD}")


def test_arguments_that_are_none_are_refused_before_a_server_is_started(xzpipe, tmp_path):
    diary = tmp_path / "diary"
    for words in (["-"], ["{"], ["plain"]):
        xzpipe("call", "echo", *words, "--", *stub("--diary", diary), code=2)
    assert not diary.exists()


def test_while_it_waits_for_standard_input_it_can_be_interrupted(tmp_path):
    diary = tmp_path / "diary"
    argv = [sys.executable, "-m", "xzpipe", "call", "echo", "-", "--", *stub("--diary", diary)]
    process = subprocess.Popen(argv, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    with process:
        waits_for_stdin(process.pid)
        process.send_signal(signal.SIGINT)
        assert process.wait(10) == 130
        assert process.stderr.read().strip() == b""
    assert not diary.exists()


def waits_for_stdin(pid: int) -> None:
    """Return when that process reads its standard input, a pipe."""
    with contextlib.suppress(FileNotFoundError):  # where there is no /proc, give it a second
        for _ in range(1000):
            if "pipe_read" in Path(f"/proc/{pid}/wchan").read_text():
                return
            time.sleep(0.01)
    time.sleep(1)


@pytest.mark.parametrize(
    "words", [["a=NaN"], ["a=-Infinity"], ["a=[1e999]"], ['{"a": NaN}'], ['{"a": {"b": 1e999}}']]
)
def test_numbers_that_json_has_no_form_for_are_refused(words, xzpipe):
    done = xzpipe("call", "echo_raw", *words, "--", *stub(), code=2)
    assert done.stderr == "error: JSON has no form for NaN and infinite numbers\n"


@pytest.mark.parametrize("depth", [900, 960, 970, 980, 990, 1000, 50_000])
@pytest.mark.parametrize("word", ["a=%s", '{"a":%s}'], ids=["value", "object"])
def test_arguments_of_any_depth_are_sent_or_refused(word, depth, xzpipe):
    word %= "[" * depth + "]" * depth
    done = xzpipe("call", "echo_raw", word, "--", *stub(), code=None)
    assert done.returncode in (0, 1, 2)
    assert done.returncode == 0 or "\nerror: " in f"\n{done.stderr}"


def test_half_a_character_goes_there_and_back(xzpipe):
    given = '{"text": "half \\ud83d"}'
    done = xzpipe("call", "echo", given, "--", *stub())
    assert done.stdout == "half \\ud83d\n"
    done = xzpipe("call", "echo", given, "--json", "--", *stub())
    assert json.loads(done.stdout)["content"][0]["text"] == "half \ud83d"


def test_half_a_character_may_stand_in_a_result(xzpipe):
    encoded = base64.b64encode(rb'{"content":[{"type":"text","text":"\ud83d"}]}').decode()
    assert xzpipe("call", "reply", f"base64={encoded}", "--", *stub()).stdout == "\\ud83d\n"


def test_half_a_character_may_stand_in_a_list(xzpipe):
    """A server's own tools/list, since the scripted one has no such tool."""
    done = xzpipe("tools", "--", sys.executable, "-c", HALF_DESCRIBED)
    assert "half \\ud83d" in done.stdout
    done = xzpipe("tools", "--json", "--", sys.executable, "-c", HALF_DESCRIBED)
    assert json.loads(done.stdout)[0]["description"] == "half \ud83d"


HALF_DESCRIBED = r"""
import json, sys
tool = {"name": "t", "description": "half \ud83d", "inputSchema": {"type": "object"}}
greeting = {"protocolVersion": "2024-11-05", "capabilities": {"tools": {}}, "serverInfo": {}}
for line in sys.stdin:
    asked = json.loads(line)
    result = greeting if asked["method"] == "initialize" else {"tools": [tool]}
    if "id" in asked:
        print(json.dumps({"jsonrpc": "2.0", "id": asked["id"], "result": result}), flush=True)
"""


def test_bytes_that_are_no_characters_are_passed_on(xzpipe):
    done = xzpipe("call", "echo", "text=\udcff", "--", *stub())
    assert done.stdout == "\\udcff\n"
    assert "there is no tool" in xzpipe("call", "\udcff", "--", *stub(), code=1).stderr


def test_an_output_that_has_no_form_for_a_character_is_given_another(xzpipe):
    env = {"PYTHONIOENCODING": "latin-1"}
    assert xzpipe("call", "echo", "text=你", "--", *stub(), env=env).stdout == "\\u4f60\n"
    assert "\\u4f60" in xzpipe("check", "--", "你", env=env).stdout


@pytest.mark.parametrize("depth", [900, 940, 960, 980, 990, 5000])
@pytest.mark.parametrize("option", [[], ["--json"]])
def test_a_result_of_any_depth_is_shown_or_is_an_error(depth, option, xzpipe):
    deep = b'{"content":[],"deep":%b}' % (b"[" * depth + b"]" * depth)
    encoded = base64.b64encode(deep).decode()
    done = xzpipe("call", "reply", f"base64={encoded}", *option, "--", *stub(), code=None)
    assert done.returncode in (0, 1)
    assert done.returncode == 0 or "\nerror: " in f"\n{done.stderr}"


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


# what is not text

CAT = {"type": "image", "data": base64.b64encode(b"a cat").decode(), "mimeType": "image/png"}
PURR = {"type": "audio", "data": "?", "mimeType": "audio/wav"}


def answering(*contents: object, **more: object) -> str:
    """The argument that makes the tool `reply` answer with these contents."""
    result = {"content": [{"type": "text", "text": "look"}, *contents], **more}
    return f"base64={base64.b64encode(json.dumps(result).encode()).decode()}"


def test_a_picture_is_saved_and_its_path_is_printed(xzpipe, tmp_path):
    for number in (1, 2):
        done = xzpipe("call", "reply", answering(CAT), "--save", "out/new", "--", *stub())
        assert done.stdout == f"look\nout/new/reply-{number}.png\n"
        assert (tmp_path / "out" / "new" / f"reply-{number}.png").read_bytes() == b"a cat"


def test_a_picture_that_is_not_saved_is_told_of(xzpipe, tmp_path):
    done = xzpipe("call", "reply", answering(CAT), "--", *stub())
    assert done.stdout == "look\n[image content, image/png: see --save DIR, or --json]\n"
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_saved_is_an_error_and_the_rest_is_saved(xzpipe, tmp_path):
    done = xzpipe("call", "reply", answering(PURR, CAT), "--save", "out", "--", *stub(), code=1)
    assert done.stdout == "look\n[audio content, audio/wav: see --json]\nout/reply-1.png\n"
    assert done.stderr.startswith("error: content 2 (audio/wav) is not base64: ")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["reply-1.png"]


def test_with_json_the_result_is_the_same_and_the_files_are_told_of_beside_it(xzpipe):
    bare = xzpipe("call", "reply", answering(CAT), "--json", "--", *stub())
    done = xzpipe("call", "reply", answering(CAT), "--json", "--save", "out", "--", *stub())
    assert done.stdout == bare.stdout
    assert json.loads(done.stdout)["content"][1] == CAT
    assert done.stderr == "saved: out/reply-1.png\n"


def test_what_a_tool_that_failed_sent_is_saved_too(xzpipe, tmp_path):
    failed = answering(CAT, isError=True)
    done = xzpipe("call", "reply", failed, "--save", "out", "--", *stub(), code=1)
    assert (done.stdout, done.stderr) == ("", "look\nout/reply-1.png\n")
    assert (tmp_path / "out" / "reply-1.png").exists()


def test_a_folder_that_cannot_be_is_refused_before_a_server_is_started(xzpipe, tmp_path):
    diary = tmp_path / "diary"
    (tmp_path / "file").touch()
    for folder in ("file", "file/in"):
        done = xzpipe("call", "echo", "--save", folder, "--", *stub("--diary", diary), code=2)
        assert "file" in done.stderr and "--save" in done.stderr
    assert not diary.exists()


# progress


def at_terminal(folder: Path, *args: str) -> tuple[bytes, bytes]:
    """Run it with stderr at a terminal; what it wrote to stdout and there."""
    ours, theirs = pty.openpty()
    argv = [sys.executable, "-m", "xzpipe", *args, "--", *stub("--only", "progress")]
    env = {"PATH": os.environ["PATH"], "TERM": "xterm", "COLUMNS": "80"}
    done = subprocess.run(
        argv, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=folder, check=True, timeout=30
    )
    os.close(theirs)
    seen = b""
    with contextlib.suppress(OSError):  # its other end is closed
        while data := os.read(ours, 4096):
            seen += data
    os.close(ours)
    return done.stdout, seen


def test_at_a_terminal_a_bar_moves_and_leaves_nothing_behind(tmp_path):
    out, seen = at_terminal(tmp_path, "call", "progress", "n=4")
    assert out == b"done\n"
    assert "━".encode() in seen and b"100%" in seen
    assert seen.endswith(b"\r\x1b[1A\x1b[2K")


@pytest.mark.parametrize("option", ["--json", "-q", "--verbose", "--log-level=error"])
def test_a_bar_is_for_who_looks_on_and_reads_nothing_else(option, tmp_path):
    _, seen = at_terminal(tmp_path, "call", "progress", "n=4", option)
    assert b"%" not in seen


def test_elsewhere_no_progress_is_asked_for(xzpipe):
    done = xzpipe("call", "echo_raw", "--json", "--", *stub())
    raw = json.loads(json.loads(done.stdout)["content"][0]["text"])["params"]
    assert "_meta" not in json.loads(base64.b64decode(raw))
    for env in ({}, {"FORCE_COLOR": "1", "TERM": "xterm"}):
        done = xzpipe("call", "progress", "--", *stub(), env=env)
        assert (done.stdout, done.stderr) == ("done\n", "")


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


def test_over_an_endpoint_too_progress_is_shown_and_pictures_are_saved(xzpipe, tmp_path):
    with local_endpoint("--", *stub("--only", "reply,progress")) as url:
        calling_side = url.replace("/mcp/", "/call/")
        saved = xzpipe("call", "reply", answering(CAT), "--save", "out", "--endpoint", calling_side)
        ours, theirs = pty.openpty()
        argv = [sys.executable, "-m", "xzpipe", "call", "progress", "--endpoint", url]
        env = {"PATH": os.environ["PATH"], "TERM": "xterm"}
        subprocess.run(argv, stderr=theirs, env=env, check=True, timeout=30)
        os.close(theirs)
        assert b"100%" in os.read(ours, 100_000)
        os.close(ours)
    assert saved.stdout == "look\nout/reply-1.png\n"


def test_a_tool_that_fails_over_an_endpoint_is_exit_code_1(xzpipe):
    with local_endpoint("--", *stub("--only", "result,echo")) as url:
        failed = xzpipe("call", "result", "error=true", "--endpoint", url, code=1)
        unknown = xzpipe("call", "nope", "--endpoint", url, code=1)
    assert (failed.stdout, failed.stderr) == ("", "\n")
    assert unknown.stderr.startswith("error: there is no tool 'nope'\nhint: There are: ")


def test_an_endpoint_that_cannot_be_reached_is_an_error_without_its_token(xzpipe):
    url = f"ws://127.0.0.1:1/mcp_endpoint/mcp/?token={TOKEN}"
    done = xzpipe("tools", "--endpoint", url, code=1)
    assert "nothing listens at the endpoint's address" in done.stderr
    assert TOKEN not in done.stderr
    done = xzpipe("call", "x", "--endpoint", "wss://api.xiaozhi.me/?token=x", code=2)
    assert "has no side to call from" in done.stderr
