from __future__ import annotations

import contextlib
import io
import threading
import time
import traceback
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from localsmith.agents.pal import FAILED, PalStrategy
from localsmith.agents.reasoning.examples import load_examples
from localsmith.agents.sandbox.choose import choose_sandbox
from localsmith.core.errors import ContextOverflow, SandboxError
from localsmith.core.settings import AnswerSettings, load_settings
from localsmith.core.types import Answer, Delta, Event, Final, Message, ProgramResult, Progress, Question
from localsmith.models.engine import Engine
from localsmith.models.scripted import ScriptedModel

ASKED = Question("A pear costs 3 crowns and a ring 40. What do 5 pears and 2 rings cost?")


class OpenBox:
    """A sandbox that is none: for the programs in this file only."""

    name = "open box"

    def __init__(self) -> None:
        self.programs: list[str] = []

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        self.programs.append(program)
        out = io.StringIO()
        try:
            with contextlib.redirect_stdout(out):
                exec(program, {})
        except Exception:
            return ProgramResult("error", out.getvalue(), traceback.format_exc(limit=0))
        return ProgramResult("ok", out.getvalue())


class NoBox:
    """A sandbox that can't run here."""

    name = "none"

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        raise SandboxError("There is no sandbox here.")


def program(expression: str) -> str:
    return f"```python\ndef solution():\n    return {expression}\n```\nThis returns the price."


GOOD, OTHER_GOOD, BAD, BROKEN = (
    program("5 * 3 + 2 * 40"),
    program("95.0"),
    program("5 + 2 + 43"),
    program("pears * 3"),
)


def run(
    replies: Sequence[str], num_samples: int = 1, max_repairs: int = 2, delay_s: float = 0.0
) -> tuple[Answer, ScriptedModel, list[Event]]:
    model = ScriptedModel(list(replies), token_delay_s=delay_s)
    strategy = PalStrategy(model, OpenBox(), num_samples=num_samples, max_repairs=max_repairs)
    events = list(strategy.events(ASKED))
    assert isinstance(events[-1], Final)
    answer = events[-1].answer
    assert "".join(event.text for event in events if isinstance(event, Delta)) == answer.text
    return answer, model, events


def kinds(answer: Answer) -> list[str]:
    return [step.kind for step in answer.steps]


# -- one program


def test_what_the_program_returns_is_the_answer() -> None:
    answer, model, events = run([GOOD])
    assert answer.text == "The answer is 95." and answer.stop_reason == "answered"
    assert kinds(answer) == ["generate", "program"]
    step = answer.steps[1]
    assert step.prompt == "def solution():\n    return 5 * 3 + 2 * 40" and step.output == "95"
    assert "This returns" not in answer.steps[0].output  # the block's end ends the completion
    assert model.prompts[0][1:-1] == load_examples("pal").messages()
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert {"programming", "running"} <= set(stages)


def test_an_error_goes_back_to_the_model() -> None:
    answer, model, _ = run([BROKEN, GOOD])
    assert answer.text == "The answer is 95."
    assert kinds(answer) == ["generate", "program", "generate", "program"]
    assert answer.steps[1].is_error and not answer.steps[3].is_error
    shown, told = model.prompts[1][-2:]
    assert shown == Message("assistant", "```python\ndef solution():\n    return pears * 3\n```")
    assert "name 'pears' is not defined" in told.content


def test_a_reply_without_a_program_goes_back_too() -> None:
    answer, model, _ = run(["I would rather not.", GOOD])
    assert answer.text == "The answer is 95."
    assert "solution()" in model.prompts[1][-1].content
    assert model.prompts[1][-2] == Message("assistant", "I would rather not.")


def test_a_model_without_a_word_gets_another_chance() -> None:
    answer, model, _ = run(["\n```python\nprint(1)", GOOD])
    assert answer.text == "The answer is 95." and len(model.prompts) == 2


def test_after_the_last_repair_nothing_is_invented() -> None:
    answer, model, _ = run([BROKEN] * 9, max_repairs=2)
    assert answer.text == FAILED and answer.stop_reason == "step_limit"
    assert len(model.prompts) == 3


def test_a_window_too_small_for_the_repair_ends_the_run_in_words() -> None:
    model = ScriptedModel([BROKEN], n_ctx=900)
    room = 900 - model.count_prompt((*load_examples("pal").messages(), Message("user", ASKED.text)))
    strategy = PalStrategy(model, OpenBox(), AnswerSettings(max_tokens=room - 130))
    answer = strategy.invoke(ASKED)
    assert answer.text == FAILED and len(model.prompts) == 1


def test_a_question_that_does_not_fit_says_so() -> None:
    with pytest.raises(ContextOverflow):
        PalStrategy(ScriptedModel([], n_ctx=500), OpenBox()).invoke(Question("why " * 400))


def test_a_sandbox_that_can_not_run_says_so() -> None:
    with pytest.raises(SandboxError):
        PalStrategy(ScriptedModel([GOOD]), NoBox()).invoke(ASKED)


def test_a_cancelled_program_is_not_run() -> None:
    cancel, box = threading.Event(), OpenBox()
    seen: list[Event] = []
    strategy = PalStrategy(ScriptedModel([GOOD], token_delay_s=0.01), box)
    for event in strategy.events(ASKED, cancel=cancel):
        seen.append(event)
        if isinstance(event, Progress) and event.stage == "programming":
            cancel.set()
    assert isinstance(seen[-1], Final)
    assert seen[-1].answer.stop_reason == "cancelled" and seen[-1].answer.text == ""
    assert box.programs == []


# -- several programs


def test_results_vote_and_equal_numbers_vote_together() -> None:
    answer, model, _ = run([GOOD, BAD, OTHER_GOOD, BAD, GOOD], num_samples=5, delay_s=0.001)
    assert answer.text == "The answer is 95."
    vote = answer.steps[-1]
    assert vote.kind == "vote" and vote.summary.startswith("95 (3 of ")
    assert len({sampling.seed for sampling in model.samplings}) == 5
    assert all(sampling.temperature == 0.7 for sampling in model.samplings)


def test_programs_that_fail_do_not_vote() -> None:
    answer, _, _ = run([BROKEN, GOOD, BROKEN], num_samples=3, delay_s=0.001)
    assert answer.text == "The answer is 95." and "95 (1 of 3)" in answer.steps[-1].summary


def test_a_vote_that_can_not_change_ends_early() -> None:
    slow = "# so\n" * 200
    answer, _, _ = run([GOOD, GOOD, GOOD, slow, slow], num_samples=5, delay_s=0.005)
    assert answer.text == "The answer is 95." and "95 (3 of 3)" in answer.steps[-1].summary
    stopped = [step for step in answer.steps if "stopped on the way" in step.summary]
    assert len(stopped) == 2
    assert all(step.usage is not None and step.usage.completion_tokens < 400 for step in stopped)


def test_where_all_fail_the_first_is_repaired() -> None:
    answer, model, _ = run([BROKEN, BROKEN, GOOD], num_samples=2, delay_s=0.001)
    assert answer.text == "The answer is 95."
    assert len(model.prompts) == 3 and "is not defined" in model.prompts[2][-1].content


def test_cancelling_the_vote_stops_all_programs_within_a_step() -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    strategy = PalStrategy(ScriptedModel(["# so\n" * 200] * 4, token_delay_s=0.02), OpenBox(), num_samples=4)
    begun = time.monotonic()
    answer = list(strategy.events(ASKED, cancel=cancel))[-1]
    assert isinstance(answer, Final) and answer.answer.stop_reason == "cancelled"
    assert time.monotonic() - begun < 5  # of 8 s


@pytest.mark.parametrize(("num_samples", "max_repairs"), [(0, 2), (1, -1)])
def test_impossible_numbers_are_refused(num_samples: int, max_repairs: int) -> None:
    with pytest.raises(ValueError, match=r"0|-1"):
        PalStrategy(ScriptedModel([]), OpenBox(), num_samples=num_samples, max_repairs=max_repairs)


# -- the real model and the real sandbox


@pytest.fixture(scope="module")
def engine(browser_model_path: Path) -> Iterator[Engine]:
    settings = load_settings(model={"n_ctx": 2048, "max_running": 3}).model
    engine = Engine(browser_model_path, name="qwen2.5-coder-0.5b", settings=settings)
    yield engine
    engine.close()


@pytest.mark.real_model
def test_a_small_model_programs_what_it_can_not_calculate(engine: Engine) -> None:
    settings = load_settings()
    sandbox = choose_sandbox(settings.sandbox, settings.sandbox_cache_dir)
    two = load_examples("pal").take((0, 2))
    strategy = PalStrategy(engine, sandbox, AnswerSettings(max_tokens=100), num_samples=3, examples=two)
    answer = strategy.invoke(Question("A box holds 4873 pears. How many pears do 9127 boxes hold?"))
    assert answer.text == f"The answer is {4873 * 9127}."
    assert "program" in kinds(answer) and kinds(answer)[-1] == "vote"
