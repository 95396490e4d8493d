"""A calculator: exact fractions where the arithmetic is rational, and no way to run anything else.

Place in the data's way: the model's expression -> Python's parser -> a walk over the few kinds of nodes that
are arithmetic -> a number. Every result is bounded before it is computed, so that `9**9**9` is an error at
once.

Example:
    >>> calculate("4*3.20 + 11.75")
    '24.55'
    >>> calculate("1/3 + 1/6")
    '0.5'
"""

from __future__ import annotations

import ast
import math
import operator
import re
from collections.abc import Callable, Mapping
from fractions import Fraction
from typing import Any

from ...core.errors import ToolArgumentError
from .tool import FunctionTool, Observation, ToolContext

MAX_EXPRESSION_CHARS = 300
MAX_BITS = 4096
"""Largest numerator and denominator; some 1,200 digits."""
_MAX_FACTORIAL = 400
_SIGNIFICANT = 12
_SHOWN_DIGITS = 60

_BINARY: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
    ast.Mod: operator.mod,
}
_CONSTANTS = {"pi": Fraction(math.pi), "e": Fraction(math.e)}
_EXACT: dict[str, Callable[..., Any]] = {
    "abs": abs,
    "min": min,
    "max": max,
    "sum": lambda *values: sum(values, Fraction(0)),
    "floor": math.floor,
    "ceil": math.ceil,
    "round": lambda value, digits=0: Fraction(round(value, _whole(digits, 30))),
    "gcd": lambda *values: math.gcd(*(_whole(value) for value in values)),
    "lcm": lambda *values: math.lcm(*(_whole(value) for value in values)),
    "factorial": lambda value: math.factorial(_whole(value, _MAX_FACTORIAL)),
    "comb": lambda n, k: math.comb(_whole(n, _MAX_FACTORIAL), _whole(k, _MAX_FACTORIAL)),
}
_INEXACT: dict[str, Callable[..., float]] = {
    name: getattr(math, name)
    for name in (
        "exp",
        "log",
        "log2",
        "log10",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "degrees",
        "radians",
    )
}
_SIGNS = str.maketrans({"×": "*", "·": "*", "÷": "/", "−": "-", "–": "-", "^": "**", "$": None, "€": None})
_PERCENT = re.compile(r"(\d+(?:\.\d+)?)\s*%(?!\s*[\d.(a-zA-Z])")
_HUGE_EXPONENT = re.compile(r"[eE][+-]?\d{4,}")
_THOUSANDS = re.compile(r"(?<=\d),(?=\d{3}(?!\d))")


def calculator() -> FunctionTool:
    """Return the tool."""

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        return Observation(calculate(str(arguments["expression"])))

    return FunctionTool(
        name="calculator",
        description="Compute an arithmetic expression with + - * / // % ** and sqrt, round, min, max, log, …",
        parameters={
            "type": "object",
            "properties": {"expression": {"type": "string", "minLength": 1, "maxLength": 160}},
            "required": ["expression"],
        },
        function=run,
        timeout_s=5.0,
    )


def calculate(expression: str) -> str:
    """Return the value of an expression: exact where it has few digits, else to 12 significant ones.

    Raises:
        ToolArgumentError: It is no arithmetic, too long, too large, or not defined, such as 1/0.
    """
    if len(expression) > MAX_EXPRESSION_CHARS:
        raise ToolArgumentError(f"The expression is longer than {MAX_EXPRESSION_CHARS} characters.")
    text = expression.translate(_SIGNS).strip().rstrip("=").strip()
    text = _PERCENT.sub(r"(\1/100)", text)
    if not re.search("[a-zA-Z]", text):  # a comma between a function's arguments is none of thousands
        text = _THOUSANDS.sub("", text)
    try:
        tree = ast.parse(text, mode="eval")
        return _shown(_Walk(text).value(tree.body))
    except (SyntaxError, ValueError, RecursionError, MemoryError) as exc:
        raise ToolArgumentError(f"{expression!r} can't be computed: {_reason(exc)}.") from exc
    except (ZeroDivisionError, OverflowError, TypeError) as exc:
        raise ToolArgumentError(f"{expression!r} is not defined: {exc}.") from exc


def _reason(exc: BaseException) -> str:
    return "it is no arithmetic expression" if isinstance(exc, SyntaxError) else str(exc) or "it is too deep"


class _Walk:
    """Computes a tree of arithmetic nodes; any other node is refused."""

    def __init__(self, text: str) -> None:
        self._text = text

    def value(self, node: ast.expr) -> Fraction:
        """Return a node's value."""
        if isinstance(node, ast.Constant):
            return self._number(node)
        if isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.UAdd | ast.USub):
            inner = self.value(node.operand)
            return -inner if isinstance(node.op, ast.USub) else inner
        if isinstance(node, ast.BinOp):
            left, right = self.value(node.left), self.value(node.right)
            if isinstance(node.op, ast.Pow):
                return _power(left, right)
            if type(node.op) in _BINARY:
                return _bounded(_BINARY[type(node.op)](left, right))
        if isinstance(node, ast.Name) and node.id in _CONSTANTS:
            return _CONSTANTS[node.id]
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and not node.keywords:
            return self._call(node.func.id, [self.value(argument) for argument in node.args])
        raise ToolArgumentError(f"{ast.unparse(node)!r} is no arithmetic.")

    def _number(self, node: ast.Constant) -> Fraction:
        """Return a literal as it is written, not as the nearest float."""
        if isinstance(node.value, bool) or not isinstance(node.value, int | float):
            raise ToolArgumentError(f"{ast.unparse(node)!r} is no number.")
        if isinstance(node.value, float) and not math.isfinite(node.value):
            raise ToolArgumentError("A number is too large.")
        written = (ast.get_source_segment(self._text, node) or "").replace("_", "")
        if _HUGE_EXPONENT.search(written):  # 1e-999999999 is a float, but no fraction one can hold
            raise ToolArgumentError("An exponent in it is too large.")
        return _bounded(Fraction(written) if isinstance(node.value, float) else Fraction(node.value))

    def _call(self, name: str, values: list[Fraction]) -> Fraction:
        if name == "sqrt" and len(values) == 1:
            return _root(values[0])
        if name in _EXACT and values:
            return _bounded(Fraction(_EXACT[name](*values)))
        if name in _INEXACT:
            return Fraction(_INEXACT[name](*map(float, values)))
        known = ", ".join(sorted([*_EXACT, *_INEXACT, "sqrt"]))
        raise ToolArgumentError(f"There is no function {name!r}; there are {known}.")


def _bounded(value: Any) -> Fraction:
    fraction = Fraction(value)
    if max(fraction.numerator.bit_length(), fraction.denominator.bit_length()) > MAX_BITS:
        raise ToolArgumentError("A number in it is too large.")
    return fraction


def _power(base: Fraction, exponent: Fraction) -> Fraction:
    if exponent.denominator == 1:
        bits = max(base.numerator.bit_length(), base.denominator.bit_length())
        if bits > 1 and abs(exponent.numerator) * bits > 2 * MAX_BITS:
            raise ToolArgumentError("A power in it is too large.")
        if bits <= 1:  # 0, 1 and -1, whatever the exponent
            if base == 0 and exponent < 0:
                raise ZeroDivisionError("0 to a negative power")
            return Fraction(1) if exponent == 0 else abs(base) if exponent.numerator % 2 == 0 else base
        return _bounded(base**exponent.numerator)
    if base < 0:
        raise ToolArgumentError("A negative number has no real power of this kind.")
    return _root(base) if exponent == Fraction(1, 2) else Fraction(float(base) ** float(exponent))


def _root(value: Fraction) -> Fraction:
    """Return the square root, exactly where it is rational."""
    if value < 0:
        raise ToolArgumentError("A negative number has no real square root.")
    top, bottom = math.isqrt(value.numerator), math.isqrt(value.denominator)
    if top * top == value.numerator and bottom * bottom == value.denominator:
        return Fraction(top, bottom)
    return Fraction(math.sqrt(value))


def _whole(value: Fraction | int, most: int | None = None) -> int:
    whole = Fraction(value)
    if whole.denominator != 1 or (most is not None and not -most <= whole <= most):
        limit = "" if most is None else f" of at most {most}"
        raise ToolArgumentError(f"{_shown(whole)} must be a whole number{limit}.")
    return int(whole)


def _shown(value: Fraction) -> str:
    """Return the number: all its digits where they are few, else rounded."""
    if value.denominator == 1:
        digits = str(value.numerator)
        return digits if len(digits) <= _SHOWN_DIGITS else f"{_scientific(value)} ({len(digits)} digits)"
    twos_and_fives, places = value.denominator, 0
    while twos_and_fives % 10 == 0:
        twos_and_fives, places = twos_and_fives // 10, places + 1
    while twos_and_fives % 2 == 0 or twos_and_fives % 5 == 0:
        twos_and_fives //= 2 if twos_and_fives % 2 == 0 else 5
        places += 1
    if twos_and_fives == 1 and places <= _SIGNIFICANT:
        scaled = str(abs(value.numerator) * 10**places // value.denominator).rjust(places + 1, "0")
        return f"{'-' if value < 0 else ''}{scaled[:-places]}.{scaled[-places:]}"
    return _scientific(value)


def _scientific(value: Fraction) -> str:
    try:
        return f"{float(value):.{_SIGNIFICANT}g}"
    except OverflowError:
        exponent = len(str(abs(value.numerator))) - len(str(value.denominator))
        mantissa = float(value / Fraction(10) ** exponent)
        return f"{mantissa:.{_SIGNIFICANT}g}e+{exponent}"
