"""The tree of errors is the one that its docstring draws, and every error tells what to do."""

import re

import pytest

from xzpipe import errors
from xzpipe.errors import CallError, ConfigError, ServerError, UsageError, XzpipeError


def test_the_drawn_tree_is_the_tree():
    drawn = re.findall(r"^ {4}([│├└─ ]*)(\w+Error) +exit (\d)", errors.__doc__, re.MULTILINE)
    by_depth: dict[int, str] = {}
    for branch, name, code in drawn:
        depth = len(branch) // 4
        by_depth[depth] = name
        kind = getattr(errors, name)
        assert kind.exit_code == int(code)
        assert kind.__base__.__name__ == by_depth.get(depth - 1, "Exception")
    defined = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert {name for _, name, _ in drawn} == {name for name in defined if name.endswith("Error")}


@pytest.mark.parametrize("kind", [XzpipeError, UsageError, ServerError, CallError])
def test_an_error_has_a_message_and_a_hint(kind):
    error = kind("it failed", "mend it")
    assert (str(error), error.message, error.hint) == ("it failed", "it failed", "mend it")
    assert kind("it failed").hint == ""


def test_a_config_error_holds_every_problem():
    error = ConfigError(["a: is wrong", "b: is wrong"], "look")
    assert error.problems == ("a: is wrong", "b: is wrong")
    assert (error.message, error.hint) == ("a: is wrong\nb: is wrong", "look")
