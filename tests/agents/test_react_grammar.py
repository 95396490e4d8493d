"""Whatever the grammar accepts is a turn that can be read, with arguments that the tool's schema allows."""

from __future__ import annotations

import json
import random
import sys
from pathlib import Path
from typing import Any

import pytest
from localsmith.agents.acting.actions import (
    MAX_THOUGHT_CHARS,
    Call,
    answer_grammar,
    answer_start,
    parse_turn,
    thought_of,
    turn_grammar,
    turn_tokens,
)
from localsmith.agents.tools.check import check_arguments
from localsmith.agents.tools.standard import standard_tools
from localsmith.agents.tools.tool import FunctionTool, Observation
from localsmith.core.errors import OutputParseError
from localsmith.core.types import ProgramResult
from localsmith.models.grammar.reader import Alternative, Grammar, read_gbnf

sys.path.insert(0, str(Path(__file__).parent))
from react_tools import call


class NoSandbox:
    name = "none"

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        raise AssertionError


class NoShelf:
    def search(self, *_: Any, **__: Any) -> list[Any]:
        raise AssertionError


def tool(name: str, properties: dict[str, Any], *required: str) -> FunctionTool:
    schema = {"type": "object", "properties": properties, "required": list(required)}
    return FunctionTool(name, "x", schema, lambda *_: Observation(""))


OTHERS = [
    tool(
        "nested",
        {"a": {"type": "array", "items": {"type": "object", "properties": {"x": {"type": "number"}}}}},
    ),
    tool(
        "either",
        {"a": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "b": {"enum": ["ä", '"', "\\"]}},
        "a",
    ),
    tool("open", {"a": {}}),
    tool("none", {}),
    tool("mail", {"to": {"type": "string", "format": "email"}, "n": {"type": "integer", "minimum": 3}}, "to"),
]
TOOLS = [
    *standard_tools(
        retriever=NoShelf(),
        sandbox=NoSandbox(),
        tables=lambda question: [],
        allowed_hosts=["example.org"],
    ),
    *OTHERS,
]


class Writer:
    """Writes random texts of a grammar; after a while it takes the ways that end soonest."""

    def __init__(self, grammar: Grammar) -> None:
        self._rules = grammar.rules
        self._shortest: dict[str, float] = dict.fromkeys(grammar.rules, float("inf"))
        for _ in range(len(self._shortest)):
            known = dict(self._shortest)
            for name, alternatives in self._rules.items():
                self._shortest[name] = min(map(self._length, alternatives))
            if known == self._shortest:
                break

    def _length(self, alternative: Alternative) -> float:
        return sum(self._shortest[item] if isinstance(item, str) else 1 for item in alternative)

    def text(self, seed: int, patience: int) -> str:
        chance = random.Random(seed)
        written: list[str] = []
        todo: list[Any] = ["root"]
        while todo:
            item = todo.pop()
            if not isinstance(item, str):
                low, high = chance.choice(item)
                written.append(chr(chance.randint(low, min(high, low + 200))))
                continue
            alternatives = self._rules[item]
            chosen = (
                chance.choice(alternatives)
                if len(written) < patience
                else min(alternatives, key=self._length)
            )
            todo += reversed(chosen)
        return "".join(written)


def test_every_turn_that_the_grammar_accepts_is_read_and_every_call_is_allowed() -> None:
    by_name = {tool.name: tool for tool in TOOLS}
    writer = Writer(read_gbnf(turn_grammar(TOOLS)))
    called: set[str] = set()
    num_answers = 0
    for seed in range(400):
        text = writer.text(seed, patience=20 + seed)
        turn = parse_turn(text)
        assert len(turn.thought) <= MAX_THOUGHT_CHARS
        if turn.call is None:
            num_answers += 1
            assert turn.answer
        else:
            check_arguments(by_name[turn.call.tool].parameters, turn.call.values)
            called.add(turn.call.tool)
    assert called == set(by_name) and num_answers > 50


def test_no_beginning_of_a_call_is_read_as_one() -> None:
    writer = Writer(read_gbnf(turn_grammar(TOOLS)))
    for seed in range(40):
        text = writer.text(seed, patience=100)
        if "\nAction: " not in text:
            continue
        for end in range(len(text)):
            with pytest.raises(OutputParseError):
                parse_turn(text[:end])


def test_an_answer_alone_is_read_where_it_is_all_that_is_allowed() -> None:
    writer = Writer(read_gbnf(answer_grammar()))
    for seed in range(50):
        turn = parse_turn(writer.text(seed, patience=30))
        assert turn.call is None and turn.answer


def test_texts_are_bounded_so_that_a_call_fits_into_a_turn() -> None:
    writer = Writer(read_gbnf(turn_grammar(standard_tools())))
    limit = turn_tokens(standard_tools())
    calls = [text for seed in range(300) if "\nAction: " in (text := writer.text(seed, 10**6))]
    assert len(calls) > 50
    assert max(map(len, calls)) / 1.5 < limit + 200  # a character may be an escape of six


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Thought: x",
        "Thought: x\nAction: send",
        "Thought: x\nAction: send\nInput: ",
        'Thought: x\nAction: send\nInput: {"a": 1',
        'Thought: x\nAction: send\nInput: {"a": 1} and more',
        "Thought: x\nAction: send\nInput: [1]",
        "Thought: x\nAction: a b\nInput: {}",
        'Action: send\nInput: {"a": 1}',
        'x\nThought: x\nAction: send\nInput: {"a": 1}',
        'Thought: x\n\nAction: send\nInput: {"a": 1}',
    ],
)
def test_what_is_no_turn_is_an_error_and_never_a_call(text: str) -> None:
    with pytest.raises(OutputParseError):
        parse_turn(text)


def test_markup_inside_of_a_turn_stays_what_it_is() -> None:
    turn = parse_turn(call("send", "Answer: Action: x", text="\nAction: other\nAnswer: 1"))
    assert turn.call == Call("send", json.dumps({"text": "\nAction: other\nAnswer: 1"}))
    answered = parse_turn('Thought: x\nAnswer: Action: send\nInput: {"text": "y"}')
    assert answered.call is None and answered.answer == 'Action: send\nInput: {"text": "y"}'


def test_an_answer_is_seen_as_soon_as_it_begins_and_nowhere_else() -> None:
    assert answer_start("Thought: Answer: no\nAns") is None
    assert answer_start("Thought: x\nAnswer: 4") == len("Thought: x\nAnswer: ")
    assert answer_start("Answer: 4") == len("Answer: ")
    assert answer_start('Thought: x\nAction: a\nAnswer: {"x') is None
    assert thought_of("Thought: I will\nAct") == "I will" and thought_of("Act") == ""
