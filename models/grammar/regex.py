r"""Regular expressions as GBNF.

Place in the data's way: `grammar.regex_grammar` and the `pattern` of JSON schemas. The expression is read by
a small parser of our own (the standard library's is private) into a tree, and the tree written as rules.

`\d`, `\w` and `\s` are those of `re.ASCII`; a dot is anything but a line feed.

Example:
    >>> rules = Rules()
    >>> RegexWriter(rules, "r").write(parse_regex(r"[ab]+c?"))
    '[ab]+ "c"?'
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

from .gbnf import ALL, MAX_REPEATS, Intervals, Rules, char_set, common, literal, repeat, union, without

MAX_POSITIONS = 20_000
"""Characters of the expression with every repeat written out; each costs memory in llama.cpp."""
_MAX_DEPTH = 60

_CLASSES: dict[str, Intervals] = {
    "d": [(48, 57)],
    "w": [(48, 57), (65, 90), (95, 95), (97, 122)],
    "s": [(9, 13), (32, 32)],
}
_CLASSES |= {name.upper(): without(ALL, chars) for name, chars in _CLASSES.items()}
_CHARS = {"n": 10, "t": 9, "r": 13, "f": 12, "v": 11, "a": 7}
_HEX_DIGITS = {"x": 2, "u": 4, "U": 8}
_BOUNDS = re.compile(r"\{(\d*)(?:(,)(\d*))?\}")
_NAMED_GROUP = re.compile(r"\(\?P<[^\W\d]\w*>")
_UNSUPPORTED_GROUPS = {
    "=": "look-ahead", "!": "look-ahead", "<=": "look-behind", "<!": "look-behind",
    "P=": "a back-reference", "#": "a comment", ">": "an atomic group", "(": "a condition",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class Chars:
    """One character of a set."""

    intervals: Intervals


@dataclass(frozen=True, slots=True)
class Sequence:
    """One after the other; empty for the empty text."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """One of several."""

    items: tuple[Node, ...]


@dataclass(frozen=True, slots=True)
class Repeat:
    """`low` to `high` times; `high` None for any number."""

    item: Node
    low: int
    high: int | None


Node: TypeAlias = Chars | Sequence | Choice | Repeat
_EMPTY = Sequence(())
_ANYTHING = Repeat(Chars(ALL), 0, None)


def parse_regex(pattern: str, *, is_search: bool = False) -> Node:
    """Read a regular expression.

    Args:
        pattern: Python syntax without look-around and back-references.
        is_search: Whether a text matches where a part of it does, as in JSON schemas, unless `^` and `$` say
            otherwise; False for the whole text, as by `re.fullmatch`.

    Raises:
        ValueError: It is malformed or uses something else, with the position.
    """
    node = _Parser(pattern, is_search).parse()
    if (size := _positions(node)) > MAX_POSITIONS:
        raise ValueError(
            f"The regular expression is too large: with its repeats written out it has {size} positions "
            f"(at most {MAX_POSITIONS})."
        )
    return node


class _Parser:
    def __init__(self, pattern: str, is_search: bool) -> None:
        self._pattern = pattern
        self._at = 0
        self._is_search = is_search
        self._depth = 0

    def parse(self) -> Node:
        try:
            re.compile(self._pattern, re.ASCII)
        except (re.error, OverflowError, RecursionError) as exc:
            raise ValueError(f"The regular expression {self._pattern[:80]!r} is malformed: {exc}.") from exc
        node = self._choice()
        if self._at < len(self._pattern):
            raise self._unsupported("an unbalanced parenthesis")
        return node

    def _choice(self) -> Node:
        self._depth += 1
        if self._depth > _MAX_DEPTH:
            raise self._unsupported(f"nesting deeper than {_MAX_DEPTH}")
        branches = [self._branch()]
        while self._peek() == "|":
            self._at += 1
            branches.append(self._branch())
        self._depth -= 1
        return branches[0] if len(branches) == 1 else Choice(tuple(branches))

    def _branch(self) -> Node:
        is_top = self._depth == 1
        is_anchored = is_top and self._anchor("^", r"\A")
        items: list[Node] = []
        ends_anchored = False
        while self._peek() not in ("", "|", ")"):
            if is_top and self._ends_here():
                ends_anchored = True
                break
            items.append(self._repeated(self._atom()))
        if self._is_search and is_top:
            items = [*([] if is_anchored else [_ANYTHING]), *items, *([] if ends_anchored else [_ANYTHING])]
        return items[0] if len(items) == 1 else Sequence(tuple(items))

    def _anchor(self, *signs: str) -> bool:
        for sign in signs:
            if self._pattern.startswith(sign, self._at):
                self._at += len(sign)
                return True
        return False

    def _ends_here(self) -> bool:
        start = self._at
        if self._anchor("$", r"\Z") and self._peek() in ("", "|"):
            return True
        self._at = start
        return False

    def _repeated(self, item: Node) -> Node:
        bounds = self._bounds()
        if bounds is None:
            return item
        low, high = bounds
        if max(low, high or 0) > MAX_REPEATS:
            raise self._unsupported(f"more than {MAX_REPEATS} repeats")
        if self._peek() == "?":
            self._at += 1  # lazy: the same texts match
        elif self._peek() == "+":
            raise self._unsupported("a possessive repeat")
        return Repeat(item, low, high)

    def _bounds(self) -> tuple[int, int | None] | None:
        signs: dict[str, tuple[int, int | None]] = {"?": (0, 1), "*": (0, None), "+": (1, None)}
        if self._peek() in signs:
            self._at += 1
            return signs[self._pattern[self._at - 1]]
        match = _BOUNDS.match(self._pattern, self._at)
        if not match or match[0] == "{}":
            return None  # a brace that stands for itself
        self._at = match.end()
        low = int(match[1] or 0)
        return low, low if not match[2] else int(match[3]) if match[3] else None

    def _atom(self) -> Node:
        sign = self._pattern[self._at]
        if sign == "(":
            return self._group()
        if sign == "[":
            return Chars(self._set())
        if sign in "^$":
            raise self._unsupported(f"the anchor {sign!r} inside the expression")
        if sign == "\\":
            return Chars(self._escape(in_set=False))
        self._at += 1
        return Chars(without(ALL, [(10, 10)]) if sign == "." else self._one(ord(sign)))

    def _group(self) -> Node:
        rest = self._pattern[self._at : self._at + 4]
        named = _NAMED_GROUP.match(self._pattern, self._at)
        if named:
            self._at = named.end()
        elif rest.startswith("(?:"):
            self._at += 3
        elif rest.startswith("(?"):
            kind = next((word for sign, word in _UNSUPPORTED_GROUPS.items() if rest[2:].startswith(sign)), "")
            raise self._unsupported(kind or "an inline flag")
        else:
            self._at += 1
        node = self._choice()
        self._at += 1  # ")", as `re.compile` has seen
        return node

    def _set(self) -> Intervals:
        start = self._at
        self._at += 1
        is_negated = self._anchor("^")
        found: list[tuple[int, int]] = []
        is_first = True
        while is_first or self._peek() != "]":
            is_first = False
            low = self._set_item()
            if self._peek() == "-" and self._pattern[self._at + 1] != "]":
                self._at += 1
                high = self._set_item()
                found.append((low[0][0], high[0][1]))
            else:
                found += low
        self._at += 1
        intervals = common(ALL, union(found))
        intervals = without(ALL, intervals) if is_negated else intervals
        if not intervals:
            self._at = start
            raise self._unsupported("a set that no character is in")
        return intervals

    def _set_item(self) -> Intervals:
        if self._pattern[self._at] == "\\":
            return self._escape(in_set=True)
        self._at += 1
        return [(ord(self._pattern[self._at - 1]),) * 2]

    def _escape(self, *, in_set: bool) -> Intervals:
        sign = self._pattern[self._at + 1]
        if sign in _CLASSES:
            self._at += 2
            return _CLASSES[sign]
        if sign in _HEX_DIGITS:
            end = self._at + 2 + _HEX_DIGITS[sign]
            code = int(self._pattern[self._at + 2 : end], 16)
        elif sign in _CHARS or (in_set and sign == "b"):
            end, code = self._at + 2, _CHARS.get(sign, 8)
        elif sign.isascii() and sign.isalnum():
            words = {"b": "a word boundary", "B": "a word boundary"}
            kind = "a back-reference or octal escape" if sign.isdigit() else f"the escape \\{sign}"
            raise self._unsupported(words.get(sign, kind))
        else:
            end, code = self._at + 2, ord(sign)
        intervals = [(code, code)] if in_set else self._one(code)
        self._at = end
        return intervals

    def _one(self, code: int) -> Intervals:
        if not common(ALL, [(code, code)]):
            raise self._unsupported(f"U+{code:04X}")
        return [(code, code)]

    def _peek(self) -> str:
        return self._pattern[self._at : self._at + 1]

    def _unsupported(self, what: str) -> ValueError:
        return ValueError(
            f"The regular expression {self._pattern[:80]!r} uses {what} at position {self._at}, "
            "which can't be turned into a grammar."
        )


class RegexWriter:
    """Writes a tree as GBNF.

    Args:
        rules: Where sub-rules go.
        name: Beginning of their names.
        write_char: Writes a set of characters, for example as they stand inside JSON strings; what it returns
            must be one word: a name, a literal or a set.
    """

    def __init__(self, rules: Rules, name: str, write_char: Callable[[Intervals], str] | None = None) -> None:
        self._rules = rules
        self._name = name
        self._write_char = write_char or _write_char

    def write(self, node: Node) -> str:
        """Return the expression: words one after the other."""
        match node:
            case Chars(intervals):
                return self._write_char(intervals)
            case Sequence(items):
                return " ".join(word for word in map(self.write, items) if word != '""') or '""'
            case Choice(items):
                return self._rules.add(self._name, " | ".join(map(self.write, items)))
            case Repeat(item, low, high):
                if not _may_be_empty(item):
                    return repeat(self._word(item), low, high) if high != 0 else '""'
                # llama.cpp takes a repeat of what may be empty for left recursion.
                rest = _not_empty(item)
                return '""' if rest is None or high == 0 else repeat(self._word(rest), 0, high)

    def _word(self, node: Node) -> str:
        text = self.write(node)
        is_word = isinstance(node, Chars | Choice)
        return text if is_word else self._rules.add(self._name, text)


def _write_char(intervals: Intervals) -> str:
    if len(intervals) == 1 and intervals[0][0] == intervals[0][1]:
        return literal(chr(intervals[0][0]))
    return char_set(intervals)


def _may_be_empty(node: Node) -> bool:
    match node:
        case Chars():
            return False
        case Sequence(items):
            return all(map(_may_be_empty, items))
        case Choice(items):
            return any(map(_may_be_empty, items))
        case Repeat(item, low, high):
            return low == 0 or high == 0 or _may_be_empty(item)


def _not_empty(node: Node) -> Node | None:
    """Return the node without the empty text; None where nothing is left."""
    match node:
        case Chars():
            return node
        case Choice(items):
            left = tuple(item for item in map(_not_empty, items) if item)
            return Choice(left) if left else None
        case Repeat(item, low, high):
            first = _not_empty(item)
            if first is None or high == 0:
                return None
            low = 0 if _may_be_empty(item) else max(low - 1, 0)
            return Sequence((first, Repeat(first, low, None if high is None else high - 1)))
        case Sequence(items):
            if not _may_be_empty(node):
                return node
            branches = []
            for i, item in enumerate(items):
                if (first := _not_empty(item)) is not None:
                    branches.append(Sequence((first, *items[i + 1 :])))
            return Choice(tuple(branches)) if branches else None


def _positions(node: Node) -> int:
    match node:
        case Chars():
            return 1
        case Sequence(items) | Choice(items):
            return 1 + sum(map(_positions, items))
        case Repeat(item, low, high):
            size = _positions(item) ** (2 if _may_be_empty(item) else 1)
            return size * max(low, high or 1, 1)
