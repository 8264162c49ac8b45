"""Tables and results on stdout. The only module that knows rich tables.

Every string of a server or an endpoint passes `safe`: what they send is shown, not obeyed.
"""

import json
import re
import sys
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from rich.text import Text

from xzpipe.config.load import Config
from xzpipe.core.endpoint import redact
from xzpipe.errors import CallError, ServerError
from xzpipe.logs import safe
from xzpipe.process import resolve

PIPED_WIDTH = 200  # columns, where there is no terminal that has a width
# json leaves these as they are; a terminal would obey some, and half a character has no encoding
_TO_ESCAPE = re.compile(r"[\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def config(config: Config) -> None:
    """What would run."""
    table = _table("server", "command", "folder", "start within", "call within")
    missing = 0
    for launch in config.servers:
        command = " ".join(launch.argv)
        try:
            resolve(launch)
        except ServerError:
            command += "  (not found)"
            missing += 1
        table.add_row(
            *_cells(launch.name, redact(command), launch.cwd or "."),
            f"{launch.start_timeout:g} s",
            f"{launch.call_timeout:g} s",
        )
    for name in config.disabled:
        table.add_row(*_cells(name, "switched off", ""), "", "", style="dim")
    _console().print(table)
    endpoint = config.settings.endpoint
    click.echo(
        f"\nendpoint: {redact(endpoint) if endpoint else 'none yet (see xzpipe run --help)'}"
    )
    if missing:
        click.echo(
            f"{missing} of the commands cannot be found; they would be tried again and again"
        )


def tools(found: list[dict[str, Any]]) -> None:
    """A list of tools."""
    labelled = any("server_id" in tool for tool in found)
    table = _table("tool", *(["server"] if labelled else []), "arguments", "description")
    for tool in found:
        schema = tool.get("inputSchema")
        properties = schema.get("properties") if isinstance(schema, dict) else None
        arguments = ", ".join(properties if isinstance(properties, dict) else ())
        described = str(tool.get("description") or "").strip().split("\n")[0]
        server = [str(tool.get("server_id", ""))] if labelled else []
        table.add_row(*_cells(str(tool.get("name")), *server, arguments, described))
    _console().print(table)


def result(found: dict[str, Any]) -> None:
    """What a tool answered: its texts as they are; of other content, what it is."""
    failed = bool(found.get("isError"))
    at_terminal = (sys.stderr if failed else sys.stdout).isatty()
    contents = found.get("content")
    for content in contents if isinstance(contents, list) else ():
        if isinstance(content, dict) and content.get("type") == "text":
            text = str(content.get("text"))
        else:
            kind = content.get("type") if isinstance(content, dict) else "?"
            text = f"[{kind} content: see --json]"
        if at_terminal:
            text = "\n".join(map(safe, text.split("\n")))
        click.echo(text, err=failed, color=True)  # else click takes out what looks like a colour


def json_of(found: object) -> None:
    """What a peer gave, as JSON. Raises `CallError` when it is too deep for that."""
    try:
        text = json.dumps(found, indent=2, ensure_ascii=False)
    except RecursionError:
        raise CallError("the answer is nested too deeply to be shown") from None
    click.echo(_TO_ESCAPE.sub(lambda match: f"\\u{ord(match[0]):04x}", text))


def _table(*columns: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _cells(*texts: str) -> list[Text]:
    return [Text(safe(text)) for text in texts]


def _console() -> Console:
    return Console(width=None if sys.stdout.isatty() else PIPED_WIDTH)
