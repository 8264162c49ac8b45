"""The config file as structs: the keys xzpipe reads, their types, defaults and bounds.

The JSON Schema and every "expected …" come from here: the first description of a type says what is
expected, the last what it is for. Nothing here reads a file or knows the environment.
"""

import json
import re
from collections.abc import Iterable, Iterator
from difflib import get_close_matches
from typing import Annotated, Any, TypeVar, get_args, get_origin

import msgspec
from msgspec import Meta, Struct, field

from xzpipe.core.hub import MAX_MESSAGE_BYTES
from xzpipe.core.launch import CALL_TIMEOUT, START_TIMEOUT
from xzpipe.core.plan import Mode

YEAR = 365 * 24 * 3600  # seconds; a longer wait is a slip of the keyboard, and infinity never ends
MIN_RESULT = 512  # bytes; an answer that was cut needs room to say so
SYNONYMS = {"cmd": "command", "arguments": "args", "environment": "env", "workingdirectory": "cwd"}

Scalar = Annotated[Any, Meta(extra_json_schema={"type": ["string", "integer", "boolean"]})]
Args = Annotated[list[Scalar], Meta(description="a list of strings")]
Variables = Annotated[dict[str, Scalar], Meta(description="an object of strings")]
Seconds = Annotated[float, Meta(gt=0, le=YEAR, description="seconds above 0, a year at most")]
Wait = Annotated[Seconds | None, Meta(description="seconds above 0, a year at most")]
Port = Annotated[Annotated[int, Meta(ge=0, le=65535)] | None, Meta(description="0 to 65535")]
Switch = Annotated[bool, Meta(description="true or false")]
Count = Annotated[Annotated[int, Meta(ge=1)] | None, Meta(description="a whole number, at least 1")]
Limit = Annotated[  # the lower bound is a problem of its own, see `endpoints`
    Annotated[int, Meta(ge=0, extra_json_schema={"not": {"minimum": 1, "maximum": MIN_RESULT - 1}})]
    | None,
    Meta(description=f"a whole number, {MIN_RESULT} or more, or 0 for none"),
]
Maybe = Annotated[bool | None, Meta(description="true or false")]
Text = Annotated[str | None, Meta(description="a string")]
Texts = Annotated[dict[str, str], Meta(description="an object of strings")]
Globs = Annotated[list[str], Meta(description="a list of strings")]
MaybeGlobs = Annotated[list[str] | None, Meta(description="a list of strings")]


class Tools(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """A choice among tools, by globs, and their names: all of them those before the renaming."""

    allow: Annotated[MaybeGlobs, Meta(description="what is let through; all, if not given")] = None
    deny: Annotated[Globs, Meta(description="what is held back, even if allowed")] = []
    rename: Annotated[Texts, Meta(description="new names by old ones")] = {}
    describe: Annotated[Texts, Meta(description="descriptions by names")] = {}
    user_only: Annotated[Globs, Meta(description="what is listed only withUserTools")] = []


Policy = Annotated[
    Tools | list[str] | None,
    Meta(description="a list of globs, or an object of allow, deny, rename, describe, userOnly"),
]


class Server(Struct, frozen=True, kw_only=True, rename="camel"):
    """One MCP server. Keys that other programs keep here are left alone."""

    command: Annotated[Text, Meta(description="the program to start")] = None
    args: Args = []
    env: Variables = {}
    cwd: Annotated[Text, Meta(description="its folder, relative to the config file")] = None
    type: Annotated[Text, Meta(description="stdio, sse, http or streamable-http")] = None
    transport_type: Annotated[Text, Meta(description="another name for type")] = None
    url: Annotated[Text, Meta(description="where a remote server is")] = None
    timeout: Annotated[Seconds, Meta(description="seconds for a call")] = CALL_TIMEOUT
    start_timeout: Annotated[Seconds, Meta(description="seconds to be ready in")] = START_TIMEOUT
    tools: Policy = None
    endpoint: Annotated[Text, Meta(description="a name in xzpipe.endpoints, or a URL")] = None
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


class Common(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """How an endpoint is linked, and what it is given. What is not given in its entry is as in
    `xzpipe` itself; and there, as the endpoint is known to need it."""

    mode: Annotated[Mode | None, Meta(description='"separate", "aggregate" or "auto"')] = None
    server_id: Annotated[Maybe, Meta(description="whether its address says for which server")] = (
        None
    )
    result_limit: Annotated[Limit, Meta(description="bytes of a whole answer; 0: no limit")] = None
    join_text: Annotated[Maybe, Meta(description="whether several texts become one")] = None
    inline_schemas: Annotated[Maybe, Meta(description="whether a $ref is replaced")] = None
    headers: Annotated[
        dict[str, str] | None, Meta(description="an object of strings"), Meta(description="of HTTP")
    ] = None
    proxy: Annotated[
        Annotated[str, Meta(pattern=r"^(env|none|\w+://.+)$")] | None,
        Meta(description='"env", "none" or a proxy\'s URL'),
    ] = None
    tools: Policy = None
    warn_tools: Annotated[Count, Meta(description="a list of more tools is warned of")] = None
    warn_list_bytes: Annotated[Count, Meta(description="a longer list is warned of")] = None


class Named(Common, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """One of several endpoints. Its address is in url, urlFile or token, or MCP_ENDPOINT_<NAME>."""

    url: Annotated[Text, Meta(description="a wss:// URL")] = None
    url_file: Annotated[Text, Meta(description="a file with it, relative to the config")] = None
    token: Annotated[Text, Meta(description="the token of one at api.xiaozhi.me")] = None
    servers: Annotated[MaybeGlobs, Meta(description="globs of the servers that it sees")] = None


class Serve(Struct, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """What `xzpipe endpoint serve` does where its options say nothing."""

    host: Annotated[Text, Meta(description="an address of this machine")] = None
    port: Annotated[Port, Meta(description="where it listens")] = None
    key_file: Annotated[Text, Meta(description="where its key is, relative to the config")] = None
    tls_cert: Annotated[Text, Meta(description="a PEM file")] = None
    tls_key: Annotated[Text, Meta(description="a PEM file")] = None
    allow_origins: Annotated[MaybeGlobs, Meta(description="origins of pages, in full")] = None
    call_timeout: Annotated[Wait, Meta(description="for a call")] = None
    max_connections: Annotated[Count, Meta(description="in all, a whole number")] = None
    max_connections_per_agent: Annotated[Count, Meta(description="a whole number")] = None


class Own(Common, frozen=True, kw_only=True, rename="camel", forbid_unknown_fields=True):
    """xzpipe's own settings; those of endpoints hold for the one that has no name, too."""

    endpoint: Annotated[Text, Meta(description="a wss:// URL; better in MCP_ENDPOINT")] = None
    endpoints: Annotated[dict[str, Named], Meta(description="an object of endpoints")] = {}
    backoff: Annotated[Backoff, Meta(description="an object")] = field(default_factory=Backoff)
    max_message_bytes: Annotated[
        int, Meta(ge=64 * 2**10, le=256 * 2**20, description="a whole number, 64 KiB to 256 MiB")
    ] = MAX_MESSAGE_BYTES
    call_timeout: Seconds = CALL_TIMEOUT
    serve: Annotated[Serve, Meta(description="an object")] = field(default_factory=Serve)


class File(Struct, frozen=True, kw_only=True, rename="camel"):
    """An xzpipe config: mcpServers (VS Code: servers) by name, and xzpipe's own settings."""

    mcp_servers: dict[str, Server] = {}
    servers: dict[str, Server] = {}
    xzpipe: Own = field(default_factory=Own)


S = TypeVar("S", bound=Struct)
CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def schema() -> dict[str, Any]:
    """The JSON Schema of a config file."""
    head = {"$schema": "https://json-schema.org/draft/2020-12/schema", "title": "xzpipe config"}
    return head | msgspec.json.schema(File)


def keys(kind: type[Struct]) -> tuple[str, ...]:
    """The keys of `kind` as they are written in a file."""
    return tuple(each.encode_name for each in msgspec.structs.fields(kind))


def folded(word: str) -> str:
    """`word` without what spellings differ in: `streamable-http` is `streamableHttp`."""
    return re.sub("[-_ ]", "", word.lower())


def near(key: str, known: Iterable[str]) -> str | None:
    """The known key that `key` was probably meant to be; None if it is near none."""
    spelt = {folded(each): each for each in known}
    word = SYNONYMS.get(folded(key), folded(key))
    close = get_close_matches(word, spelt, n=1, cutoff=0.8)
    return spelt[close[0]] if close else None


def unprintable(text: str) -> bool:
    """Whether `text` is blank, or holds a control character, a line separator, half a character."""
    return not text.strip() or CONTROL.search(text) is not None


def safe(text: str) -> str:
    """`text` as it can be printed, whatever it holds."""
    return ascii(text) if unprintable(text) else text


def at(place: str, key: str) -> str:
    """The place of `key` inside `place`."""
    return f"{place}.{safe(key)}" if place else safe(key)


def within(place: str, value: object) -> Iterable[tuple[str, Any]]:
    """The parts of a list or an object, each with its place; nothing for any other value."""
    if isinstance(value, dict):
        return [(at(place, key), item) for key, item in value.items()]
    if isinstance(value, list):
        return [(f"{place}[{index}]", item) for index, item in enumerate(value)]
    return []


def found(value: object) -> str:
    """What `value` is, in words. Strings are not shown: they may hold a secret."""
    if isinstance(value, str):
        return "a string" if value else "an empty string"
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    return f"{json.dumps(value):.40}"


def expected(kind: Any) -> str:
    """What a field of the type `kind` must be, in words."""
    return str(next(each.description for each in get_args(kind) if isinstance(each, Meta)))


def convert(raw: Any, kind: type[S], place: str, problems: list[str]) -> S:
    """`raw` as `kind`; null is not given. What does not fit is a problem, and has its default."""
    if raw is not None and not isinstance(raw, dict):
        problems.append(f"{place}: expected an object, got {found(raw)}")
    tree = raw if isinstance(raw, dict) else {}
    if kind.__struct_config__.forbid_unknown_fields:
        for key in sorted(tree.keys() - keys(kind)):
            guess = f"; did you mean {meant}?" if (meant := near(key, keys(kind))) else ""
            what = f"expected one of {', '.join(keys(kind))}, found an unknown key{guess}"
            problems.append(f"{at(place, key)}: {what}")
    values: dict[str, Any] = {}
    for each in msgspec.structs.fields(kind):
        value, where = tree.get(each.encode_name), at(place, each.encode_name)
        inner = next(_structs(each.type), None)
        try:
            if inner is None or not isinstance(value, dict):
                if value is not None:
                    values[each.name] = msgspec.convert(value, each.type)
            elif get_origin(get_args(each.type)[0]) is dict:
                values[each.name] = {
                    key: convert(item, inner, at(where, key), problems)
                    for key, item in value.items()
                }
            else:
                values[each.name] = convert(value, inner, where, problems)
        except msgspec.ValidationError:
            problems.append(f"{where}: expected {expected(each.type)}, got {found(value)}")
    try:
        return kind(**values)
    except ValueError as error:  # from __post_init__
        problems.append(f"{place}: {error}")
        return kind()


def _structs(kind: Any) -> Iterator[type[Struct]]:
    """The structs that stand in an annotation, at any depth."""
    if isinstance(kind, type) and issubclass(kind, Struct):
        yield kind
    for part in get_args(kind):
        yield from _structs(part)
