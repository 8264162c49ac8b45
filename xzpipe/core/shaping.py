"""What an endpoint can take: answers under its limit, and one text part instead of several.

Takes and gives raw JSON, and leaves alone what it does not understand. What loses nothing comes
first. The schemas of tools are shaped in `schemas`.
"""

import json
import re
from bisect import bisect_right
from dataclasses import dataclass

from xzpipe.core.rawjson import EMPTY, NULL, NotJson, Raw, array_of, fields, items, object_of, text


@dataclass(frozen=True, slots=True)
class Shape:
    """What one endpoint needs. `result_limit` is in bytes of a whole answer; None: no limit."""

    result_limit: int | None = None
    join_text: bool = False
    inline_schemas: bool = False


def shaped(result: bytes | Raw, shape: Shape, envelope: int) -> bytes | Raw:
    """A raw result of tools/call as the endpoint can take it; what needs nothing comes back as it
    is.

    `envelope` is how many bytes stand around the result in the answer; the limit counts both. The
    limit holds if it is 256 bytes more than the envelope; below that the least that can be said is.
    """
    if shape.join_text:
        result = _joined(result)
    limit = shape.result_limit
    if limit is None or len(result) + envelope <= limit:
        return result
    room = limit - envelope
    lean = _lean(bytes(result), room)
    if len(lean) <= room:
        return lean
    if shape.join_text and _has_failed(_members(lean)):
        room //= 2  # joining says the text of a failure twice
    cut = _cut_down(lean, room, limit)
    return _joined(cut) if shape.join_text else cut


def shaped_error(error: bytes | Raw, shape: Shape, envelope: int) -> bytes | Raw:
    """A raw JSON-RPC error as the endpoint can take it: over the limit, which counts as for
    `shaped`, its `data` goes, then its message is cut."""
    limit = shape.result_limit
    if limit is None or len(error) + envelope <= limit:
        return error
    room = limit - envelope
    members = _members(error)
    members.pop("data", None)
    lean = object_of(members) if members else bytes(error)
    if len(lean) > room:
        lean = _compact(lean)
    if len(lean) <= room:
        return lean
    words = text(members.get("message"))
    kept = {name: raw for name, raw in members.items() if name == "code" and len(raw) <= _SHORT}
    frame = len(object_of({**kept, "message": b'""'}))
    cut = _cut(lean.decode() if words is None else words, room - frame, limit)
    return object_of({**kept, "message": _quote(cut)})


# One text part instead of several.


def _joined(result: bytes | Raw) -> bytes | Raw:
    """A result whose text parts are one, and that the first part.

    Self-hosted endpoints read `content[0].text` alone and, of a result that `isError`, `error`
    alone (wire.md §3), so a failure's text is put there as well.
    """
    try:
        members = fields(result)
        parts = items(members["content"])
    except (KeyError, NotJson):
        return result
    texts = [_raw_text(part) for part in parts]
    found = [each for each in texts if each is not None]
    silent = _has_failed(members) and bytes(members.get("error", Raw(NULL))) == NULL
    if not found or (len(found) == 1 and texts[0] is not None and not silent):
        return result
    joined = b'"%b"' % b"\\n".join(each[1:-1] for each in found)
    only = [bytes(part) for part, each in zip(parts, texts, strict=True) if each == joined]
    others = [bytes(part) for part, each in zip(parts, texts, strict=True) if each is None]
    first = only[0] if len(found) == 1 else object_of({"type": b'"text"', "text": joined})
    changed = {"content": array_of([first, *others])} | ({"error": joined} if silent else {})
    return object_of({**members, **changed})


def _raw_text(part: Raw) -> bytes | None:
    """The raw string that a text part says; None of any other part."""
    members = _members(part)
    said = bytes(members.get("text", b""))
    return said if text(members.get("type")) == "text" and said.startswith(b'"') else None


# Fewer bytes that say the same.

HOPELESS = 8  # times too long, and it is not tried: escapes take up to three times their text


def _lean(result: bytes, room: int) -> bytes:
    """A result without what says its text again or speaks to programs; compact, if even that is
    more than `room` bytes."""
    members = _members(result)
    if members:
        members.pop("_meta", None)
        if _parts(members):
            members.pop("structuredContent", None)
        result = object_of(members)
    return result if len(result) <= room or len(result) > HOPELESS * room else _compact(result)


_token = re.compile(rb'("[^"\\]*+(?:\\.[^"\\]*+)*+")|[ \t\r\n]++')


def _compact(raw: bytes) -> bytes:
    """The same JSON without white space and needless escapes; numbers stay as they are written."""
    return _token.sub(
        lambda found: _quote(json.loads(found[0])) if b"\\" in found[0] else found[1] or b"", raw
    )


def _quote(said: str) -> bytes:
    """A string as JSON in UTF-8, which is shorter than ASCII; a lone surrogate stays an escape."""
    return json.dumps(said, ensure_ascii=False).encode(errors="backslashreplace")


# Fewer bytes that say less.

_SHORT = 32  # bytes of an error code; more is no number that means one
_CLIP = 80  # characters of a name in a note


def _cut_down(lean: bytes, room: int, limit: int) -> bytes:
    """A result in `room` bytes: its content, as far as it fits, and `isError`."""
    members = _members(lean)
    parts = _parts(members)
    if not parts:  # not of MCP's form, or all of it is structured: a model can read that too
        parts = [_text_part(_compact(bytes(members.get("structuredContent", lean))).decode())]
    failure = bytes(members.get("isError", b""))
    kept = {"isError": failure} if failure in (b"true", b"false") else {}
    frame = len(object_of({"content": b"[]", **kept}))
    return object_of({"content": array_of(_fitted(parts, room - frame, limit)), **kept})


def _fitted(parts: list[bytes], room: int, limit: int) -> list[bytes]:
    """These parts in `room` bytes: first the largest of those that are no text become notes, then
    the texts are cut, the last one first. What is cut whole is left out."""
    said = [_said(part) for part in parts]
    plain = [_note(p) if words is None else words for p, words in zip(parts, said, strict=True)]
    fitted = list(parts)
    over = sum(map(len, parts)) + len(parts) - 1 - room
    for at in sorted(range(len(parts)), key=lambda at: -len(parts[at])):
        if over > 0 and len(short := _text_part(plain[at])) < len(fitted[at]):
            over -= len(fitted[at]) - len(short)
            fitted[at] = short
    if over <= 0:
        return fitted
    missing = 0
    for at in reversed(range(len(parts))):
        words = said[at]
        if words is None:
            continue
        space = len(fitted[at]) - over - _FRAME
        if space >= len(_missing(len(words) + missing, limit).encode()):
            fitted[at] = _text_part(_cut(words, space, limit, missing))
            return [part for part in fitted if part]
        over -= len(fitted[at]) + 1
        missing += len(words)
        fitted[at] = b""
    return [_text_part(_cut("\n".join(plain), room - _FRAME, limit))]


def _said(part: bytes) -> str | None:
    """What a part says in words: a text, the text of an embedded resource, or a value that is no
    part at all, as JSON; None of images and their like."""
    members = _members(part)
    kind = text(members.get("type"))
    if kind is None:
        words = text(Raw(part))
        return _compact(part).decode() if words is None else words
    if kind == "resource":
        return text(_members(members.get("resource", EMPTY)).get("text"))
    return text(members.get("text")) if kind == "text" else None


def _note(part: bytes) -> str:
    """What stands in the place of a part that is no text: its kind, where it is from, its size."""
    members = _members(part)
    inner = members | _members(members.get("resource", EMPTY))
    data = bytes(inner.get("data", inner.get("blob", b"")))
    size = len(data.strip(b'="')) * 3 // 4 if data else len(part)  # base64
    known = (text(inner.get(name)) for name in ("uri", "mimeType"))
    details = [*(each[:_CLIP] for each in known if each), f"{size:,} bytes"]
    kind = (text(members.get("type")) or "part")[:_CLIP]
    return f"[{kind} left out: {', '.join(details)}]"


def _cut(words: str, space: int, limit: int, missing: int = 0) -> str:
    """As many characters as have `space` bytes inside a JSON string, and a note of how many more
    there were, `missing` after them included; without the note where there is no space for it."""
    after = len(words) + missing
    if not missing and _fits(words, space) == len(words):
        return words
    note = len(_missing(after, limit).encode())
    if space < note:
        return words[: _fits(words, space)]
    kept = _fits(words, space - note)
    return words[:kept] + _missing(after - kept, limit)


def _missing(count: int, limit: int) -> str:
    return f"… [{count:,} more characters cut: answers are limited to {limit:,} bytes]"


def _fits(words: str, space: int) -> int:
    """How many of the first characters have `space` bytes inside a JSON string."""
    counts = range(1, min(len(words), space) + 1)
    return bisect_right(counts, space, key=lambda count: len(_quote(words[:count])) - 2)


def _text_part(words: str) -> bytes:
    return b'{"type":"text","text":%b}' % _quote(words)


_FRAME = len(_text_part(""))


def _parts(members: dict[str, Raw]) -> list[bytes]:
    """The raw parts of a result's content; a content that is no array is one part, if not null."""
    content = members.get("content", Raw(NULL))
    try:
        return [bytes(part) for part in items(content)]
    except NotJson:
        return [] if bytes(content) == NULL else [bytes(content)]


def _members(raw: bytes | Raw) -> dict[str, Raw]:
    """The members of a JSON object; of anything else none."""
    try:
        return fields(raw)
    except NotJson:
        return {}


def _has_failed(members: dict[str, Raw]) -> bool:
    return bytes(members.get("isError", Raw(NULL))) == b"true"
