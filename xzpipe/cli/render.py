"""Tables and results on stdout. The only module that knows rich tables.

Every string of a server or an endpoint passes `safe`: what they send is shown, not obeyed.
"""

import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from xzpipe.cli.save import attached
from xzpipe.config.load import Config
from xzpipe.core.endpoint import redact
from xzpipe.core.tools import Listed
from xzpipe.errors import CallError, ServerError
from xzpipe.logs import safe
from xzpipe.process import resolve

PIPED_WIDTH = 200  # columns, where there is no terminal that has a width
LONGEST_MESSAGE = 200  # characters; a terminal's line is hardly longer
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
    click.echo()
    _console().print(_endpoints(config))
    if missing:
        click.echo(
            f"{missing} of the commands cannot be found; they would be tried again and again"
        )


def _endpoints(config: Config) -> Table:
    table = _table("endpoint", "address", "mode", "servers")
    for plan in config.plans:
        address = str(plan.address) if plan.address else "none yet (see xzpipe run --help)"
        servers = ", ".join(plan.servers)
        table.add_row(*_cells(plan.name or "endpoint", address, plan.mode.value, servers))
    return table


def seen(found: Mapping[str, tuple[Listed, ...]]) -> None:
    """The tools that each endpoint sees, by its name."""
    for name, tools in found.items():
        if len(found) > 1:
            click.echo(f"{name or 'endpoint'}:\n")
        _console().print(_outcome(tools))
        if len(found) > 1:
            click.echo()


def json_of_seen(found: Mapping[str, tuple[Listed, ...]]) -> None:
    """The same as JSON: a list; with several endpoints, an object of lists. To what each tool is
    listed as come its `server`, its own name (`tool`), its size in `bytes`, and `userOnly`."""
    lists = {
        name or "endpoint": [
            _parsed(each)
            | {"server": each.server, "tool": each.tool}
            | {"bytes": len(each.raw), "userOnly": each.user_only}
            for each in tools
        ]
        for name, tools in found.items()
    }
    json_of(lists if len(lists) > 1 else next(iter(lists.values())))


def _outcome(tools: tuple[Listed, ...]) -> Table:
    renamed = any(each.name != each.tool for each in tools)
    own = ["its own name"] if renamed else []
    table = _table("tool", "server", *own, "arguments", "bytes", "description")
    for each in tools:
        tool = _parsed(each)
        described = _described(tool) + (" (for users only)" if each.user_only else "")
        more = [each.tool if each.tool != each.name else ""] if renamed else []
        cells = _cells(each.name, each.server, *more, _arguments(tool), f"{len(each.raw):,}")
        table.add_row(*cells, *_cells(described))
    return table


def _parsed(listed: Listed) -> dict[str, Any]:
    try:
        tool: dict[str, Any] = json.loads(listed.raw)
    except (ValueError, RecursionError) as error:  # a number of thousands of digits
        raise CallError(
            f"{listed.server}: its tool {listed.name} cannot be read: {error}"
        ) from None
    return tool


def _arguments(tool: dict[str, Any]) -> str:
    schema = tool.get("inputSchema")
    properties = schema.get("properties") if isinstance(schema, dict) else None
    return ", ".join(properties if isinstance(properties, dict) else ())


def _described(tool: dict[str, Any]) -> str:
    return str(tool.get("description") or "").strip().split("\n")[0]


def tools(found: list[dict[str, Any]]) -> None:
    """A list of tools as it came from elsewhere."""
    labelled = any("server_id" in tool for tool in found)
    table = _table("tool", *(["server"] if labelled else []), "arguments", "description")
    for tool in found:
        server = [str(tool.get("server_id", ""))] if labelled else []
        table.add_row(*_cells(str(tool.get("name")), *server, _arguments(tool), _described(tool)))
    _console().print(table)


def result(found: dict[str, Any], paths: Mapping[int, Path] | None = None) -> None:
    """What a tool answered: its texts as they are; of other content, where it was saved to, by its
    place, or what it is."""
    failed = bool(found.get("isError"))
    at_terminal = (sys.stderr if failed else sys.stdout).isatty()
    contents = found.get("content")
    for place, content in enumerate(contents if isinstance(contents, list) else ()):
        if isinstance(content, dict) and content.get("type") == "text":
            text = str(content.get("text"))
        elif paths and place in paths:
            text = str(paths[place])
        else:
            text = _hint(content, saving=paths is not None)
        if at_terminal:
            text = "\n".join(map(safe, text.split("\n")))
        click.echo(text, err=failed, color=True)  # else click takes out what looks like a colour


def _hint(content: object, saving: bool) -> str:
    kind = content.get("type") if isinstance(content, dict) else "?"
    found = attached(content)
    what = f"{kind} content, {found[0]}" if found and found[0] else f"{kind} content"
    return f"[{what}: see {'--save DIR, or ' if found and not saving else ''}--json]"


@contextmanager
def progress(wanted: bool = True) -> Iterator[Callable[[float, float | None, str], None] | None]:
    """A bar on stderr until the block ends, once there is progress that it can be told of. None
    where nobody would see it."""
    from rich.progress import BarColumn, Progress, TextColumn

    console = Console(stderr=True)
    if not (wanted and sys.stderr.isatty() and console.is_interactive):
        yield None
        return
    share = TextColumn("{task.fields[share]}", markup=False)
    rest = Column(ratio=1, no_wrap=True, overflow="ellipsis")
    message = TextColumn("{task.description}", markup=False, table_column=rest)
    bar = Progress(BarColumn(), share, message, console=console, transient=True, expand=True)
    task = bar.add_task("", total=None, share="")

    def watch(done: float, total: float | None, message: str) -> None:
        share = f"{min(max(done / total, 0), 1):.0%}" if total else f"{done:g}"
        said = safe(" ".join(message[:LONGEST_MESSAGE].split()))
        bar.update(task, completed=done, total=total, description=said, share=share)
        bar.start()

    try:
        yield watch
    finally:
        bar.stop()


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
