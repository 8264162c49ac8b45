"""`xzpipe run` and `xzpipe demo`."""

from collections.abc import Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

import click

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
from xzpipe.errors import UsageError

if TYPE_CHECKING:
    from xzpipe.config.load import Config
    from xzpipe.core.endpoint import Endpoint

THREE_WAYS = """Give one in one of three ways:
  1. in the environment, or in a .env file here:  MCP_ENDPOINT='wss://api.xiaozhi.me/mcp/?token=…'
  2. on the command line:  --endpoint-file PATH, or --endpoint URL
  3. in the config file:  "xzpipe": {"endpoint": "wss://api.xiaozhi.me/mcp/?token=…"}
Your console shows it under the agent's MCP settings. To try without one: xzpipe run --local"""


@click.command(cls=TakesCommand)
@click.argument("servers", nargs=-1, metavar="[SERVER…]")
@config_option
@click.option(
    "--endpoint", metavar="URL", help="The endpoint. Other users of this machine can see it."
)
@click.option("--endpoint-file", metavar="PATH", help="A file that holds the endpoint's URL.")
@click.option(
    "--mode",
    type=click.Choice(MODES),
    help="A connection for each server; one for all of an endpoint's; or the first, until the "
    "endpoint shows that it keeps one only. [default: auto]",
)
@click.option("--local", is_flag=True, help="Use an endpoint of our own, on this machine.")
@click.option("--backoff-initial", type=float, metavar="S", help="First wait. [default: 1]")
@click.option("--backoff-max", type=float, metavar="S", help="Longest wait. [default: 600]")
@click.option(
    "--backoff-reset",
    type=float,
    metavar="S",
    help="A good life, after which waits start over. [default: 60]",
)
@logging_options
@click.pass_context
def run(ctx: click.Context, /, logging: Logging, local: bool, **asked: Any) -> int:
    """Start MCP servers and keep them connected to a Xiaozhi endpoint, or to several.

    All servers of the config, or those named; or, without a config, the one that COMMAND starts.
    Ctrl-C or SIGTERM stops them all.

    \b
    xzpipe run --config mcp_config.json
    xzpipe run calculator time
    xzpipe run -- uvx mcp-server-time
    xzpipe run --local                     to try it without an account
    """
    from xzpipe import app

    env = environment()
    if local and (asked["endpoint"] is not None or asked["endpoint_file"] is not None):
        raise UsageError("--local is an endpoint of its own: give it, or another one")
    what = Asked(command=ctx.meta[COMMAND], **asked)
    config = what.load(env)
    reload = partial(_reload, what, env, local)
    if local:
        emit = logging.setup(env, config.secrets, config)
        return app.main(
            partial(app.run_local, config=config, emit=emit, announce=_announce, reload=reload)
        )
    _check(config)
    emit = logging.setup(env, config.secrets, config)
    return app.main(partial(app.run, config=config, emit=emit, reload=reload))


def _reload(asked: Asked, env: Mapping[str, str], local: bool) -> "Config":
    """The config as it is now; its secrets are kept out of the log from here on."""
    from xzpipe import logs

    config = asked.load(env)
    logs.hide(config.secrets)
    for warning in config.warnings:
        logs.warn(warning)
    if not local:
        _check(config)
    return config


def _check(config: "Config") -> None:
    if not config.plans:
        names = " or ".join(launch.name for launch in config.servers)
        raise UsageError(f"no endpoint sees {names}", "See xzpipe.endpoints in the config")
    for plan in config.plans:
        if plan.address is None:
            raise _no_address(plan.name)


def _no_address(endpoint: str) -> UsageError:
    if not endpoint:
        return UsageError("no endpoint is given", THREE_WAYS)
    from xzpipe.config.addresses import variable

    return UsageError(
        f"the endpoint '{endpoint}' has no address",
        f"Give it one of url, urlFile and token in the config, or set {variable(endpoint)}",
    )


def _announce(endpoint: "Endpoint") -> None:
    click.echo(
        f"Listening on this machine. From another terminal:\n\n"
        f"  export MCP_ENDPOINT='{endpoint.url}'\n"
        f'  xzpipe tools --endpoint "$MCP_ENDPOINT"\n'
        f'  xzpipe call TOOL key=value --endpoint "$MCP_ENDPOINT"\n'
    )


@click.command()
@logging_options
def demo(logging: Logging) -> int:
    """See it work: an endpoint, a bridge, a calculator and a caller, all on this machine.

    The calculator is a real process and every message crosses a real WebSocket; it ends by itself.
    """
    from xzpipe import app
    from xzpipe.demo import show
    from xzpipe.logs import safe

    env = environment()
    logging.no_chattier_than("warning").setup(env)
    return app.main(partial(show.show, env=env, say=lambda text: click.echo(safe(text))))
