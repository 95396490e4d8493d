"""What recording promises: every run is kept, however it ends, and none is changed or hindered by it."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Generator, Iterator, Sequence
from pathlib import Path

import pytest
from localsmith.agents.rag import RagStrategy
from localsmith.agents.recorded import record, recorded
from localsmith.agents.strategy import Run, Strategy
from localsmith.core.errors import ModelError
from localsmith.core.settings import TraceSettings
from localsmith.core.trace_rows import Trace
from localsmith.core.traces import TraceStore
from localsmith.core.types import (
    Answer,
    ApprovalNeeded,
    Chunk,
    Delta,
    Event,
    Final,
    Passage,
    Progress,
    Question,
    Step,
    StepEnded,
    Usage,
)
from localsmith.models.scripted import ScriptedModel


class Scripted(Strategy):
    """Two steps and two words; the question says how it goes on."""

    def __init__(self) -> None:
        self.is_closed = False

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        run = Run("scripted", cancel)
        try:
            yield run.step("search", "3 passages", time.monotonic())
            yield Delta("It ")
            if "crash" in question.text:
                raise RuntimeError("nobody foresaw this")
            if "fail" in question.text:
                raise ModelError("The model stumbled.")
            yield Delta("is.")
            if "silent" in question.text:
                return
            yield run.step("generate", "Ended by stop", time.monotonic(), Usage(10, 4, 3))
            yield run.final("It is.", "cancelled" if run.cancel.is_set() else "answered")
        finally:
            self.is_closed = True


class Shelf:
    """A retriever that always finds the same."""

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        text = "Birches shed their bark in winter."
        return [
            Passage(Chunk("c", "d", 0, text, 0, len(text), None, (), 8), "trees.txt", 1, 1.0, similarity=0.9)
        ]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[TraceStore]:
    store = TraceStore(tmp_path / "t.sqlite3")
    yield store
    store.close()


def only(store: TraceStore) -> Trace:
    [info] = store.list().traces
    trace = store.get(info.id)
    assert trace is not None
    return trace


def test_events_pass_through_and_the_run_is_kept(store: TraceStore) -> None:
    question = Question("What?", collection="papers")
    events = list(recorded(Scripted(), store, "rag").events(question))
    assert [type(event) for event in events] == [StepEnded, Delta, Delta, StepEnded, Final]
    assert isinstance(events[-1], Final)
    trace = only(store)
    assert (trace.question, trace.answer) == (question, events[-1].answer)
    assert (trace.info.strategy, trace.info.id) == ("rag", events[-1].answer.trace_id)


@pytest.mark.parametrize("asked", ["What?", "fail", "nothing shown"])
def test_the_answer_says_when_its_first_text_was_shown(store: TraceStore, asked: str) -> None:
    class Slow(Scripted):
        def events(
            self, question: Question, *, cancel: threading.Event | None = None
        ) -> Generator[Event, None, None]:
            yield Progress("programming")
            time.sleep(0.05)
            for event in super().events(question, cancel=cancel):
                if not (isinstance(event, Delta) and "nothing" in question.text):
                    yield event
            time.sleep(0.05)

    began, shown = time.monotonic(), 0.0
    with contextlib.suppress(ModelError):
        for event in recorded(Slow(), store, "rag").events(Question(asked)):
            if isinstance(event, Delta) and not shown:
                shown = time.monotonic() - began
            if isinstance(event, Final):
                assert event.answer.time_to_first_text_s == only(store).answer.time_to_first_text_s
    told = only(store).answer.time_to_first_text_s
    assert 0.05 <= told <= shown if "nothing" not in asked else told == shown == 0


def test_the_trace_can_be_looked_at_as_soon_as_the_answer_is_there(store: TraceStore) -> None:
    for event in recorded(Scripted(), store, "rag").events(Question("What?")):
        if isinstance(event, Final):
            assert store.get(event.answer.trace_id) is not None
            break
    else:
        pytest.fail("the run has no end")


@pytest.mark.parametrize(("asked", "error"), [("crash", RuntimeError), ("fail", ModelError)])
def test_a_run_that_fails_is_kept_and_the_error_goes_on(
    store: TraceStore, asked: str, error: type[Exception]
) -> None:
    with pytest.raises(error) as raised:
        list(recorded(Scripted(), store, "rag", model="smollm2").events(Question(asked)))
    trace = only(store)
    assert (trace.info.status, trace.info.error_type) == ("failed", error.__name__)
    assert trace.info.error == str(raised.value)
    assert (trace.answer.text, trace.info.model) == ("It ", "smollm2")
    assert [step.kind for step in trace.answer.steps] == ["search"]


def test_a_run_whose_listener_goes_away_is_kept_and_stops_the_strategy(store: TraceStore) -> None:
    strategy = Scripted()
    events = recorded(strategy, store, "rag").events(Question("What?"))
    assert isinstance(next(events), StepEnded) and isinstance(next(events), Delta)
    assert only(store).info.status == "running"
    events.close()
    assert strategy.is_closed
    trace = only(store)
    assert (trace.info.status, trace.answer.text) == ("cancelled", "It ")


def test_a_cancelled_run_is_kept(store: TraceStore) -> None:
    cancel = threading.Event()
    cancel.set()
    list(recorded(Scripted(), store, "rag").events(Question("What?"), cancel=cancel))
    assert only(store).info.status == "cancelled"


def test_a_run_that_ends_without_an_answer_is_kept(store: TraceStore) -> None:
    list(recorded(Scripted(), store, "rag").events(Question("silent")))
    assert (only(store).info.status, only(store).answer.text) == ("cancelled", "It is.")


def test_invoke_stream_and_their_asynchronous_forms_are_kept(store: TraceStore) -> None:
    strategy = recorded(Scripted(), store, "rag")
    answers = [strategy.invoke(Question("1")), asyncio.run(strategy.ainvoke(Question("2")))]
    pieces = list(strategy.stream(Question("3")))
    answers.append(sum(pieces[1:], pieces[0]))
    assert [answer.text for answer in answers] == ["It is."] * 3
    assert [info.question for info in store.list().traces] == ["3", "2", "1"]


def test_a_resumed_run_is_one_with_its_first_half(store: TraceStore) -> None:
    def first() -> Iterator[Event]:
        yield StepEnded(Step("tool", "asks", 0.1))
        yield ApprovalNeeded("r" * 32, "send", "{}")

    def second() -> Iterator[Event]:
        yield Final(Answer("Sent.", "answered", trace_id="r" * 32))

    list(record(first(), Question("Send it"), store, "react"))
    assert only(store).info.id == "r" * 32
    list(record(second(), Question("Send it"), store, "react"))
    assert (only(store).info.id, only(store).info.status) == ("r" * 32, "answered")


def test_a_store_that_fails_costs_the_trace_and_not_the_run(store: TraceStore) -> None:
    strategy = recorded(Scripted(), store, "rag")
    events = strategy.events(Question("What?"))
    next(events)
    store.close()
    assert isinstance(list(events)[-1], Final)
    assert strategy.invoke(Question("What?")).text == "It is."
    with pytest.raises(ModelError):
        strategy.invoke(Question("fail"))


def test_what_is_kept_is_handed_on(tmp_path: Path) -> None:
    kept: list[Trace] = []
    store = TraceStore(tmp_path / "quiet.sqlite3", TraceSettings(keep_texts=False))
    strategy = recorded(Scripted(), store, "rag", on_kept=kept.append)
    strategy.invoke(Question("What?"))
    with pytest.raises(ModelError):
        strategy.invoke(Question("fail"))
    assert [trace.info.status for trace in kept] == ["answered", "failed"]
    assert {trace.question.text + trace.answer.text + trace.info.error for trace in kept} == {""}


def test_runs_at_once_are_kept_apart(store: TraceStore) -> None:
    strategy = recorded(Scripted(), store, "rag")
    runs = [strategy.events(Question(str(n))) for n in range(4)]
    for events in runs:
        next(events)
    threads = [threading.Thread(target=list, args=(events,)) for events in runs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert {info.question for info in store.list().traces} == set("0123")
    assert {info.num_steps for info in store.list().traces} == {2}


def test_keeping_a_run_costs_little(store: TraceStore) -> None:
    """Twenty steps with long prompts: well under a token's time each."""

    def events() -> Iterator[Event]:
        steps = [
            Step("generate", "s", 0.1, Usage(1, 1, 1), 0.0, "word " * 2000, "o" * 2000) for _ in range(20)
        ]
        yield from (StepEnded(step) for step in steps)
        yield Final(Answer("Yes.", "answered", steps=tuple(steps), trace_id="t"))

    begun = time.perf_counter()
    list(record(events(), Question("?"), store, "react"))
    assert (time.perf_counter() - begun) / 21 < 0.05


def test_a_rag_run_is_kept_with_prompt_sources_and_window(store: TraceStore) -> None:
    strategy = recorded(RagStrategy(ScriptedModel(["Birches shed their bark [1]."]), Shelf()), store, "rag")
    answer = strategy.invoke(Question("What do birches shed?"))
    trace = only(store)
    assert trace.answer == answer and answer.budget is not None and answer.citations
    generated = next(step for step in trace.answer.steps if step.kind == "generate")
    assert "What do birches shed?" in generated.prompt and "bark" in generated.output
