"""JSON numbers within bounds, as GBNF.

Place in the data's way: `schema_grammar` asks for the numbers that a schema's `minimum`, `maximum` and their
exclusive kin allow. Digits are compared from the left, as people do it.

Example:
    >>> from .gbnf import Rules
    >>> integer_between(Rules(), 0, 12)
    '([0-9] | "1" [0-2])'
"""

from __future__ import annotations

import math
from decimal import Decimal
from typing import Any

from .gbnf import Rules

MAX_DIGITS = 15
"""A number without a bound has at most as many digits before and behind the point; a float keeps no more."""
_BIGGEST = 10**MAX_DIGITS - 1
_TAIL = f"[0-9]{{0,{MAX_DIGITS}}}"


def bounded_integer(rules: Rules, schema: dict[str, Any]) -> str:
    """Return the integers within a schema's bounds.

    Raises:
        ValueError: There is none, or the schema has `multipleOf`.
    """
    low, high, excludes_low, excludes_high = _bounds(schema, step=1)
    least = None if low is None else math.floor(low) + 1 if excludes_low else math.ceil(low)
    most = None if high is None else math.ceil(high) - 1 if excludes_high else math.floor(high)
    return integer_between(rules, least, most)


def bounded_number(rules: Rules, schema: dict[str, Any]) -> str:
    """Return the numbers within a schema's bounds.

    Raises:
        ValueError: There is none, or the schema has `multipleOf`.
    """
    low, high, excludes_low, excludes_high = _bounds(schema, step=None)
    return number_between(rules, low, high, excludes_low=excludes_low, excludes_high=excludes_high)


def integer_between(rules: Rules, low: int | None, high: int | None) -> str:
    """Return the integers from `low` to `high`, both included; None for no bound but `MAX_DIGITS`.

    Raises:
        ValueError: There is none.
    """
    low = min(-_BIGGEST, high or 0) if low is None else low
    high = max(_BIGGEST, low) if high is None else high
    if low > high:
        raise ValueError(f"no integer is at least {low} and at most {high}")
    parts = []
    if high >= 0:
        parts += _natural(max(low, 0), high)
    if low < 0:
        parts.append(f'"-" {_group(_natural(max(-high, 1), -low))}')
    return _group(parts)


def number_between(
    rules: Rules, low: Decimal | None, high: Decimal | None, *, excludes_low: bool, excludes_high: bool
) -> str:
    """Return the numbers from `low` to `high`, written without an exponent.

    Args:
        rules: Where shared parts go.
        low: Least number; None for none.
        high: Greatest number; None for none.
        excludes_low: Whether `low` itself is not allowed.
        excludes_high: Whether `high` itself is not allowed.

    Raises:
        ValueError: There is none.
    """
    if low is None and high is None:
        exponent = "([eE] [-+]? [0-9]{1,2})?"
        return f'"-"? {_group(_natural(0, _BIGGEST))} ("." [0-9]{{1,{MAX_DIGITS}}})? {exponent}'
    if (
        low is not None
        and high is not None
        and (low > high or (low == high and (excludes_low or excludes_high)))
    ):
        raise ValueError(f"no number lies between {low} and {high}")
    zero = Decimal(0)
    parts = []
    if high is None or high > 0 or (high == 0 and not excludes_high):
        at_least, strict = (zero, False) if low is None or low < 0 else (low, excludes_low)
        parts += _positive(at_least, strict, high, excludes_high)
    if low is None or low < 0:
        # Mirrored at zero; -0 is left to the positive side.
        at_least, strict = (zero, True) if high is None or high >= 0 else (-high, excludes_high)
        below = _positive(at_least, strict, None if low is None else -low, excludes_low)
        parts += [f'"-" {_group(below)}'] if below else []
    if not parts:
        raise ValueError(f"no number lies between {low} and {high}")
    return rules.add("number", " | ".join(parts))


def _positive(low: Decimal, excludes_low: bool, high: Decimal | None, excludes_high: bool) -> list[str]:
    """Return the alternatives for low <= x <= high where low >= 0."""
    low_whole, low_digits = _split(low)
    high_whole, high_digits = _split(high) if high is not None else (max(_BIGGEST, low_whole + 1), "")
    if low_whole == high_whole and high is not None:
        width = max(len(low_digits), len(high_digits))
        fractions = _between(
            low_digits.ljust(width, "0"), high_digits.ljust(width, "0"), excludes_low, excludes_high
        )
        return _with_fractions(low_whole, fractions)
    parts = _with_fractions(low_whole, _at_least(low_digits, excludes_low))
    first, last = low_whole + 1, high_whole - (high is not None)
    if first <= last:
        parts.append(f'{_group(_natural(first, last))} ("." [0-9]{{1,{MAX_DIGITS}}})?')
    if high is not None:
        parts += _with_fractions(high_whole, _at_most(high_digits, excludes_high))
    return parts


def _with_fractions(whole: int, fractions: list[str]) -> list[str]:
    """Return the whole number with each of the fractions; "" among them stands for none."""
    parts = [f'"{whole}"'] if "" in fractions else []
    behind = [fraction for fraction in fractions if fraction]
    return parts + ([f'"{whole}." {_group(behind)}'] if behind else [])


def _at_least(digits: str, is_strict: bool) -> list[str]:
    """Return the fractions >= 0.digits (> where strict), "" for none."""
    parts = [] if is_strict or digits.strip("0") else ["", f"[0-9]{{1,{MAX_DIGITS}}}"]
    if parts:
        return parts
    for i, digit in enumerate(digits):
        if digit < "9":
            parts.append(_joined(digits[:i], f"[{chr(ord(digit) + 1)}-9] {_TAIL}"))
    if is_strict:
        parts.append(_joined(digits, f'"0"{{0,{MAX_DIGITS}}} [1-9] {_TAIL}'))
    else:
        parts.append(_joined(digits, _TAIL))
    return parts


def _at_most(digits: str, is_strict: bool) -> list[str]:
    """Return the fractions <= 0.digits (< where strict), "" for none."""
    digits = digits.rstrip("0")
    if not digits:
        return [] if is_strict else ["", f'"0"{{1,{MAX_DIGITS}}}']
    parts = [""]
    for i, digit in enumerate(digits):
        if digit > "0":
            parts.append(_joined(digits[:i], f"[0-{chr(ord(digit) - 1)}] {_TAIL}"))
        if i:
            parts.append(f'"{digits[:i]}"')  # shorter, so smaller
    if not is_strict:
        parts.append(_joined(digits, f'"0"{{0,{MAX_DIGITS}}}'))
    return parts


def _between(low: str, high: str, excludes_low: bool, excludes_high: bool) -> list[str]:
    """Return the fractions between 0.low and 0.high, digit texts of one length."""
    if not low:
        return ["", f'"0"{{1,{MAX_DIGITS}}}']
    if low == high:
        return [_joined(low, f'"0"{{0,{MAX_DIGITS}}}')] + ([""] if not low.strip("0") else [])
    same = next(i for i in range(len(low)) if low[i] != high[i])
    head, parts = low[:same], []
    if ord(high[same]) - ord(low[same]) > 1:
        parts.append(_joined(head, f"[{chr(ord(low[same]) + 1)}-{chr(ord(high[same]) - 1)}] {_TAIL}"))
    for tail in _at_least(low[same + 1 :], excludes_low):
        parts.append(_joined(head + low[same], tail))
    for tail in _at_most(high[same + 1 :], excludes_high):
        parts.append(_joined(head + high[same], tail))
    if not low.strip("0") and not excludes_low:
        parts += ["", *(f'"{low[:i]}"' for i in range(1, same + 1))]
    return parts


def _natural(low: int, high: int) -> list[str]:
    """Return alternatives for the whole numbers from low to high, both at least 0, without leading zeros."""
    parts = []
    sizes = range(len(str(low)), len(str(high)) + 1)
    whole = [size for size in sizes if size > 1 and low <= 10 ** (size - 1) and high >= 10**size - 1]
    if whole:
        parts.append(f"[1-9] [0-9]{{{whole[0] - 1},{whole[-1] - 1}}}")
    for size in sizes:
        if size not in whole:
            first, last = max(low, 10 ** (size - 1) if size > 1 else 0), min(high, 10**size - 1)
            parts += _same_length(str(first), str(last))
    return parts


def _same_length(low: str, high: str) -> list[str]:
    if not low:
        return [""]
    count = len(low) - 1
    if low[1:] == "0" * count and high[1:] == "9" * count:
        rest = f" [0-9]{{{count}}}" if count else ""
        return [f"{_digits(low[0], high[0])}{rest}"]
    if low[0] == high[0]:
        return [f'"{low[0]}" {tail}'.rstrip() for tail in _same_length(low[1:], high[1:])]
    parts = [f'"{low[0]}" {tail}'.rstrip() for tail in _same_length(low[1:], "9" * count)]
    if ord(high[0]) - ord(low[0]) > 1:
        parts.append(f"{_digits(chr(ord(low[0]) + 1), chr(ord(high[0]) - 1))} [0-9]{{{count}}}")
    parts += [f'"{high[0]}" {tail}'.rstrip() for tail in _same_length("0" * count, high[1:])]
    return parts


def _digits(first: str, last: str) -> str:
    return f'"{first}"' if first == last else f"[{first}-{last}]"


def _joined(digits: str, rest: str) -> str:
    return f'"{digits}" {rest}'.rstrip() if digits else rest


def _bounds(schema: dict[str, Any], step: int | None) -> tuple[Decimal | None, Decimal | None, bool, bool]:
    """Return (low, high, whether low is excluded, whether high is)."""
    found: dict[str, Decimal] = {}
    for key in ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum"):
        value = schema.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ValueError(f"{key!r} must be a number, not {value!r}")
        if abs(value) > 10**MAX_DIGITS:
            raise ValueError(f"{key!r} is over {MAX_DIGITS} digits long")
        found[key] = Decimal(repr(value))
    if schema.get("multipleOf", step) != step:
        raise ValueError("'multipleOf' is not possible")
    low, over = found.get("minimum"), found.get("exclusiveMinimum")
    high, under = found.get("maximum"), found.get("exclusiveMaximum")
    excludes_low = over is not None and (low is None or over >= low)
    excludes_high = under is not None and (high is None or under <= high)
    return over if excludes_low else low, under if excludes_high else high, excludes_low, excludes_high


def _group(parts: list[str]) -> str:
    return f"({' | '.join(parts)})"


def _split(number: Decimal) -> tuple[int, str]:
    whole, _, digits = format(number, "f").partition(".")
    return int(whole), digits.rstrip("0")
