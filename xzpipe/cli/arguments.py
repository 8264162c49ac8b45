"""The arguments of a tool call, from the words of a command line. Raises `UsageError`."""

import json
import sys
from collections.abc import Callable
from functools import partial
from typing import Any

from xzpipe.errors import UsageError

_JSON_TYPES = {
    bool: {"boolean"},
    int: {"integer", "number"},
    float: {"number"},
    list: {"array"},
    dict: {"object"},
    type(None): {"null"},
}


def read_arguments(words: tuple[str, ...]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """One JSON object, `-` for one on standard input, or key=value pairs; a function from the
    tool's schema to the arguments.

    It waits for standard input, so it is not for an event loop.
    """
    if len(words) == 1 and (words[0] == "-" or words[0].lstrip().startswith("{")):
        given = _object(sys.stdin.buffer.read() if words[0] == "-" else words[0])
        return lambda _: given
    pairs = [word.partition("=") for word in words]
    for key, sign, _ in pairs:
        if not sign or not key:
            raise UsageError(
                f"expected key=value, got '{key}'", "Or one JSON object, or - for stdin"
            )
    return partial(_typed, {key: text for key, _, text in pairs})


def _object(text: str | bytes) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except ValueError as error:
        raise UsageError(f"the arguments are not JSON: {error}") from None
    except RecursionError:
        raise UsageError("the arguments are nested too deeply") from None
    if not isinstance(value, dict):
        raise UsageError("the arguments must be a JSON object")
    return value


def _typed(pairs: dict[str, str], schema: dict[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    known = properties if isinstance(properties, dict) else {}
    return {key: _value(key, text, _admitted(known.get(key))) for key, text in pairs.items()}


def _value(key: str, text: str, admitted: set[str]) -> Any:
    """The JSON that a text is; the text as it stands where the tool takes text, and no JSON of that
    type."""
    if admitted == {"string"}:
        return text
    try:
        value = json.loads(text)
    except ValueError:
        return text
    except RecursionError:
        raise UsageError(f"the value of {key} is nested too deeply") from None
    if "string" in admitted and not admitted & _JSON_TYPES.get(type(value), set()):
        return text
    return value


def _admitted(schema: object) -> set[str]:
    """The types that a property's schema names, in itself or in its alternatives."""
    if not isinstance(schema, dict):
        return set()
    found = _named(schema.get("type"))
    for alternatives in (schema.get("anyOf"), schema.get("oneOf")):
        for each in alternatives if isinstance(alternatives, list) else ():
            found |= _named(each.get("type")) if isinstance(each, dict) else set()
    return found


def _named(types: object) -> set[str]:
    return {
        each for each in (types if isinstance(types, list) else [types]) if isinstance(each, str)
    }
