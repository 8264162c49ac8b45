"""`xzpipe check`, `xzpipe tools`, `xzpipe call`: look at a config, and at what its servers do."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from xzpipe.cli.arguments import read_arguments
from xzpipe.cli.options import (
    COMMAND,
    MODES,
    Asked,
    Logging,
    TakesCommand,
    config_option,
    environment,
    logging_options,
)
from xzpipe.cli.sessions import CALL_WITHIN, LIST_WITHIN, Limit, hold
from xzpipe.errors import CallError

if TYPE_CHECKING:
    from xzpipe.calling import Calling
    from xzpipe.core.events import ServerDown

LONGEST = 86_400.0  # seconds


@click.command(cls=TakesCommand)
@config_option
@click.option("--schema", is_flag=True, help="Print the JSON Schema of config files instead.")
@click.pass_context
def check(ctx: click.Context, config: str | None, schema: bool) -> int:
    """Validate the config and print what would run. Starts nothing.

    Exit code 2, and the place of each error, if something is wrong with it.
    """
    if schema:
        from xzpipe.config.model import schema as json_schema

        click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
        return 0
    from xzpipe.cli import render

    loaded = Asked(config, command=ctx.meta[COMMAND]).load(environment())
    for warning in loaded.warnings:
        _note("warning:", "yellow", warning)
    render.config(loaded)
    return 0


def _seconds(ctx: click.Context, option: click.Parameter, given: float | None) -> float | None:
    if given is not None and not 0 < given <= LONGEST:  # NaN is neither
        raise click.BadParameter(f"expected more than 0 and at most {LONGEST:g} seconds")
    return given


_over_endpoint = click.option(
    "--endpoint",
    metavar="URL",
    help="Call over a self-hosted endpoint's /call/ side instead of starting servers.",
)


def _timeout(usual: float) -> Callable[[Any], Any]:
    return click.option(
        "--timeout",
        type=float,
        metavar="S",
        callback=_seconds,
        help="Seconds for all of it, from the first try to connect on. "
        f"[default: {usual:g} with --endpoint, else what the config says of each server]",
    )


@click.command(cls=TakesCommand)
@config_option
@_over_endpoint
@_timeout(LIST_WITHIN)
@click.option("--mode", type=click.Choice(MODES), help="As they are listed in this mode of `run`.")
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@logging_options
@click.pass_context
def tools(
    ctx: click.Context,
    config: str | None,
    endpoint: str | None,
    mode: str | None,
    timeout: float | None,
    as_json: bool,
    logging: Logging,
) -> int:
    """List the tools of the config's servers, as its endpoints see them. Needs no endpoint.

    Exit code 1 if one of them could not be started.

    \b
    xzpipe tools
    xzpipe tools -- uvx mcp-server-time
    """

    async def body(calling: "Calling") -> int:
        from xzpipe.cli import render

        if calling.seen:
            (render.json_of_seen if as_json else render.seen)(calling.seen)
        else:
            (render.json_of if as_json else render.tools)(await calling.session.tools())
        _tell(calling.failed)
        return 1 if calling.failed else 0

    asked = Asked(config, mode=mode, command=ctx.meta[COMMAND])
    return hold(asked, endpoint, Limit(LIST_WITHIN, timeout), logging, body)


@click.command(cls=TakesCommand)
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE… | JSON | -]")
@config_option
@_over_endpoint
@_timeout(CALL_WITHIN)
@click.option(
    "--save",
    "folder",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    help="Write the pictures and sounds of the result to new files there.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@logging_options
@click.pass_context
def call(
    ctx: click.Context,
    tool: str,
    arguments: tuple[str, ...],
    config: str | None,
    endpoint: str | None,
    timeout: float | None,
    folder: Path | None,
    as_json: bool,
    logging: Logging,
) -> int:
    """Call a tool and print what it answers. Needs no endpoint.

    A VALUE is text where the tool wants text, and JSON elsewhere. `-` reads a JSON object from
    standard input. Exit code 1 if the tool says that it failed.

    \b
    xzpipe call calculator expression='25 * 17'
    xzpipe call calculator '{"expression": "25 * 17"}'
    """
    from xzpipe.cli.save import prepare, save

    given = read_arguments(arguments)
    if folder is not None:
        prepare(folder)

    async def body(calling: "Calling") -> int:
        from xzpipe.cli import render

        schema = _schema(await calling.session.tools(), tool, calling.failed)
        _tell(calling.failed)
        with render.progress(wanted=logging.level is None and not as_json) as watch:
            result = await calling.session.call(tool, given(schema), watch)
        saved = save(result, tool, folder) if folder is not None else None
        if as_json:
            render.json_of(result)
            for path in saved.paths.values() if saved else ():
                _note("saved:", "green", str(path))
        else:
            render.result(result, saved.paths if saved else None)
        for problem in saved.problems if saved else ():
            _note("error:", "red", problem)
        return 1 if result.get("isError") or (saved and saved.problems) else 0

    asked = Asked(config, command=ctx.meta[COMMAND])
    return hold(asked, endpoint, Limit(CALL_WITHIN, timeout), logging, body)


def _note(label: str, colour: str, text: str) -> None:
    """Say something on stderr, in which a peer may have had a word."""
    from xzpipe.logs import clean, safe

    click.echo(f"{click.style(label, fg=colour, bold=True)} {safe(clean(text))}", err=True)


def _tell(failed: "Mapping[str, ServerDown]") -> None:
    for down in failed.values():
        _note("error:", "red", _in_short(down))


def _in_short(down: "ServerDown") -> str:
    last = f"; it last wrote: {down.stderr[-1]}" if down.stderr else ""
    return f"{down.server}: {down.reason}{last}"


def _schema(
    tools: list[dict[str, Any]], tool: str, failed: "Mapping[str, ServerDown]"
) -> dict[str, Any]:
    """What a tool takes. Raises `CallError` when it is not listed."""
    found = {str(each.get("name")): each for each in tools}
    if tool in found:
        schema = found[tool].get("inputSchema")
        return schema if isinstance(schema, dict) else {}
    but = ", and not every server could be asked:" if failed else ""
    words = "\n".join([f"there is no tool '{tool}'{but}", *map(_in_short, failed.values())])
    raise CallError(words, f"There are: {', '.join(found)}" if found else "")
