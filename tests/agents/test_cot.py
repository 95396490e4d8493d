from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from localsmith.agents.cot import ZERO_SHOT_FORMAT, CotStrategy, closing_line
from localsmith.agents.reasoning.examples import load_examples
from localsmith.agents.reasoning.extraction import comparable, final_answer
from localsmith.core.errors import ContextOverflow, GenerationError
from localsmith.core.settings import AnswerSettings, load_settings
from localsmith.core.types import Answer, Delta, Event, Final, Message, Progress, Question
from localsmith.models.engine import Engine
from localsmith.models.scripted import ScriptedModel

ASKED = Question("A pear costs 3 crowns and a ring 40. What do 5 pears and 2 rings cost?")
GOOD = "5 pears cost 5 * 3 = 15. 2 rings cost 2 * 40 = 80. Together 15 + 80 = 95.\nThe answer is 95."
BAD = "5 + 3 = 8 and 2 + 40 = 42.\nThe answer is 50."


def final(events: Sequence[Event]) -> Answer:
    assert isinstance(events[-1], Final)
    assert sum(isinstance(event, Final) for event in events) == 1
    shown = "".join(event.text for event in events if isinstance(event, Delta))
    assert shown == events[-1].answer.text
    return events[-1].answer


def kinds(answer: Answer) -> list[str]:
    return [step.kind for step in answer.steps]


# -- one chain


def test_the_reasoning_is_shown_as_it_comes_and_ends_with_the_answer() -> None:
    events = list(CotStrategy(ScriptedModel([GOOD])).events(ASKED))
    answer = final(events)
    assert answer.text == GOOD and answer.stop_reason == "answered"
    assert sum(isinstance(event, Delta) for event in events) > 10
    assert "thinking" in [event.stage for event in events if isinstance(event, Progress)]
    assert kinds(answer) == ["generate"]


def test_worked_examples_go_before_the_question() -> None:
    model = ScriptedModel([GOOD])
    CotStrategy(model).invoke(ASKED)
    assert model.prompts[0][1:-1] == load_examples("cot").messages()
    assert model.prompts[0][-1] == Message("user", ASKED.text)


def test_zero_shot_has_the_instruction_alone() -> None:
    model = ScriptedModel([GOOD])
    CotStrategy(model, examples=None).invoke(ASKED)
    assert [message.role for message in model.prompts[0]] == ["system", "user"]
    assert ZERO_SHOT_FORMAT in model.prompts[0][0].content


def test_the_conversation_goes_with_the_question() -> None:
    history = (Message("user", "Pears are on sale."), Message("assistant", "So they are."))
    model = ScriptedModel([GOOD])
    CotStrategy(model).invoke(Question(ASKED.text, history=history))
    assert model.prompts[0][-3:-1] == history


def test_an_answer_in_another_form_gets_a_closing_line() -> None:
    answer = final(list(CotStrategy(ScriptedModel(["15 + 80 = 95\n#### 95\nThat is a lot."])).events(ASKED)))
    assert answer.text.endswith("\n\nThe answer is 95.") and answer.text.startswith("15 + 80 = 95\n")


def test_a_chain_without_an_answer_is_asked_for_it() -> None:
    reasoning = "5 pears are 15 and 2 rings are 80, and one adds them."
    model = ScriptedModel([reasoning, "The answer is 95."])
    answer = final(list(CotStrategy(model).events(ASKED)))
    assert answer.text == f"{reasoning}\n\nThe answer is 95."
    assert model.prompts[1][: len(model.prompts[0])] == model.prompts[0]
    assert model.prompts[1][-2] == Message("assistant", reasoning)
    assert kinds(answer) == ["generate", "generate"]


def test_a_chain_that_never_answers_gets_nothing_invented() -> None:
    answer = final(list(CotStrategy(ScriptedModel(["I wonder.", "I can't tell."])).events(ASKED)))
    assert answer.text == "I wonder."


def test_a_chain_that_fills_the_window_is_taken_as_it_is() -> None:
    reasoning = "Fifteen and eighty make 95" + " or so" * 200
    strategy = CotStrategy(
        ScriptedModel([reasoning], n_ctx=560), AnswerSettings(max_tokens=430), examples=None
    )
    answer = final(list(strategy.events(ASKED)))
    assert answer.text.endswith("\n\nThe answer is 95.")


def test_a_cancelled_chain_ends_with_what_is_there() -> None:
    cancel = threading.Event()
    seen: list[Event] = []
    for event in CotStrategy(ScriptedModel([GOOD], token_delay_s=0.005)).events(ASKED, cancel=cancel):
        seen.append(event)
        if isinstance(event, Delta):
            cancel.set()
    answer = final(seen)
    assert answer.stop_reason == "cancelled" and 0 < len(answer.text) < len(GOOD) / 2


# -- several chains


def test_the_majority_decides_and_the_votes_are_shown() -> None:
    model = ScriptedModel([BAD, GOOD, GOOD, BAD, GOOD], token_delay_s=0.001)
    answer = final(list(CotStrategy(model, num_samples=5).events(ASKED)))
    assert answer.text == GOOD
    assert kinds(answer)[-1] == "vote" and kinds(answer)[:-1] == ["sample"] * 5
    assert answer.steps[-1].summary.startswith("95 (3 of ")
    assert len({sampling.seed for sampling in model.samplings}) == 5
    assert all(sampling.temperature == 0.7 for sampling in model.samplings)


def test_answers_written_in_other_words_vote_together() -> None:
    model = ScriptedModel(["The answer is $95.00.", "The answer is 95 crowns."])
    answer = final(list(CotStrategy(model, num_samples=2).events(ASKED)))
    assert final_answer(answer.text) in {"$95.00", "95 crowns"}
    assert "95 (2 of 2)" in answer.steps[-1].summary


def test_a_vote_that_can_not_change_ends_early() -> None:
    slow = "so " * 400
    model = ScriptedModel([GOOD, GOOD, GOOD, slow, slow], token_delay_s=0.004)
    answer = final(list(CotStrategy(model, AnswerSettings(max_tokens=500), num_samples=5).events(ASKED)))
    assert answer.text == GOOD and answer.stop_reason == "answered"
    assert "95 (3 of 3)" in answer.steps[-1].summary
    stopped = [step for step in answer.steps if "stopped on the way" in step.summary]
    assert len(stopped) == 2
    assert all(step.usage is not None and 0 < step.usage.completion_tokens < 400 for step in stopped)


def test_the_sum_of_the_samples_is_the_usage_of_the_run() -> None:
    answer = final(list(CotStrategy(ScriptedModel([GOOD] * 3), num_samples=3).events(ASKED)))
    used = [step.usage.completion_tokens for step in answer.steps if step.usage is not None]
    assert len(used) == 3 and sum(used) == answer.usage.completion_tokens


def test_chains_cut_off_or_without_an_answer_do_not_vote() -> None:
    cut = "First 1, then 2, then 3, " * 30
    model = ScriptedModel([cut, cut, GOOD], token_delay_s=0.001)
    answer = final(list(CotStrategy(model, AnswerSettings(max_tokens=60), num_samples=3).events(ASKED)))
    assert answer.text == GOOD
    assert answer.steps[-1].summary == "95 (1 of 3)"


def test_where_no_chain_has_an_answer_one_is_shown_without_a_closing_line() -> None:
    answer = final(list(CotStrategy(ScriptedModel(["Hm."] * 2), num_samples=2).events(ASKED)))
    assert answer.text == "Hm." and "None of 2" in answer.steps[-1].summary


def test_chains_without_a_word_are_an_error() -> None:
    with pytest.raises(GenerationError):
        list(CotStrategy(ScriptedModel([""] * 2), num_samples=2).events(ASKED))


def test_cancelling_the_vote_stops_all_chains_within_a_step() -> None:
    cancel = threading.Event()
    threading.Timer(0.2, cancel.set).start()
    model = ScriptedModel(["so " * 1000] * 4, token_delay_s=0.01)
    begun = time.monotonic()
    strategy = CotStrategy(model, AnswerSettings(max_tokens=1200), num_samples=4)
    answer = final(list(strategy.events(ASKED, cancel=cancel)))
    assert time.monotonic() - begun < 6  # of 10 s and more
    assert answer.stop_reason == "cancelled" and answer.text == ""


def test_leaving_the_events_stops_all_chains() -> None:
    model = ScriptedModel([GOOD, *["so " * 1000] * 3], token_delay_s=0.01)
    strategy = CotStrategy(model, AnswerSettings(max_tokens=1200), num_samples=4)
    events = strategy.events(ASKED)
    begun = time.monotonic()
    while not (isinstance(event := next(events), Progress) and event.stage == "voting"):
        pass
    events.close()
    assert time.monotonic() - begun < 6  # of 10 s and more


def test_weights_are_asked_of_the_model_only_where_they_count() -> None:
    for is_weighted in (False, True):
        model = ScriptedModel([GOOD] * 2)
        CotStrategy(model, num_samples=2, is_weighted=is_weighted).invoke(ASKED)
        assert {sampling.num_logprobs for sampling in model.samplings} == {0 if is_weighted else None}


def test_a_question_that_does_not_fit_says_so() -> None:
    for num_samples in (1, 3):
        with pytest.raises(ContextOverflow):
            CotStrategy(ScriptedModel([], n_ctx=500), num_samples=num_samples).invoke(Question("why " * 400))


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        CotStrategy(ScriptedModel([]), num_samples=0)


@pytest.mark.parametrize(
    ("text", "answer", "line"),
    [
        ("Because.\nThe answer is 5.", "5", ""),
        ("Because.\nThe answer is 5.\n\n", "5", ""),
        ("The answer is 5.\nBecause.", "5", "\n\nThe answer is 5."),
        ("Because.", None, ""),
    ],
)
def test_a_closing_line_is_added_only_where_it_is_missing(text: str, answer: str | None, line: str) -> None:
    assert closing_line(text, answer) == line


# -- the real model


@pytest.fixture(scope="module")
def engine(browser_model_path: Path) -> Iterator[Engine]:
    settings = load_settings(model={"n_ctx": 2048, "max_running": 3}).model
    engine = Engine(browser_model_path, name="qwen2.5-coder-0.5b", settings=settings)
    yield engine
    engine.close()


@pytest.mark.real_model
def test_a_small_model_reasons_and_votes(engine: Engine) -> None:
    asked = Question("A box holds 4 pears. How many pears do 3 boxes hold?")
    two = load_examples("cot").take((0, 3))
    answer = CotStrategy(engine, AnswerSettings(max_tokens=60), num_samples=3, examples=two).invoke(asked)
    assert comparable(final_answer(answer.text) or "") == "12"
    samples = [step.usage for step in answer.steps if step.kind == "sample" and step.usage]
    read = sum(usage.prompt_tokens - usage.cached_tokens for usage in samples)
    assert read < 1.3 * samples[0].prompt_tokens  # the prompt is read once for all chains
