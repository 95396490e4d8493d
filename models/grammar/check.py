"""Grammars that llama.cpp can't be handed, found before it gets them.

Place in the data's way: every grammar passes `check_grammar`, those of our own builders and those that HTTP
clients send. llama.cpp answers a repeat that runs backwards, a recursion it overlooks or alternatives that
multiply by ending the process or filling the memory, and with it goes everybody else's request.

Example:
    >>> check_grammar('root ::= "a" | root "b"')
    Traceback (most recent call last):
    ...
    ValueError: The rule 'root' begins with itself, or repeats what may be empty.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator

from .growth import check_growth
from .reader import Alternative, Grammar, read_gbnf

MAX_STACKS = 4000
"""Ways to go on that llama.cpp may have to follow at once."""
_MAX_CHAIN = 400
_MAX_VISITS = 2_000_000


@functools.lru_cache(maxsize=128)
def check_grammar(text: str) -> None:
    """Make sure that a GBNF grammar can be followed at a bounded cost.

    Args:
        text: The grammar; its first rule to apply is `root`.

    Raises:
        ValueError: It is malformed, uses an undefined rule, begins with itself, can't end, is too large, or
            has alternatives that multiply with the length of the text; the reason is in the message.
    """
    try:
        text.encode()
    except UnicodeEncodeError as exc:
        raise ValueError(f"The grammar is not valid Unicode: {exc.reason}.") from exc
    grammar = read_gbnf(text)
    _check_names(grammar)
    nullable = _fixed_point(grammar, lambda item, known: item in known)
    _check_recursion(grammar, nullable)
    ends = _fixed_point(grammar, lambda item, known: not isinstance(item, str) or item in known)
    if endless := [name for name in grammar.rules if name not in ends]:
        raise ValueError(
            f"The rule {_shown(endless[0])!r} never ends: every way through it leads back to it."
        )
    check_growth(grammar, nullable, MAX_STACKS)


def _check_names(grammar: Grammar) -> None:
    if "root" not in grammar.rules:
        raise ValueError("The grammar has no rule 'root'.")
    for name, alternatives in grammar.rules.items():
        for item in (item for alternative in alternatives for item in alternative):
            if isinstance(item, str) and item not in grammar.rules:
                raise ValueError(f"The rule {_shown(name)!r} uses {item!r}, which is not defined.")


def _fixed_point(grammar: Grammar, holds: Callable[[object, set[str]], bool]) -> set[str]:
    """Return the rules of which some alternative holds in every element, rules found before counting."""
    users: dict[str, list[str]] = {}
    for name, alternatives in grammar.rules.items():
        for item in {item for alternative in alternatives for item in alternative if isinstance(item, str)}:
            users.setdefault(item, []).append(name)
    known: set[str] = set()
    todo = list(grammar.rules)
    while todo:
        name = todo.pop()
        if name in known:
            continue
        if any(all(holds(item, known) for item in alternative) for alternative in grammar.rules[name]):
            known.add(name)
            todo += users.get(name, [])
    return known


def _check_recursion(grammar: Grammar, nullable: set[str]) -> None:
    """Refuse left recursion, and left-most chains that llama.cpp walks in exponential time or too deep.

    Its own search for left recursion forgets where it has been, so a rule is visited once for each way to it.
    """
    ways: dict[str, int] = {}
    depths: dict[str, int] = {}
    stacks: dict[str, int] = {}
    for start in grammar.rules:
        path: list[tuple[str, Iterator[str]]] = []
        on_path: set[str] = set()
        _enter(grammar, nullable, start, ways, path, on_path)
        while path:
            name, following = path[-1]
            step = next(following, None)
            if step is None:
                path.pop()
                on_path.discard(name)
                _weigh(grammar, nullable, name, ways, depths, stacks)
            elif step in on_path:
                raise ValueError(
                    f"The rule {_shown(step)!r} begins with itself, or repeats what may be empty."
                )
            else:
                _enter(grammar, nullable, step, ways, path, on_path)
    if sum(ways.values()) > _MAX_VISITS or max(depths.values()) > _MAX_CHAIN:
        raise ValueError("The grammar's rules begin with one another in too many ways.")
    widest = max(stacks, key=lambda name: stacks[name])
    if stacks[widest] > MAX_STACKS:
        raise ValueError(f"The rule {_shown(widest)!r} has more than {MAX_STACKS} ways to begin.")


def _enter(
    grammar: Grammar,
    nullable: set[str],
    name: str,
    done: dict[str, int],
    path: list[tuple[str, Iterator[str]]],
    on_path: set[str],
) -> None:
    if name not in done:
        on_path.add(name)
        path.append((name, _leftmost(grammar, nullable, name)))


def _leftmost(grammar: Grammar, nullable: set[str], name: str) -> Iterator[str]:
    for alternative in grammar.rules[name]:
        yield from (item for item in _beginning(alternative, nullable) if isinstance(item, str))


def _beginning(alternative: Alternative, nullable: set[str]) -> Iterator[object]:
    """Yield the elements that a text of this alternative may begin with."""
    for item in alternative:
        yield item
        if item not in nullable:
            return


def _weigh(
    grammar: Grammar,
    nullable: set[str],
    name: str,
    ways: dict[str, int],
    depths: dict[str, int],
    stacks: dict[str, int],
) -> None:
    steps = list(_leftmost(grammar, nullable, name))
    ways[name] = min(_MAX_VISITS + 1, 1 + sum(ways[step] for step in steps))
    depths[name] = 1 + max((depths[step] for step in steps), default=0)
    begun = 0
    for alternative in grammar.rules[name]:
        items = list(_beginning(alternative, nullable))
        begun += sum(stacks[item] if isinstance(item, str) else 1 for item in items) or 1
    stacks[name] = min(MAX_STACKS + 1, begun)


def _shown(name: str) -> str:
    return name.partition("_")[0]
