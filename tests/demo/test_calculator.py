"""The bundled calculator: its arithmetic, then its protocol."""

import json
import math
import sys
import warnings
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.servers import talk
from tests.servers.session import text, value
from xzpipe.demo.calculator import MAX_BITS, MAX_LENGTH, evaluate

ROOT = Path(__file__).parents[2]
CALCULATOR = [sys.executable, "-m", "xzpipe.demo.calculator"]


@pytest.mark.parametrize(
    ("expression", "result"),
    [
        ("25 * 17", 425),
        ("2 ** 10", 1024),
        ("sqrt(144)", 12.0),
        (" 1 + 2\n", 3),
        ("-(+3)", -3),
        ("7 / 2", 3.5),
        ("2 ** -1", 0.5),
        ("log(8, 2)", 3.0),
        ("abs(-5) + cos(0) + sin(0) + tan(0)", 6.0),
        ("0 ** 0", 1),
        ("-" * (MAX_LENGTH - 1) + "1", -1),
        ("+".join(["1"] * (MAX_LENGTH // 2)), MAX_LENGTH // 2),
        ("(-1) ** 99999", -1),
        ("12345678901234567890 * 10", 123456789012345678900),
    ],
)
def test_it_computes(expression, result):
    found = evaluate(expression)
    assert found == result
    assert type(found) is type(result)


@pytest.mark.parametrize(
    "expression",
    [
        "9 ** 9 ** 9",
        "9 ** 9 ** 9 ** 9",
        "2 ** 100000000",
        f"2 ** {MAX_BITS + 1}",
        "(10 ** 1000) ** (10 ** 1000)",
        "*".join(["10 ** 400"] * 20),
        "9" * (MAX_LENGTH + 1),
        "9.0 ** 9999",
        "1e308 * 10",
        "1e999",
        "sqrt(10 ** 1000)",
        "10 ** 1000 / 3.0",
    ],
)
@pytest.mark.timeout(2)
def test_what_is_huge_is_refused_at_once(expression):
    with pytest.raises(ValueError, match=r"too large|longer than"):
        evaluate(expression)


@pytest.mark.parametrize(
    "expression",
    [
        "", "x", "sqrt", "sqrt()", "sqrt(1, 2)", "sqrt(x=1)", "sqrt(*[1])", "sqrt(-1)", "log(0)",
        "1 / 0", "0 ** -1", "(-8) ** 0.5", "1j", "True", "None", "'a'", "'a' * 9", "b'a'", "[1]",
        "[i for i in (1,)]", "{1: 2}", "(1, 2)", "lambda: 1", "(lambda: 1)()", "1 if 1 else 2",
        "1 < 2", "1 and 2", "not 1", "~1", "1 // 2", "1 % 2", "1 << 9", "1 @ 2", "x := 1", "...",
        "(1).real", "math.pi", "__import__('os')", "eval('1')", "f'{1}'", "1; 2", "a = 1", "\x00",
        "\ud800", "(" * 400, "二加二",
    ],
)  # fmt: skip
def test_what_is_no_arithmetic_is_refused_in_a_sentence(expression):
    with pytest.raises(ValueError, match=r"^[A-Za-z].*\.$"):
        evaluate(expression)


ARITHMETIC = st.text(alphabet="0123456789.+-*/() esqrtloginca,j_'\"", max_size=60)


@given(st.text() | ARITHMETIC)
def test_any_text_gives_a_number_or_a_reason(expression):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", (SyntaxWarning, DeprecationWarning))
        try:
            found = evaluate(expression)
        except ValueError as error:
            assert str(error)
        else:
            assert math.isfinite(found) if type(found) is float else type(found) is int


@pytest.mark.anyio
async def test_it_speaks_mcp():
    async with talk(CALCULATOR, cwd=ROOT) as server:
        assert list(await server.handshake()) == ["calculator"]
        assert server.initialized["protocolVersion"] == "2024-11-05"
        await server.ping()
        answer = await server.call("calculator", {"expression": "25 * 17"})
        assert text(answer) == '{"success": true, "result": 425}'
        answer = await server.call("calculator", {"expression": "9 ** 9 ** 9"})
        assert value(answer) == {"success": False, "error": "The result is too large."}


@pytest.mark.anyio
async def test_wrong_requests_get_the_right_errors():
    async with talk(CALCULATOR, cwd=ROOT) as server:
        assert (await server.request("resources/list"))["error"]["code"] == -32601
        assert (await server.call("abacus"))["error"]["code"] == -32602
        assert (await server.call("calculator", {"expression": 1}))["error"]["code"] == -32602
        for line, code in (("{", -32700), ("[" * 9999, -32700), ("[]", -32600), ("{}", -32600)):
            await server.send(line)
            error = await server.receive()
            assert (error["id"], error["error"]["code"]) == (None, code)


@pytest.mark.anyio
async def test_it_answers_no_notification_and_no_response_and_leaves_at_the_end_of_stdin():
    async with talk(CALCULATOR, cwd=ROOT) as server:
        await server.send("")
        await server.notify("notifications/unheard-of")
        await server.send({"jsonrpc": "2.0", "id": 1, "result": {}})
        await server.ping()
        assert server.inbox == []
        server.process.stdin.close()
        assert await server.exited() == 0


def test_the_bundled_config_names_it():
    config = json.loads((ROOT / "xzpipe/demo/mcp_config.json").read_text())
    command = config["mcpServers"]["calculator"]
    assert [command["command"], *command["args"]] == ["${PYTHON:-python}", *CALCULATOR[1:]]
