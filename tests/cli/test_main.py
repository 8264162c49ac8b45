"""The one boundary where errors become exit codes, and what stands before it."""

import os
import shlex
import subprocess
import sys

import click
import pytest
from click.testing import CliRunner

from tests.servers import stub
from xzpipe import __version__
from xzpipe.cli.main import BUG, INTERRUPTED, cli, execute
from xzpipe.errors import CallError, ConfigError, ServerError, UsageError

TOKEN = "SECRET-TOKEN"


@pytest.mark.parametrize("command", [(), *((name,) for name in cli.commands)])
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_helps(command, flag):
    result = CliRunner().invoke(cli, [*command, flag], prog_name="xzpipe")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: {' '.join(('xzpipe', *command))}")
    assert all(len(line) <= 100 for line in result.output.splitlines())


def test_the_commands_are_these():
    assert set(cli.commands) == {"call", "check", "demo", "endpoint", "run", "tools"}


def test_every_option_of_every_command_says_what_it_does():
    for name, command in cli.commands.items():
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{name} {parameter.name}"


def test_the_version_is_told_without_loading_anything_heavy():
    heavy = {"anyio", "asyncio", "dotenv", "msgspec", "rich", "tenacity", "websockets", "yaml"}
    code = (
        "import sys; from xzpipe.cli.main import execute; code = execute(['--version']); "
        f"print(sorted({heavy} & set(sys.modules))); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines() == [f"xzpipe {__version__}", "[]"]


def test_it_runs_as_a_module(xzpipe):
    assert xzpipe("--version").stdout == f"xzpipe {__version__}\n"


@pytest.mark.parametrize(
    "args", [["nonsense"], ["run", "--nonsense"], ["call"], ["check", "--config"], ["run", "--"]]
)
def test_a_wrong_command_line_is_a_usage_error(args, capsys):
    assert execute(args) == 2
    output = capsys.readouterr()
    assert "Error: " in output.err
    assert output.out == ""


def test_without_a_command_it_helps():
    result = CliRunner().invoke(cli, [], prog_name="xzpipe")
    assert result.output.startswith("Usage: xzpipe")


# What a command may raise. The commands of these tests are made for them and hang in a group of
# their own; the boundary is the real one.


def raising(error: BaseException) -> click.Group:
    group = click.Group()

    @group.command()
    def fail() -> int:
        raise error

    return group


def grouped(error: BaseException) -> BaseException:
    return BaseExceptionGroup("a", [BaseExceptionGroup("b", [error])])


@pytest.mark.parametrize("wrap", [lambda error: error, grouped], ids=["bare", "in task groups"])
@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CallError("it failed", "mend it"), 1, "error: it failed\nhint: mend it\n"),
        (ServerError("no command"), 1, "error: no command\n"),
        (UsageError("cannot", "do so"), 2, "error: cannot\nhint: do so\n"),
        (ConfigError(["a: wrong", "b: wrong"]), 2, "error: a: wrong\n       b: wrong\n"),
        (KeyboardInterrupt(), INTERRUPTED, ""),
        (click.Abort(), INTERRUPTED, ""),
        (SystemExit(3), 3, ""),
        (click.exceptions.Exit(4), 4, ""),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_error_has_its_exit_code_and_its_sentence(wrap, error, code, said, capsys):
    assert execute(["fail"], raising(wrap(error))) == code
    output = capsys.readouterr()
    assert output.out == ""
    assert output.err.lstrip("\n") == said


def test_a_bug_is_reported_with_versions_and_without_secrets(capsys):
    bug = ValueError(f"cannot dial wss://h/mcp/?token={TOKEN}")
    assert execute(["fail"], raising(bug)) == BUG
    said = capsys.readouterr().err
    assert said.startswith("bug: this should not have happened")
    assert f"xzpipe {__version__}, Python 3." in said
    assert "ValueError: cannot dial wss://h/mcp/?token=***" in said
    assert "test_main.py" in said
    assert TOKEN not in said


def test_success_is_what_a_command_returns():
    group = click.Group()
    group.command("seven")(lambda: 7)
    group.command("nothing")(lambda: None)
    assert execute(["seven"], group) == 7
    assert execute(["nothing"], group) == 0


@pytest.mark.parametrize(
    "args",
    [
        ["check", "--schema"],
        ["call", "size", "bytes=3000000", "--", *stub()],
        ["tools", "--", *stub("--tools", 5000)],
    ],
    ids=lambda args: args[0],
)
def test_a_reader_that_has_seen_enough_is_no_trouble(args):
    reader = subprocess.Popen(
        [sys.executable, "-c", "import os; os.read(0, 10)"], stdin=subprocess.PIPE
    )
    with reader:
        done = subprocess.run(
            [sys.executable, "-m", "xzpipe", *args],
            stdin=subprocess.DEVNULL,
            stdout=reader.stdin,
            stderr=subprocess.PIPE,
            text=True,
            timeout=30,
        )
    said = [line for line in done.stderr.splitlines() if "WARNING" not in line]
    assert (said, done.returncode) in [([], 1), ([], 0)]


@pytest.mark.parametrize("closed", ["0<&-", "1>&-", "2>&-", "0<&- 1>&- 2>&-"])
def test_closed_standard_streams_are_no_trouble(closed, tmp_path):
    command = f"{sys.executable} -m xzpipe tools -- {shlex.join(stub())} {closed}"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=30)
    assert done.returncode == 0
    assert b"Traceback" not in done.stdout + done.stderr


def test_output_that_cannot_be_written_is_an_error_and_no_bug(tmp_path):
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    command = f"{sys.executable} -m xzpipe tools -- {shlex.join(stub())} > /dev/full"
    done = subprocess.run(["sh", "-c", command], cwd=tmp_path, capture_output=True, timeout=30)
    assert done.returncode == 1
    assert b"could not be written: No space left on device" in done.stderr
    assert b"Traceback" not in done.stderr
