"""The planner: what it chooses, what that costs, and when one attempt is not enough."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from localsmith.agents.planner import PlannerStrategy
from localsmith.agents.planning.escalation import MIN_MEAN_LOGPROB, Attempt, doubts_of
from localsmith.agents.registry import STRATEGIES, StrategyParts, build_strategy
from localsmith.agents.sandbox.choose import choose_sandbox
from localsmith.agents.strategy import Strategy
from localsmith.core.contracts import Sandbox
from localsmith.core.errors import ConfigError, IndexNotFoundError, SandboxError
from localsmith.core.settings import AnswerSettings, load_settings
from localsmith.core.types import (
    Answer,
    ApprovalNeeded,
    Chunk,
    Delta,
    Event,
    Final,
    Message,
    Passage,
    Question,
    Step,
    StepEnded,
)
from localsmith.models.scripted import ScriptedModel

EGGS = "A box holds 12 eggs. How many eggs are in 7 boxes?"
LEAVE = "Every employee has thirty days of paid leave a year."


class Shelf:
    """A retriever with one passage, or none."""

    def __init__(self, *, is_empty: bool = False) -> None:
        self.num_searches = 0
        self._is_empty = is_empty

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        self.num_searches += 1
        if collection != "default":
            raise IndexNotFoundError("There is no such collection.")
        chunk = Chunk("c1", "d1", 0, LEAVE, 0, len(LEAVE), 1, (), 12)
        return [] if self._is_empty else [Passage(chunk, "handbook.pdf", 1, 1.0, 1, 1, 0.5)]


@pytest.fixture(scope="module")
def sandbox() -> Sandbox:
    settings = load_settings()
    return choose_sandbox(settings.sandbox, settings.sandbox_cache_dir)


def parts(
    model: ScriptedModel, tmp_path: Path, sandbox: Sandbox | None = None, *, has_documents: bool = False
) -> StrategyParts:
    def open_sandbox() -> Sandbox:
        if sandbox is None:
            raise SandboxError("No sandbox can run here.")
        return sandbox

    return StrategyParts(
        model=model,
        retriever=Shelf(is_empty=not has_documents),
        sandbox=open_sandbox,
        tools=lambda: (),
        state_dir=tmp_path,
        answer=AnswerSettings(max_tokens=100),
    )


def program(expression: str) -> str:
    return f"```python\ndef solution():\n    return {expression}\n```"


def scripted(programs: Sequence[str] = (), chains: Sequence[str] = (), word: str = "fact") -> ScriptedModel:
    """A model that writes these programs, these chains of thought, and chooses this word."""
    left = {"program": list(programs), "chain": list(chains)}

    def reply(messages: Sequence[Message]) -> str:
        system = messages[0].content
        if "You choose how" in system:
            return word
        if any("def solution" in message.content for message in messages):
            return left["program"].pop(0)
        return left["chain"].pop(0) if left["chain"] else "As I know."

    return ScriptedModel(reply, n_ctx=8192)


def run(strategy: Strategy, question: Question | str) -> tuple[list[Event], Answer]:
    asked = Question(question) if isinstance(question, str) else question
    events = list(strategy.events(asked))
    assert isinstance(events[-1], Final)
    answer = events[-1].answer
    told = tuple(event.step for event in events if isinstance(event, StepEnded))
    assert told == answer.steps
    assert "".join(event.text for event in events if isinstance(event, Delta)) == answer.text
    return events, answer


def test_a_question_about_documents_costs_no_further_completion(tmp_path: Path) -> None:
    model = ScriptedModel(["Thirty days [1]."], n_ctx=8192)
    _, answer = run(
        PlannerStrategy(parts(model, tmp_path, has_documents=True)), "How many days of paid leave are there?"
    )
    assert len(model.prompts) == 1
    assert answer.citations and answer.steps[0].kind == "plan"
    assert answer.steps[0].summary.startswith("Documents: There are documents")


def test_the_model_chooses_where_the_words_leave_doubt_and_can_write_nothing_else(tmp_path: Path) -> None:
    model = scripted(chains=["It can't. The answer is no."], word="steps")
    _, answer = run(PlannerStrategy(parts(model, tmp_path)), "Could a llama fly a plane?")
    assert answer.text.endswith("The answer is no.")
    assert answer.steps[0].summary.startswith("Chain of thought:")
    assert answer.steps[0].usage is not None and answer.steps[0].usage.completion_tokens > 0
    assert model.samplings[0].grammar == 'root ::= "fact" | "steps" | "program"'
    assert answer.usage.completion_tokens == sum(s.usage.completion_tokens for s in answer.steps if s.usage)


def test_a_word_that_is_no_choice_leads_to_steps_of_thought(tmp_path: Path) -> None:
    model = scripted(chains=["The answer is no."], word="banana")
    _, answer = run(PlannerStrategy(parts(model, tmp_path)), "Could a llama fly a plane?")
    assert answer.steps[0].output == "cot"


def test_a_program_without_doubt_is_the_only_attempt(tmp_path: Path, sandbox: Sandbox) -> None:
    model = scripted([program("12 * 7")])
    _, answer = run(PlannerStrategy(parts(model, tmp_path, sandbox)), EGGS)
    assert answer.text == "The answer is 84." and len(model.prompts) == 1
    assert [step.kind for step in answer.steps if step.kind in ("plan", "program", "vote")] == [
        "plan",
        "program",
    ]


def test_a_program_in_doubt_is_checked_until_two_agree(tmp_path: Path, sandbox: Sandbox) -> None:
    model = scripted([program("12 * 8"), program("12 * 7")], ["7 times 12 is 84. The answer is 84."])
    _, answer = run(PlannerStrategy(parts(model, tmp_path, sandbox)), EGGS)  # the first leaves out the 7
    assert answer.text == "The answer is 84." and len(model.prompts) == 3
    [doubt] = [step for step in answer.steps[1:] if step.kind == "plan"]
    assert "does not use 7" in doubt.summary
    assert answer.steps[-1].kind == "vote" and answer.steps[-1].summary == "84 (2 of 3), 96 (1 of 3)"
    assert model.samplings[0].temperature == 0 and model.samplings[1].temperature > 0
    begun = [step.begun_s for step in answer.steps]
    assert begun == sorted(begun)  # one line of time, whatever strategy a step was of


def test_a_second_attempt_that_agrees_ends_it(tmp_path: Path, sandbox: Sandbox) -> None:
    model = scripted([program("-84"), program("12 * -7")])
    _, answer = run(PlannerStrategy(parts(model, tmp_path, sandbox)), EGGS)
    assert answer.text == "The answer is -84." and len(model.prompts) == 2


def test_where_none_agree_the_first_that_has_an_answer_is_taken(tmp_path: Path, sandbox: Sandbox) -> None:
    broken = program("1 / 0")
    model = scripted([broken, broken, broken, program("12 * 7"), program("2")], ["The answer is 5."])
    _, answer = run(PlannerStrategy(parts(model, tmp_path, sandbox)), EGGS)
    assert answer.text == "The answer is 84." and answer.stop_reason == "answered"


def test_without_a_sandbox_the_model_thinks_in_steps_and_says_why(tmp_path: Path) -> None:
    model = scripted(chains=["The answer is 84."])
    _, answer = run(PlannerStrategy(parts(model, tmp_path)), EGGS)
    assert answer.text == "The answer is 84."
    failed = [step for step in answer.steps if step.is_error]
    assert len(failed) == 1 and "No sandbox can run here." in failed[0].summary


def test_cancelling_ends_the_run_between_attempts(tmp_path: Path, sandbox: Sandbox) -> None:
    model = scripted([program("3"), program("4")])
    cancel = threading.Event()
    answer = None
    for event in PlannerStrategy(parts(model, tmp_path, sandbox)).events(Question(EGGS), cancel=cancel):
        if isinstance(event, StepEnded) and event.step.kind == "program":
            cancel.set()
        if isinstance(event, Final):
            answer = event.answer
    assert answer is not None and answer.stop_reason == "cancelled" and len(model.prompts) == 1


def test_a_missing_collection_is_an_error_here_too(tmp_path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        run(PlannerStrategy(parts(scripted(), tmp_path)), Question("Anything?", collection="nowhere"))


@pytest.mark.parametrize(
    ("question", "value", "mean", "doubt"),
    [
        ("How many?", None, 0.0, "no answer"),
        ("How many?", "-3", 0.0, "below zero"),
        ("How many?", "2.5", 0.0, "no whole number"),
        ("What part of 8?", "2.5", 0.0, "does not use 8"),
        ("How many?", "3", MIN_MEAN_LOGPROB - 0.01, "not sure"),
        ("How many?", "3", MIN_MEAN_LOGPROB + 0.01, ""),
        ("How many?", "3", None, ""),
    ],
)
def test_what_speaks_against_an_attempt(question: str, value: str | None, mean: float, doubt: str) -> None:
    steps = (Step("program", "ran", 0.0, prompt="def solution(): return 3"),)
    attempt = Attempt(Answer("", "answered", steps=steps), value)
    found = "; ".join(doubts_of(question, attempt, mean))
    assert doubt in found and bool(doubt) == bool(found)


def test_a_call_that_waits_is_told_with_the_run_to_resume(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localsmith.agents.tools.tool import FunctionTool, Observation

    tool = FunctionTool(
        "send", "Send a letter.", {"type": "object", "properties": {}, "additionalProperties": False},
        lambda arguments, context: Observation("sent"), needs_approval=True,
    )  # fmt: skip
    model = ScriptedModel(["tool", "Thought: I send it.\nAction: send\nInput: {}"], n_ctx=8192)
    wired = replace(parts(model, tmp_path), tools=lambda: (tool,), has_own_tools=True)
    events, answer = run(PlannerStrategy(wired), "Could you send the letter to Ann?")
    assert "send: Send a letter." in model.prompts[0][0].content
    [needed] = [event for event in events if isinstance(event, ApprovalNeeded)]
    assert needed.run_id == answer.trace_id and answer.stop_reason == "needs_approval"


def test_an_unknown_strategy_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'pal-vote'"):
        build_strategy("pal-votes", parts(scripted(), tmp_path))


def test_every_strategy_can_be_built_and_says_what_it_does(tmp_path: Path, sandbox: Sandbox) -> None:
    for name, info in STRATEGIES.items():
        if name != "react":  # it needs tools
            assert isinstance(build_strategy(name, parts(scripted(), tmp_path, sandbox)), Strategy)
        assert info.name == name and info.description.endswith(".")
