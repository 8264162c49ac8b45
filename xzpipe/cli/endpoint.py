"""`xzpipe endpoint`: addresses and tokens of self-hosted endpoints.

The key is the secret of every agent there: it is printed by none of these, and can be given without
being in the list of processes.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import unquote

import click

from xzpipe.cli.options import environment
from xzpipe.errors import UsageError

if TYPE_CHECKING:
    from xzpipe.core.agents import Base

F = TypeVar("F", bound=Callable[..., Any])

BASE = "XZPIPE_ENDPOINT_BASE"
MAX_LINE = 65536  # bytes of a line of standard input; no address is as long


@click.group()
def endpoint() -> None:
    """An MCP endpoint of your own: be its server, make addresses and tokens of its agents.

    Each agent has a token there: its id, encrypted with the key of the endpoint server (AES in ECB
    mode, and MD5 of the id, as consoles and servers in use have it). It is in the agent's address.

    \b
    xzpipe endpoint serve --host 0.0.0.0 --show-secrets
    xzpipe endpoint address --agent-id ID --base 'https://HOST:8004/mcp_endpoint/health?key=…'
    xzpipe endpoint token --decode 'wss://HOST:8004/mcp_endpoint/mcp/?token=…' --key-file PATH
    """


def _base_option(function: F) -> F:
    return click.option(
        "--base",
        metavar="URL",
        help="The endpoint server, with its key: what the console has as server.mcp_endpoint. "
        "- reads it from standard input; on a command line, other users of this machine can see "
        f"it. [default: ${BASE}]",
    )(function)


def _form_options(function: F) -> F:
    plain = click.option("--plain-id", is_flag=True, help="Use the id as it is, not its MD5.")
    compact = click.option(
        "--compact",
        is_flag=True,
        help="Leave out the space in the token's JSON, as for the id single_module.",
    )
    return plain(compact(function))


@endpoint.command()
@click.option("--agent-id", required=True, metavar="ID", help="The agent's id in the console.")
@_base_option
@click.option("--call", "calling", is_flag=True, help="Where the agent's tools are called from.")
@_form_options
def address(agent_id: str, base: str | None, calling: bool, plain_id: bool, compact: bool) -> int:
    """Print the address of an agent, to which its servers connect. It holds the agent's token.

    The same as the console shows: https becomes wss, http ws; the path stays, but for /health.

    \b
    xzpipe endpoint serve --host 0.0.0.0 --show-secrets
    xzpipe endpoint address --agent-id ID --base 'https://HOST:8004/mcp_endpoint/health?key=…'
    xzpipe endpoint address --agent-id ID --call        with XZPIPE_ENDPOINT_BASE set, or in .env
    """
    server = _base(base)
    token = _token(agent_id, server.key, plain_id, compact)
    if calling:
        click.echo(server.call_side(token).url)
        return 0
    url = server.tool_side(token).url
    click.echo(url)
    _warn_of_refusal(url, compact)
    return 0


@endpoint.command()
@click.option("--agent-id", metavar="ID", help="Print the token of this agent.")
@click.option(
    "--decode",
    metavar="TOKEN|URL",
    help="Print whose token it is, alone or in an address. - reads it from standard input.",
)
@_base_option
@click.option("--key-file", metavar="PATH", help="A file that holds the key, in place of --base.")
@_form_options
def token(
    agent_id: str | None,
    decode: str | None,
    base: str | None,
    key_file: str | None,
    plain_id: bool,
    compact: bool,
) -> int:
    """Print the token of an agent, or the agent of a token.

    A token holds the MD5 of the agent's id, unless it was made with --plain-id; that is what
    --decode prints. A token that is printed is not encoded for a URL.

    \b
    xzpipe endpoint token --agent-id ID --key-file PATH
    xzpipe endpoint token --decode 'wss://HOST:8004/mcp_endpoint/mcp/?token=…' --key-file PATH
    """
    if (agent_id is None) == (decode is None):
        raise UsageError("give one of --agent-id and --decode")
    if decode is not None and (plain_id or compact):
        raise UsageError("--plain-id and --compact go with --agent-id; --decode takes every form")
    if base == decode == "-":
        raise UsageError("only one of --base and --decode can be read from standard input")
    key = _key(base, key_file)
    if decode is None:
        click.echo(_token(agent_id or "", key, plain_id, compact))
        return 0
    from xzpipe.agent_token import agent_of
    from xzpipe.logs import safe

    click.echo(safe(agent_of(_bare(_read_line("--decode") if decode == "-" else decode), key)))
    return 0


def _token(agent_id: str, key: str, plain_id: bool, compact: bool) -> str:
    from xzpipe.agent_token import token_of
    from xzpipe.core.agents import hashed

    try:
        agent_id.encode()
    except UnicodeEncodeError:
        raise UsageError("--agent-id: it is not UTF-8 text") from None
    if not agent_id:
        raise UsageError("--agent-id: it is empty")
    return token_of(agent_id if plain_id else hashed(agent_id), key, compact=compact)


def _bare(given: str) -> str:
    """The token in an address, or percent-encoded, or as it is."""
    from xzpipe.core.endpoint import query_of

    text = given.strip().strip("'\"").strip()
    if "://" not in text:
        return unquote(text)
    try:
        token = query_of(text)[1].get("token")
    except ValueError:  # a bracket where an address would have a host
        token = None
    if not token:
        raise UsageError("--decode: the address has no token")
    return token


def _key(base: str | None, key_file: str | None) -> str:
    if key_file is None:
        return _base(base).key
    if base is not None:
        raise UsageError("--base and --key-file are two ways to say one thing")
    from xzpipe.hosting import read_key

    return read_key(Path(key_file))


def _base(given: str | None) -> "Base":
    from xzpipe.config.load import environment as with_dotenv
    from xzpipe.core.agents import BASE_EXAMPLE, parse_base

    if given is not None:
        return parse_base(_read_line("--base") if given == "-" else given, "--base")
    found = with_dotenv(environment(), Path.cwd()).get(BASE)
    if not found:
        raise UsageError(
            "no endpoint server is given",
            f"set {BASE}, in the environment or in .env, or give --base; it is {BASE_EXAMPLE}",
        )
    return parse_base(found, BASE)


def _read_line(option: str) -> str:
    line = sys.stdin.buffer.readline(MAX_LINE)
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{option}: standard input is not UTF-8 text") from None


def _warn_of_refusal(url: str, compact: bool) -> None:
    """Where a xiaozhi-server without a console would ignore the address that was printed."""
    from xzpipe.core.agents import refused_word

    place, _, token = url.rpartition("?token=")
    if word := refused_word(place):
        where, remedy = "host or path", "reach the server by another name or path"
    elif word := refused_word(token):
        where = "token"
        remedy = "leave out --compact" if compact else "make another one with --compact"
    else:
        return
    label = click.style("warning:", fg="yellow", bold=True)
    click.echo(
        f"{label} a xiaozhi-server without a console ignores this address, because '{word}' is in "
        f"its {where}: {remedy}",
        err=True,
    )
