"""What a user should know of lists of tools: events that are told once."""

from typing import ClassVar

from xzpipe.core.events import Event, counted, enumerated


class Note(Event, frozen=True):
    """Something about a list of tools that its user should know; said once of what the fields
    `ABOUT` name."""

    LEVEL: ClassVar[str] = "warning"
    ABOUT: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> tuple[str, ...]:
        """What it is about."""
        return type(self).__name__, *(str(getattr(self, name)) for name in self.ABOUT)


class NameChanged(Note, frozen=True):
    """A tool is listed under another name than it wanted: that one was taken, or unclean."""

    ABOUT: ClassVar[tuple[str, ...]] = ("server", "tool", "listed")
    server: str
    tool: str
    listed: str

    def __str__(self) -> str:
        return f"{self.server}: its tool {self.tool} is listed as {self.listed} (see tools.rename)"


class NotDescribed(Note, frozen=True):
    """Tools that say nothing of what they are for; an assistant will hardly use them."""

    ABOUT: ClassVar[tuple[str, ...]] = ("server",)
    server: str
    tools: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.server}: no description: {enumerated(self.tools)} (see tools.describe)"


class RulesUnused(Note, frozen=True):
    """Entries of a server's own tool policy that mean none of its tools."""

    ABOUT: ClassVar[tuple[str, ...]] = ("server", "rules")
    server: str
    rules: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.server}: its tools policy names what it does not have: " + enumerated(
            self.rules
        )


class LongList(Note, frozen=True):
    """One view lists more than an assistant takes well; `size` is in bytes."""

    ABOUT: ClassVar[tuple[str, ...]] = ("view",)
    view: str
    tools: int
    size: int

    def __str__(self) -> str:
        many = f"{self.view}: {counted(self.tools, 'tool')} in one list of {self.size:,} bytes"
        return f"{many}; an assistant may not take them all: choose with tools.allow or tools.deny"
