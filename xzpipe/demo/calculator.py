"""A calculator MCP server, in the standard library alone: `python -m xzpipe.demo.calculator`.

`evaluate` is pure. The rest speaks MCP on stdio: one JSON-RPC message per line, nothing else.
"""

import ast
import json
import math
import operator
import sys
from collections.abc import Callable
from typing import Any

Number = int | float

MAX_LENGTH = 500  # characters; a spoken sum is shorter, and the parser's recursion stays bounded
MAX_BITS = 4096  # of an int: 1,233 digits, which Python still prints (its own limit is 4,300)

OPERATORS: dict[type[ast.AST], Callable[..., Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda base, exponent: power(base, exponent),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "log": math.log,
    "abs": abs,
}


def evaluate(expression: str) -> Number:
    """The value of an arithmetic expression; ints stay ints. ValueError says why it has none."""
    if len(expression) > MAX_LENGTH:
        raise ValueError(f"The expression is longer than {MAX_LENGTH} characters.")
    try:
        return value_of(parse(expression))
    except (RecursionError, MemoryError):
        raise ValueError("The expression is nested too deeply.") from None
    except ZeroDivisionError:
        raise ValueError("Division by zero.") from None
    except OverflowError:
        raise ValueError("The result is too large.") from None


def parse(expression: str) -> ast.expr:
    try:
        return ast.parse(expression.strip(), mode="eval").body
    except (SyntaxError, ValueError):  # ValueError: NUL, a lone surrogate
        raise ValueError("This is not an arithmetic expression.") from None


def value_of(node: ast.AST) -> Number:
    match node:
        case ast.Constant(value=value):
            return checked(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return checked(OPERATORS[type(op)](value_of(left), value_of(right)))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return checked(OPERATORS[type(op)](value_of(operand)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return checked(call(name, [value_of(argument) for argument in args]))
    raise ValueError(f"Only numbers, + - * / **, and {', '.join(FUNCTIONS)} are allowed.")


def call(name: str, arguments: list[Number]) -> Any:
    try:
        return FUNCTIONS[name](*arguments)
    except TypeError:
        raise ValueError(f"{name} does not take {len(arguments)} numbers.") from None
    except ValueError:
        raise ValueError(f"{name} has no value there.") from None


def power(base: Number, exponent: Number) -> Any:
    """base ** exponent, refused before it is computed if it would be huge."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if exponent > MAX_BITS or math.log2(abs(base)) * exponent > MAX_BITS:
            raise OverflowError
    return base**exponent


def checked(value: object) -> Number:
    """The value, if it is a number that JSON can hold and a person can bear."""
    if type(value) is int and value.bit_length() > MAX_BITS:
        raise OverflowError
    if type(value) is float and not math.isfinite(value):
        raise OverflowError
    if type(value) is int or type(value) is float:
        return value
    raise ValueError("Only real numbers are allowed.")


TOOL = {
    "name": "calculator",
    "description": (
        "Evaluates a mathematical expression. Use it for every calculation. "
        "Supports +, -, *, /, ** and sqrt, sin, cos, tan, log, abs. "
        'Examples: "25 * 17", "sqrt(144)", "2 ** 10".'
    ),
    "inputSchema": {
        "type": "object",
        "properties": {"expression": {"type": "string"}},
        "required": ["expression"],
    },
}
SERVER = {
    "protocolVersion": "2024-11-05",
    "capabilities": {"tools": {}},
    "serverInfo": {"name": "calculator", "version": "1.0"},
}


class Refused(Exception):
    """A request that is answered with a JSON-RPC error: code, message."""


def calculate(expression: str) -> dict[str, Any]:
    try:
        return {"success": True, "result": evaluate(expression)}
    except ValueError as error:
        return {"success": False, "error": str(error)}


def call_tool(params: Any) -> dict[str, Any]:
    match params:
        case {"name": "calculator", "arguments": {"expression": str(expression)}}:
            text = json.dumps(calculate(expression))
            return {"content": [{"type": "text", "text": text}], "isError": False}
        case {"name": "calculator"}:
            raise Refused(-32602, "calculator takes one string, expression")
    raise Refused(-32602, "Unknown tool")


def result(method: str, params: Any) -> dict[str, Any]:
    match method:
        case "initialize":
            return SERVER
        case "ping":
            return {}
        case "tools/list":
            return {"tools": [TOOL]}
        case "tools/call":
            return call_tool(params)
    raise Refused(-32601, "Method not found")


def answer(line: bytes) -> dict[str, Any] | None:
    """The response to one line; None if it asks for none."""
    try:
        message = json.loads(line)
    except (ValueError, RecursionError):
        return failure(None, -32700, "Parse error")
    match message:
        case {"method": str(method), "id": id}:
            try:
                return {"jsonrpc": "2.0", "id": id, "result": result(method, message.get("params"))}
            except Refused as refused:
                return failure(id, *refused.args)
        case {"method": _} | {"result": _} | {"error": _}:
            return None
    return failure(None, -32600, "Invalid request")


def failure(id: Any, code: int, message: str) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message}}


def main() -> None:
    sys.stderr.write("calculator: ready\n")
    for line in sys.stdin.buffer:
        response = answer(line) if line.strip() else None
        if response is not None:
            sys.stdout.buffer.write(json.dumps(response).encode() + b"\n")
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
