"""From `tools` and `headers` to what the core and the WebSocket take, with what is wrong in them.

Pure. Sentences name places, and never what stands there: a variable may have put it there.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from xzpipe.config.model import CONTROL, Tools, at, within
from xzpipe.core.names import is_clean
from xzpipe.core.policy import ToolPolicy

HANDSHAKE = ("host", "connection", "upgrade", "content-length", "transfer-encoding")

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 §5.6.2


@dataclass(slots=True)
class Notes:
    """Sentences about a config: what is wrong with it, and what its reader should know."""

    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def is_glob(text: str) -> bool:
    """Whether a pattern of `fnmatch` may match anything besides itself."""
    return any(sign in text for sign in "*?[")


def tool_policy(tools: Tools | list[str], place: str, notes: Notes) -> ToolPolicy:
    """The policy of a server or an endpoint; a plain list is what is allowed."""
    if isinstance(tools, list):
        tools, allowed = Tools(allow=tools), place
    else:
        allowed = f"{place}.allow"
    if tools.allow == []:
        notes.warnings.append(f"{allowed}: is empty, so no tool is let through")
    notes.problems += _renaming(tools, place)
    for key, names in (("rename", tools.rename), ("describe", tools.describe)):
        notes.warnings += [
            f"{at(f'{place}.{key}', name)}: does nothing, since {place}.deny holds that tool back"
            for name in names
            if any(fnmatchcase(name, glob) for glob in tools.deny)
        ]
    allow = None if tools.allow is None else tuple(tools.allow)
    user_only = tuple(tools.user_only)
    return ToolPolicy(allow, tuple(tools.deny), tools.rename, tools.describe, user_only)


def both(one: ToolPolicy, other: ToolPolicy) -> ToolPolicy:
    """Two policies on the same names as one: what either holds back is held back, and the `other`
    wins where only one can."""
    allow = one.allow if other.allow is None else other.allow
    rename, describe = {**one.rename, **other.rename}, {**one.describe, **other.describe}
    deny, user_only = (*one.deny, *other.deny), (*one.user_only, *other.user_only)
    return ToolPolicy(allow, deny, rename, describe, user_only)


def _renaming(tools: Tools, place: str) -> Iterable[str]:
    """What is wrong with new names. One that the policy also knows as an old name would make two
    tools one, unless the tool of that name gets another itself."""
    renamed = f"{place}.rename"
    old_names = {name: where for where, name in _literals(tools, place)}
    taken: dict[str, str] = {}
    for old, new in tools.rename.items():
        where = at(renamed, old)
        if not is_clean(new):
            yield f"{where}: expected 1 to 64 letters, digits, _ and - as the new name"
        elif new in taken:
            yield f"{where}: expected a new name of its own, found that of {taken[new]}"
        elif new != old and new in old_names and tools.rename.get(new, new) == new:
            yield (
                f"{where}: expected a new name, found that of a tool at {old_names[new]}; "
                "names there are those before the renaming"
            )
        taken.setdefault(new, where)


def _literals(tools: Tools, place: str) -> Iterable[tuple[str, str]]:
    """The names that a policy gives, each behind its place; a glob is no new name, and does no harm
    among them."""
    yield from within(f"{place}.allow", tools.allow)
    yield from within(f"{place}.userOnly", tools.user_only)
    for where, texts in ((f"{place}.rename", tools.rename), (f"{place}.describe", tools.describe)):
        yield from ((at(where, name), name) for name in texts)


def http_headers(headers: Mapping[str, str], place: str, notes: Notes) -> Mapping[str, str]:
    """The headers of an endpoint, checked: what the handshake sets itself is not for them."""
    for name, value in headers.items():
        lower = name.lower()
        if not _TOKEN.fullmatch(name):
            problem = "expected a header's name: letters, digits, - and _"
        elif lower in HANDSHAKE or lower.startswith("sec-websocket-"):
            problem = "is set by the handshake; remove it"
        elif CONTROL.search(value):
            problem = "expected text without line breaks and control characters"
        else:
            continue
        notes.problems.append(f"{at(place, name)}: {problem}")
    return headers
