"""The structs of the config file: conversion, wording and the JSON Schema."""

import json
import math

import jsonschema
import msgspec
import pytest

from xzpipe.config import model
from xzpipe.config.model import Own, Server, Written, at, convert, found, schema


def problems_of(tree: dict, kind: type[msgspec.Struct], place: str = "here") -> list[str]:
    problems: list[str] = []
    convert(tree, kind, place, problems)
    return problems


def test_a_full_server_is_converted_field_by_field():
    problems: list[str] = []
    raw = {"command": "uvx", "args": ["a", 1, True], "env": {"A": 2}, "startTimeout": 5}
    server = convert(raw, Server, "s", problems)
    assert problems == []
    assert server == Server(command="uvx", args=("a", 1, True), env={"A": 2}, start_timeout=5.0)


def test_null_means_not_given():
    assert convert({"cwd": None, "args": None}, Server, "s", []) == Server()


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"args": "x"}, "here.args: expected a list of strings, got a string"),
        ({"args": [[]]}, "here.args[0]: expected a string, a number, true or false, got a list"),
        ({"env": []}, "here.env: expected an object of strings, got a list"),
        (
            {"env": {"A": None}},
            "here.env.A: expected a string, a number, true or false, got null",
        ),
        ({"command": {}}, "here.command: expected a string, got an object"),
        ({"timeout": 0}, "here.timeout: expected seconds above 0, a year at most, got 0"),
        (
            {"timeout": ""},
            "here.timeout: expected seconds above 0, a year at most, got an empty string",
        ),
        ({"timeout": True}, "here.timeout: expected seconds above 0, a year at most, got true"),
        (
            {"startTimeout": Written("1e999")},
            "here.startTimeout: expected seconds above 0, a year at most, got 1e999",
        ),
        (
            {"startTimeout": math.nan},
            "here.startTimeout: expected seconds above 0, a year at most, got nan",
        ),
        ({"disabled": "yes"}, "here.disabled: expected true or false, got a string"),
    ],
)
def test_a_wrong_field_is_named_with_what_was_expected_and_found(tree, problem):
    assert problems_of(tree, Server) == [problem]


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"backoff": 3}, "xzpipe.backoff: expected an object, got 3"),
        (
            {"backoff": {"initial": 5, "maximum": 2}},
            "xzpipe.backoff: expected initial to be at most maximum, got it above",
        ),
        (
            {"backoff": {"max": 2}},
            "xzpipe.backoff.max: expected one of initial, maximum, resetAfter, "
            "found an unknown key",
        ),
        (
            {"maxMessageBytes": 1},
            "xzpipe.maxMessageBytes: expected a whole number, 64 KiB to 256 MiB, got 1",
        ),
        (
            {"maxMessageBytes": Written("1e6")},
            "xzpipe.maxMessageBytes: expected a whole number, 64 KiB to 256 MiB, got 1e6",
        ),
        ({"proxy": "on"}, 'xzpipe.proxy: expected "env", "none" or a proxy\'s URL, got a string'),
        (
            {"callTimeout": []},
            "xzpipe.callTimeout: expected seconds above 0, a year at most, got a list",
        ),
    ],
)
def test_wrong_settings_are_named_with_what_was_expected_and_found(tree, problem):
    assert problems_of(tree, Own, "xzpipe") == [problem]


def test_two_wrong_fields_give_two_problems():
    assert len(problems_of({"args": 1, "env": 2, "cwd": []}, Server)) == 3


def test_a_proxy_may_be_a_url():
    assert convert({"proxy": "socks5://h:1"}, Own, "", []).proxy == "socks5://h:1"


def test_a_number_remembers_how_it_was_written():
    number = Written("3.10")
    assert str(number) == "3.10"
    assert number == 3.1
    problems: list[str] = []
    assert convert({"timeout": number}, Server, "", problems).timeout == 3.1
    assert problems == []


def test_places_are_safe_to_print():
    assert at("", "a") == "a"
    assert at("a", "日本.b") == "a.日本.b"
    assert at("a", "\x1b[2J") == r"a.'\x1b[2J'"
    assert at("a", "") == "a.''"
    assert at("a", "\ud800") == r"a.'\ud800'"


def test_a_long_number_is_shown_in_part():
    assert len(found(10**100)) == 40


def test_the_schema_accepts_the_example_and_refuses_a_wrong_config(pytestconfig):
    example = json.loads((pytestconfig.rootpath / "mcp_config.json.example").read_text())
    jsonschema.Draft202012Validator.check_schema(schema())
    jsonschema.validate(example, schema())
    example["xzpipe"]["unknown"] = 1
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(example, schema())


def test_the_schema_names_its_dialect_and_describes_its_fields():
    tree = schema()
    assert tree["$schema"].startswith("https://json-schema.org/")
    assert tree["title"] == "xzpipe config"
    assert "description" in tree["$defs"]["Server"]["properties"]["command"]
    assert tree["$defs"]["Server"]["properties"]["startTimeout"]["exclusiveMinimum"] == 0


def test_every_description_says_what_is_expected():
    for kind in (model.Server, model.Backoff, model.Own, model.File):
        for each in msgspec.structs.fields(kind):
            assert model._expected(each.type), each.name
