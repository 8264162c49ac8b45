"""JSON texts for property tests: exotic numbers and strings, any white space, any order."""

import json

from hypothesis import strategies as st

LONE = r'"a\ud800b"'  # half an emoji: legal JSON, and more than msgspec takes


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
