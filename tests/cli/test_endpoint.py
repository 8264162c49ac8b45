"""`xzpipe endpoint address` and `token`, as typed: what they print, and what they never print."""

import subprocess
import sys
from urllib.parse import quote

import click
import pytest
from click.testing import CliRunner

from xzpipe.cli.endpoint import MAX_LINE
from xzpipe.cli.main import cli, execute

KEY = "6a369b7f1bcf4d3e8d123ece38bb9627"
BASE = f"https://mcp.example.com:8080/path?key={KEY}"
OTHER_BASE = "https://elsewhere/?key=another-key"

# wire.md §3
AGENT123 = "gxjLBeWJyKqjcW/RireYCeraQXpL475V7c3c+7hJX89UhGbvoWJkjMeH3U8MHEP1"
TEST1 = "8h5xji9TI3Dpg3rrM8WVnBKI3KCEDpAbG32rahF7hwDKNIODZ31tdtl5LQ2YbMtz"
TEST1_COMPACT = "ZB5/2Af2Ip/CqtuV6sfK6PmY4OdAkXAiCwGCEyxmUJfFOoJuNEbLtoHCtCQSbUZK"
TEST1_PLAIN = "0fBjOA0YclUsK7iEYvt6r2hBxAHCoka5nAL4gj6ZAXQ="
SINGLE_MODULE = "xTr7w9G0EcAbf8IorLoBiE5b9K+CwZtl2DlcrI/9XpY="
QUOTED = "gxjLBeWJyKqjcW%2FRireYCeraQXpL475V7c3c%2B7hJX89UhGbvoWJkjMeH3U8MHEP1"
ADDRESS = f"wss://mcp.example.com:8080/path/mcp/?token={QUOTED}"
HASHED_AGENT123 = "2ec199f1e2de31576869a57488e919ad"

# of agent97 the usual token has "key" in it, of agent221 the compact one "call"
UNLUCKY, UNLUCKY_COMPACT = "agent97", "agent221"


def said(done: subprocess.CompletedProcess[str]) -> str:
    """The one sentence of an error, of which nothing else was printed but its hint."""
    assert done.returncode == 2 and done.stdout == ""
    first, *hint = done.stderr.splitlines()
    assert all(line.startswith("hint: ") for line in hint)
    assert first.startswith("error: ")
    assert KEY not in done.stderr
    return first.removeprefix("error: ")


@pytest.mark.parametrize("command", ["address", "token"])
def test_every_command_helps_and_every_option_says_what_it_does(command):
    result = CliRunner().invoke(cli, ["endpoint", command, "--help"], prog_name="xzpipe")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: xzpipe endpoint {command} [OPTIONS]")
    assert f"\n  xzpipe endpoint {command} --" in result.output
    assert all(len(line) <= 100 for line in result.output.splitlines())
    for parameter in cli.commands["endpoint"].commands[command].params:
        assert isinstance(parameter, click.Option) and parameter.help


@pytest.mark.parametrize("args", ["--version", "endpoint --help", "endpoint address --help"])
def test_cryptography_is_not_loaded_to_tell_what_there_is(args):
    code = (
        "import sys; from xzpipe.cli.main import execute; "
        f"execute({args.split()}); sys.exit('cryptography' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, timeout=30)


def test_an_address_is_as_a_console_makes_it(xzpipe):
    done = xzpipe("endpoint", "address", "--agent-id", "agent123", "--base", BASE)
    assert (done.stdout, done.stderr) == (f"{ADDRESS}\n", "")


def test_its_calling_side_is_beside_it(xzpipe):
    done = xzpipe("endpoint", "address", "--agent-id", "agent123", "--base", BASE, "--call")
    assert (done.stdout, done.stderr) == (f"{ADDRESS.replace('/mcp/', '/call/')}\n", "")


@pytest.mark.parametrize(
    ("agent_id", "options", "token"),
    [
        ("test1", [], TEST1),
        ("test1", ["--compact"], TEST1_COMPACT),
        ("test1", ["--plain-id"], TEST1_PLAIN),
        ("single_module", ["--plain-id", "--compact"], SINGLE_MODULE),
    ],
)
def test_a_token_takes_every_form_in_an_address_and_alone(xzpipe, agent_id, options, token):
    env = {"XZPIPE_ENDPOINT_BASE": f"http://h:8004/mcp_endpoint/health?key={KEY}"}
    asked = ["--agent-id", agent_id, *options]
    address = f"ws://h:8004/mcp_endpoint/mcp/?token={quote(token, safe='')}\n"
    assert xzpipe("endpoint", "token", *asked, env=env).stdout == f"{token}\n"
    assert xzpipe("endpoint", "address", *asked, env=env).stdout == address


@pytest.mark.parametrize("command", ["address", "token"])
@pytest.mark.parametrize("way", ["option", "stdin", "environment", ".env"])
def test_the_base_can_be_given_without_being_seen(xzpipe, tmp_path, command, way):
    asked = ["endpoint", command, "--agent-id", "agent123"]
    match way:
        case "option":  # wins over the environment
            env = {"XZPIPE_ENDPOINT_BASE": OTHER_BASE}
            done = xzpipe(*asked, "--base", BASE, env=env)
        case "stdin":
            done = xzpipe(*asked, "--base", "-", input=f"{BASE}\nnot read\n")
        case "environment":
            done = xzpipe(*asked, env={"XZPIPE_ENDPOINT_BASE": BASE})
        case ".env":
            (tmp_path / ".env").write_text(f"XZPIPE_ENDPOINT_BASE='{BASE}'\n")
            done = xzpipe(*asked)
    assert done.stdout == f"{ADDRESS if command == 'address' else AGENT123}\n"


def test_the_key_can_be_in_a_file_which_wins_over_the_environment(xzpipe, tmp_path):
    (tmp_path / "key").write_text(f"{KEY}\n")
    env = {"XZPIPE_ENDPOINT_BASE": OTHER_BASE}
    asked = ["--key-file", "key", "--agent-id", "agent123"]
    assert xzpipe("endpoint", "token", *asked, env=env).stdout == f"{AGENT123}\n"


@pytest.mark.parametrize(
    "given",
    [
        AGENT123,
        QUOTED,
        quote(AGENT123),  # as Python's quote has it
        ADDRESS,
        f" '{ADDRESS}' \n",
        f"ws://elsewhere/call/?server_id=a&token={QUOTED}&more=b",
    ],
)
def test_the_agent_of_a_token_is_told_however_it_is_written(xzpipe, given):
    asked = ["endpoint", "token", "--base", BASE, "--decode"]
    assert xzpipe(*asked, given).stdout == f"{HASHED_AGENT123}\n"
    assert xzpipe(*asked, "-", input=given).stdout == f"{HASHED_AGENT123}\n"


@pytest.mark.parametrize("token", [TEST1_PLAIN, SINGLE_MODULE])
def test_a_plain_id_comes_back_as_it_was(xzpipe, token):
    done = xzpipe("endpoint", "token", "--base", BASE, "--decode", token)
    assert done.stdout in ("test1\n", "single_module\n")


def test_what_is_in_a_token_is_shown_and_not_obeyed(xzpipe):
    asked = ["endpoint", "token", "--base", BASE]
    token = xzpipe(*asked, "--plain-id", "--agent-id", "智\x1b[31m").stdout
    assert xzpipe(*asked, "--decode", token).stdout == "智\\x1b[31m\n"


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        (ADDRESS.replace("%2B", "+"), "the token has a space: in a URL, the + in it must be "),
        (AGENT123[:-1], "the token is not base64"),
        ("", "the token was made with another key"),
        ("ws://h/mcp/", "--decode: the address has no token"),
        ("ws://[h/mcp/?token=SECRET", "--decode: the address has no token"),
        ("A" * 5000, "the token is too long"),
    ],
)
def test_what_is_no_token_is_told_in_a_sentence(xzpipe, given, sentence):
    done = xzpipe("endpoint", "token", "--base", BASE, "--decode", given, code=2)
    assert said(done).startswith(sentence)
    assert not given or given not in done.stderr


def test_a_token_of_another_key_is_told_in_a_sentence(xzpipe):
    done = xzpipe("endpoint", "token", "--base", OTHER_BASE, "--decode", ADDRESS, code=2)
    assert said(done) == "the token was made with another key, or is not whole"
    assert QUOTED not in done.stderr and AGENT123 not in done.stderr


@pytest.mark.parametrize(
    ("base", "sentence"),
    [
        (f"ftp://host/path?key={KEY}", "--base: expected an address with a host, that begins with"),
        (f"https:///path?key={KEY}", "--base: expected an address with a host, that begins with"),
        (KEY, "--base: expected an address with a host, that begins with"),
        (f"https://host/path?KEY={KEY}", "--base: the address has no key"),
        (b"\xff", "--base: standard input is not UTF-8 text"),
    ],
)
@pytest.mark.parametrize("command", ["address", "token"])
def test_what_is_no_base_is_told_in_a_sentence(xzpipe, command, base, sentence, tmp_path):
    asked = ["endpoint", command, "--agent-id", "a", "--base"]
    if isinstance(base, bytes):
        line = [sys.executable, "-m", "xzpipe", *asked, "-"]
        done = subprocess.run(line, input=base, capture_output=True, cwd=tmp_path, timeout=30)
        assert done.returncode == 2 and sentence.encode() in done.stderr
    else:
        assert said(xzpipe(*asked, base, code=2)).startswith(sentence)


@pytest.mark.parametrize(
    ("args", "sentence"),
    [
        (["token"], "give one of --agent-id and --decode"),
        (["token", "--agent-id", "a", "--decode", "b"], "give one of --agent-id and --decode"),
        (["token", "--decode", "b", "--compact"], "--plain-id and --compact go with --agent-id"),
        (["token", "--decode", "b", "--plain-id"], "--plain-id and --compact go with --agent-id"),
        (["token", "--decode", "-", "--base", "-"], "only one of --base and --decode can be read"),
        (
            ["token", "--agent-id", "a", "--base", BASE, "--key-file", "key"],
            "--base and --key-file are two ways to say one thing",
        ),
        (["token", "--agent-id", "a", "--key-file", "no-such"], "the key file no-such: "),
        (["token", "--agent-id", "a"], "no endpoint server is given"),
        (["address", "--agent-id", "a"], "no endpoint server is given"),
        (["address", "--agent-id", "", "--base", BASE], "--agent-id: it is empty"),
        (["token", "--agent-id", "", "--base", BASE], "--agent-id: it is empty"),
        (["token", "--agent-id", "\udcff", "--base", BASE], "--agent-id: it is not UTF-8 text"),
        (
            ["token", "--agent-id", "a" * 4000, "--plain-id", "--base", BASE],
            "the agent's id is too long for a token",
        ),
    ],
)
def test_what_cannot_be_asked_is_told_in_a_sentence(xzpipe, args, sentence):
    assert said(xzpipe("endpoint", *args, code=2)).startswith(sentence)


def test_a_variable_is_named_when_it_holds_no_base(xzpipe):
    done = xzpipe(
        "endpoint", "address", "--agent-id", "a", env={"XZPIPE_ENDPOINT_BASE": KEY}, code=2
    )
    assert said(done).startswith("XZPIPE_ENDPOINT_BASE: expected an address")


def test_a_line_without_an_end_is_read_in_part(tmp_path):
    asked = ["endpoint", "address", "--agent-id", "agent123", "--base", "-"]
    with subprocess.Popen(
        [sys.executable, "-m", "xzpipe", *asked],
        cwd=tmp_path,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdin.write(f"{BASE}&more=".encode().ljust(MAX_LINE, b"b"))
        process.stdin.flush()  # and it stays open
        assert process.stdout.read() == f"{ADDRESS}\n".encode()


@pytest.mark.parametrize(
    ("agent_id", "options", "word", "remedy"),
    [
        (UNLUCKY, [], "key", "make another one with --compact"),
        (UNLUCKY_COMPACT, ["--compact"], "call", "leave out --compact"),
    ],
)
def test_an_address_that_would_be_ignored_is_printed_with_a_warning(
    agent_id, options, word, remedy, capsys
):
    asked = ["endpoint", "address", "--agent-id", agent_id, "--base", BASE]
    assert execute([*asked, *options]) == 0
    printed = capsys.readouterr()
    assert printed.out.startswith("wss://mcp.example.com:8080/path/mcp/?token=")
    assert printed.err == (
        "warning: a xiaozhi-server without a console ignores this address, because "
        f"'{word}' is in its token: {remedy}\n"
    )
    assert execute([*asked, *({"--compact"} - {*options})]) == 0  # the remedy helps
    assert execute([*asked, *options, "--call"]) == 0  # nobody reads that from a config
    assert capsys.readouterr().err == ""


def test_a_host_for_which_the_address_would_be_ignored_is_warned_of(capsys):
    base = f"https://monkey.example/path?key={KEY}"
    assert execute(["endpoint", "address", "--agent-id", UNLUCKY, "--base", base]) == 0
    assert "'key' is in its host or path: reach the server by another" in capsys.readouterr().err
