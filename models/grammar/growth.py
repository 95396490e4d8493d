r"""How many ways to go on a grammar keeps open while a text is written.

Place in the data's way: the last step of `check_grammar`. llama.cpp follows every way at once, each with a
stack of its own. A rule with itself in two alternatives that begin alike doubles them at every level:
`s ::= "a" s "b" | "a" s "c" | "d"` has 2^n of them after n letters a, which fills the memory in seconds.

The search plays texts through each rule, the sets with the most ways first, and stops at a fixed amount of
work. A rule in a circle is one step of it where the next character tells it from all other ways; where it
does not, and the work does not suffice to see the end, the grammar is refused.

Example:
    >>> from .gbnf_reader import read_gbnf
    >>> check_growth(read_gbnf('root ::= "(" root ")" | "x"'), set(), 4000)
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Iterator

from .gbnf import Intervals, common, union
from .reader import Alternative, Chars, Grammar

_MAX_WORK = 300_000
_END = 0


def check_growth(grammar: Grammar, nullable: set[str], max_stacks: int) -> None:
    """Check that the ways through a rule don't multiply.

    Args:
        grammar: The grammar, without left recursion.
        nullable: The rules that may be empty.
        max_stacks: Ways that may be open at once.

    Raises:
        ValueError: More may be.
    """
    circles = _circles(grammar)
    starts = [
        name
        for name, alternatives in grammar.rules.items()
        if name == "root" or (len(alternatives) > 1 and (name in circles or "_" not in name))
    ]
    for name in starts:
        work = max(2000, _MAX_WORK // len(starts))
        _Search(grammar, nullable, circles, name, max_stacks).run(work)


class _Search:
    """Plays texts through one rule; a stack is a number for (alternative, place in it, stack below)."""

    def __init__(
        self, grammar: Grammar, nullable: set[str], circles: dict[str, int], name: str, max_stacks: int
    ) -> None:
        self._rules = grammar.rules
        self._nullable = nullable
        self._circles = circles
        self._name = name
        self._max_stacks = max_stacks
        self._nodes: list[tuple[str, Alternative, int, int]] = [("", (), 0, 0)]
        self._numbers: dict[tuple[int, int, int], int] = {}
        self._firsts: dict[str, Intervals] = {}
        self._has_unclear = False

    def run(self, work: int) -> None:
        """Search until everything has been seen, or `work` is used up."""
        first = self._closed(self._entered(self._name, _END))
        heap = [(-len(first), 0, first)]
        seen = {first}
        while heap and work > 0:
            _, _, stacks = heapq.heappop(heap)
            for following in self._steps(stacks):
                work -= len(stacks) + len(following)
                if following not in seen and following:
                    seen.add(following)
                    heapq.heappush(heap, (-len(following), len(seen), following))
        if heap and self._has_unclear:
            raise self._error()

    def _steps(self, stacks: frozenset[int]) -> Iterator[frozenset[int]]:
        """Yield the sets of stacks that one more character, or one more rule in a circle, leads to."""
        chars: list[tuple[Chars, int]] = []
        rules: dict[str, set[int]] = {}
        for stack in stacks:
            if stack == _END:
                continue
            item, rest = self._top(stack)
            if isinstance(item, str):
                rules.setdefault(item, set()).add(rest)
            else:
                chars.append((item, rest))
        for rests in rules.values():
            yield self._closed(rests)
        edges = sorted({edge for item, _ in chars for low, high in item for edge in (low, high + 1)})
        done: set[frozenset[int]] = set()
        for edge in edges:
            rests_at = frozenset(
                rest for item, rest in chars if any(low <= edge <= high for low, high in item)
            )
            if rests_at and rests_at not in done:
                done.add(rests_at)
                yield self._closed(rests_at)

    def _closed(self, stacks: Iterable[int]) -> frozenset[int]:
        """Go into rules until a character is on top, or a rule that would lead back to its own beginning."""
        rounds: dict[str, int] = {}
        found = self._expanded(stacks, frozenset(), rounds)
        while unclear := self._unclear(found, rounds):
            self._has_unclear = True
            found = self._expanded(found, unclear, rounds)
        return found

    def _expanded(
        self, stacks: Iterable[int], also: frozenset[int], rounds: dict[str, int]
    ) -> frozenset[int]:
        found: set[int] = set()
        seen: set[int] = set()
        todo = list(stacks)
        while todo:
            stack = todo.pop()
            if stack in seen:
                continue
            seen.add(stack)
            item, rest = self._top(stack) if stack != _END else ((), _END)
            if isinstance(item, str) and (stack in also or not self._is_inner(stack, item)):
                self._go_round(stack, item, rest, rounds)
                todo += self._entered(item, rest)
            else:
                found.add(stack)
                if isinstance(item, str) and item in self._nullable:
                    todo.append(rest)
                if len(found) > self._max_stacks:
                    raise self._error()
        return frozenset(found)

    def _unclear(self, stacks: frozenset[int], rounds: dict[str, int]) -> frozenset[int]:
        """Return the stacks that may go round their circle on a character that others go on with, too."""
        found = set()
        for stack in stacks - {_END}:
            item, rest = self._top(stack)
            if isinstance(item, str) and self._go_round(stack, item, rest, rounds):
                others = (self._first(self._top(other)[0]) for other in stacks - {_END, stack})
                if any(common(self._first(item), other) for other in others):
                    found.add(stack)
        return frozenset(found)

    def _first(self, item: str | Chars) -> Intervals:
        """Return the characters that a text of this may begin with."""
        if not isinstance(item, str):
            return item
        if item not in self._firsts:
            found: list[tuple[int, int]] = []
            for alternative in self._rules[item]:
                for part in alternative:
                    found += self._first(part)
                    if part not in self._nullable:
                        break
            self._firsts[item] = union(found)
        return self._firsts[item]

    def _go_round(self, stack: int, item: str, rest: int, rounds: dict[str, int]) -> bool:
        """Note that a stack goes round its circle; another with a different end would double them."""
        name = self._nodes[stack][0]
        if item not in self._circles or self._circles[item] != self._circles.get(name):
            return False
        if rounds.setdefault(item, rest) != rest:
            raise self._error()
        return True

    def _is_inner(self, stack: int, item: str) -> bool:
        """Whether a rule in a circle is followed by something, so that going round makes the stack higher."""
        _, alternative, place, _ = self._nodes[stack]
        return item in self._circles and place + 1 < len(alternative)

    def _entered(self, name: str, below: int) -> list[int]:
        return [self._stack(name, alternative, 0, below) for alternative in self._rules[name]]

    def _top(self, stack: int) -> tuple[str | Chars, int]:
        name, alternative, place, below = self._nodes[stack]
        return alternative[place], self._stack(name, alternative, place + 1, below)

    def _stack(self, name: str, alternative: Alternative, place: int, below: int) -> int:
        if place == len(alternative):
            return below
        key = (id(alternative), place, below)
        if key not in self._numbers:
            self._numbers[key] = len(self._nodes)
            self._nodes.append((name, alternative, place, below))
        return self._numbers[key]

    def _error(self) -> ValueError:
        name = self._name.partition("_")[0]
        return ValueError(
            f"The rule {name!r} has alternatives that begin alike and multiply with the length of the text: "
            "write what they share once, in front of a group of what differs."
        )


def _circles(grammar: Grammar) -> dict[str, int]:
    """Return the rules that lead back to themselves other than at their end, by the number of their circle.

    Source:
        Tarjan, "Depth-first search and linear graph algorithms", SIAM J. Comput. 1 (1972), without recursion.
    """
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    found: dict[str, int] = {}
    open_rules: list[str] = []
    uses = {
        name: list(
            dict.fromkeys(item for alternative in rule for item in alternative if isinstance(item, str))
        )
        for name, rule in grammar.rules.items()
    }
    for start in grammar.rules:
        path = [(start, iter(uses[start]))] if start not in index else []
        while path:
            name, following = path[-1]
            if name not in index:
                index[name] = low[name] = len(index)
                open_rules.append(name)
            step = next(following, None)
            if step is not None:
                if step not in index:
                    path.append((step, iter(uses[step])))
                elif step not in found:
                    low[name] = min(low[name], index[step])
                continue
            path.pop()
            if path:
                low[path[-1][0]] = min(low[path[-1][0]], low[name])
            if low[name] == index[name]:
                while name not in found:
                    found[open_rules.pop()] = index[name]
    inner = {
        found[name]
        for name, rule in grammar.rules.items()
        for alternative in rule
        for item in alternative[:-1]
        if isinstance(item, str) and found[item] == found[name]
    }
    return {name: number for name, number in found.items() if number in inner}
