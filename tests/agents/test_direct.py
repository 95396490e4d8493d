from __future__ import annotations

import asyncio
import threading
from collections.abc import Sequence

import pytest
from localsmith.agents.direct import DirectStrategy
from localsmith.core.errors import ContextOverflow, GenerationError
from localsmith.core.settings import AnswerSettings
from localsmith.core.types import Answer, Delta, Event, Final, Message, Progress, Question, StepEnded
from localsmith.models.scripted import ScriptedModel

ASKED = Question("What is the capital of France?")
EARLIER = (Message("user", "Hello " * 40), Message("assistant", "Hello to you " * 40))


def final(events: Sequence[Event]) -> Answer:
    assert isinstance(events[-1], Final)
    return events[-1].answer


def test_the_model_is_asked_and_its_words_are_shown_as_they_come() -> None:
    model = ScriptedModel(["Paris it is."])
    events = list(DirectStrategy(model).events(ASKED))
    answer = final(events)
    assert (
        "".join(event.text for event in events if isinstance(event, Delta)) == answer.text == "Paris it is."
    )
    assert answer.stop_reason == "answered" and answer.usage.completion_tokens > 0
    stages = [event.stage for event in events if isinstance(event, Progress)]
    assert stages[0] == "reading" and stages[-1] == "answering"
    (step,) = answer.steps
    assert step.kind == "generate" and step.output == "Paris it is." and ASKED.text in step.prompt
    assert [event.step for event in events if isinstance(event, StepEnded)] == [step]
    assert model.prompts[0][-1] == Message("user", ASKED.text)


def test_settings_reach_the_model() -> None:
    model = ScriptedModel(["Paris."])
    DirectStrategy(model, AnswerSettings(max_tokens=11, temperature=0.3, seed=5)).invoke(ASKED)
    (sampling,) = model.samplings
    assert (sampling.max_tokens, sampling.temperature, sampling.seed) == (11, 0.3, 5)


def test_old_turns_give_way_where_the_window_is_full() -> None:
    last = (Message("user", "I am in Lyon."), Message("assistant", "A fine town."))
    model = ScriptedModel(["Paris."], n_ctx=300)
    question = Question(ASKED.text, history=(*EARLIER, *last))
    answer = DirectStrategy(model, AnswerSettings(max_tokens=50)).invoke(question)
    assert model.prompts[0][1:-1] == last
    assert answer.budget is not None
    cut = next(part for part in answer.budget.parts if part.name == "history")
    assert (cut.num_items, cut.num_cut) == (1, 1)
    assert answer.budget.prompt_tokens == model.count_prompt(model.prompts[0]) <= 250


def test_a_question_that_does_not_fit_says_so() -> None:
    with pytest.raises(ContextOverflow):
        DirectStrategy(ScriptedModel([], n_ctx=500)).invoke(Question("why " * 400))


def test_cancel_ends_the_run_with_what_is_there() -> None:
    cancel = threading.Event()
    seen: list[Event] = []
    for event in DirectStrategy(ScriptedModel(["word " * 300], token_delay_s=0.005)).events(
        ASKED, cancel=cancel
    ):
        seen.append(event)
        if sum(isinstance(event, Delta) for event in seen) == 3:
            cancel.set()
    answer = final(seen)
    assert answer.stop_reason == "cancelled" and 3 <= answer.text.count("word") <= 5


def test_closing_the_events_stops_the_model() -> None:
    model = ScriptedModel(["word " * 300], token_delay_s=0.001)
    events = DirectStrategy(model).events(ASKED)
    while not isinstance(next(events), Delta):
        pass
    events.close()


def test_a_model_without_words_is_an_error() -> None:
    with pytest.raises(GenerationError):
        DirectStrategy(ScriptedModel([" "])).invoke(ASKED)


def test_it_is_a_runnable_in_every_form() -> None:
    strategy = DirectStrategy(ScriptedModel(lambda _: "Paris it is."))
    pieces = list(strategy.stream(ASKED))
    assert len(pieces) > 2
    joined = pieces[0]
    for piece in pieces[1:]:
        joined = joined + piece
    assert joined.text == strategy.invoke(ASKED).text == asyncio.run(strategy.ainvoke(ASKED)).text
