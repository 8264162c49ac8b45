"""`xzpipe check`, `xzpipe tools`, `xzpipe call`: look at a config, and at what its servers do."""

import json
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

import click

from xzpipe.cli.arguments import read_arguments
from xzpipe.cli.options import (
    COMMAND,
    Asked,
    Logging,
    TakesCommand,
    config_option,
    environment,
    logging_options,
)
from xzpipe.errors import CallError, UsageError

if TYPE_CHECKING:
    from xzpipe.app import Calling
    from xzpipe.core.events import ServerDown
    from xzpipe.guard import Guard

    Body = Callable[[Calling], Awaitable[int]]


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


_over_endpoint = click.option(
    "--endpoint",
    metavar="URL",
    help="Call over a self-hosted endpoint's /call/ side instead of starting servers.",
)


@click.command(cls=TakesCommand)
@config_option
@_over_endpoint
@click.option("--json", "as_json", is_flag=True, help="Print the list as JSON.")
@logging_options
@click.pass_context
def tools(
    ctx: click.Context, config: str | None, endpoint: str | None, as_json: bool, logging: Logging
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

    return _with_session(Asked(config, command=ctx.meta[COMMAND]), endpoint, logging, body)


@click.command(cls=TakesCommand)
@click.argument("tool")
@click.argument("arguments", nargs=-1, metavar="[KEY=VALUE… | JSON | -]")
@config_option
@_over_endpoint
@click.option("--json", "as_json", is_flag=True, help="Print the whole result as JSON.")
@logging_options
@click.pass_context
def call(
    ctx: click.Context,
    tool: str,
    arguments: tuple[str, ...],
    config: str | None,
    endpoint: str | None,
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

    given = read_arguments(arguments)

    async def body(calling: "Calling") -> int:
        from xzpipe.cli import render

        schema = _schema(await calling.session.tools(), tool, calling.failed)
        _tell(calling.failed)
        result = await calling.session.call(tool, given(schema))
        if as_json:
            render.json_of(result)
        else:
            render.result(result)
        return 1 if result.get("isError") else 0

    return _with_session(Asked(config, command=ctx.meta[COMMAND]), endpoint, logging, body)


def _with_session(asked: Asked, endpoint: str | None, logging: Logging, body: "Body") -> int:
    logging = logging.no_chattier_than("warning")
    if endpoint is None:
        return _at_servers(asked, logging, body)
    if asked.config is not None or asked.command:
        raise UsageError(
            "--endpoint calls servers that run elsewhere: it goes with no --config and no COMMAND"
        )
    return _at_endpoint(endpoint, logging, body)


def _at_servers(asked: Asked, logging: Logging, body: "Body") -> int:
    from xzpipe import app

    env = environment()
    config = asked.load(env)
    emit = logging.setup(env, config.secrets, config)

    async def main(guard: "Guard") -> int:
        async with app.calling_servers(guard, config, emit) as calling:
            return await body(calling)

    return app.main(main)


def _at_endpoint(endpoint: str, logging: Logging, body: "Body") -> int:
    from xzpipe import app
    from xzpipe.core.endpoint import parse_endpoint

    address = parse_endpoint(endpoint, "--endpoint")
    logging.setup(environment(), address.secrets)

    async def main(_: "Guard") -> int:
        async with app.calling_endpoint(address) as session:
            return await body(app.Calling(session))

    return app.main(main)


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
