"""`xzpipe endpoint serve`."""

from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import click

from xzpipe.cli.options import Logging, environment, logging_options

if TYPE_CHECKING:
    from xzpipe.core.agents import Base


@click.command()
@click.option("--host", metavar="ADDRESS", help="Where to listen. [default: 127.0.0.1]")
@click.option("--port", type=click.IntRange(0, 65535), help="[default: 8004]")
@click.option(
    "--key-file",
    metavar="PATH",
    help="The key of its tokens; made if there is none. [default: ~/.config/xzpipe/endpoint.key]",
)
@click.option("--config", "-c", metavar="PATH", help="A config file whose xzpipe.serve is read.")
@click.option("--tls-cert", metavar="PATH", help="A certificate (PEM), for https and wss.")
@click.option("--tls-key", metavar="PATH", help="Its private key (PEM).")
@click.option(
    "--allow-origin",
    "allow_origins",
    metavar="ORIGIN",
    multiple=True,
    help="A page whose scripts may connect, such as https://example.org; may be given again.",
)
@click.option(
    "--call-timeout",
    type=click.FloatRange(0, min_open=True),
    metavar="S",
    help="Seconds for a call. [default: 30]",
)
@click.option("--show-secrets", is_flag=True, help="Print the addresses with key and token.")
@logging_options
def serve(logging: Logging, config: str | None, show_secrets: bool, **asked: Any) -> int:
    """Be an MCP endpoint: servers connect to it, and xiaozhi-servers call their tools over it.

    \b
    xzpipe endpoint serve                                    for this machine, to try things
    xzpipe endpoint serve --host 0.0.0.0 --show-secrets      for others; prints their addresses
    """
    from xzpipe import app, hosting
    from xzpipe.config.serving import Options, load_serve
    from xzpipe.core.hub import MAX_MESSAGE_BYTES

    env, cwd = environment(), Path.cwd()
    asked["allow_origins"] = list(asked["allow_origins"]) or None
    path = Path(config) if config else None
    settings = load_serve(path, env, cwd, Options(**asked))
    at = Path(settings.key_file) if settings.key_file else hosting.default_key_file(env)
    key = hosting.make_key(at)
    serving = hosting.serving(settings, key, MAX_MESSAGE_BYTES)
    emit = logging.setup(env, (key,))

    def announce(port: int) -> None:
        where = hosting.base(serving, port, key)
        _show(where, hosting.single_module(where, key), at, show_secrets)
        for doubt in hosting.doubts(at, serving.host, serving.tls is not None):
            click.echo(f"{click.style('warning:', fg='yellow', bold=True)} {doubt}", err=True)

    async def main(_: object) -> int:
        return await hosting.host(serving, emit, announce)

    return app.main(main)


def _show(where: "Base", single_module: str, key_file: Path, secrets: bool) -> None:
    from xzpipe.core.endpoint import MASK

    scheme = "https" if where.scheme == "wss" else "http"
    key = quote(where.key, safe="") if secrets else MASK
    token = single_module if secrets else f"{single_module.partition('=')[0]}={MASK}"
    more = "" if secrets else " (--show-secrets shows it, and the tokens)"
    click.echo(
        f"An MCP endpoint is listening. Its key is in {key_file}{more}.\n\n"
        f"  for the console, as server.mcp_endpoint:\n"
        f"    {scheme}://{where.netloc}{where.prefix}/health?key={key}\n"
        f"  for a xiaozhi-server without a console, and for its servers:\n"
        f"    {token}\n\n"
        f"Addresses of other agents: xzpipe endpoint address --help\n"
    )
