"""What one endpoint may see, and how it is linked: values that a config makes and the hub reads."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import Enum

from xzpipe.core.endpoint import Endpoint
from xzpipe.core.policy import EVERYTHING, ToolPolicy
from xzpipe.core.shaping import Shape

WARN_TOOLS = 32  # in one list; assistants have refused more (users.md 12)
WARN_LIST_BYTES = 24 * 2**10  # of one list; an assistant pays for it in tokens, at each question
UNSHAPED = Shape()
TOGETHER = "xzpipe"  # the server_id of a link that carries several servers


class Mode(Enum):
    """How the servers of an endpoint are linked to it."""

    SEPARATE = "separate"  # each by a link of its own
    AGGREGATE = "aggregate"  # all by one link
    AUTO = "auto"  # separate, until the endpoint shows that it keeps one connection only


@dataclass(frozen=True, slots=True)
class View:
    """What one client sees. `name` is for messages; `servers` None: all there are, now and later.
    `endpoint` names where the client is.

    `own` holds the policies of servers that have one, on the names that the server itself uses;
    `policy` comes after it, on the names that it made, or on `server__name`.
    """

    name: str = ""
    servers: frozenset[str] | None = None
    own: Mapping[str, ToolPolicy] = field(default_factory=dict)
    policy: ToolPolicy = EVERYTHING
    shape: Shape = UNSHAPED
    warn_tools: int = WARN_TOOLS
    warn_list_bytes: int = WARN_LIST_BYTES
    endpoint: str = ""

    def sees(self, server: str) -> bool:
        """Whether a server is in this view."""
        return self.servers is None or server in self.servers


@dataclass(frozen=True, slots=True)
class Link:
    """One link to be kept: its name in the log, where it goes, and what is seen through it.

    `rereads`: the endpoint learns of a changed tool list only by connecting anew.
    """

    name: str
    address: Endpoint
    view: View
    rereads: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """One endpoint and what is linked to it. `name` is empty where there is only one.

    `address` may hold `{server}`; None: not given so far. `servers` is in the order of the config.
    With `server_id`, an address says which server it is for. `rereads` is as in `Link`. Neither
    `headers` nor `proxy` may be shown.
    """

    name: str
    address: Endpoint | None
    servers: tuple[str, ...]
    view: View
    mode: Mode = Mode.AUTO
    server_id: bool = False
    rereads: bool = True
    proxy: str = field(default="env", repr=False)  # "env", "none" or a URL
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)

    @property
    def title(self) -> str:
        """Its name in messages."""
        return self.name or "endpoint"

    def only(self, servers: frozenset[str]) -> "Plan":
        """The same plan for those of its servers that are among these."""
        kept = tuple(server for server in self.servers if server in servers)
        return replace(self, servers=kept, view=replace(self.view, servers=frozenset(kept)))

    def views(self) -> list[View]:
        """What its links show, as they begin."""
        if self.mode is Mode.AGGREGATE:
            return [self._whole()]
        return [self._part(server) for server in self.servers]

    def together(self) -> Link:
        """One link for all servers."""
        return self._link(TOGETHER, self._whole())

    def apart(self) -> list[Link]:
        """A link for each server."""
        return [self._link(server, self._part(server)) for server in self.servers]

    def _whole(self) -> View:
        return self._view(self.title, self.view.servers)

    def _part(self, server: str) -> View:
        name = f"{server}@{self.name}" if self.name else server
        return self._view(name, frozenset({server}))

    def _view(self, name: str, servers: frozenset[str] | None) -> View:
        """What is seen of these servers, without what concerns others: a link is kept as long as
        its view is the same."""
        own = {
            server: policy
            for server, policy in self.view.own.items()
            if servers is None or server in servers
        }
        return replace(self.view, name=name, servers=servers, own=own, endpoint=self.title)

    def _link(self, server: str, view: View) -> Link:
        assert self.address is not None, "a plan is linked only once it has an address"
        address = self.address.for_server(server)
        if self.server_id:
            address = address.with_server_id(server)
        return Link(view.name, address, view, self.rereads)
