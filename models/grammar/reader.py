r"""GBNF read as llama.cpp reads it, into rules that can be looked at.

Place in the data's way: `grammar_check.check_grammar` reads every grammar with this before llama.cpp does,
which answers some malformed ones by ending the process or filling the memory.

Example:
    >>> grammar = read_gbnf('root ::= "a" tail?\ntail ::= [b-c]')
    >>> grammar.rules["tail"]
    (((98, 99),),)
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from .gbnf import ALL, MAX_REPEATS, common, union, without

Chars: TypeAlias = tuple[tuple[int, int], ...]
Element: TypeAlias = str | Chars
"""A rule's name, or a set of characters."""
Alternative: TypeAlias = tuple[Element, ...]

MAX_CHARS = 400_000
MAX_ELEMENTS = 200_000
MAX_NESTING = 100

_NAME = re.compile(r"[A-Za-z0-9-]+")
_SPACE = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_SPACE_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_BOUNDS = re.compile(r"\{\s*(\d{1,9})\s*(?:(,)\s*(\d{1,9})?\s*)?\}")
_CHAR = re.compile(
    r"""\\(?:x([0-9A-Fa-f]{2})|u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|([trn\\"\[\]-]))|([^\\])""", re.S
)
_ESCAPES = {"t": 9, "r": 13, "n": 10, "\\": 92, '"': 34, "[": 91, "]": 93, "-": 45}
_ASCII = [(32, 126)]


@dataclass(frozen=True, slots=True)
class Grammar:
    """A grammar with its groups and repeats written out as rules.

    Attributes:
        rules: Every rule's alternatives by its name; a name with "_" was made for a group or a repeat.
    """

    rules: dict[str, tuple[Alternative, ...]]


def read_gbnf(text: str) -> Grammar:
    """Read a grammar.

    Raises:
        ValueError: It is malformed or too large, with the line.
    """
    if len(text) > MAX_CHARS:
        raise ValueError(f"The grammar has {len(text)} characters; at most {MAX_CHARS} are allowed.")
    if "\0" in text:
        raise ValueError("The grammar contains a NUL character.")
    return Grammar(_Reader(text).read())


class _Reader:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._rules: dict[str, tuple[Alternative, ...]] = {}
        self._symbols: set[str] = set()
        self._num_elements = 0
        self._depth = 0

    def read(self) -> dict[str, tuple[Alternative, ...]]:
        self._skip(lines=True)
        while self._at < len(self._text):
            self._rule()
        return self._rules

    def _rule(self) -> None:
        name = self._name()
        self._skip(lines=False)
        if not self._text.startswith("::=", self._at):
            raise self._error('"::=" is missing')
        self._at += 3
        self._skip(lines=True)
        if name in self._rules:
            raise self._error(f"the rule {name!r} is defined twice")
        self._symbols.add(name)
        self._rules[name] = ()
        self._rules[name] = self._alternatives(name, nested=False)
        if self._at < len(self._text) and self._text[self._at] not in "\r\n":
            raise self._error("a new line is missing")
        self._skip(lines=True)

    def _alternatives(self, name: str, *, nested: bool) -> tuple[Alternative, ...]:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise self._error(f"groups are nested deeper than {MAX_NESTING}")
        found = [self._sequence(name, nested=nested)]
        while self._text.startswith("|", self._at):
            self._at += 1
            self._skip(lines=True)
            found.append(self._sequence(name, nested=nested))
        self._depth -= 1
        return tuple(found)

    def _sequence(self, name: str, *, nested: bool) -> Alternative:
        elements: list[Element] = []
        while self._at < len(self._text):
            num_before = len(self._symbols)
            item = self._item(name)
            if item is None:
                break
            self._skip(lines=nested)
            if self._text[self._at : self._at + 1] in ("*", "+", "?", "{"):
                low, high = self._bounds(max(1, len(self._symbols) - num_before))
                self._skip(lines=nested)
                if self._text[self._at : self._at + 1] in ("*", "+", "?", "{"):
                    raise self._error("a repeat of a repeat needs parentheses")
                item = self._repeated(name, item, low, high)
            self._count(len(item))
            elements += item
        return tuple(elements)

    def _item(self, name: str) -> list[Element] | None:
        """Read a literal, a set, a name, a group or a dot; None where the sequence ends."""
        sign = self._text[self._at]
        if sign == '"':
            return self._literal()
        if sign == "[":
            return [self._set()]
        if sign == ".":
            self._at += 1
            return [tuple(ALL)]
        if sign == "(":
            self._at += 1
            self._skip(lines=True)
            group = self._new_rule(name)
            self._rules[group] = self._alternatives(name, nested=True)
            if not self._text.startswith(")", self._at):
                raise self._error('")" is missing')
            self._at += 1
            return [group]
        if sign in "<!":
            raise self._error("tokens can't be named, only text")
        if sign in "*+?{":
            raise self._error("there is nothing to repeat")
        if _NAME.match(self._text, self._at):
            reference = self._name()
            self._symbols.add(reference)
            return [reference]
        return None

    def _literal(self) -> list[Element]:
        self._at += 1
        found: list[Element] = []
        while not self._text.startswith('"', self._at):
            code = self._char()
            found.append(self._checked([(code, code)]))
        self._at += 1
        if not found and self._text[self._at : self._at + 1] in ("*", "+", "?", "{"):
            raise self._error("there is nothing to repeat")
        return found

    def _set(self) -> Chars:
        self._at += 1
        is_negated = self._text.startswith("^", self._at)
        self._at += is_negated
        found = []
        while not self._text.startswith("]", self._at):
            low = high = self._char()
            if self._text.startswith("-", self._at) and not self._text.startswith("]", self._at + 1):
                self._at += 1
                high = self._char()
            if low > high:
                raise self._error("a range runs backwards")
            found.append((low, high))
        self._at += 1
        intervals = union(found)
        if not is_negated:
            return self._checked(intervals)
        # llama.cpp doesn't see which characters of several bytes are left; it sees those of one.
        if not common(without(ALL, intervals), _ASCII):
            raise self._error("a negated set leaves no printable ASCII character")
        return tuple(without(ALL, intervals))

    def _checked(self, intervals: Sequence[tuple[int, int]]) -> Chars:
        found = tuple(common(ALL, intervals))
        if not found:
            raise self._error("no character fits here")
        return found

    def _char(self) -> int:
        match = _CHAR.match(self._text, self._at)
        if not match:
            raise self._error("a character or a known escape is missing")
        self._at = match.end()
        digits = match[1] or match[2] or match[3]
        return int(digits, 16) if digits else _ESCAPES[match[4]] if match[4] else ord(match[5])

    def _bounds(self, weight: int) -> tuple[int, int | None]:
        signs: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        sign = self._text[self._at]
        if sign in signs:
            self._at += 1
            return signs[sign]
        match = _BOUNDS.match(self._text, self._at)
        if not match:
            raise self._error("a repeat is not of the form {m}, {m,} or {m,n}")
        low = int(match[1])
        high = low if not match[2] else int(match[3]) if match[3] else None
        if high is not None and high < low:
            raise self._error(f"the repeat {match[0]} runs backwards")  # llama.cpp fills the memory with it
        if max(low, high or 0, 1) * weight > MAX_REPEATS:
            raise self._error(f"the repeat {match[0]} makes more than {MAX_REPEATS} rules")
        self._at = match.end()
        return low, high

    def _repeated(self, name: str, item: list[Element], low: int, high: int | None) -> list[Element]:
        """Write a repeat out as llama.cpp does: the copies that must be, then rules for those that may be."""
        self._count(len(item) * (low if high is None else high))
        rest: list[Element] = []
        if high is None:
            rest = [self._new_rule(name)]
            self._rules[str(rest[0])] = ((*item, *rest), ())
        for _ in range((high or low) - low):
            following = rest
            rest = [self._new_rule(name)]
            self._rules[str(rest[0])] = ((*item, *following), ())
        return item * low + rest

    def _new_rule(self, name: str) -> str:
        symbol = f"{name}_{len(self._symbols)}"
        self._symbols.add(symbol)
        return symbol

    def _count(self, size: int) -> None:
        self._num_elements += size
        if self._num_elements > MAX_ELEMENTS:
            raise self._error(f"with its repeats written out the grammar has more than {MAX_ELEMENTS} parts")

    def _name(self) -> str:
        match = _NAME.match(self._text, self._at)
        if not match:
            raise self._error("a rule's name is missing (letters, digits and hyphens)")
        self._at = match.end()
        return match[0]

    def _skip(self, *, lines: bool) -> None:
        match = (_SPACE_AND_LINES if lines else _SPACE).match(self._text, self._at)
        self._at = match.end() if match else self._at

    def _error(self, what: str) -> ValueError:
        line = self._text.count("\n", 0, self._at) + 1
        return ValueError(
            f"In line {line} of the grammar, at {self._text[self._at : self._at + 30]!r}: {what}."
        )
