"""Names that every assistant takes, and no two tools under one.

The APIs of the models want `[A-Za-z0-9_-]{1,64}` (wire.md §2).
"""

import re
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from itertools import count

from xzpipe.core import rawjson

LONGEST = 64  # characters of a name
DIGITS = 8  # of the hash behind a name that was cut, or that another tool has

_unclean = re.compile(r"[^A-Za-z0-9_-]")
_telling = re.compile(r"[A-Za-z0-9]")


@dataclass(frozen=True, slots=True, order=True)
class Wish:
    """A tool of a server, and the name that it should be listed under."""

    server: str
    tool: str
    name: str

    @property
    def renamed(self) -> bool:
        """Whether that is not the name by which its server calls it."""
        return self.name != self.tool


def is_clean(name: str) -> bool:
    """Whether a name can be listed as it is."""
    return _usable(name) and not _unclean.search(name)


def joined(server: str, name: str) -> str:
    """The name of a tool with its server in front."""
    return f"{server}__{name}"


def assigned(wishes: Iterable[Wish]) -> dict[Wish, str]:
    """A name for each tool, no two the same. The order of the wishes does not count.

    Where several servers want a name, each tool that wants it gets its server in front. A name goes
    to whom it fits best: one that it need not be made for, then one that is not renamed; two who
    are equal in this both go without. Who went without, or has a name that cannot be used, gets one
    with a hash.
    """
    wishes = sorted(wishes)
    ranks: dict[tuple[bool, ...], dict[str, list[Wish]]] = defaultdict(lambda: defaultdict(list))
    forms: dict[Wish, str] = {}
    contested = _contested(wishes)
    for wish in wishes:
        clash = wish.name in contested
        form = joined(wish.server, wish.name) if clash else wish.name
        clean = forms[wish] = _unclean.sub("_", form)
        ranks[clean != form, clash, wish.renamed][clean].append(wish)

    names: dict[Wish, str] = {}
    taken: set[str] = set()
    for rank in sorted(ranks):
        for name, rivals in ranks[rank].items():
            if len(rivals) == 1 and name not in taken and _usable(name):
                names[rivals[0]] = name
        taken.update(ranks[rank])
    for wish in wishes:
        if wish not in names:
            names[wish] = _hashed(wish, forms[wish], taken)
            taken.add(names[wish])
    return names


def _contested(wishes: Iterable[Wish]) -> set[str]:
    """The names that tools of different servers want."""
    servers: dict[str, set[str]] = defaultdict(set)
    for wish in wishes:
        servers[wish.name].add(wish.server)
    return {name for name, who in servers.items() if len(who) > 1}


def _usable(name: str) -> bool:
    return len(name) <= LONGEST and _telling.search(name) is not None


def _hashed(wish: Wish, form: str, taken: set[str]) -> str:
    """The form, cut, and behind it what belongs to this tool alone; tried until it is free, since a
    server may call a tool so."""
    stem = form[: LONGEST - DIGITS - 1]
    who = rawjson.array_of([rawjson.quote(wish.server), rawjson.quote(wish.tool)])
    hashes = (sha256(who + b"%d" % attempt).hexdigest() for attempt in count())
    names = (f"{stem}_{digits[:DIGITS]}" for digits in hashes)
    return next(name for name in names if name not in taken)
