"""Who sees what: each client's view of the servers, and what a client is told when its list
changes."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from xzpipe.core import jsonrpc
from xzpipe.core.effects import DropClient, Effect, ToClient
from xzpipe.core.notes import Note
from xzpipe.core.pending import FOREVER
from xzpipe.core.plan import View
from xzpipe.core.tools import Catalog, Listed, Table, Tool
from xzpipe.core.verdict import RELIST

QUIET = 2.0  # seconds without a further change before a client that re-reads on connect is dropped
PATIENCE = 30.0  # seconds of changes without such a pause, after which it is dropped all the same
SPACING = 30.0  # seconds from one such drop to the next of the same view
RETRY = 1.0  # seconds until it looks again whether the calls on their way are done
MAX_SAID = 1000  # warnings; a server whose tools change for ever is not to be told of for ever


@dataclass(slots=True)
class Client:
    """One client's connection. `owed` counts its pending requests, the last of which will be
    overdue at `owed_until`."""

    view: View
    rereads: bool
    table: Table | None = None  # as last listed; None until asked for
    user_tools: bool = False  # whether it asked for the tools of the user too
    former: Mapping[str, Listed] = field(default_factory=dict)  # by the names that it was told
    owed: int = 0
    owed_until: float = 0.0
    changed_at: float = FOREVER  # the first change that it is to be dropped for
    drop_at: float = FOREVER
    drop_by: float = FOREVER  # whatever is on its way


class Views:
    """The clients, and the catalog that their views look into."""

    def __init__(self, label_servers: bool) -> None:
        self.clients: dict[str, Client] = {}
        self._catalog = Catalog(label_servers)
        self._servers: set[str] = set()
        self._hidden: set[str] = set()
        self._said: set[tuple[str, ...]] = set()
        self._dropped: dict[str, float] = {}  # when, by the name of the view

    def add_server(self, server: str) -> None:
        """A server that exists from now on, though its tools are not known yet."""
        self._servers.add(server)

    def remove_server(self, server: str, now: float) -> list[Effect]:
        """A server that will not come back."""
        self._servers.discard(server)
        self._hidden.discard(server)
        return self._moved(server, now) if self._catalog.remove(server) else []

    def put_tools(self, server: str, tools: tuple[Tool, ...], now: float) -> list[Effect] | None:
        """What a server offers now; whom to tell, or None when that is nothing new."""
        known = not self._catalog.put(server, tools)
        if known and server not in self._hidden:
            return None
        self._hidden.discard(server)
        return self._moved(server, now)

    def hide(self, server: str, now: float) -> list[Effect]:
        """A server has been dead for long: views of several servers list its tools no more, until
        it offers some again."""
        self._hidden.add(server)
        return self._moved(server, now)

    def only(self, client: Client) -> str | None:
        """The one server of a client's view; None when the view is of several, or of none."""
        names = self._servers if client.view.servers is None else client.view.servers
        return next(iter(names)) if len(names) == 1 else None

    def table(self, client: Client) -> Table:
        """The tools in a client's view."""
        if client.table is None:
            client.table = self.table_of(client.view, several=self.only(client) is None)
        return client.table

    def table_of(self, view: View, several: bool = True) -> Table:
        """The tools in a view; those of a server that is dead for long only where it is alone."""
        seen = sorted(filter(view.sees, self._servers))
        return self._catalog.table(view, seen, self._hidden if several else frozenset())

    def listed(self, client: Client, user_tools: bool) -> tuple[bytes, list[Note]]:
        """The raw list that a client is told, and what is to be said of it for the first time."""
        table = self.table(client)
        client.user_tools, client.former = user_tools, table.routes
        new = [note for note in table.notes if note.key not in self._said]
        if len(self._said) > MAX_SAID:
            new = []
        self._said.update(note.key for note in new)
        return table.payload_for(user_tools), new

    def route(self, client: Client, name: str) -> Listed | None:
        """The tool that a client means by a name: one of the list, or of the list that it was told
        last, as long as that tool is still there under another name."""
        table = self.table(client)
        found = table.routes.get(name)
        if found is None and (meant := client.former.get(name)):
            same = (meant.server, meant.tool)
            routes = table.routes.values()
            found = next((each for each in routes if (each.server, each.tool) == same), None)
        return found

    def due(self, now: float) -> list[Effect]:
        """The clients to drop now, so that they connect again and re-read their list. One with
        calls on their way is left alone for as long as these may last."""
        effects: list[Effect] = []
        for name, client in self.clients.items():
            if client.drop_at > now:
                continue
            client.drop_by = min(client.drop_by, client.owed_until)
            if client.owed and now < client.drop_by:
                client.drop_at = min(now + RETRY, client.drop_by)
            else:
                client.changed_at = client.drop_at = client.drop_by = FOREVER
                self._dropped[client.view.name] = now
                effects.append(DropClient(name, RELIST))
        return effects

    def next_due(self) -> float:
        """When `due` has something to do; infinity when nothing is planned."""
        return min((client.drop_at for client in self.clients.values()), default=FOREVER)

    def _moved(self, server: str, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for name, client in self.clients.items():
            if not client.view.sees(server):
                continue
            before, client.table = client.table, None
            if before is None:
                continue
            users = client.user_tools
            if before.payload_for(users) == self.table(client).payload_for(users):
                continue
            effects.append(ToClient(name, jsonrpc.notification("notifications/tools/list_changed")))
            if client.rereads:
                client.changed_at = min(client.changed_at, now)
                spaced = self._dropped.get(client.view.name, -SPACING) + SPACING
                client.drop_at = max(spaced, min(now + QUIET, client.changed_at + PATIENCE))
        return effects
