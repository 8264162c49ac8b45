"""Words of a command line become the arguments of a tool call."""

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xzpipe.cli.arguments import read_arguments
from xzpipe.errors import UsageError

SCHEMA = {"properties": {"text": {"type": "string"}, "n": {"type": "integer"}, "any": {}}}


@pytest.mark.parametrize(
    ("words", "given"),
    [
        ((), {}),
        (("text=17", "n=17", "any=17"), {"text": "17", "n": 17, "any": 17}),
        (("text=true", "text2=true"), {"text": "true", "text2": True}),
        (("text=a=b",), {"text": "a=b"}),
        (("text=",), {"text": ""}),
        (('any={"a":1}', "n=x"), {"any": {"a": 1}, "n": "x"}),
        (('{"text": 5}',), {"text": 5}),
    ],
)
def test_words_become_arguments(words, given):
    assert read_arguments(words)(SCHEMA) == given


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("plain",), "expected key=value, got 'plain'"),
        (("=x",), "expected key=value, got ''"),
        (("a=1", "{}"), "expected key=value, got '{}'"),
        (("{",), "the arguments are not JSON: "),
        (('{"a": 1} x',), "the arguments are not JSON: "),
        (('{"a":' + "[" * 5000,), "the arguments are nested too deeply"),
    ],
)
def test_words_that_are_no_arguments_are_a_usage_error(words, message):
    with pytest.raises(UsageError) as refused:
        read_arguments(words)
    assert refused.value.message.startswith(message)


@given(st.dictionaries(st.text(min_size=1), st.text()))
def test_any_text_arrives_where_text_is_wanted(given):
    given = {key: text for key, text in given.items() if "=" not in key}
    words = tuple(f"{key}={text}" for key, text in given.items())
    if len(words) == 1 and words[0].lstrip().startswith("{"):
        return  # it is JSON then
    schema = {"properties": {key: {"type": "string"} for key in given}}
    assert read_arguments(words)(schema) == given


@pytest.mark.parametrize(
    "schema", [{}, {"properties": None}, {"properties": [1]}, {"properties": {"a": True}}]
)
def test_a_schema_may_say_nothing(schema):
    assert read_arguments(("a=1",))(schema) == {"a": 1}


TEXT_OR = [
    {"type": ["string", "integer", "null"]},
    {"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]},
    {"oneOf": [{"type": ["string", "null"]}, {"type": "integer"}]},
]


@pytest.mark.parametrize("schema", TEXT_OR, ids=["type", "anyOf", "oneOf"])
@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("17", 17), ("-3", -3), ("null", None),
        ("1.5", "1.5"), ("1e999", "1e999"), ("NaN", "NaN"), ("true", "true"), ("[1]", "[1]"),
        ('{"a":1}', '{"a":1}'), ('"x"', '"x"'), ("x", "x"), ("", ""), ("[", "["),
    ],
)  # fmt: skip
def test_where_text_is_one_of_the_types_json_of_another_type_stays_text(schema, text, value):
    assert read_arguments((f"a={text}",))({"properties": {"a": schema}}) == {"a": value}


@pytest.mark.parametrize(
    ("types", "text", "value"),
    [
        (["string", "number"], "17", 17),
        (["string", "number"], "1.5", 1.5),
        (["string", "boolean"], "true", True),
        (["string", "boolean"], "1", "1"),
        (["string", "array"], "[1]", [1]),
        (["string", "object"], '{"a":1}', {"a": 1}),
        (["integer", "null"], "1.5", 1.5),  # the server may say what is wrong with it
        (["string", 5, None, []], "17", "17"),
        ([], "17", 17),
    ],
)
def test_json_of_a_type_that_is_wanted_is_json(types, text, value):
    assert read_arguments((f"a={text}",))({"properties": {"a": {"type": types}}}) == {"a": value}


@pytest.mark.parametrize(
    "schema",
    [True, None, 5, [], {}, {"type": None}, {"type": 5}, {"anyOf": None}, {"anyOf": [5, {}, True]}],
)
def test_a_property_may_say_nothing(schema):
    assert read_arguments(("a=1", "b=x"))({"properties": {"a": schema}}) == {"a": 1, "b": "x"}


def test_a_value_that_is_nested_too_deeply_is_a_usage_error_unless_it_is_wanted_as_text():
    deep = "[" * 5000
    with pytest.raises(UsageError, match="the value of any is nested too deeply"):
        read_arguments((f"any={deep}",))(SCHEMA)
    assert read_arguments((f"text={deep}",))(SCHEMA) == {"text": deep}


@pytest.mark.parametrize(
    ("data", "value"),
    [
        (b'{"a": "\xe6\x96\x87"}\n', "文"),
        (b'\xef\xbb\xbf{"a": "with a BOM"}', "with a BOM"),
        (b'{"a": "\\ud83d"}', "\ud83d"),
    ],
)
def test_standard_input_may_hold_any_json(data, value, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "ascii"))
    assert read_arguments(("-",))({}) == {"a": value}


@pytest.mark.parametrize("data", [b"", b"\xff\xfe\xfd", b"{", b"[" * 5000, b"[1]"])
def test_standard_input_that_holds_no_object_is_a_usage_error(data, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "ascii"))
    with pytest.raises(UsageError, match="the arguments "):
        read_arguments(("-",))
