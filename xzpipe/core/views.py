"""Who sees what: each client's view of the servers, and what a client is told when its list
changes."""

from dataclasses import dataclass

from xzpipe.core import jsonrpc
from xzpipe.core.effects import DropClient, Effect, ToClient
from xzpipe.core.pending import FOREVER
from xzpipe.core.tools import Catalog, Table, Tool

View = (
    frozenset[str] | None
)  # the servers that a client may see; None: all there are, now and later

QUIET = 2.0  # seconds without a further change before a client that re-reads on connect is dropped
PATIENCE = 30.0  # seconds that such a drop waits at most for calls on their way
RETRY = 1.0  # seconds until it looks again whether they are done


@dataclass(slots=True)
class Client:
    """One client's connection. `owed` counts its pending requests."""

    view: View
    rereads: bool
    table: Table | None = None  # as last listed; None until asked for
    owed: int = 0
    drop_at: float = FOREVER
    drop_by: float = FOREVER


class Views:
    """The clients, and the catalog that their views look into."""

    def __init__(self, label_servers: bool) -> None:
        self.clients: dict[str, Client] = {}
        self._catalog = Catalog(label_servers)
        self._servers: set[str] = set()

    def add_server(self, server: str) -> None:
        """A server that exists from now on, though its tools are not known yet."""
        self._servers.add(server)

    def remove_server(self, server: str, now: float) -> list[Effect]:
        """A server that will not come back."""
        self._servers.discard(server)
        return self._moved(server, now) if self._catalog.remove(server) else []

    def put_tools(self, server: str, tools: tuple[Tool, ...], now: float) -> list[Effect] | None:
        """What a server offers now; whom to tell, or None when it offered the same before."""
        return self._moved(server, now) if self._catalog.put(server, tools) else None

    def only(self, client: Client) -> str | None:
        """The one server of a client's view; None when the view is of several, or of none."""
        names = self._servers if client.view is None else client.view
        return next(iter(names)) if len(names) == 1 else None

    def table(self, client: Client) -> Table:
        """The tools in a client's view."""
        if client.table is None:
            seen = sorted(s for s in self._servers if client.view is None or s in client.view)
            client.table = self._catalog.table(seen)
        return client.table

    def due(self, now: float) -> list[Effect]:
        """The clients to drop now, so that they connect again and re-read their list."""
        effects: list[Effect] = []
        for name, client in self.clients.items():
            if client.drop_at > now:
                continue
            if client.owed and now < client.drop_by:
                client.drop_at = min(now + RETRY, client.drop_by)
            else:
                client.drop_at = client.drop_by = FOREVER
                effects.append(DropClient(name, "its tool list changed"))
        return effects

    def next_due(self) -> float:
        """When `due` has something to do; infinity when nothing is planned."""
        return min((client.drop_at for client in self.clients.values()), default=FOREVER)

    def _moved(self, server: str, now: float) -> list[Effect]:
        effects: list[Effect] = []
        for name, client in self.clients.items():
            if client.view is not None and server not in client.view:
                continue
            before, client.table = client.table, None
            if before is None or before.payload == self.table(client).payload:
                continue
            effects.append(ToClient(name, jsonrpc.notification("notifications/tools/list_changed")))
            if client.rereads:
                client.drop_by = min(client.drop_by, now + PATIENCE)
                client.drop_at = min(now + QUIET, client.drop_by)
        return effects
