"""Which tool belongs to which server, and what a view lists. Tools stay the raw JSON their server
wrote."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from xzpipe.core import rawjson

MAX_PAGES = 200  # of one tools/list; a server that hands out cursors for ever must not keep us
MAX_LIST_BYTES = 16 * 2**20  # of one server's whole list; what one message may be, all pages may be


@dataclass(frozen=True, slots=True)
class Tool:
    """One tool as its server lists it: its name, the raw JSON object, and that taken apart."""

    name: str
    raw: bytes
    members: Mapping[str, rawjson.Raw] = field(compare=False)


class ListingError(ValueError):
    """A server's answer to tools/list that cannot be used."""


class Listing:
    """One tools/list, page by page."""

    def __init__(self) -> None:
        self._tools: dict[str, Tool] = {}
        self._pages = 0
        self._bytes = 0

    @property
    def tools(self) -> tuple[Tool, ...]:
        return tuple(self._tools.values())

    def page(self, result: bytes) -> bytes | None:
        """Take one page's raw result; the raw cursor of the next one, None at the end.

        Raises `ListingError`. Of two tools of one name the first is kept: nothing could call the
        other.
        """
        self._pages += 1
        self._bytes += len(result)
        if self._pages > MAX_PAGES or self._bytes > MAX_LIST_BYTES:
            raise ListingError("its tool list has no end")
        try:
            page = rawjson.fields(result)
            raws = rawjson.items(page["tools"])
            found = [(bytes(raw), rawjson.fields(raw)) for raw in raws]
        except (KeyError, rawjson.NotJson):
            raise ListingError("its answer to tools/list is not a list of tools") from None
        for raw, members in found:
            name = rawjson.text(members.get("name"))
            if name is None:
                raise ListingError("a tool in its list has no name")
            self._tools.setdefault(name, Tool(name, raw, members))
        cursor = bytes(page.get("nextCursor", rawjson.NULL))
        return None if cursor in (rawjson.NULL, b'""') else cursor


@dataclass(frozen=True, slots=True)
class Table:
    """What one view sees: `routes` maps a listed name to (server, its own name); `payload` is the
    raw array."""

    routes: Mapping[str, tuple[str, str]]
    payload: bytes


class Catalog:
    """The tools of every server that was ever ready, kept while it restarts."""

    def __init__(self, label_servers: bool = False) -> None:
        """`label_servers` adds `server_id` to each tool, as endpoint servers do (wire.md §3)."""
        self._label = label_servers
        self._tools: dict[str, tuple[Tool, ...]] = {}

    def put(self, server: str, tools: tuple[Tool, ...]) -> bool:
        """Set what `server` offers; whether that differs from before."""
        before = self._tools.get(server)
        self._tools[server] = tools
        return before != tools

    def remove(self, server: str) -> bool:
        """Forget a server; whether it was known."""
        return self._tools.pop(server, None) is not None

    def table(self, servers: Iterable[str]) -> Table:
        """The tools of these servers, in this order. A name that two of them use becomes
        `server__tool`."""
        found = [(server, tool) for server in servers for tool in self._tools.get(server, ())]
        uses = Counter(tool.name for _, tool in found)
        routes: dict[str, tuple[str, str]] = {}
        listed: list[bytes] = []
        for server, tool in found:
            name = tool.name
            if uses[name] > 1:
                name = f"{server}__{name}"
                while name in uses or name in routes:  # a tool may really be called so
                    name = f"{server}__{name}"
            routes[name] = (server, tool.name)
            listed.append(self._listed(server, tool, name))
        return Table(routes, rawjson.array_of(listed))

    def _listed(self, server: str, tool: Tool, name: str) -> bytes:
        if name == tool.name and not self._label:
            return tool.raw
        members: dict[str, bytes | rawjson.Raw] = dict(tool.members)
        members["name"] = rawjson.quote(name)
        if self._label:
            members["server_id"] = rawjson.quote(server)
        return rawjson.object_of(members)
