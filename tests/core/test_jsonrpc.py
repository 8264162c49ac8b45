import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.core.json_values import KEYS, LONE, VALUES, exact, objects
from xzpipe.core import jsonrpc
from xzpipe.core.jsonrpc import (
    INVALID_REQUEST,
    NULL,
    PARSE_ERROR,
    Malformed,
    Raw,
    called,
    parse,
)

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
def test_the_called_is_the_name_in_the_params(params, name):
    call = called(Raw(params))
    assert (call and call.name) == name


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
