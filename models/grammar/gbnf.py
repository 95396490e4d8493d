r"""The words that GBNF grammars are written in: literals, sets of characters, named rules.

Place in the data's way: the builders (`regex_grammar`, `schema_grammar`, `grammar`) write their grammars with
these, so that quoting is done in one place and no two rules share a name.

Example:
    >>> literal('say "hi"'), char_set([(97, 122)])
    ('"say \\"hi\\""', '[a-z]')
    >>> rules = Rules()
    >>> rules.add("digit", "[0-9]"), rules.add("digit", "[1-9]"), rules.add("digit", "[0-9]")
    ('digit', 'digit-2', 'digit')
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

Intervals = Sequence[tuple[int, int]]
"""Code points as (first, last) pairs, sorted, apart from each other."""

# NUL ends a text inside llama.cpp; surrogates are no characters.
ALL: Intervals = ((1, 0xD7FF), (0xE000, 0x10FFFF))
MAX_REPEATS = 2000
"""llama.cpp refuses more, and reads a larger upper bound as none at all."""

_PLAIN = re.compile(r"[A-Za-z0-9 ,.:;_{}()<>/+*?!@#$%&='`|~]")


class Rules:
    """The named rules of a grammar in the making."""

    def __init__(self) -> None:
        self._bodies: dict[str, str] = {}
        self._names: dict[str, str] = {}

    def add(self, name: str, body: str) -> str:
        """Name a rule and return its name: that of an equal rule where there is one, else a new one."""
        if body in self._names:
            return self._names[body]
        name = self.reserve(name)
        self.define(name, body)
        return name

    def reserve(self, name: str) -> str:
        """Return a name that no other rule has, for a rule whose body is to come."""
        stem = re.sub(r"[^A-Za-z0-9]+", "-", name).strip("-") or "rule"
        unique, count = stem, 1
        while unique in self._bodies:
            count += 1
            unique = f"{stem}-{count}"
        self._bodies[unique] = ""
        return unique

    def define(self, name: str, body: str) -> None:
        """Give a reserved name its body."""
        self._bodies[name] = body
        self._names.setdefault(body, name)

    def text(self, root: str) -> str:
        """Return the grammar that begins with the expression `root`."""
        return "\n".join([f"root ::= {root}", *(f"{name} ::= {body}" for name, body in self._bodies.items())])


def rules_with_root() -> Rules:
    """Return rules among which none will be called root."""
    rules = Rules()
    rules.reserve("root")
    del rules._bodies["root"]
    return rules


def literal(text: str) -> str:
    """Return the expression that is exactly `text`.

    Raises:
        ValueError: The text has a NUL or half a surrogate pair, which llama.cpp can't match.
    """
    return '"' + "".join(_escaped(ord(character)) for character in text) + '"'


def char_set(intervals: Intervals) -> str:
    """Return the expression that is one character of these."""
    parts = []
    for first, last in intervals:
        parts.append(_escaped(first) if first == last else f"{_escaped(first)}-{_escaped(last)}")
    return f"[{''.join(parts)}]"


def repeat(expression: str, low: int, high: int | None) -> str:
    """Return `expression`, a name, a literal or a set, repeated; `high` None for any number.

    Raises:
        ValueError: More repeats than llama.cpp takes.
    """
    if max(low, high or 0) > MAX_REPEATS:
        raise ValueError(f"{max(low, high or 0)} repeats are too many: at most {MAX_REPEATS} are possible.")
    if (low, high) == (1, 1):
        return expression
    signs = {(0, 1): "?", (0, None): "*", (1, None): "+"}
    bounds = f"{low}" if low == high else f"{low}," if high is None else f"{low},{high}"
    return expression + signs.get((low, high), f"{{{bounds}}}")


def union(sets: Iterable[tuple[int, int]]) -> Intervals:
    """Return the intervals sorted and joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted(sets):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(last, joined[-1][1]))
        else:
            joined.append((first, last))
    return joined


def without(sets: Intervals, taken: Intervals) -> Intervals:
    """Return the intervals of `sets` with those of `taken` cut out."""
    left = list(sets)
    for low, high in taken:
        cut = []
        for first, last in left:
            cut += [(first, min(last, low - 1))] if first < low else []
            cut += [(max(first, high + 1), last)] if last > high else []
        left = cut
    return left


def common(one: Intervals, other: Intervals) -> Intervals:
    """Return the code points that both have."""
    return without(one, without([(0, 0x10FFFF)], other))


def _escaped(code: int) -> str:
    if code == 0 or 0xD800 <= code <= 0xDFFF:
        raise ValueError(f"U+{code:04X} can't be part of a grammar.")
    character = chr(code)
    if code < 0x80:
        special = {'"': r"\"", "\\": r"\\", "\n": r"\n", "\r": r"\r", "\t": r"\t"}
        return character if _PLAIN.fullmatch(character) else special.get(character, f"\\x{code:02X}")
    if code <= 0xFFFF:
        return f"\\u{code:04X}"
    return f"\\U{code:08X}"
