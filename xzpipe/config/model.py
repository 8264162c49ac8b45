"""The config file as structs: the keys xzpipe reads, their types, defaults and bounds.

The JSON Schema and every "expected …" come from here: a description begins with what is expected,
up to its first colon. Nothing here reads a file or knows the environment.
"""

import json
import re
from collections.abc import Iterable
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from xzpipe.core.launch import CALL_TIMEOUT, START_TIMEOUT

MAX_SECONDS = 365 * 24 * 3600  # a longer wait is a slip of the keyboard, and infinity never ends
MAX_SERVER_TIMEOUT = (
    3600  # seconds; above it the number is milliseconds, as Claude Code writes them
)
MAX_MESSAGE_BYTES = 16 * 2**20  # a photo as base64 fits; a runaway answer does not

Scalar = Annotated[
    str | int | float | bool,
    Meta(description="a string, a number, true or false: passed on as it is written"),
]
Seconds = Annotated[
    float, Meta(gt=0, le=MAX_SECONDS, description="seconds above 0, a year at most")
]
Switch = Annotated[bool, Meta(description="true or false")]
Text = Annotated[str, Meta(description="a string")]


class Server(Struct, frozen=True, kw_only=True, rename="camel"):
    """One MCP server. Keys that other programs keep here are left alone."""

    command: Annotated[
        str | None, Meta(description="a string: the program to start, needed by a stdio server")
    ] = None
    args: Annotated[
        tuple[Scalar, ...], Meta(description="a list of strings: the program's arguments")
    ] = ()
    env: Annotated[
        dict[str, Scalar],
        Meta(description="an object of strings: environment variables of this server"),
    ] = field(default_factory=dict)
    cwd: Annotated[
        str | None, Meta(description="a string: the server's folder, relative to the config file")
    ] = None
    type: Annotated[
        str | None, Meta(description="a string: stdio, sse, http or streamable-http")
    ] = None
    transport_type: Annotated[str | None, Meta(description="a string: the same as type")] = None
    url: Annotated[str | None, Meta(description="a string: where a remote server is")] = None
    timeout: Annotated[
        Annotated[float, Meta(gt=0, le=MAX_SECONDS)] | None,
        Meta(description="seconds above 0, a year at most: the longest a tool call may take"),
    ] = None
    start_timeout: Annotated[
        Seconds, Meta(description="seconds above 0, a year at most: until initialize is answered")
    ] = START_TIMEOUT
    disabled: Switch = False
    enabled: Switch = True
    is_active: Switch = True


class Backoff(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How long to wait before connecting or starting again: doubled each time, with jitter."""

    initial: Seconds = 1.0
    maximum: Seconds = 600.0
    reset_after: Seconds = 60.0

    def __post_init__(self) -> None:
        if self.initial > self.maximum:
            raise ValueError("expected initial to be at most maximum, got it above")


class Own(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """xzpipe's own settings."""

    endpoint: Annotated[
        str | None, Meta(description="a string: the endpoint's wss:// URL; better in MCP_ENDPOINT")
    ] = None
    backoff: Backoff = field(default_factory=Backoff)
    max_message_bytes: Annotated[
        int, Meta(ge=64 * 2**10, le=256 * 2**20, description="a whole number, 64 KiB to 256 MiB")
    ] = MAX_MESSAGE_BYTES
    call_timeout: Seconds = CALL_TIMEOUT
    proxy: Annotated[
        str, Meta(pattern=r"^(env|none|\w+://.+)$", description='"env", "none" or a proxy\'s URL')
    ] = "env"


class File(Struct, frozen=True, kw_only=True, rename="camel"):
    """An xzpipe config: mcpServers as other MCP programs write it, and xzpipe's own settings."""

    mcp_servers: Annotated[
        dict[str, Server], Meta(description="an object: the servers by name")
    ] = field(default_factory=dict)
    servers: Annotated[
        dict[str, Server], Meta(description="an object: VS Code's name for mcpServers")
    ] = field(default_factory=dict)
    xzpipe: Own = field(default_factory=Own)


class Written(float):
    """A number with a fraction or an exponent that remembers its spelling: `3.10` is no `3.1`."""

    __slots__ = ("text",)
    text: str

    def __new__(cls, text: str) -> "Written":
        number = super().__new__(cls, text)
        number.text = text
        return number

    def __str__(self) -> str:
        return self.text


S = TypeVar("S", bound=Struct)
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def schema() -> dict[str, Any]:
    """The JSON Schema of a config file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "xzpipe config"}
    return head | msgspec.json.schema(File)


def keys(kind: type[Struct]) -> tuple[str, ...]:
    """The keys of `kind` as they are written in a file."""
    return tuple(each.encode_name for each in msgspec.structs.fields(kind))


def unprintable(text: str) -> bool:
    """Whether `text` is blank, or holds a control character, a line separator, half a character."""
    return not text.strip() or _CONTROL.search(text) is not None


def at(place: str, key: str) -> str:
    """The place of `key` inside `place`, safe to print whatever the key holds."""
    step = ascii(key) if unprintable(key) else key
    return f"{place}.{step}" if place else step


def within(place: str, value: object) -> Iterable[tuple[str, Any]]:
    """The parts of a list or an object, each with its place; nothing for any other value."""
    if isinstance(value, dict):
        return [(at(place, key), item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    return []


def found(value: object) -> str:
    """What `value` is, in words. Strings are not shown: they may hold a secret."""
    match value:
        case str():
            return "a string" if value else "an empty string"
        case list():
            return "a list"
        case dict():
            return "an object"
        case None | bool():
            return json.dumps(value)
    return f"{value!s:.40}"


def convert(tree: dict[str, Any], kind: type[S], place: str, problems: list[str]) -> S:
    """`tree` as `kind`; null is not given. What does not fit adds sentences to `problems`.

    With a problem the result is only a stand-in, all defaults.
    """
    before = len(problems)
    known = keys(kind)
    if kind.__struct_config__.forbid_unknown_fields:
        problems += [
            f"{at(place, key)}: expected one of {', '.join(known)}, found an unknown key"
            for key in tree
            if key not in known
        ]
    values = {
        each.name: _value(tree[each.encode_name], each.type, at(place, each.encode_name), problems)
        for each in msgspec.structs.fields(kind)
        if tree.get(each.encode_name) is not None
    }
    try:
        return kind(**values) if len(problems) == before else kind()
    except ValueError as error:  # from __post_init__
        problems.append(f"{place}: {error}")
        return kind()


def _value(value: Any, kind: Any, place: str, problems: list[str]) -> Any:
    bare = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    inner = get_args(bare)
    if isinstance(value, dict) and isinstance(bare, type) and issubclass(bare, Struct):
        return convert(value, bare, place, problems)
    if isinstance(value, dict) and get_origin(bare) is dict:
        parts = zip(value, within(place, value), strict=True)
        return {key: _value(item, inner[1], where, problems) for key, (where, item) in parts}
    if isinstance(value, list) and get_origin(bare) is tuple:
        return tuple(
            _value(item, inner[0], where, problems) for where, item in within(place, value)
        )
    try:
        checked = msgspec.convert(float(value) if isinstance(value, Written) else value, kind)
    except msgspec.ValidationError:
        problems.append(f"{place}: expected {_expected(kind)}, got {found(value)}")
        return None
    return value if isinstance(value, Written) else checked


def _expected(kind: Any) -> str:
    notes = [each.description for each in get_args(kind) if isinstance(each, Meta)]
    return str(notes[-1]).partition(":")[0] if notes else "an object"
