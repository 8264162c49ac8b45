import json
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.json_values import NAMES, VALUES, arrays, exact, objects
from xzpipe.core.rawjson import Raw
from xzpipe.core.shaping import Shape, shaped, shaped_error

JOIN = Shape(join_text=True)
NOTE = re.compile(r"… \[([\d,]+) more characters cut: answers are limited to ([\d,]+) bytes\]\Z")


def dumped(value):
    return json.dumps(value).encode()


def dense(value):
    """As JSON in as few bytes as there can be."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def said(words):
    return {"type": "text", "text": words}


def cut(result, limit, envelope=40, **shape):
    """The parsed result that an endpoint of this limit is given."""
    found = shaped(dumped(result), Shape(result_limit=limit, **shape), envelope)
    assert len(found) + envelope <= limit
    return json.loads(found)


def taken_apart(words):
    """What is left of a text, and how many characters its note says are missing."""
    note = NOTE.search(words)
    return (words[: note.start()], int(note[1].replace(",", ""))) if note else (words, 0)


# Within the limit nothing changes.


@pytest.mark.parametrize("kind", [bytes, Raw])
@pytest.mark.parametrize("shape", [Shape(), Shape(result_limit=130), JOIN])
def test_a_result_that_fits_is_the_same_object(kind, shape):
    result = kind(b'{ "content" : [{"type":"text","text":"\\u5c0f"}], "structuredContent":1.0 }')
    assert shaped(result, shape, 130 - len(result)) is result


@pytest.mark.parametrize("junk", [b'{"content":[', b"not JSON", b'{"content":["\\q"]}'])
def test_without_join_text_a_result_that_fits_is_not_even_read(junk):
    assert shaped(junk, Shape(result_limit=100), 20) is junk


def test_one_byte_of_the_envelope_decides():
    result = dumped({"content": [said("x" * 500)]})
    assert shaped(result, Shape(result_limit=600), 600 - len(result)) is result
    assert shaped(result, Shape(result_limit=600), 601 - len(result)) != result


# What loses nothing comes first.


def test_what_says_the_text_again_goes_first_and_the_rest_stays_byte_for_byte():
    content = b'[ {"type":"text", "text":"\\u5c0f\\/"} ]'
    result = b'{"x":1e400,"structuredContent":{"a":"%b"},"_meta":{},"content":%b}'
    found = shaped(result % (b"x" * 300, content), Shape(result_limit=300), 40)
    assert found == b'{"x":1e400,"content":%b}' % content


def test_then_white_space_and_needless_escapes_go_while_numbers_and_strings_stay():
    result = (
        b'{ "content": [ {"type": "text", "text": "%b \\ud83d\\ude00 \\ud800 \\" \\\\u0041 \\/"} ],'
        b' "\\u5c0f": [ 1.0, 1e400, 12345678901234567890123 ] }'
    ) % (b"\\u5c0f" * 100)
    found = shaped(result, Shape(result_limit=512), 40)
    assert (
        found
        == (
            '{"content":[{"type":"text","text":"%s 😀 \\ud800 \\" \\\\u0041 /"}],'
            '"小":[1.0,1e400,12345678901234567890123]}' % ("小" * 100)
        ).encode()
    )
    assert exact(found) == exact(result)


def test_a_resource_becomes_its_text_which_need_not_be_cut():
    resource = {"uri": "file:///a", "mimeType": "text/plain", "text": "a\ud800小" * 20, "_meta": {}}
    parts = [said("see:"), {"type": "resource", "resource": resource}, said("end")]
    whole = len(dense({"content": [said("see:"), said("aaaaaa小" * 20), said("end")]})) + 40
    found = cut({"content": parts}, whole + 40)
    assert found == {"content": [said("see:"), said("a\ud800小" * 20), said("end")]}


@pytest.mark.parametrize(
    ("part", "note"),
    [
        (
            {"type": "image", "data": "A" * 1995 + "=====", "mimeType": "image/png"},
            "[image left out: image/png, 1,496 bytes]",
        ),
        ({"type": "audio", "data": "AAAA" * 500}, "[audio left out: 1,500 bytes]"),
        (
            {
                "type": "resource",
                "resource": {"uri": "file:///a", "mimeType": "x/y", "blob": "A" * 1999 + "="},
            },
            "[resource left out: file:///a, x/y, 1,499 bytes]",
        ),
        (
            {"type": "resource_link", "uri": "file:///" + "b" * 2000, "name": "b"},
            f"[resource_link left out: file:///{'b' * 72}, 2,052 bytes]",
        ),
        ({"type": "t" * 2000}, f"[{'t' * 80} left out: 2,011 bytes]"),
    ],
)
def test_what_is_no_text_becomes_a_note_of_its_kind_and_size(part, note):
    small = {"type": "image", "data": "AAAA", "mimeType": "image/gif"}
    found = cut({"content": [small, part, said("after")], "isError": False}, 512)
    assert found == {"content": [small, said(note), said("after")], "isError": False}


def test_the_largest_goes_first_and_no_more_than_need_be():
    images = [{"type": "image", "data": "A" * size} for size in (200, 900, 300, 100)]
    found = cut({"content": images}, 600)["content"]
    assert found[1] == said("[image left out: 675 bytes]")
    assert found[2] == said("[image left out: 225 bytes]")
    assert [found[0], found[3]] == [images[0], images[3]]


# Then texts are cut.


@pytest.mark.parametrize("character", ["x", "é", "小", "😀", "\ud800", '"', "\\", "\n", "\x00"])
def test_a_text_is_cut_at_a_character_and_says_how_much_is_missing(character):
    limits = range(512, 524)
    for limit in limits:
        found = cut({"content": [said(character * 3000)]}, limit)
        kept, missing = taken_apart(found["content"][0]["text"])
        assert kept == character * len(kept)
        assert len(kept) + missing == 3000
        raw = shaped(dumped({"content": [said(character * 3000)]}), Shape(limit), 40)
        assert limit - 12 < len(raw) + 40 <= limit


def test_the_note_is_one_that_a_model_can_read():
    [part] = cut({"content": [said("x" * 30_000)]}, 8192)["content"]
    note = "xx… [21,955 more characters cut: answers are limited to 8,192 bytes]"
    assert part["text"].endswith(note)


def test_the_last_text_is_cut_first_and_the_others_stay():
    parts = [said("a" * 100), said("b" * 100), said("c" * 2000)]
    first, second, third = cut({"content": parts}, 600)["content"]
    assert [first, second] == parts[:2]
    kept, missing = taken_apart(third["text"])
    assert kept == "c" * len(kept)
    assert len(kept) == 2000 - missing > 100


def test_texts_that_are_cut_whole_are_left_out_and_counted_in_one_note():
    found = cut({"content": [said("abc" * 30) for _ in range(100)]}, 1024)["content"]
    kept, missing = taken_apart(found[-1]["text"])
    assert [each["text"] for each in found[:-1]] == ["abc" * 30] * (len(found) - 1)
    assert len(found) > 5
    assert missing == 9000 - 90 * (len(found) - 1) - len(kept)
    assert len(dense({"content": found})) + 40 >= 1024 - 6


def test_notes_of_what_is_no_text_outlive_the_text_before_them():
    image = {"type": "image", "data": "A" * 4000, "mimeType": "image/png"}
    found = cut({"content": [said("x" * 4000), image]}, 600)["content"]
    assert found[1] == said("[image left out: image/png, 3,000 bytes]")
    assert taken_apart(found[0]["text"])[1] > 3000


def test_what_is_shorter_than_its_note_stays():
    small = {"type": "image", "data": "A"}
    found = cut({"content": [small, said("x" * 900), small]}, 512)["content"]
    assert [found[0], found[2]] == [small, small]


def test_a_part_that_fits_without_its_annotations_is_not_cut():
    part = {**said("x" * 300), "annotations": {"audience": ["user"] * 50}}
    assert cut({"content": [part]}, 512) == {"content": [said("x" * 300)]}


def test_members_that_nobody_knows_go_before_the_text_does():
    result = {"y": "y" * 9000, "content": [said("x" * 300)], "isError": True}
    assert cut(result, 512) == {"content": [said("x" * 300)], "isError": True}


def test_thousands_of_parts_become_one_text():
    image = {"type": "image", "data": "A" * 4000}
    found = cut({"content": [said("first"), *[image] * 3000], "isError": True}, 1024)
    [part] = found["content"]
    kept, missing = taken_apart(part["text"])
    assert kept.startswith("first\n[image left out: 3,000 bytes]\n[image")
    assert missing == len("first" + "\n[image left out: 3,000 bytes]" * 3000) - len(kept)
    assert found["isError"] is True


@pytest.mark.parametrize(
    ("result", "words"),
    [
        ({"toolResult": "x" * 900}, None),
        ({"content": [], "structuredContent": {"a": "x" * 900}}, dense({"a": "x" * 900})),
        ({"content": None, "structuredContent": ["x" * 900]}, dense(["x" * 900])),
        ({"content": "x\n" * 900}, b"x\n" * 900),
        ({"content": {"type": "text", "text": "x" * 900}}, b"x" * 900),
        ({"content": ["x" * 900]}, b"x" * 900),
        ({"content": [{"text": "x" * 900}]}, dense({"text": "x" * 900})),
        ({"content": [[1.5] * 900]}, dense([1.5] * 900)),
        ({"content": [{"type": 5, "text": "x" * 900}]}, dense({"type": 5, "text": "x" * 900})),
        (["x" * 900], None),
        ("x" * 900, None),
    ],
)
def test_what_is_not_of_the_protocols_form_becomes_a_text_that_is_cut(result, words):
    whole = (words or dense(result)).decode()
    [part] = cut(result, 512)["content"]
    kept, missing = taken_apart(part["text"])
    assert whole.startswith(kept)
    assert len(kept) == len(whole) - missing > 200


def test_what_is_structured_alone_stays_if_it_fits_without_the_rest():
    result = {"content": [], "structuredContent": {"a": 1}, "_meta": {"x": "x" * 900}}
    assert cut(result, 512) == {"content": [], "structuredContent": {"a": 1}}


def test_a_limit_too_small_for_the_note_still_gives_as_much_text_as_fits():
    result = dumped({"content": [said("abc" * 100)]})
    assert shaped(result, Shape(80), 20) == dense({"content": [said("abc" * 7)]})
    assert shaped(result, Shape(40), 20) == dense({"content": [said("")]})


# Joined texts.


def test_texts_are_joined_first_and_the_others_follow_in_their_order():
    image, link = b'{"type":"image", "data":"A"}', b'{"type":"resource_link","uri":1.0}'
    result = (
        b'{"x": 1e400, "content": [%b, {"type":"text","text":"a\\ud83d"}, %b, '
        b'{"text":"\\ude00\\/","type":"text","_meta":{}}, 5], "isError": false}' % (image, link)
    )
    assert shaped(result, JOIN, 0) == (
        b'{"x":1e400,"content":[{"type":"text","text":"a\\ud83d\\n\\ude00\\/"},%b,%b,5],'
        b'"isError":false}' % (image, link)
    )


def test_a_single_text_behind_an_image_comes_first_as_it_is():
    result = b'{"content":[{"type":"image"}, {"_meta":{}, "text":"a", "type":"text"}]}'
    found = b'{"content":[{"_meta":{}, "text":"a", "type":"text"},{"type":"image"}]}'
    assert shaped(result, JOIN, 0) == found


@pytest.mark.parametrize("error", [b"", b',"error":null'])
def test_the_text_of_a_failure_is_its_error_too(error):
    result = b'{"content":[{"type":"text","text":"a"},{"type":"text","text":"b"}],"isError":true%b}'
    found = json.loads(shaped(result % error, JOIN, 0))
    assert found == {"content": [said("a\nb")], "isError": True, "error": "a\nb"}


@pytest.mark.parametrize(
    "result",
    [
        b'{"content": [{"type":"text","text":"a"}, {"type":"image"}], "isError": false}',
        b'{"content": [{"type":"text","text":"a"}], "isError": true, "error": "b"}',
        b'{"content": [{"type":"text","text":"a"}], "isError": "true"}',
        b'{"content": [{"type":"image"}], "isError": true}',
        b'{"content": [{"type":"text","text":5}, "a", {"type":"text"}]}',
        b'{"content": {"type":"text","text":"a"}, "isError": true}',
        b'{"isError": true}',
        b"[1]",
        b'"text"',
    ],
)
def test_where_there_is_nothing_to_join_the_same_object_comes_back(result):
    assert shaped(result, JOIN, 0) is result


def test_a_failure_over_the_limit_says_the_same_twice():
    parts = [said("x" * 5000), {"type": "image", "data": "A" * 5000}]
    found = cut({"content": parts, "isError": True}, 1024, join_text=True)
    kept, missing = taken_apart(found["error"].split("\n")[0])
    assert len(kept) + missing == 5000
    assert found["error"].endswith("\n[image left out: 3,750 bytes]")
    assert found["content"] == [said(found["error"])]


# A JSON-RPC error.


def cut_error(error, limit=300, envelope=40):
    found = shaped_error(dumped(error), Shape(limit), envelope)
    assert len(found) + envelope <= limit
    return json.loads(found)


@pytest.mark.parametrize("kind", [bytes, Raw])
def test_an_error_that_fits_is_the_same_object(kind):
    error = kind(b'{ "code":-1, "message":"x", "data":[] }')
    assert shaped_error(error, Shape(), 900) is error
    assert shaped_error(error, Shape(len(error) + 9), 9) is error


def test_the_data_of_an_error_goes_first():
    error = b'{"code": -1, "message":"\\u5c0f", "data":"%b", "x":1.0}' % (b"x" * 300)
    assert shaped_error(error, Shape(300), 40) == b'{"code":-1,"message":"\\u5c0f","x":1.0}'


def test_then_its_escapes_and_then_its_message():
    assert cut_error({"code": -1, "message": "小" * 60}) == {"code": -1, "message": "小" * 60}
    found = cut_error({"code": -32603, "message": "小" * 600, "data": "x", "x": "y"})
    kept, missing = taken_apart(found["message"])
    assert found == {"code": -32603, "message": found["message"]}
    assert len(kept) + missing == 600
    assert len(kept) > 30


@pytest.mark.parametrize("error", ["x" * 900, ["x" * 900], {"data": "x" * 900}, {"y": "x" * 900}])
def test_an_error_without_a_message_is_cut_as_it_is_written(error):
    kept, missing = taken_apart(cut_error(error)["message"])
    assert dense(error).decode().startswith(kept)
    assert len(kept) + missing == len(dense(error))


def test_a_code_that_is_longer_than_any_goes():
    error = b'{"code":%b,"message":"m"}' % (b"1" * 400)
    assert shaped_error(error, Shape(300), 40) == b'{"message":"m"}'


# Any result, any limit.

WORDS = st.builds(
    lambda words, times: words * times,
    st.text(st.sampled_from('ab\n"\\/é小😀\u2028\x00\ud800'), max_size=9),
    st.sampled_from([1, 1, 30, 300]),
)
DATA = st.integers(0, 900).map(lambda count: "AAAA" * count)
PARTS = st.one_of(
    st.builds(lambda words: said(words), WORDS),
    st.builds(lambda words: {"annotations": {"a": [1]}} | said(words), WORDS),
    st.builds(lambda words: {"type": "resource", "resource": {"uri": "u", "text": words}}, WORDS),
    st.builds(lambda data: {"type": "image", "data": data, "mimeType": "image/png"}, DATA),
)
FAILED = st.sampled_from([{}, {"isError": True}, {"isError": False}])
OTHERS = st.dictionaries(st.sampled_from(["structuredContent", "_meta", "x", "小"]), WORDS)
CONTENTS = st.lists(PARTS, max_size=9)
RESULTS = st.builds(
    lambda parts, failed, others: others | {"content": parts} | failed, CONTENTS, FAILED, OTHERS
)
LIMITS = st.integers(512, 4096)
LONG = st.builds(lambda value, times: f"[{','.join([value] * times)}]", VALUES, st.integers(1, 300))
NAMED = st.sampled_from(["content", "isError", "structuredContent", "_meta", "error", "小"])
ANY = st.one_of(
    LONG, objects(NAMED, VALUES | LONG | arrays(WORDS.map(json.dumps))), objects(NAMES, LONG)
)


def plainly(part):
    """What one of `PARTS` says, and whether that is text."""
    if part["type"] == "image":
        return f"[image left out: image/png, {len(part['data']) * 3 // 4:,} bytes]", False
    return part["resource"]["text"] if "resource" in part else part["text"], True


def check_cut(before, after):
    """The parts stand in their order, and what is missing was at the end and is counted."""
    plain = [plainly(part) for part in before]
    everything = "\n".join(words for words, _ in plain)
    kept, missing = taken_apart(after[0].get("text", ""))
    if len(after) == 1 and kept == everything[: len(everything) - missing]:
        return  # too many parts: they became one
    to_say = sum(len(words) for words, is_text in plain if is_text)
    left = list(zip(before, plain, strict=True))
    for part in after:
        kept, missing = taken_apart(part.get("text", ""))
        while True:
            assert left, "a part in the wrong place, or of nothing"
            original, (words, is_text) = left.pop(0)
            if part in (original, said(words)):
                to_say -= len(words) if is_text else 0
                break
            if missing and is_text and part["text"].startswith(words[: len(kept)]):
                assert to_say == len(kept) + missing
                to_say = 0
                left = [each for each in left if not each[1][1]]
                break
    assert to_say == 0
    assert all(is_text for _, (_, is_text) in left)


@settings(max_examples=300)
@given(RESULTS, st.booleans(), LIMITS, st.integers(0, 256))
def test_any_result_keeps_its_parts_in_their_order_and_counts_what_is_missing(
    result, ascii_only, limit, envelope
):
    shape = Shape(limit)
    raw = json.dumps(result, ensure_ascii=ascii_only).encode(errors="backslashreplace")
    found = shaped(raw, shape, envelope)
    assert len(found) + envelope <= limit
    assert (found is raw) == (len(raw) + envelope <= limit)
    assert shaped(found, shape, envelope) is found
    after = json.loads(found)
    assert after.get("isError") is result.get("isError")
    if result["content"]:
        check_cut(result["content"], after["content"])


@settings(max_examples=300)
@given(RESULTS, LIMITS, st.integers(0, 256))
def test_any_result_is_joined_within_the_limit(result, limit, envelope):
    shape = Shape(limit, join_text=True)
    raw = dumped(result)
    found = shaped(raw, shape, envelope)
    assert len(found) + envelope <= limit
    assert shaped(found, shape, envelope) is found
    after = json.loads(found)
    assert after.get("isError") is result.get("isError")
    texts = [each["text"] for each in after["content"] if each["type"] == "text"]
    assert texts == [each["text"] for each in after["content"][:1] if each["type"] == "text"]
    assert after.get("error") == (texts[0] if texts and after.get("isError") else None)
    unlimited = json.loads(shaped(raw, JOIN, envelope))
    assert [p for p in unlimited["content"] if p["type"] != "text"] == [
        p for p in result["content"] if p["type"] != "text"
    ]
    joined = "\n".join(p["text"] for p in result["content"] if p["type"] == "text")
    assert not joined or unlimited["content"][0]["text"] == joined


@settings(max_examples=300)
@given(ANY, st.booleans(), LIMITS, st.integers(0, 256))
def test_any_json_at_all_is_held_to_the_limit(data, join, limit, envelope):
    shape = Shape(limit, join)
    raw = data.encode()
    found = shaped(raw, shape, envelope)
    assert len(found) + envelope <= limit
    assert shaped(found, shape, envelope) is found
    before, after = exact(raw), exact(found)
    if isinstance(before, dict) and before.get("isError") in (True, False):
        assert after["isError"] is before["isError"]
    if not join and len(raw) + envelope <= limit:
        assert found is raw


@given(ANY | RESULTS.map(json.dumps), LIMITS, st.integers(0, 256))
def test_any_error_is_held_to_the_limit(data, limit, envelope):
    raw = data.encode()
    found = shaped_error(raw, Shape(limit), envelope)
    assert len(found) + envelope <= limit
    assert (found is raw) == (len(raw) + envelope <= limit)
    assert shaped_error(found, Shape(limit), envelope) is found
    exact(found)
