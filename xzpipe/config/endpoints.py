"""Which endpoints there are, and what each of them sees: from a config to `Plan`s."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from xzpipe.config.addresses import (
    VARIABLE,
    is_address,
    needs,
    of_entry,
    parsed,
    secrets,
    unnamed,
    variable,
    variables,
    written,
)
from xzpipe.config.model import MIN_RESULT, Common, Own, at, near, unprintable, within
from xzpipe.config.policies import Notes, both, http_headers, is_glob, tool_policy
from xzpipe.config.servers import Entry, Surroundings
from xzpipe.config.settings import Overrides
from xzpipe.core.endpoint import Endpoint
from xzpipe.core.plan import UNSHAPED, WARN_LIST_BYTES, WARN_TOOLS, Mode, Plan, View
from xzpipe.core.policy import EVERYTHING, ToolPolicy
from xzpipe.core.shaping import Shape

MAX_NAME = 64  # characters; it is in every log line of its links

Said = Mapping[str, Any]  # fields of `Common` that are given, checked and ready for a plan

_DEFAULTS: Said = {
    "mode": Mode.AUTO,
    "server_id": False,
    "result_limit": 0,
    "join_text": False,
    "inline_schemas": False,
    "headers": {},
    "proxy": "env",
    "tools": EVERYTHING,
    "warn_tools": WARN_TOOLS,
    "warn_list_bytes": WARN_LIST_BYTES,
    "rereads": True,
}


@dataclass(frozen=True, slots=True)
class Cast:
    """The servers of a config: those that are on, and those that are off, as they are written.

    With `alone`, the endpoint without a name sees them all, and there is no other.
    """

    entries: Sequence[Entry]
    off: Mapping[str, Any]
    alone: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class _Found:
    """An endpoint that has a name, and where it is spoken of. `only`: the servers that it was made
    for; else `globs` as its entry has them, None: all servers that are free."""

    name: str
    place: str
    address: Endpoint | None
    said: Said
    globs: list[str] | None = None
    only: frozenset[str] = frozenset()

    def wants(self, server: str) -> bool:
        """Whether it sees this server, if that has no endpoint of its own."""
        if self.only:
            return server in self.only
        return self.globs is None or any(fnmatchcase(server, glob) for glob in self.globs)


@dataclass(frozen=True, slots=True)
class Linked:
    """What is linked to which endpoint, that without a name first; and the secrets of them all.

    `everything` is a plan of all servers under what is common to all endpoints, and unshaped: what
    is seen where no endpoint is asked.
    """

    plans: tuple[Plan, ...]
    everything: Plan
    secrets: tuple[str, ...] = field(repr=False)


def linked(
    cast: Cast, own: Own, around: Surroundings, overrides: Overrides, notes: Notes
) -> Linked:
    """What is linked to what. Raises UsageError for what is no address on the command line or in
    MCP_ENDPOINT."""
    said = _said(own, "xzpipe", notes)
    address = unnamed(overrides.endpoint, own, around.env, notes)
    # what is wrong with those that are not used is nobody's concern; their secrets are
    named = _found(cast, own, said, around, Notes() if cast.alone else notes)
    policies = {
        each.name: tool_policy(each.server.tools, f"{each.place}.tools", notes)
        for each in cast.entries
        if each.server.tools is not None
    }
    hidden = secrets(address, said.get("headers", {})).union(
        *(secrets(each.address, each.said.get("headers", {})) for each in named),
        *(secrets(Endpoint(text), {}) for text in written(own)),  # even if something else wins
    )
    used = [] if cast.alone else named
    claims = {} if cast.alone else _claims(cast.entries, used, notes)
    free = [each.name for each in cast.entries if each.name not in claims]
    place = VARIABLE if around.env.get(VARIABLE) else "xzpipe.endpoint"
    seen: list[tuple[_Found, list[str]]] = []
    if address or not used:
        seen.append((_Found("", place, address, said), free))
        if cast.entries and not free:
            notes.warnings.append(f"{place}: is left out; each server has an endpoint of its own")
    seen += [(each, _seen(each, cast, claims, notes)) for each in used]
    made = {
        each.place: _plan(each, servers, policies, overrides.mode)
        for each, servers in seen
        if servers
    }
    if not notes.problems:
        notes.warnings += _doubts(made, cast)
    every = [each.name for each in cast.entries]
    everything = _plan(_Found("", "xzpipe", None, said), every, policies, overrides.mode)
    everything = replace(everything, view=replace(everything.view, shape=UNSHAPED))
    return Linked(tuple(made.values()), everything, tuple(sorted(hidden)))


def _said(keys: Common, place: str, notes: Notes) -> dict[str, Any]:
    every = {name: getattr(keys, name) for name in Common.__struct_fields__}
    said = {name: value for name, value in every.items() if value is not None}
    if 0 < said.get("result_limit", 0) < MIN_RESULT:
        what = f"expected a whole number, {MIN_RESULT} or more, or 0 for none"
        notes.problems.append(f"{place}.resultLimit: {what}, got {keys.result_limit}")
    if "tools" in said:
        said["tools"] = tool_policy(said["tools"], f"{place}.tools", notes)
    if "headers" in said:
        said["headers"] = http_headers(said["headers"], f"{place}.headers", notes)
    return said


def _plan(
    each: _Found, servers: list[str], policies: Mapping[str, ToolPolicy], mode: str | None
) -> Plan:
    said = {**_DEFAULTS, **needs(each.address), **each.said}
    view = View(
        each.name,
        frozenset(servers),
        policies,
        said["tools"],
        Shape(said["result_limit"] or None, said["join_text"], said["inline_schemas"]),
        said["warn_tools"],
        said["warn_list_bytes"],
    )
    return Plan(
        each.name,
        each.address,
        tuple(servers),
        view,
        Mode(mode) if mode else said["mode"],
        said["server_id"],
        said["rereads"],
        said["proxy"],
        said["headers"],
    )


def _found(cast: Cast, own: Own, base: Said, around: Surroundings, notes: Notes) -> list[_Found]:
    """The endpoints that have names: of `xzpipe.endpoints`, of servers, of the environment."""
    given = variables(around.env)
    found: list[_Found] = []
    for name, keys in own.endpoints.items():
        place = at("xzpipe.endpoints", name)
        if unprintable(name) or len(name) > MAX_NAME:
            what = f"expected a name of 1 to {MAX_NAME} characters, without control characters"
            notes.problems.append(f"{place}: {what}")
        address = of_entry(keys, place, given.get(variable(name)), around, notes)
        said = {**base, **_said(keys, place, notes)}
        if "tools" in base and keys.tools is not None:
            said["tools"] = both(base["tools"], said["tools"])
        found.append(_Found(name, place, address, said, keys.servers))
    for entry in cast.entries:
        if is_address(entry.server.endpoint):
            place, var = f"{entry.place}.endpoint", given.get(variable(entry.name))
            text, origin = (around.env[var], var) if var else (entry.server.endpoint or "", place)
            address, only = parsed(text, origin, notes), frozenset({entry.name})
            found.append(_Found(entry.name, place, address, base, only=only))
    places: dict[str, str] = {}
    for each in found:
        same = variable(each.name)
        if same in places:
            what = f"expected a name of its own, found that of {places[same]}"
            notes.problems.append(f"{each.place}: {what}: both are {same} in the environment")
        places.setdefault(same, each.place)
    servers = [*(entry.name for entry in cast.entries), *cast.off]
    for same, var in given.items():
        if same in places:
            continue
        only = frozenset(server for server in servers if variable(server) == same)
        if not only and not is_address(around.env[var]):  # Kubernetes sets such for services
            notes.warnings.append(f"{var}: is passed over; it names no endpoint and is no address")
        else:
            name = var.removeprefix(f"{VARIABLE}_").lower()
            address = parsed(around.env[var], var, notes)
            found.append(_Found(name, var, address, base, only=only))
    return found


def _claims(entries: Sequence[Entry], found: list[_Found], notes: Notes) -> dict[str, _Found]:
    """The servers that have an endpoint of their own. A variable wins over what the file says."""
    known = {variable(each.name): each for each in found}
    claims: dict[str, _Found] = {}
    for entry in entries:
        name = entry.server.endpoint or ""
        if name and variable(name) in known and not is_address(name):
            claims[entry.name] = known[variable(name)]
        elif name and not is_address(name):
            meant = near(name, [each.name for each in found])
            way = f"did you mean {meant}?" if meant else "add it to xzpipe.endpoints"
            what = "expected the name of an endpoint, or a URL, found neither"
            notes.problems.append(f"{entry.place}.endpoint: {what}; {way}")
    return claims | {server: each for each in found for server in each.only}


def _seen(each: _Found, cast: Cast, claims: Mapping[str, _Found], notes: Notes) -> list[str]:
    """The servers that a named endpoint sees, in their order."""
    names = [entry.name for entry in cast.entries]
    free = [name for name in names if claims.get(name, each) is each]
    seen = [name for name in free if name in claims or each.wants(name)]
    wrong: list[str] = []
    for where, glob in within(f"{each.place}.servers", each.globs):
        if any(fnmatchcase(name, glob) for name in free):
            continue
        if is_glob(glob):
            notes.warnings.append(f"{where}: matches no server")
        elif glob in cast.off:
            notes.warnings.append(f"{where}: the server is switched off")
        elif glob in claims:
            wrong.append(f"{where}: this server goes to {claims[glob].place} and nowhere else")
        else:
            guess = f"; did you mean {meant}?" if (meant := near(glob, names)) else ""
            wrong.append(f"{where}: expected the name of a server, or a glob, found neither{guess}")
    if not seen and not wrong and (names or cast.off):
        if any(
            each.wants(name) or raw.get("endpoint") == each.name for name, raw in cast.off.items()
        ):
            notes.warnings.append(f"{each.place}: is left out; its servers are switched off")
        else:
            wrong.append(f"{each.place}: expected at least one server, found none for it")
    notes.problems += wrong
    return seen


def _doubts(made: Mapping[str, Plan], cast: Cast) -> Iterable[str]:
    """What may be meant, but hardly is."""
    seen = {server for plan in made.values() for server in plan.servers}
    for entry in cast.entries:
        if entry.name not in seen:
            yield f"{entry.place}: no endpoint sees this server, so `run` does not start it"
    places: dict[tuple[str, ...], str] = {}
    for place, plan in made.items():
        whose = plan.address.secrets if plan.address else ()
        if other := places.get(whose):
            yield f"{place}: has the token of {other}; one connection may throw out the other"
        elif whose:
            places[whose] = place
