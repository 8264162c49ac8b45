import pytest
from hypothesis import given

from tests.core.json_values import NAMES, VALUES, arrays, exact, objects
from xzpipe.core.rawjson import NotJson, Raw, array_of, fields, items, object_of, text


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
    with pytest.raises(NotJson, match=r"^not a JSON object$"):
        fields(data)


@pytest.mark.parametrize("data", [b"", b"{}", b"5", b"[1]x", b'{"a":"\\ud800"}', b"[" * 100_000])
def test_what_is_no_array_has_no_items(data):
    with pytest.raises(NotJson, match=r"^not a JSON array$"):
        items(data)


@pytest.mark.parametrize(
    ("raw", "value"),
    [(b'"a\\u0041\\ud800"', "aA\ud800"), (b'""', ""), (b"5", None), (b"null", None), (b"", None)],
)
def test_text_is_what_a_raw_string_says(raw, value):
    assert text(Raw(raw)) == value
    assert text(None) is None
