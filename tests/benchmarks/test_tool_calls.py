"""The count of malformed calls sees those there are: it reads what the model wrote, not what ran."""

from __future__ import annotations

from itertools import islice

from localsmith.agents.tools.standard import standard_tools
from localsmith.core.types import Answer, Step, Usage


def turn(text: str, num_tokens: int = 20) -> Step:
    return Step("generate", "a turn", 0.0, usage=Usage(100, 90, num_tokens), output=text)


def test_every_turn_is_counted_by_what_it_is() -> None:
    from benchmarks.reasoning.tool_calls import Tally

    tools = {tool.name: tool for tool in standard_tools()}
    good = 'Thought: I add.\nAction: calculator\nInput: {"expression": "1 + 2"}'
    steps = (
        turn(good),
        Step("tool", "calculator", 0.0, is_error=True),
        turn(good.replace("expression", "sum")),
        turn(good.replace("calculator", "oracle")),
        turn("I would rather not."),
        turn("Thought: I th", num_tokens=64),
        turn("Thought: I know.\nAnswer: 3"),
    )
    tally = Tally()
    tally.add(Answer("3", "answered", steps=steps), tools, longest_turn=64)
    assert (tally.num_turns, tally.num_calls, tally.num_answers) == (6, 3, 1)
    assert (tally.malformed, tally.invalid, tally.cut, tally.failed_calls) == (1, 2, 1, 1)
    assert tally.calls == {"calculator": 2, "oracle": 1} and len(tally.seen) == 3
    figures = tally.figures()
    assert figures["react_malformed_calls"] == 3 and figures["react_calls"] == 3
    assert figures["react_malformed_calls_low"] < 3 <= figures["react_malformed_calls_high"]


def test_questions_are_the_same_for_a_seed_and_of_every_kind() -> None:
    from benchmarks.reasoning.tool_calls import questions

    asked = list(islice(questions(7), 12))
    assert asked == list(islice(questions(7), 12)) != list(islice(questions(8), 12))
    for word in ("pens", "date", "city of the table", "/", "total"):
        assert any(word in question for question in asked)
