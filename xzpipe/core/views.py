"""Who sees what: each client's view of the servers, and what a client is told when its list
changes."""

from dataclasses import dataclass

from xzpipe.core import jsonrpc
from xzpipe.core.effects import DropClient, Effect, ToClient
from xzpipe.core.events import Event
from xzpipe.core.pending import FOREVER
from xzpipe.core.plan import View
from xzpipe.core.tools import Catalog, Table, Tool

QUIET = 2.0  # seconds without a further change before a client that re-reads on connect is dropped
PATIENCE = 30.0  # seconds of changes without such a pause, after which it is dropped all the same
RETRY = 1.0  # seconds until it looks again whether the calls on their way are done
MAX_SAID = 1000  # warnings; a server whose tools change for ever is not to be told of for ever


@dataclass(slots=True)
class Client:
    """One client's connection. `owed` counts its pending requests, the last of which will be
    overdue at `owed_until`."""

    view: View
    rereads: bool
    table: Table | None = None  # as last listed; None until asked for
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
        self._said: set[Event] = set()

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

    def notes(self, table: Table) -> list[Event]:
        """What is to be said of a table, and was not said before."""
        notes = [note for note in table.notes if note not in self._said]
        if len(self._said) > MAX_SAID:
            return []
        self._said.update(notes)
        return notes

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
                effects.append(DropClient(name, "its tool list changed"))
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
            if before is None or before.user_payload == self.table(client).user_payload:
                continue
            effects.append(ToClient(name, jsonrpc.notification("notifications/tools/list_changed")))
            if client.rereads:
                client.changed_at = min(client.changed_at, now)
                client.drop_at = min(now + QUIET, client.changed_at + PATIENCE)
        return effects
