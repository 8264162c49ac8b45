"""The structs of the config file: conversion, wording and the JSON Schema."""

import json
import math

import jsonschema
import msgspec
import pytest

from xzpipe.config.model import (
    Backoff,
    Named,
    Own,
    Server,
    Tools,
    at,
    convert,
    expected,
    found,
    keys,
    near,
    schema,
)
from xzpipe.core import hub


def problems_of(tree: dict, kind: type[msgspec.Struct], place: str = "here") -> list[str]:
    problems: list[str] = []
    convert(tree, kind, place, problems)
    return problems


def test_a_full_server_is_converted_field_by_field():
    problems: list[str] = []
    raw = {"command": "uvx", "args": ["a", 1, True], "env": {"A": 2}, "startTimeout": 5}
    server = convert(raw, Server, "s", problems)
    assert problems == []
    assert server == Server(command="uvx", args=["a", 1, True], env={"A": 2}, start_timeout=5.0)


def test_null_means_not_given():
    assert convert({"cwd": None, "args": None}, Server, "s", []) == Server()


@pytest.mark.parametrize(
    ("tree", "problem"),
    [
        ({"args": "x"}, "here.args: expected a list of strings, got a string"),
        ({"env": []}, "here.env: expected an object of strings, got a list"),
        ({"command": {}}, "here.command: expected a string, got an object"),
        ({"timeout": 0}, "here.timeout: expected seconds above 0, a year at most, got 0"),
        (
            {"timeout": ""},
            "here.timeout: expected seconds above 0, a year at most, got an empty string",
        ),
        ({"timeout": True}, "here.timeout: expected seconds above 0, a year at most, got true"),
        (
            {"startTimeout": math.inf},
            "here.startTimeout: expected seconds above 0, a year at most, got Infinity",
        ),
        (
            {"startTimeout": math.nan},
            "here.startTimeout: expected seconds above 0, a year at most, got NaN",
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
            {"backoff": {"initail": 2}},
            "xzpipe.backoff.initail: expected one of initial, maximum, resetAfter, "
            "found an unknown key; did you mean initial?",
        ),
        (
            {"maxMessageBytes": 1},
            "xzpipe.maxMessageBytes: expected a whole number, 64 KiB to 256 MiB, got 1",
        ),
        (
            {"maxMessageBytes": 1e6 + 0.5},
            "xzpipe.maxMessageBytes: expected a whole number, 64 KiB to 256 MiB, got 1000000.5",
        ),
        ({"endpoints": [1]}, "xzpipe.endpoints: expected an object of endpoints, got a list"),
        ({"endpoints": {"a.b": 1}}, "xzpipe.endpoints.a.b: expected an object, got 1"),
        (
            {"endpoints": {"home": {"urll": 1}}},
            f"xzpipe.endpoints.home.urll: expected one of {', '.join(keys(Named))}, "
            "found an unknown key; did you mean url?",
        ),
        (
            {"endpoints": {"home": {"url": 1}}},
            "xzpipe.endpoints.home.url: expected a string, got 1",
        ),
        ({"mode": "both"}, 'xzpipe.mode: expected "separate", "aggregate" or "auto", got a string'),
        ({"serverId": 1}, "xzpipe.serverId: expected true or false, got 1"),
        (
            {"resultLimit": -1},
            "xzpipe.resultLimit: expected a whole number, 512 or more, or 0 for none, got -1",
        ),
        ({"warnTools": 0}, "xzpipe.warnTools: expected a whole number, at least 1, got 0"),
        ({"headers": {"a": 1}}, "xzpipe.headers: expected an object of strings, got an object"),
        (
            {"tools": "a"},
            "xzpipe.tools: expected a list of globs, or an object of allow, deny, rename, "
            "describe, userOnly, got a string",
        ),
        (
            {"tools": {"alow": []}},
            "xzpipe.tools.alow: expected one of allow, deny, rename, describe, userOnly, "
            "found an unknown key; did you mean allow?",
        ),
        ({"tools": {"deny": "a"}}, "xzpipe.tools.deny: expected a list of strings, got a string"),
        ({"proxy": "on"}, 'xzpipe.proxy: expected "env", "none" or a proxy\'s URL, got a string'),
        (
            {"callTimeout": []},
            "xzpipe.callTimeout: expected seconds above 0, a year at most, got a list",
        ),
    ],
)
def test_wrong_settings_are_named_with_what_was_expected_and_found(tree, problem):
    assert problems_of(tree, Own, "xzpipe") == [problem]


def test_structs_in_structs_are_converted_with_null_as_not_given():
    tree = {
        "endpoints": {"home": {"url": "u", "tools": {"allow": None, "deny": ["a"]}}, "away": None},
        "backoff": {"initial": 2},
        "tools": ["a*"],
        "headers": None,
    }
    problems: list[str] = []
    assert convert(tree, Own, "", problems) == Own(
        endpoints={"home": Named(url="u", tools=Tools(deny=["a"])), "away": Named()},
        backoff=Backoff(initial=2.0),
        tools=["a*"],
    )
    assert problems == []


def test_what_is_wrong_inside_costs_nothing_else():
    problems: list[str] = []
    own = convert({"endpoints": {"home": {"url": 1, "token": "t"}}}, Own, "", problems)
    assert own == Own(endpoints={"home": Named(token="t")})
    assert len(problems) == 1


def test_what_is_no_object_is_refused():
    assert problems_of([], Own, "xzpipe") == ["xzpipe: expected an object, got a list"]


def test_every_wrong_field_is_a_problem_and_the_others_are_kept():
    problems: list[str] = []
    server = convert({"args": 1, "env": 2, "cwd": [], "command": "x"}, Server, "", problems)
    assert len(problems) == 3
    assert server == Server(command="x")


def test_a_message_may_be_as_large_as_the_hub_takes_unless_it_is_said():
    assert Own().max_message_bytes == hub.MAX_MESSAGE_BYTES


def test_a_known_key_is_near_itself():
    assert [near(key, keys(Server)) for key in keys(Server)] == list(keys(Server))
    assert near("environ", keys(Own)) is None


def test_a_proxy_may_be_a_url():
    assert convert({"proxy": "socks5://h:1"}, Own, "", []).proxy == "socks5://h:1"


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


FULL = {
    "mcpServers": {
        "calc": {"command": "x", "endpoint": "home", "tools": ["*"]},
        "time": {
            "command": "x",
            "tools": {
                "allow": ["a*"],
                "deny": ["ab"],
                "rename": {"a": "b"},
                "describe": {"a": "text"},
                "userOnly": ["ac"],
            },
        },
    },
    "xzpipe": {
        "mode": "auto",
        "serverId": False,
        "resultLimit": 0,
        "joinText": False,
        "inlineSchemas": False,
        "headers": {"X-Key": "${KEY}"},
        "proxy": "env",
        "tools": {"deny": []},
        "warnTools": 32,
        "warnListBytes": 24576,
        "endpoint": "wss://h/",
        "endpoints": {
            "home": {
                "url": "wss://h/",
                "servers": ["calc"],
                "mode": "separate",
                "resultLimit": 512,
            },
            "away": {"urlFile": "away.url", "tools": ["*"]},
            "other": {"token": "${TOKEN}", "proxy": "none"},
        },
    },
}


def test_the_schema_describes_everything():
    jsonschema.validate(FULL, schema())
    own = FULL["xzpipe"]
    assert convert(own, Own, "", []).endpoints.keys() == {"home", "away", "other"}
    for wrong in (
        {"mode": "both"},
        {"resultLimit": 511},
        {"resultLimit": -1},
        {"tools": {"alow": []}},
        {"tools": [1]},
        {"headers": {"a": 1}},
        {"proxy": "on"},
        {"warnTools": 0},
        {"endpoints": {"home": {"urll": "x"}}},
        {"endpoints": {"home": {"servers": "x"}}},
    ):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(FULL | {"xzpipe": own | wrong}, schema())


def test_the_schema_names_its_dialect_and_describes_its_fields():
    tree = schema()
    assert tree["$schema"].startswith("https://json-schema.org/")
    assert tree["title"] == "xzpipe config"
    assert "description" in tree["$defs"]["Server"]["properties"]["command"]
    assert tree["$defs"]["Server"]["properties"]["startTimeout"]["exclusiveMinimum"] == 0


def test_every_type_says_what_is_expected():
    for kind in (Server, Tools, Backoff, Named, Own):
        for each in msgspec.structs.fields(kind):
            assert expected(each.type), each.name
