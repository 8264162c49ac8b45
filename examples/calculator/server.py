"""A calculator for your voice assistant: "What is 25 times 17?" """

import ast
import math
import operator

from fastmcp import FastMCP

MAX_LENGTH = 500  # characters
MAX_BITS = 4096  # of an int: 1,233 digits

OPERATORS = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: lambda base, exponent: power(base, exponent),
    ast.USub: operator.neg,
    ast.UAdd: operator.pos,
}
FUNCTIONS = {
    "sqrt": math.sqrt,
    "sin": math.sin,
    "cos": math.cos,
    "tan": math.tan,
    "log": math.log,
    "abs": abs,
}

mcp = FastMCP("Calculator")


@mcp.tool()
def calculator(expression: str) -> dict:
    """
    Safely evaluate mathematical expressions.
    Supports: +, -, *, /, **, and math functions (sqrt, sin, cos, tan, log, abs)

    Examples:
    - "25 * 17"
    - "sqrt(144)"
    - "2 ** 10"
    """
    try:
        return {"success": True, "result": evaluate(expression)}
    except (ValueError, TypeError, ArithmeticError, RecursionError, MemoryError) as error:
        return {"success": False, "error": str(error) or "The expression is nested too deeply"}
    except SyntaxError:
        return {"success": False, "error": "This is not an arithmetic expression"}


def evaluate(expression: str) -> int | float:
    """Walk the syntax tree and compute only what is listed above: nothing is ever executed."""
    if len(expression) > MAX_LENGTH:
        raise ValueError("The expression is too long")
    return value_of(ast.parse(expression.strip(), mode="eval").body)


def value_of(node: ast.AST) -> int | float:
    match node:
        case ast.Constant(value=value):
            return checked(value)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in OPERATORS:
            return checked(OPERATORS[type(op)](value_of(left), value_of(right)))
        case ast.UnaryOp(op=op, operand=operand) if type(op) in OPERATORS:
            return checked(OPERATORS[type(op)](value_of(operand)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in FUNCTIONS:
            return checked(FUNCTIONS[name](*[value_of(argument) for argument in args]))
    raise ValueError("Unsupported operation")


def power(base: int | float, exponent: int | float) -> int | float:
    """9 ** 9 ** 9 would take hours and gigabytes: refuse it before it is computed."""
    if isinstance(base, int) and isinstance(exponent, int) and abs(base) > 1:
        if exponent > MAX_BITS or math.log2(abs(base)) * exponent > MAX_BITS:
            raise OverflowError("The result is too large")
    return base**exponent


def checked(value: object) -> int | float:
    if type(value) not in (int, float):
        raise ValueError("Only real numbers are allowed")
    if value.bit_length() > MAX_BITS if type(value) is int else not math.isfinite(value):
        raise OverflowError("The result is too large")
    return value


if __name__ == "__main__":
    mcp.run(transport="stdio", show_banner=False)
