import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.core import jsonrpc
from xzpipe.core.jsonrpc import (
    INVALID_REQUEST,
    NULL,
    PARSE_ERROR,
    Malformed,
    Raw,
    array_of,
    called_tool,
    fields,
    items,
    object_of,
    parse,
    text,
)

LONE = r'"a\ud800b"'  # half an emoji: legal JSON, and more than msgspec takes

IDS = [
    b"0",
    b"-1",
    b"9007199254740993",
    b"12345678901234567890123",
    b"1.0",
    b"1e400",
    b'""',
    b'"7"',
    '"идентификатор 号"'.encode(),
    rb'"\u0000\ud83d\ude00\/"',
    LONE.encode(),
]


def padded(parts):
    spaces = st.sampled_from(["", " ", "\t\r\n"])
    return st.builds(lambda space, part: f"{space}{part}{space}", spaces, parts)


def arrays(values):
    return st.lists(padded(values), max_size=4).map(lambda found: f"[{','.join(found)}]")


def objects(names, values):
    members = st.dictionaries(padded(names.map(json.dumps)), padded(values), max_size=6)
    pairs = members.map(lambda found: [f"{name}:{value}" for name, value in found.items()])
    return pairs.map(lambda found: f"{{{','.join(found)}}}")


# JSON as text, with spaces wherever they may stand
NAMES = st.text(max_size=3)
LEAVES = st.one_of(
    st.sampled_from(["0", "-0", "1.0", "0.1000", "1e400", "-1E+2", "12345678901234567890123"]),
    st.sampled_from(["null", "true", "false", LONE, r'"\u2028\u0000"', '"\u2028😀"']),
    st.text(max_size=5).map(json.dumps),
)
VALUES = st.recursive(LEAVES, lambda inner: arrays(inner) | objects(NAMES, inner), max_leaves=9)
KEYS = st.sampled_from(["jsonrpc", "id", "method", "params", "result", "error", "x", "\ud800"])


def exact(data):
    """A value with its numbers as they are written."""
    return json.loads(data, parse_int=str, parse_float=str)


@pytest.mark.parametrize("id", IDS)
def test_an_id_is_kept_as_it_was_written(id):
    request = parse(b'{"jsonrpc":"2.0","id": %b ,"method":"ping"}' % id)
    assert (bytes(request.id), request.method) == (id, "ping")
    response = parse(b'{"jsonrpc":"2.0","result":{},"id":%b}' % id)
    assert (bytes(response.id), response.method, bytes(response.result)) == (id, None, b"{}")


def test_a_notification_has_no_id():
    message = parse(b'{"jsonrpc":"2.0","method":"notifications/initialized"}')
    assert not len(message.id)
    assert not len(message.params)


def test_keys_may_be_escaped_and_unknown_keys_are_passed_over():
    message = parse(rb'{"\u0069d":1,"x":[{}],"m\u0065thod":"p\u0069ng"}')
    assert (bytes(message.id), message.method) == (b"1", "ping")


@pytest.mark.parametrize(
    "payload",
    [
        b'{ "a":[1 ,\t2], "n":0.1000}',
        b"[1e400,-0,12345678901234567890123]",
        '"\u2028\u2029 😀 é"'.encode(),
        rb'{"s":"\u0000\u2028\ud83d\ude00"}',
        LONE.encode(),
        b"null",
        b"5",
    ],
)
def test_a_payload_is_kept_byte_for_byte(payload):
    assert bytes(parse(b'{"id":1,"method":"m","params" : %b }' % payload).params) == payload
    assert bytes(parse(b'{"id":1,"result":%b}' % payload).result) == payload


@pytest.mark.parametrize("result", [b"{}", LONE.encode()])
def test_an_error_of_null_is_none(result):
    """Some servers always write both members, as JSON-RPC 1.0 did."""
    message = parse(b'{"id":1,"result":%b,"error":null,"method":null}' % result)
    assert (bytes(message.result), bytes(message.error)) == (result, b"")


@pytest.mark.parametrize(
    ("data", "code", "reason", "id"),
    [
        (b"", PARSE_ERROR, "not JSON", NULL),
        (b" \r\n", PARSE_ERROR, "not JSON", NULL),
        (b"hello", PARSE_ERROR, "not JSON", NULL),
        (b"1 2", PARSE_ERROR, "not JSON", NULL),
        (b"NaN", PARSE_ERROR, "not JSON", NULL),
        (b"\xef\xbb\xbf{}", PARSE_ERROR, "not JSON", NULL),
        (b'{"id":1,', PARSE_ERROR, "not a JSON object", NULL),
        (b'{"id":1,"method":"ping"}}', PARSE_ERROR, "not a JSON object", NULL),
        (b'{"id":1,"method":"m","params":NaN}', PARSE_ERROR, "not a JSON object", NULL),
        (b'{"id":1,"method":"m","params":"a\nb"}', PARSE_ERROR, "not a JSON object", NULL),
        (b'{"id":1,"method":"\xc4\xe3"}', PARSE_ERROR, "not UTF-8 at byte 18", NULL),
        (b"[" * 100_000, PARSE_ERROR, "not JSON", NULL),
        (b'{"a":' * 100_000, PARSE_ERROR, "not a JSON object", NULL),
        (b'{"id":1,"method":"m","params":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
         PARSE_ERROR, "not a JSON object", NULL),
        (b"null", INVALID_REQUEST, "a message must be an object", NULL),
        (b'"ping"', INVALID_REQUEST, "a message must be an object", NULL),
        (b" 17 ", INVALID_REQUEST, "a message must be an object", NULL),
        (b"[]", INVALID_REQUEST, "batches are not supported", NULL),
        (b'[{"id":1,"method":"ping"}]', INVALID_REQUEST, "batches are not supported", NULL),
        (b"{}", INVALID_REQUEST, "neither a request nor a response", NULL),
        (b'{"id":"x"}', INVALID_REQUEST, "neither a request nor a response", b'"x"'),
        (b'{"id":[],"params":{}}', INVALID_REQUEST, "neither a request nor a response", NULL),
        (b'{"id":0,"error":null}', INVALID_REQUEST, "neither a request nor a response", b"0"),
        (b'{"result":{}}', INVALID_REQUEST, "neither a request nor a response", NULL),
        (b'{"id":8,"method":null}', INVALID_REQUEST, "neither a request nor a response", b"8"),
        (b'{"id":8,"method":5}', INVALID_REQUEST, "method must be a string", b"8"),
        (b'{"id":{},"method":5}', INVALID_REQUEST, "method must be a string", NULL),
        (b'{"method":[]}', INVALID_REQUEST, "method must be a string", NULL),
        (b'{"id":null,"method":"m"}', INVALID_REQUEST, "an id must be a string or a number", NULL),
        (b'{"id":true,"method":"m"}', INVALID_REQUEST, "an id must be a string or a number", NULL),
        (b'{"id":[1],"method":"m"}', INVALID_REQUEST, "an id must be a string or a number", NULL),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else None,
)  # fmt: skip
def test_what_is_no_message_is_refused_with_its_code_and_id(data, code, reason, id):
    with pytest.raises(Malformed, match=f"^{re.escape(reason)}$") as refused:
        parse(data)
    assert (refused.value.code, refused.value.id) == (code, id)


def is_message(found):
    id, method = found.get("id"), found.get("method")
    if method is None:
        return "id" in found and ("result" in found or found.get("error") is not None)
    is_id = "id" not in found or (isinstance(id, str | int | float) and not isinstance(id, bool))
    return isinstance(method, str) and is_id


@given(st.binary() | VALUES.map(str.encode))
def test_any_bytes_are_a_message_or_malformed(data):
    try:
        message = parse(data)
    except Malformed as bad:
        assert bad.code in (PARSE_ERROR, INVALID_REQUEST)
        json.loads(bad.id)
    else:
        assert is_message(json.loads(data))
        assert message.method == json.loads(data).get("method")


@given(objects(KEYS, VALUES))
def test_a_message_is_what_the_standard_library_reads(data):
    found, values = json.loads(data), exact(data)
    if not is_message(found):
        with pytest.raises(Malformed) as refused:
            parse(data.encode())
        assert refused.value.code == INVALID_REQUEST
        return
    message = parse(data.encode())
    assert message.method == found.get("method")
    if message.method is None and found.get("error") is None:
        values.pop("error", None)
    for key in ("jsonrpc", "id", "params", "result", "error"):
        raw = bytes(getattr(message, key)).decode()
        assert raw in data
        assert (exact(raw) if raw else "absent") == values.get(key, "absent")


@given(objects(NAMES, VALUES))
def test_the_fields_of_an_object_are_raw_slices_of_it(data):
    found = fields(data.encode())
    assert all(bytes(raw).decode() in data for raw in found.values())
    assert {name: exact(bytes(raw)) for name, raw in found.items()} == exact(data)
    assert exact(object_of(found)) == exact(data)


@given(arrays(VALUES))
def test_the_items_of_an_array_are_raw_slices_of_it(data):
    found = items(data.encode())
    assert all(bytes(raw).decode() in data for raw in found)
    assert [exact(bytes(raw)) for raw in found] == exact(data)
    assert exact(array_of(map(bytes, found))) == exact(data)


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (rb'{"a" : "\ud800" ,"b": 1e400 }', {"a": rb'"\ud800"', "b": b"1e400"}),
        (rb' {"\udc00":[ "x" , {} ]} ', {"\udc00": b'[ "x" , {} ]'}),
        (rb'{"a":"\ud800","a":2}', {"a": b"2"}),
        (b"{ }", {}),
    ],
)
def test_halves_of_emoji_do_not_hide_the_fields(data, found):
    assert {name: bytes(raw) for name, raw in fields(Raw(data)).items()} == found


@pytest.mark.parametrize("data", [b"", b"[]", b"5", b'{"a":1}x', b'["\\ud800"]', b"{" * 9])
def test_what_is_no_object_has_no_fields(data):
    with pytest.raises(Malformed, match=r"^not a JSON object$"):
        fields(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"5", b"[1]x", b'{"a":"\\ud800"}', b"[" * 100_000])
def test_what_is_no_array_has_no_items(data):
    with pytest.raises(Malformed, match=r"^not a JSON array$"):
        items(data)


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b'"a\\u0041\\ud800"', "aA\ud800"), (b'""', ""), (b"5", None), (b"null", None), (b"", None)],
)
def test_text_is_what_a_raw_string_says(raw, value):
    assert text(Raw(raw)) == value
    assert text(None) is None


@pytest.mark.parametrize(
    ("params", "name"),
    [
        (b'{"name":"add","arguments":{},"serialNumber":null}', "add"),
        (b'{"arguments":{"x":"\\ud800"},"name":"add"}', "add"),
        (b'{"name":"\\ud800"}', "\ud800"),
        (b'{"name":""}', ""),
        (b'{"name":5}', None),
        (b'{"name":null}', None),
        (b'{"arguments":{}}', None),
        (b'["add"]', None),
        (b"null", None),
        (b"", None),
    ],
)
def test_the_called_tool_is_the_name_in_the_params(params, name):
    assert called_tool(Raw(params)) == name


def test_what_goes_out_holds_the_raw_values():
    raw = Raw(b'{ "n": 1e400 }')
    assert jsonrpc.request(0, "tools/call", raw) == (
        b'{"jsonrpc":"2.0","id":0,"method":"tools/call","params":{ "n": 1e400 }}'
    )
    assert jsonrpc.request(9, 'a"\ud800', b"") == (
        rb'{"jsonrpc":"2.0","id":9,"method":"a\"\ud800"}'
    )
    assert jsonrpc.notification("n", raw) == (
        b'{"jsonrpc":"2.0","method":"n","params":{ "n": 1e400 }}'
    )
    assert jsonrpc.notification("n") == b'{"jsonrpc":"2.0","method":"n"}'
    assert jsonrpc.result(b'"x"', raw) == b'{"jsonrpc":"2.0","id":"x","result":{ "n": 1e400 }}'


def test_an_error_has_no_result():
    """The client of self-hosted endpoints reads `"result": null` as success (wire.md §3)."""
    assert jsonrpc.error(b"0", b'{"code":1}') == b'{"jsonrpc":"2.0","id":0,"error":{"code":1}}'
    assert jsonrpc.fault(b"0", -32603, "a\n号") == (
        rb'{"jsonrpc":"2.0","id":0,"error":{"code":-32603,"message":"a\n\u53f7"}}'
    )


def test_only_a_request_of_ours_has_a_request_id():
    assert jsonrpc.request_id(jsonrpc.request(41, "ping", b"{}")) == b"41"
    assert jsonrpc.request_id(jsonrpc.result(b"41", b"{}")) is None
    assert jsonrpc.request_id(jsonrpc.notification("n", b'{"id":41}')) is None
