"""`xzpipe`: the group of commands, and the one place where errors become exit codes."""

import errno
import io
import os
import sys
from collections.abc import Sequence
from functools import partial

import click

from xzpipe import __version__
from xzpipe.cli.endpoint import endpoint
from xzpipe.cli.inspect import call, check, tools
from xzpipe.cli.options import Logging, logging_options
from xzpipe.cli.run import demo, run
from xzpipe.cli.serve import serve
from xzpipe.errors import INTERRUPTED, XzpipeError
from xzpipe.init import run_as_init

BUG = 70  # EX_SOFTWARE


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, message="%(prog)s %(version)s")
@logging_options
def cli(logging: Logging) -> None:
    """Connect stdio MCP servers to a Xiaozhi voice assistant, and keep them connected.

    \b
    See it work, without an account:      xzpipe demo
    Connect your servers:                 export MCP_ENDPOINT='wss://api.xiaozhi.me/mcp/?token=…'
                                          xzpipe run --config mcp_config.json
    One server, no config:                xzpipe run -- uvx mcp-server-time
    Look at what they offer:              xzpipe tools
    """
    click.get_current_context().obj = logging


endpoint.add_command(serve)
for _command in (run, check, tools, call, endpoint, demo):
    cli.add_command(_command)


def entry() -> None:
    """The console script."""
    _prepare_standard_streams()
    sys.exit(run_as_init(partial(execute, sys.argv[1:]), os.getpid()))


def _prepare_standard_streams() -> None:
    """Where a shell has closed one (`>&-`), the next file to be opened would take its number. And
    what has no form in their encoding, be it half a character, is no reason to fail."""
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # it takes the lowest number that is free
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def execute(args: Sequence[str], command: click.Command = cli) -> int:
    """Run a command line; its exit code. Never raises."""
    try:
        code = command.main(list(args), prog_name="xzpipe", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BaseException as error:
        return _report(error)


def _root(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return error


def _report(error: BaseException) -> int:
    root = _root(error)
    match root:
        case click.exceptions.Exit():
            return root.exit_code
        case click.ClickException():
            root.show()
            return root.exit_code
        case XzpipeError():
            _say("error", root.message)
            if root.hint:
                _say("hint", root.hint)
            return root.exit_code
        case click.Abort() | KeyboardInterrupt():
            return INTERRUPTED
        case BrokenPipeError():
            sys.stderr.close()  # whoever read us has enough; nothing to complain of at exit
            return 1
        case OSError(errno=errno.ENOSPC | errno.EIO):
            _say("error", f"the output could not be written: {root.strerror}")
            return 1
        case SystemExit():
            return root.code if isinstance(root.code, int) else 1
    return _report_bug(error)


def _report_bug(error: BaseException) -> int:
    import platform
    import traceback

    from xzpipe import logs

    trace = "".join(traceback.format_exception(error))
    system = f"xzpipe {__version__}, Python {platform.python_version()}, {platform.platform()}"
    _say("bug", "this should not have happened; please report it with these lines")
    click.echo(f"\n{system}\n{logs.clean(trace)}", err=True)
    return BUG


def _say(label: str, text: str) -> None:
    """Print a text in which a peer may have had a word: without secrets, its signs shown."""
    from xzpipe.logs import clean, safe

    colour = "cyan" if label == "hint" else "red"
    first, *more = map(safe, clean(text).splitlines() or [""])
    click.echo(f"{click.style(f'{label}:', fg=colour, bold=True)} {first}", err=True)
    for line in more:
        click.echo(f"{' ' * len(label)}  {line}", err=True)
