"""Which tool belongs to which server, and what a view lists. Tools stay the raw JSON their server
wrote."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from xzpipe.core import rawjson
from xzpipe.core.names import Wish, assigned
from xzpipe.core.notes import LongList, NameChanged, NotDescribed, Note, RulesUnused
from xzpipe.core.plan import View
from xzpipe.core.policy import EVERYTHING, Choice, chosen
from xzpipe.core.schemas import inlined

MAX_PAGES = 200  # of one tools/list; a server that hands out cursors for ever must not keep us
MAX_LIST_BYTES = 16 * 2**20  # of one server's whole list; what one message may be, all pages may be
SCHEMAS = ("inputSchema", "outputSchema")  # the members of a tool that are JSON Schemas


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
            if name:  # one without a name could not be called
                self._tools.setdefault(name, Tool(name, raw, members))
        cursor = bytes(page.get("nextCursor", rawjson.NULL))
        return None if cursor in (rawjson.NULL, b'""') else cursor


@dataclass(frozen=True, slots=True)
class Listed:
    """One tool as one view lists it.

    `name` matches `[A-Za-z0-9_-]{1,64}`, `tool` is what its server calls it, `raw` the JSON object.
    `described`: its description says something. `user_only`: it is listed only to who asks for the
    tools of the user too (wire.md §4).
    """

    name: str
    server: str
    tool: str
    raw: bytes
    described: bool
    user_only: bool


@dataclass(frozen=True, slots=True)
class Table:
    """What one view sees: `routes` maps a listed name to what it stands for.

    `payload` is the raw array of tools, `user_payload` the one with the user's tools too: the same
    object when there are none. Tools of hidden servers are routed, but in neither. `notes` is what
    a user should be told of the tools that are listed.
    """

    routes: Mapping[str, Listed]
    payload: bytes
    user_payload: bytes
    notes: tuple[Note, ...]

    def payload_for(self, user_tools: bool) -> bytes:
        """The raw list for who asks for the tools of the user too, or does not."""
        return self.user_payload if user_tools else self.payload


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

    def table(
        self, view: View, servers: Iterable[str], hidden: AbstractSet[str] = frozenset()
    ) -> Table:
        """What `view` sees of these servers, in this order. The `hidden` among them keep their
        names, so that a call can be told why it fails, and nobody else's name changes."""
        found: dict[Wish, tuple[Tool, Choice]] = {}
        notes: list[Note] = []
        for server in servers:
            own = view.own.get(server, EVERYTHING)
            tools = self._tools.get(server, ())
            if tools and server not in hidden and (unused := own.unused({t.name for t in tools})):
                notes.append(RulesUnused(server, unused))
            for tool in tools:
                choice = chosen(server, tool.name, own, view.policy)
                if choice is not None:
                    found[Wish(server, tool.name, choice.name)] = tool, choice
        names = assigned(found)
        listed = {
            wish: self._listed(wish, names[wish], *found[wish], view.shape.inline_schemas)
            for wish in found
        }
        shown = {wish: each for wish, each in listed.items() if wish.server not in hidden}
        plain = [each.raw for each in shown.values() if not each.user_only]
        payload = rawjson.array_of(plain)
        user_payload = payload
        if len(plain) < len(shown):
            user_payload = rawjson.array_of(each.raw for each in shown.values())
        notes += _renamed(shown) + _undescribed(shown.values())
        if len(plain) > view.warn_tools or len(payload) > view.warn_list_bytes:
            notes.append(LongList(view.name, len(plain), len(payload)))
        routes = {each.name: each for each in listed.values()}
        return Table(routes, payload, user_payload, tuple(notes))

    def _listed(self, wish: Wish, name: str, tool: Tool, choice: Choice, inline: bool) -> Listed:
        text = rawjson.text(tool.members.get("description"))
        changes: dict[str, bytes] = {}
        if name != tool.name:
            changes["name"] = rawjson.quote(name)
        if choice.description is not None and choice.description != text:
            text = choice.description
            changes["description"] = rawjson.quote(text)
        if self._label:
            changes["server_id"] = rawjson.quote(wish.server)
        if inline:
            changes |= _inlined(tool.members)
        raw = rawjson.object_of({**tool.members, **changes}) if changes else tool.raw
        described = bool(text and text.strip())
        return Listed(name, wish.server, tool.name, raw, described, choice.user_only)


def _inlined(members: Mapping[str, rawjson.Raw]) -> dict[str, bytes]:
    """Those of a tool's schemas that are others without references."""
    before = {key: bytes(members[key]) for key in SCHEMAS if key in members}
    after = {key: bytes(inlined(raw)) for key, raw in before.items()}
    return {key: raw for key, raw in after.items() if raw != before[key]}


def _renamed(listed: Mapping[Wish, Listed]) -> list[Note]:
    """What is listed under another name than it should be."""
    return [
        NameChanged(each.server, each.tool, each.name)
        for wish, each in listed.items()
        if each.name != wish.name
    ]


def _undescribed(listed: Iterable[Listed]) -> list[Note]:
    """By server, the tools that say nothing of themselves."""
    silent: dict[str, list[str]] = {}
    for each in listed:
        if not each.described:
            silent.setdefault(each.server, []).append(each.tool)
    return [NotDescribed(server, tuple(tools)) for server, tools in silent.items()]
