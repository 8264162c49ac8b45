"""Which tools a server or an endpoint lets through, under which names, and said to be what."""

from collections.abc import Iterable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from xzpipe.core.names import joined


@dataclass(frozen=True, slots=True)
class Choice:
    """What became of one tool: the name it is wanted under, and its description in other words;
    None: in its own."""

    name: str
    description: str | None = None
    user_only: bool = False


@dataclass(frozen=True, slots=True)
class ToolPolicy:
    """A choice among tools. `allow`, `deny` and `user_only` are globs, case counts; `allow` None is
    all. `rename` and `describe` are by exact name; all names are those before the renaming."""

    allow: tuple[str, ...] | None = None
    deny: tuple[str, ...] = ()
    rename: Mapping[str, str] = field(default_factory=dict)
    describe: Mapping[str, str] = field(default_factory=dict)
    user_only: tuple[str, ...] = ()

    def choose(self, name: str, full: str | None = None) -> Choice | None:
        """What becomes of the tool `name`; None: it is denied. `full` is another name for it, and
        the better one where both are given something."""
        names = (name,) if full is None else (full, name)
        if self.allow is not None and not _match(self.allow, names):
            return None
        if _match(self.deny, names):
            return None
        wanted, description = _given(self.rename, names), _given(self.describe, names)
        user_only = _match(self.user_only, names)
        return Choice(name if wanted is None else wanted, description, user_only)

    def unused(self, names: AbstractSet[str]) -> tuple[str, ...]:
        """The entries that mean none of these tools: a name may be misspelt."""
        globs = {*(self.allow or ()), *self.deny, *self.user_only}
        lost = {glob for glob in globs if not any(fnmatchcase(name, glob) for name in names)}
        return tuple(sorted(lost | ({*self.rename, *self.describe} - names)))


EVERYTHING = ToolPolicy()


def chosen(server: str, tool: str, own: ToolPolicy, over: ToolPolicy) -> Choice | None:
    """What becomes of a server's tool under the server's `own` policy, then under `over`, which
    knows it by the name that the first one made, or by `server__name`; None: one of them denies it.
    """
    first = own.choose(tool)
    if first is None:
        return None
    last = over.choose(first.name, joined(server, first.name))
    if last is None:
        return None
    description = first.description if last.description is None else last.description
    return Choice(last.name, description, first.user_only or last.user_only)


def _match(globs: tuple[str, ...], names: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, glob) for glob in globs for name in names)


def _given(texts: Mapping[str, str], names: Iterable[str]) -> str | None:
    return next((texts[name] for name in names if name in texts), None)
