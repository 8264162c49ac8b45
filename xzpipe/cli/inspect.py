"""`xzpipe check`, `xzpipe tools`, `xzpipe call`: look at a config, and at what its servers do."""

import json
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import click

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
    from xzpipe.client import Session
    from xzpipe.guard import Guard


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

    render.config(Asked(config, command=ctx.meta[COMMAND]).load(environment()))
    return 0


_over_endpoint = click.option(
    "--endpoint",
    metavar="URL",
    help="Call over a self-hosted endpoint's /call/ side instead of starting servers.",
)


@click.command(cls=TakesCommand)
@config_option
@_over_endpoint
@click.option("--json", "as_json", is_flag=True, help="Print the list as the servers give it.")
@logging_options
@click.pass_context
def tools(
    ctx: click.Context, config: str | None, endpoint: str | None, as_json: bool, logging: Logging
) -> int:
    """List the tools of the config's servers. Needs no endpoint.

    \b
    xzpipe tools
    xzpipe tools -- uvx mcp-server-time
    """

    async def body(session: "Session") -> int:
        found = await session.tools()
        if as_json:
            click.echo(json.dumps(found, indent=2, ensure_ascii=False))
        else:
            from xzpipe.cli import render

            render.tools(found)
        return 0

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

    A VALUE is text where the tool wants text, and JSON elsewhere. `-` reads JSON from standard
    input. Exit code 1 if the tool says that it failed.

    \b
    xzpipe call calculator expression='25 * 17'
    xzpipe call calculator '{"expression": "25 * 17"}'
    """

    async def body(session: "Session") -> int:
        from xzpipe.cli import render

        given = arguments_of(arguments, await _schema_of(session, tool))
        result = await session.call(tool, given)
        if as_json:
            click.echo(json.dumps(result, indent=2, ensure_ascii=False))
        else:
            render.result(result)
        return 1 if result.get("isError") else 0

    return _with_session(Asked(config, command=ctx.meta[COMMAND]), endpoint, logging, body)


def _with_session(
    asked: Asked,
    endpoint: str | None,
    logging: Logging,
    body: "Callable[[Session], Awaitable[int]]",
) -> int:
    from xzpipe import app
    from xzpipe.core.endpoint import parse_endpoint

    env = environment()
    logging = logging.no_chattier_than("warning")
    if endpoint is not None:
        address = parse_endpoint(endpoint, "--endpoint")
        logging.setup(env, address.secrets)
    else:
        config = asked.load(env)
        emit = logging.setup(env, ())

    async def main(guard: "Guard") -> int:
        if endpoint is not None:
            opened = app.calling_endpoint(address)
        else:
            opened = app.calling_servers(guard, config, emit)
        async with opened as session:
            return await body(session)

    return app.main(main)


async def _schema_of(session: "Session", tool: str) -> dict[str, Any]:
    found = {each.get("name"): each for each in await session.tools()}
    if tool not in found:
        raise CallError(f"there is no tool '{tool}'", f"There are: {', '.join(map(str, found))}")
    schema = found[tool].get("inputSchema")
    return schema if isinstance(schema, dict) else {}


def arguments_of(words: tuple[str, ...], schema: dict[str, Any]) -> dict[str, Any]:
    """The arguments of a call: one JSON object, or key=value pairs. Raises `UsageError`."""
    if len(words) == 1 and (words[0] == "-" or words[0].lstrip().startswith("{")):
        text = sys.stdin.read() if words[0] == "-" else words[0]
        try:
            value = json.loads(text)
        except ValueError as error:
            raise UsageError(f"the arguments are not JSON: {error}") from None
        if not isinstance(value, dict):
            raise UsageError("the arguments must be a JSON object")
        return value
    pairs = [word.partition("=") for word in words]
    for key, sign, _ in pairs:
        if not sign or not key:
            raise UsageError(
                f"expected key=value, got '{key}'", "Or one JSON object, or - for stdin"
            )
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    return {key: _value(text, known.get(key)) for key, _, text in pairs}


def _value(text: str, schema: Any) -> Any:
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    try:
        return json.loads(text)
    except ValueError:
        return text
