"""`calculator`: arithmetic, exactly as Python computes it, and nothing else of Python.

The text is cut into tokens before Python's parser sees it, the tree is walked
by hand, and every operation is bounded before it is made: no expression that
fits the limits takes long.
"""

import ast
import math
import operator
import re
from collections.abc import Callable
from typing import Any

from agent_worker.tools.contract import ToolContext, ToolResult

_LONGEST = 500
_DEEPEST = 50
_MAX_BITS = 10_000
_MAX_FACTORIAL = 1000
_MAX_DIGITS = 300

Number = int | float

_TOKEN = re.compile(
    r"(?P<number>(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?)(?![\w.])"
    r"|(?P<name>[a-z][a-z0-9]*)(?!\w)"
    r"|(?P<sign>\*\*|//|[-+*/%(),])"
    r"|(?P<space>[ \t\n]+)"
)
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "\u00a0": " ", "\u202f": " "})
_CONSTANTS: dict[str, Number] = {"pi": math.pi, "e": math.e, "tau": math.tau}


class CannotCalculate(ValueError):
    """The expression cannot be calculated; the text is for the model."""


async def calculator(arguments: dict[str, Any], _context: ToolContext) -> ToolResult:
    """Calculate `expression`."""
    expression = arguments["expression"]
    try:
        value = calculate(expression)
    except CannotCalculate as exc:
        return ToolResult(f"Cannot calculate {expression[:_LONGEST]}: {exc}", "invalid_expression")
    return ToolResult(f"{expression.strip()} = {value!r}")


def calculate(expression: str) -> Number:
    """The value of an expression.

    Raises:
        CannotCalculate: it is no arithmetic, has no value, or is too large.
    """
    text = _checked(expression)
    try:
        tree = ast.parse(text, mode="eval")
    except (SyntaxError, MemoryError, RecursionError) as exc:
        raise CannotCalculate("it is not a complete expression.") from exc
    try:
        value = _value(tree.body, _DEEPEST)
    except ZeroDivisionError as exc:
        raise CannotCalculate("it divides by zero.") from exc
    except OverflowError as exc:
        raise CannotCalculate("the result is too large.") from exc
    except (ValueError, TypeError) as exc:
        if isinstance(exc, CannotCalculate):
            raise
        raise CannotCalculate(f"{exc}.") from exc
    return value


def _checked(expression: str) -> str:
    """The expression, made of nothing but numbers, names, operators and parentheses."""
    text = expression.translate(_SIGNS).strip()
    if not text or len(text) > _LONGEST:
        raise CannotCalculate(f"an expression has 1 to {_LONGEST} characters.")
    if "^" in text:
        raise CannotCalculate("write ** for a power.")
    place = 0
    while place < len(text):
        token = _TOKEN.match(text, place)
        if token is None:
            raise CannotCalculate(f"{text[place : place + 20]!r} is no number, operator or known function.")
        if token.lastgroup == "number" and re.match(r"0[0-9]", token[0]) and token[0].strip("0123456789") == "":
            raise CannotCalculate(f"the number {token[0]!r} begins with 0.")
        place = token.end()
    return " ".join(text.split())


def _value(node: ast.expr, levels: int) -> Number:
    if levels == 0:
        raise CannotCalculate("it is nested too deeply.")
    match node:
        case ast.Constant(value=int() | float() as number) if not isinstance(number, bool):
            return _bounded(number)
        case ast.Name(id=name) if name in _CONSTANTS:
            return _CONSTANTS[name]
        case ast.UnaryOp(op=ast.UAdd() | ast.USub() as sign, operand=operand):
            value = _value(operand, levels - 1)
            return -value if isinstance(sign, ast.USub) else +value
        case ast.BinOp(left=left, op=sign, right=right) if type(sign) in _OPERATORS:
            return _bounded(_OPERATORS[type(sign)](_value(left, levels - 1), _value(right, levels - 1)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _bounded(_FUNCTIONS[name](*[_value(argument, levels - 1) for argument in args]))
        case ast.Name(id=name) | ast.Call(func=ast.Name(id=name)):
            known = ", ".join(sorted([*_FUNCTIONS, *_CONSTANTS]))
            raise CannotCalculate(f"{name!r} is not known here; there are {known}.")
        case _:
            raise CannotCalculate("only numbers, + - * / // % **, parentheses and functions can be used.")


def _bounded(value: Any) -> Number:
    if isinstance(value, complex):
        raise CannotCalculate("the result is not a real number.")
    if isinstance(value, float) and not math.isfinite(value):
        raise OverflowError
    if isinstance(value, int) and value.bit_length() > _MAX_BITS:
        raise OverflowError
    return value


def _power(base: Number, exponent: Number) -> Any:
    is_whole = isinstance(base, int) and isinstance(exponent, int)
    if is_whole and abs(base) > 1 and (int(base).bit_length() - 1) * exponent > _MAX_BITS:
        raise OverflowError
    return base**exponent


def _factorial(number: Number) -> int:
    if not isinstance(number, int) or not 0 <= number <= _MAX_FACTORIAL:
        raise CannotCalculate(f"factorial takes a whole number from 0 to {_MAX_FACTORIAL}.")
    return math.factorial(number)


def _round(number: Number, digits: Number | None = None) -> Number:
    if digits is None:
        return round(number)
    if not isinstance(digits, int) or abs(digits) > _MAX_DIGITS:
        raise CannotCalculate(f"round takes up to {_MAX_DIGITS} digits.")
    return round(number, digits)


def _extreme(choose: Callable[..., Number]) -> Callable[..., Number]:
    def chosen(*numbers: Number) -> Number:
        if not numbers:
            raise CannotCalculate("min and max take at least one number.")
        return choose(numbers)

    return chosen


_OPERATORS: dict[type[ast.operator], Callable[[Number, Number], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
    ast.Pow: _power,
}
_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "acos": math.acos,
    "asin": math.asin,
    "atan": math.atan,
    "atan2": math.atan2,
    "cbrt": math.cbrt,
    "ceil": math.ceil,
    "cos": math.cos,
    "degrees": math.degrees,
    "exp": math.exp,
    "factorial": _factorial,
    "floor": math.floor,
    "gcd": math.gcd,
    "hypot": math.hypot,
    "ln": math.log,
    "log": math.log,
    "log10": math.log10,
    "log2": math.log2,
    "max": _extreme(max),
    "min": _extreme(min),
    "radians": math.radians,
    "round": _round,
    "sin": math.sin,
    "sqrt": math.sqrt,
    "tan": math.tan,
    "trunc": math.trunc,
}
