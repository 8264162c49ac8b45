import json
import tracemalloc

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.core.json_values import NAMES, VALUES, exact, objects
from xzpipe.core.rawjson import Raw
from xzpipe.core.schemas import MAX_SCHEMA, inlined

NODE = {
    "type": "object",
    "properties": {"children": {"type": "array", "items": {"$ref": "#/$defs/Node"}}},
}


def opened(schema):
    """A schema with its references replaced, parsed."""
    return json.loads(inlined(json.dumps(schema).encode()))


def ref(name, **beside):
    return {"$ref": f"#/$defs/{name}", **beside}


# What is replaced.


def test_a_schema_as_pydantic_writes_it():
    size = {"enum": ["small", "large"], "title": "Size", "type": "string"}
    address = {
        "properties": {"city": {"type": "string"}, "size": ref("Size", default="small")},
        "required": ["city"],
        "type": "object",
    }
    schema = {
        "$defs": {"Address": address, "Size": size, "Unused": {"type": "null"}},
        "properties": {
            "home": ref("Address", description="where"),
            "work": {"anyOf": [ref("Address"), {"type": "null"}], "default": None},
            "by_name": {"additionalProperties": ref("Size"), "type": "object"},
            "pair": {"prefixItems": [ref("Size"), True], "type": "array"},
        },
        "required": ["home"],
        "type": "object",
    }
    plain = {
        "properties": {"city": {"type": "string"}, "size": size | {"default": "small"}},
        "required": ["city"],
        "type": "object",
    }
    assert opened(schema) == {
        "properties": {
            "home": plain | {"description": "where"},
            "work": {"anyOf": [plain, {"type": "null"}], "default": None},
            "by_name": {"additionalProperties": size, "type": "object"},
            "pair": {"prefixItems": [size, True], "type": "array"},
        },
        "required": ["home"],
        "type": "object",
    }


@pytest.mark.parametrize(
    ("reference", "meant"),
    [
        ("#/definitions/a", {"title": "a"}),
        ("#/definitions/a~1b", {"title": "a/b"}),
        ("#/definitions/a~01b", {"title": "a~1b"}),
        ("#/definitions/a%20b", {"title": "a b"}),
        ("#/definitions/%E5%B0%8F", {"title": "小"}),
        ("#/definitions/小", {"title": "小"}),
        ("#/definitions/a%25", {"title": "a%"}),
        ("#/definitions/", {"title": "empty"}),
        ("#/definitions/a/b/definitions/c", {"title": "nested"}),
        ("#/definitions/list/anyOf/1", {"title": "second"}),
        ("#/properties/y", {"title": "y"}),
        ("#/properties/properties", {"title": "a property of that name"}),
        ("#/definitions/yes", True),
        ("#/definitions/no", False),
    ],
)
def test_a_pointer_may_lead_anywhere_in_the_schema(reference, meant):
    schema = {
        "definitions": {
            "a": {"title": "a"},
            "a/b": {"title": "a/b"},
            "a~1b": {"title": "a~1b"},
            "a b": {"title": "a b"},
            "小": {"title": "小"},
            "a%": {"title": "a%"},
            "": {"title": "empty"},
            "list": {"anyOf": [{}, {"title": "second"}]},
            "yes": True,
            "no": False,
        },
        "properties": {
            "x": {"$ref": reference},
            "y": {"title": "y"},
            "properties": {"title": "a property of that name"},
        },
    }
    nested = {"b": {"definitions": {"c": {"title": "nested"}}}}
    schema["definitions"]["a"] |= nested if "nested" in str(meant) else {}
    assert opened(schema) == {"properties": schema["properties"] | {"x": meant}}


def test_references_of_references_are_followed_and_what_stands_nearer_wins():
    schema = {
        "$defs": {
            "A": ref("B", title="A", type="string"),
            "B": ref("C", title="B", maxLength=2),
            "C": {"title": "C", "maxLength": 1, "minLength": 1},
        },
        "items": ref("A", title="here"),
    }
    expected = {"title": "here", "type": "string", "maxLength": 2, "minLength": 1}
    assert opened(schema) == {"items": expected}


def test_a_boolean_with_something_beside_the_reference_is_made_an_object():
    schema = {"$defs": {"Y": True, "N": False}, "anyOf": [ref("Y", title="y"), ref("N", title="n")]}
    assert opened(schema) == {"anyOf": [{"title": "y"}, {"not": {}, "title": "n"}]}


def test_the_root_itself_may_be_a_reference():
    schema = {"$ref": "#/$defs/A", "$schema": "s", "$defs": {"A": {"type": "object"}}}
    assert opened(schema) == {"type": "object", "$schema": "s"}


def test_definitions_within_definitions_do_not_come_along():
    inner = {"$defs": {"B": {"title": "B"}}, "items": {"$ref": "#/$defs/A/$defs/B"}}
    assert opened({"$defs": {"A": inner}, "not": ref("A")}) == {"not": {"items": {"title": "B"}}}


# What is left alone.


def test_a_tree_keeps_the_references_to_itself_and_what_they_need():
    schema = {
        "$defs": {"Node": NODE, "Leaf": {"type": "string"}},
        "properties": {"tree": ref("Node"), "leaf": ref("Leaf")},
    }
    assert opened(schema) == {
        "$defs": {"Node": NODE},
        "properties": {"tree": NODE, "leaf": {"type": "string"}},
    }


def test_a_tree_at_the_root_shows_its_properties():
    assert opened({"$defs": {"Node": NODE}, **ref("Node")}) == {"$defs": {"Node": NODE}, **NODE}


def test_types_that_need_each_other_stay_and_what_only_they_need_is_replaced_in_them():
    schema = {
        "$defs": {
            "And": {"items": ref("Expression")},
            "Not": {"not": ref("Expression"), "title": "Not"},
            "Expression": {"anyOf": [ref("And"), ref("Not"), ref("Name")]},
            "Name": {"type": "string"},
            "User": {"properties": {"name": ref("Name"), "filter": ref("Not")}},
        },
        "items": ref("User"),
    }
    kept = {
        "And": {"items": ref("Expression")},
        "Not": {"not": ref("Expression"), "title": "Not"},
        "Expression": {"anyOf": [ref("And"), ref("Not"), {"type": "string"}]},
    }
    user = {"properties": {"name": {"type": "string"}, "filter": kept["Not"]}}
    assert opened(schema) == {"$defs": kept, "items": user}


def test_a_nested_definition_that_a_cycle_needs_stays_where_it_is():
    inner = {"items": {"$ref": "#/$defs/A/$defs/B"}}
    outer = {"title": "A", "not": ref("D"), "anyOf": [ref("Node")]}
    schema = {
        "$defs": {
            "A": {"$defs": {"B": inner, "C": {}}, **outer},
            "D": {"title": "D"},
            "Node": NODE,
        },
        "properties": {"a": ref("A"), "b": {"$ref": "#/$defs/A/$defs/B"}},
    }
    outer |= {"not": {"title": "D"}, "anyOf": [NODE]}
    assert opened(schema) == {
        "$defs": {"A": {"$defs": {"B": inner}, **outer}, "Node": NODE},
        "properties": {"a": outer, "b": inner},
    }


def test_what_holds_a_nested_definition_that_stays_keeps_what_it_needs_itself():
    inner = {"items": {"$ref": "#/$defs/A/$defs/B"}}
    defs = {"A": {"$defs": {"B": inner}, "not": NODE}, "Node": NODE}
    schema = {"$defs": defs | {"A": defs["A"] | {"not": ref("Node")}}, **inner}
    assert opened(schema) == {"$defs": defs, "items": inner}


def test_a_long_way_round_is_a_cycle_too():
    last = {"anyOf": [ref("A"), {"type": "null"}]}
    defs = {"A": {"items": ref("B")}, "B": {"items": ref("C")}, "C": last}
    schema = {"$defs": defs | {"C": {"anyOf": [ref("A"), ref("D")]}, "D": {"type": "null"}}}
    assert opened(schema | {"not": ref("A")}) == {"$defs": defs, "not": defs["A"]}


@pytest.mark.parametrize(
    "schema",
    [
        {"properties": {"child": {"$ref": "#"}}},
        {"properties": {"a": {"items": {"$ref": "#/properties/b"}}, "b": {"$ref": "#"}}},
        {"$defs": {"A": ref("A")}, **ref("A", title="endless")},
        {"items": {"$ref": "https://example.com/s#/$defs/A"}, "$defs": {"A": {}}},
        {"items": {"$ref": "#anchor"}, "$defs": {"A": {"$anchor": "anchor"}}},
        {"items": ref("Gone"), "$defs": {"A": {}}},
        {"items": {"$ref": "#/anyOf/01"}, "anyOf": [{}, {}]},
        {"items": {"$ref": "#/anyOf/2"}, "anyOf": [{}, {}]},
        {"items": {"$ref": "#/title"}, "title": "a"},
        {"items": {"$ref": "#/default"}, "default": {"type": "string"}},
        {"items": {"$ref": "#/$defs"}, "$defs": {"A": {}}},
        {"items": {"$ref": "#/title/a"}, "title": "a"},
        {"items": {"$ref": 5}},
        {"items": {"$ref": {"type": "string"}}},
        {"items": {"$ref": "/$defs/A"}, "$defs": {"A": {}}},
        {
            "items": {"$id": "x", "$defs": {"A": {"type": "null"}}, "not": ref("A")},
            "$defs": {"A": {}},
            "not": {"$ref": "x#/$defs/A"},
        },
        {"properties": {"$ref": "#/items"}, "items": {}},
        {"properties": {"$ref": {"type": "string"}, "$defs": {"type": "object"}}},
        {"dependentSchemas": {"$ref": {"$defs": {}, "properties": {"$id": {}}}}},
        {name: {"$ref": "#/$defs/A", "$defs": {"A": 1}} for name in ("default", "const")},
        {name: [{"$ref": "#"}, {"$defs": {}}] for name in ("enum", "examples")},
    ],
)
def test_what_cannot_be_replaced_stays(schema):
    if "dependentSchemas" in schema:
        del schema["dependentSchemas"]["$ref"]["$defs"]
    assert opened(schema) == schema


def test_while_a_reference_stays_that_may_mean_any_definition_all_of_them_stay():
    schema = {"$defs": {"A": ref("B"), "B": {}}, "items": ref("A"), "not": {"$dynamicRef": "#b"}}
    assert opened(schema) == schema | {"$defs": {"A": {}, "B": {}}, "items": {}}


def test_a_reference_below_default_is_a_value_but_one_below_a_property_of_that_name_is_none():
    schema = {
        "$defs": {"A": {"type": "string"}},
        "default": ref("A"),
        "properties": {"default": ref("A"), "$ref": ref("A"), "$defs": ref("A")},
        "patternProperties": {"enum": ref("A")},
        "dependentSchemas": {"const": ref("A")},
        "dependencies": {"examples": ref("A"), "default": ["a"]},
    }
    string = {"type": "string"}
    assert opened(schema) == {
        "default": ref("A"),
        "properties": {"default": string, "$ref": string, "$defs": string},
        "patternProperties": {"enum": string},
        "dependentSchemas": {"const": string},
        "dependencies": {"examples": string, "default": ["a"]},
    }


@pytest.mark.parametrize("kind", [bytes, Raw])
@pytest.mark.parametrize(
    "schema",
    [
        b'{ "$defs": {"A": {}}, "type": "object" }',
        b'["$ref"]',
        b'"$ref"',
        b'{"$ref":',
        b'{"items":{"$ref":"#/$defs/A"},"$defs":{"A":' + b"[" * 9000 + b"]" * 9000 + b"}}",
        b'{"items":{"$ref":"#/$defs/A"},"$defs":{"A":' + b'{"not":' * 400 + b"{}" + b"}" * 402,
        b'{"items":{"$ref":"#/$defs/A"},"$defs":{"A":{},"B":"%b"}}' % (b"x" * MAX_SCHEMA),
        json.dumps({"$defs": {n: ref(n + 1) for n in range(3000)}, **ref(0)}).encode(),
    ],
    ids=["none", "array", "string", "broken", "deeper", "deep", "long", "chain"],
)
def test_what_has_no_reference_or_is_too_much_is_the_same_object(kind, schema):
    given = kind(schema)
    assert inlined(given) is given


def test_numbers_and_strings_stay_as_they_are_written():
    schema = (
        b'{"$defs":{"A":{"minimum":1.0,"maximum":1e400,"multipleOf":12345678901234567890123,'
        b'"default":{ "\\u0061":-0 },"title":"\\ud800\\/\\u5c0f"}},'
        b'"\\ud800":{"$ref":"#/$defs/A","x":-1E+2}}'
    )
    assert inlined(schema) == (
        b'{"\\ud800":{"minimum":1.0,"maximum":1e400,"multipleOf":12345678901234567890123,'
        b'"default":{ "\\u0061":-0 },"title":"\\ud800\\/\\u5c0f","x":-1E+2}}'
    )


# Bounds.


def doubling(count, end):
    links = {f"L{n}": {"allOf": [ref(f"L{n - 1}")] * 2} for n in range(1, count)}
    return {"$defs": {"L0": end} | links, "items": ref(f"L{count - 1}")}


@pytest.mark.parametrize("end", [{}, {"title": "x" * 1000}, {"enum": ["x" * 1000]}, True])
def test_references_that_double_and_double_are_left_alone_and_not_followed_to_the_end(end):
    schema = json.dumps(doubling(60, end)).encode()
    assert inlined(schema) is schema


@pytest.mark.parametrize(
    ("count", "end"),
    [(11, {"title": "x" * 100_000}), (11, {"x" * 100_000: {}}), (7, {"x": [[]] * 30_000})],
    ids=["long string", "long name", "many things"],
)
def test_what_would_grow_too_large_is_not_built_in_memory_first(count, end):
    schema = json.dumps(doubling(count, end)).encode()
    tracemalloc.start()
    try:
        assert inlined(schema) is schema
        assert tracemalloc.get_traced_memory()[1] < 50 * 2**20
    finally:
        tracemalloc.stop()


def test_what_stays_small_enough_is_replaced():
    found = inlined(json.dumps(doubling(9, {"title": "x" * 900})).encode())
    assert found.count(b"x" * 900) == 256
    assert MAX_SCHEMA * 0.9 < len(found) <= MAX_SCHEMA
    schema = json.dumps(doubling(9, {"title": "x" * 1024})).encode()
    assert inlined(schema) is schema


def test_many_small_things_grow_too_large_as_well():
    many = {"properties": {n: {} for n in range(200)}}
    schema = json.dumps(doubling(9, many)).encode()
    assert inlined(schema) is schema


def test_types_that_all_need_each_other_do_not_multiply():
    names = [f"T{n}" for n in range(60)]
    schema = {
        "$defs": {name: {"anyOf": [ref(each) for each in names]} for name in names},
        "items": ref("T7"),
    }
    assert opened(schema) == schema | {"items": schema["$defs"]["T7"]}


# Any schema.

DEFINED = ["A", "B", "C", "D"]
LEAVES = st.one_of(
    st.sampled_from([*DEFINED, "Gone"]).map(ref),
    st.builds(lambda name: ref(name, title="beside"), st.sampled_from(DEFINED)),
    st.sampled_from([True, {}, {"type": "string"}, {"default": ref("A")}]),
)
SCHEMAS = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.dictionaries(st.sampled_from(["$ref", "$defs", "x"]), inner, max_size=3).map(
            lambda found: {"properties": found}
        ),
        st.lists(inner, max_size=3).map(lambda found: {"anyOf": found}),
        inner.map(lambda found: {"items": found}),
    ),
    max_leaves=5,
)
WHOLE = st.builds(
    lambda root, definitions: {**root, "$defs": definitions},
    SCHEMAS.filter(lambda each: each is not True),
    st.fixed_dictionaries(dict.fromkeys(DEFINED, SCHEMAS)),
).filter(lambda each: '"$ref"' in json.dumps(each))


def references(node):
    """The names of the definitions that a schema refers to, those in its own definitions aside."""
    if node is True:
        return set()
    found = {node["$ref"].removeprefix("#/$defs/")} if "$ref" in node else set()
    inner = [*node.get("properties", {}).values(), *node.get("anyOf", [])]
    inner += [node["items"]] if "items" in node else []
    return found.union(*map(references, inner))


def reached(definitions, names):
    """What can be reached from these names, themselves included."""
    found = set()
    todo = list(names)
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            todo += references(definitions.get(name, True))
    return found


@settings(max_examples=300)
@given(WHOLE)
def test_of_any_schema_only_references_in_cycles_or_to_nothing_remain(schema):
    definitions = schema["$defs"]
    found = opened(schema)
    kept = {} if found is True else found.get("$defs", {})
    left = references(found).union(*map(references, kept.values()))
    for name in left & set(DEFINED):
        assert name in reached(definitions, references(definitions[name]))
        assert name in kept
    if "Gone" in reached(definitions, references(schema)):
        assert set(kept) == set(DEFINED)
    else:
        assert set(kept) == reached(kept, references(found))


def unfolded(node, definitions, depth, followed=()):
    """A schema with every reference replaced, down to a depth."""
    if node is True or depth == 0:
        return True
    found = {key: each for key, each in node.items() if key not in ("$ref", "$defs")}
    below = [definitions, depth - 1]
    if "properties" in found:
        found["properties"] = {k: unfolded(v, *below) for k, v in node["properties"].items()}
    if "anyOf" in found:
        found["anyOf"] = [unfolded(each, *below) for each in node["anyOf"]]
    if "items" in found:
        found["items"] = unfolded(node["items"], *below)
    if "$ref" not in node:
        return found
    name = node["$ref"].removeprefix("#/$defs/")
    if name not in definitions or name in followed:
        return {"$ref": "nowhere"} | found
    meant = unfolded(definitions[name], definitions, depth, (*followed, name))
    return meant if not found else found if meant is True else meant | found


@settings(max_examples=300)
@given(WHOLE)
def test_any_schema_means_what_it_meant(schema):
    found = opened(schema)
    meant = unfolded(schema, schema["$defs"], 5)
    assert unfolded(found, {} if found is True else found.get("$defs", {}), 5) == meant


@given(
    objects(NAMES.filter(lambda name: name != "$id"), VALUES),
    objects(st.sampled_from(["properties", "$defs", "enum", "not"]), VALUES),
)
def test_any_json_survives(meant, other):
    schema = f'{{"x":{meant},"items":{other},"anyOf":[{{"$ref":"#/x"}}]}}'.encode()
    found, before = exact(inlined(schema)), exact(schema)
    assert found["anyOf"] == [found["x"]] == [before["x"]]
    found["items"].pop("$defs", None)
    before["items"].pop("$defs", None)
    assert found["items"] == before["items"]
