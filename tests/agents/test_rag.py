from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from localsmith.agents.answering.abstention import ABSTENTION
from localsmith.agents.rag import RagStrategy
from localsmith.core.errors import ContextOverflow, GenerationError, IndexNotFoundError
from localsmith.core.settings import AnswerSettings, load_settings
from localsmith.core.types import (
    Answer,
    Chunk,
    Delta,
    Event,
    Final,
    Message,
    Passage,
    Progress,
    Question,
)
from localsmith.models.scripted import ScriptedModel

BRIDGE = "The Tay Bridge was opened in 1878. It was designed by Thomas Bouch."
FRANCE = "Paris is the capital of France. It lies on the Seine."
ASKED = Question("Who designed the Tay Bridge?")


def passage(text: str, rank: int, similarity: float = 0.6) -> Passage:
    chunk = Chunk(f"c{rank}", f"d{rank}", 0, text, 0, len(text), rank, (), len(text) // 4)
    return Passage(chunk, f"document{rank}.pdf", rank, 1 / rank, similarity=similarity)


@dataclass
class Shelf:
    """A retriever that always finds the same."""

    passages: Sequence[Passage] = (passage(BRIDGE, 1), passage(FRANCE, 2))
    queries: list[str] = field(default_factory=list)

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        if collection != "default":
            raise IndexNotFoundError(f"There is no collection {collection!r}.")
        self.queries.append(query)
        return list(self.passages[:k])


def run(model: ScriptedModel, question: Question = ASKED, shelf: Shelf | None = None) -> list[Event]:
    return list(RagStrategy(model, shelf or Shelf()).events(question))


def final(events: Sequence[Event]) -> Answer:
    assert isinstance(events[-1], Final)
    assert sum(isinstance(event, Final) for event in events) == 1
    return events[-1].answer


def shown(events: Sequence[Event]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def test_an_answer_comes_with_its_citation_steps_and_budget() -> None:
    events = run(ScriptedModel(["Thomas Bouch [1]."]))
    answer = final(events)
    assert answer.text == "Thomas Bouch [1]."
    assert answer.stop_reason == "answered"
    (citation,) = answer.citations
    assert citation.is_supported and not citation.is_attached
    assert citation.quote == "It was designed by Thomas Bouch."
    assert [step.kind for step in answer.steps] == ["search", "budget", "generate", "check"]
    assert answer.budget is not None and answer.budget.prompt_tokens == answer.usage.prompt_tokens
    assert answer.passages[0].document_name == "document1.pdf"
    assert answer.trace_id and answer.model == "scripted"


def test_a_person_sees_every_stage_from_the_start() -> None:
    stages = [event.stage for event in run(ScriptedModel(["Bouch [1]."])) if isinstance(event, Progress)]
    assert list(dict.fromkeys(stages)) == ["searching", "reading", "answering", "checking"]


def test_reading_tells_how_far_it_is_and_how_long_it_takes() -> None:
    model = ScriptedModel(["Bouch [1]."], prompt_tokens_per_s=50)
    reading = [e for e in run(model) if isinstance(e, Progress) and e.stage == "reading"]
    assert reading[0].done == 0 and reading[-1].done == reading[-1].total
    assert reading[0].eta_s == pytest.approx((reading[0].total or 0) / 50)
    assert reading[-1].eta_s == 0


@pytest.mark.parametrize(
    "reply",
    [
        "Thomas Bouch [1].",
        "Thomas Bouch",
        "  Thomas Bouch [1][7], he said [9].  ",
        "Bouch `x[9]` [2, 1]\n\n",
        ABSTENTION,
        ABSTENTION + " However, passage [1] says otherwise.",
        "The documents do not say. Bouch [1].",
    ],
)
def test_what_was_streamed_is_the_answer(reply: str) -> None:
    events = run(ScriptedModel([reply]))
    assert shown(events) == final(events).text
    assert "[7]" not in shown(events)


def test_the_models_abstention_is_recognised_and_nothing_after_it_is_shown() -> None:
    for reply in (ABSTENTION, "the documents don’t answer this", ABSTENTION + " But it may be 42 [1]."):
        answer = final(run(ScriptedModel([reply])))
        assert (answer.text, answer.stop_reason, answer.citations) == (ABSTENTION, "abstained", ())


def test_nothing_found_abstains_without_the_model() -> None:
    for found in ((), (passage("Zebras eat grass.", 1, similarity=0.05),)):
        model = ScriptedModel([])
        answer = final(run(model, shelf=Shelf(found)))
        assert (answer.text, answer.stop_reason) == (ABSTENTION, "abstained")
        assert model.prompts == []


def test_a_passage_with_the_words_of_the_question_is_read_however_dissimilar() -> None:
    answer = final(run(ScriptedModel(["Bouch [1]."]), shelf=Shelf((passage(BRIDGE, 1, similarity=0.01),))))
    assert answer.stop_reason == "answered"


def test_no_collection_abstains_and_an_unknown_one_raises() -> None:
    assert final(run(ScriptedModel([]), replace(ASKED, collection=None))).stop_reason == "abstained"
    with pytest.raises(IndexNotFoundError):
        run(ScriptedModel([]), replace(ASKED, collection="nowhere"))


def test_a_follow_up_is_searched_as_rewritten_and_as_asked_but_answered_as_asked() -> None:
    history = (Message("user", "Who designed the Tay Bridge?"), Message("assistant", "Thomas Bouch [1]."))
    model, shelf = ScriptedModel(["When was Thomas Bouch born?", "1822 [1]."]), Shelf()
    answer = final(run(model, Question("When was he born?", history), shelf))
    assert shelf.queries == ["When was Thomas Bouch born?", "When was he born?"]
    assert answer.steps[0].kind == "rewrite"
    assert "Question: When was he born?" in model.prompts[1][-1].content
    assert model.prompts[1][1:3] == history
    assert answer.usage.prompt_tokens > (answer.budget.prompt_tokens if answer.budget else 0)


def test_a_plainly_standalone_question_costs_no_rewrite() -> None:
    history = (Message("user", "Hello"), Message("assistant", "Hi"))
    model = ScriptedModel(["Thomas Bouch [1]."])
    run(model, Question("Who designed the Tay Bridge?", history))
    assert len(model.prompts) == 1


def test_the_system_text_stands_first_and_never_changes() -> None:
    model = ScriptedModel(["A [1].", "B [1]."])
    strategy = RagStrategy(model, Shelf())
    strategy.invoke(ASKED)
    strategy.invoke(Question("What is the capital of France?"))
    assert model.prompts[0][0] == model.prompts[1][0]
    assert model.prompts[0][0].role == "system"


def test_the_time_budget_decides_how_much_is_read() -> None:
    texts = [" ".join(f"Bridge {n}{i} stands in town{n}x{i}." for i in range(20)) for n in range(8)]
    shelf = Shelf([passage(text, rank) for rank, text in enumerate(texts, start=1)])
    read = []
    for seconds in (5, 100):
        model = ScriptedModel(["Bouch"], prompt_tokens_per_s=100)
        strategy = RagStrategy(model, shelf, AnswerSettings(seconds_to_first_token=seconds))
        answer = strategy.invoke(ASKED)
        assert answer.budget is not None
        read.append(len(answer.passages))
    assert 0 < read[0] < read[1] == 8


def test_cancelling_keeps_what_is_there() -> None:
    cancel = threading.Event()
    model = ScriptedModel(["word " * 200], token_delay_s=0.001)
    events: list[Event] = []
    for event in RagStrategy(model, Shelf()).events(ASKED, cancel=cancel):
        events.append(event)
        if len(shown(events)) > 20:
            cancel.set()
    answer = final(events)
    assert answer.stop_reason == "cancelled"
    assert 20 < len(answer.text) < 100
    assert answer.text == shown(events)


def test_cancelling_before_the_search_runs_nothing() -> None:
    cancel = threading.Event()
    cancel.set()
    model, shelf = ScriptedModel([]), Shelf()
    answer = final(list(RagStrategy(model, shelf).events(ASKED, cancel=cancel)))
    assert (answer.stop_reason, model.prompts, shelf.queries) == ("cancelled", [], [])


def test_leaving_the_stream_stops_the_model() -> None:
    model = CountingModel(["word " * 500], token_delay_s=0.001)
    events = RagStrategy(model, Shelf()).events(ASKED)
    for event in events:
        if isinstance(event, Delta):
            break
    events.close()
    assert model.is_cancelled


class CountingModel(ScriptedModel):
    """Remembers its last generation."""

    def submit(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override]
        self.last = super().submit(*args, **kwargs)  # type: ignore[arg-type]
        return self.last

    @property
    def is_cancelled(self) -> bool:
        return self.last._cancels[0].is_set()


def test_a_model_that_fails_or_says_nothing_is_an_error() -> None:
    with pytest.raises(GenerationError, match="broken"):
        run(ScriptedModel([GenerationError("broken")]))
    with pytest.raises(GenerationError):
        run(ScriptedModel([""]))


def test_a_question_longer_than_the_window_is_an_error() -> None:
    with pytest.raises(ContextOverflow):
        run(ScriptedModel([], n_ctx=1000), Question("bridge " * 2000))


# -- answers that no passage says in its words

OWN_WORDS = "An engineer by the name of Bouch drew up the plans for it"


def test_an_answer_in_other_words_cites_the_passage_nearest_in_meaning() -> None:
    shelf = Shelf()
    events = run(ScriptedModel([OWN_WORDS]), shelf=shelf)
    (citation,) = final(events).citations
    assert (citation.number, citation.is_attached, citation.is_supported) == (1, True, False)
    assert citation.similarity == 0.6
    assert shown(events) == final(events).text == f"{OWN_WORDS} [1]"
    assert shelf.queries[-1] == f"{ASKED.text} {OWN_WORDS}"


def test_an_answer_survives_a_collection_that_goes_while_it_is_written() -> None:
    @dataclass
    class Going(Shelf):
        def search(self, query: str, collection: str, *args: int, **kwargs: int) -> list[Passage]:
            if OWN_WORDS in query:
                raise IndexNotFoundError("It is gone.")
            return super().search(query, collection)

    answer = final(run(ScriptedModel([OWN_WORDS]), shelf=Going()))
    assert (answer.text, answer.citations) == (OWN_WORDS, ())


def test_the_engine_is_told_who_asks_and_how_urgently() -> None:
    told: list[tuple[object, object]] = []

    class Listening(ScriptedModel):
        def submit(self, *args: object, **kwargs: object):  # type: ignore[no-untyped-def, override]
            told.append((kwargs.get("user"), kwargs.get("priority")))
            return super().submit(*args, **kwargs)  # type: ignore[arg-type]

    history = (Message("user", "Who designed the Tay Bridge?"), Message("assistant", "Thomas Bouch [1]."))
    question = Question("When was he born?", history, user="ann", priority="batch")
    run(Listening(["When was Thomas Bouch born?", "1822 [1]."]), question)
    assert told == [("ann", "batch")] * 2


# -- as a LangChain Runnable


def test_invoke_batch_and_async_give_the_same_answer() -> None:
    strategy = RagStrategy(ScriptedModel(["Thomas Bouch [1]."] * 4), Shelf())
    texts = [strategy.invoke(ASKED).text, *(a.text for a in strategy.batch([ASKED, ASKED]))]
    texts.append(asyncio.run(strategy.ainvoke(ASKED)).text)
    assert texts == ["Thomas Bouch [1]."] * 4


def test_the_pieces_of_a_stream_add_up_to_the_answer() -> None:
    strategy = RagStrategy(ScriptedModel(["Thomas Bouch [1] and more."] * 2), Shelf())
    pieces = list(strategy.stream(ASKED))

    async def collect() -> list[Answer]:
        return [piece async for piece in strategy.astream(ASKED)]

    for got in (pieces, asyncio.run(collect())):
        whole = got[0]
        for piece in got[1:]:
            whole = whole + piece
        assert len(got) > 3
        assert whole.text == "Thomas Bouch [1] and more."
        assert whole.citations and whole.budget and whole.steps


def test_it_composes_with_other_runnables() -> None:
    chain = RagStrategy(ScriptedModel(["Thomas Bouch [1]."]), Shelf()) | (lambda answer: answer.text.upper())
    assert chain.invoke(ASKED) == "THOMAS BOUCH [1]."


def test_many_waiting_runs_do_not_block_the_event_loop() -> None:
    async def ask_all() -> float:
        models = [ScriptedModel(["word " * 20], token_delay_s=0.005) for _ in range(40)]
        begun = time.monotonic()
        await asyncio.gather(*(RagStrategy(model, Shelf()).ainvoke(ASKED) for model in models))
        return time.monotonic() - begun

    alone = ScriptedModel(["word " * 20], token_delay_s=0.005)
    begun = time.monotonic()
    RagStrategy(alone, Shelf()).invoke(ASKED)
    one = time.monotonic() - begun
    assert asyncio.run(ask_all()) < 20 * one  # one after the other would be 40 times


def test_cancelling_the_task_stops_the_model() -> None:
    model = CountingModel(["word " * 2000], n_ctx=8000, token_delay_s=0.001)
    strategy = RagStrategy(model, Shelf(), AnswerSettings(max_tokens=3000))

    async def ask_and_leave() -> None:
        task = asyncio.create_task(strategy.ainvoke(ASKED))
        await asyncio.sleep(0.1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(ask_and_leave())
    deadline = time.monotonic() + 5
    while not model.is_cancelled and time.monotonic() < deadline:
        time.sleep(0.01)
    assert model.is_cancelled
    assert model.last.usage.completion_tokens < 1000


@pytest.mark.real_model
def test_the_real_engine_streams_what_it_answers(small_model_path: Path) -> None:
    from localsmith.models.engine import Engine

    settings = load_settings(answer={"max_tokens": 24})
    engine = Engine(small_model_path, name="small", settings=settings.model, prompt_tokens_per_s=500)
    try:
        events = list(RagStrategy(engine, Shelf(), settings.answer).events(ASKED))
    finally:
        engine.close()
    answer = final(events)
    assert answer.text and answer.text == shown(events)
    assert answer.budget is not None
    assert answer.budget.prompt_tokens == answer.usage.prompt_tokens
    assert all(1 <= citation.number <= 2 for citation in answer.citations)


@pytest.fixture(autouse=True)
def _no_threads_left() -> Iterator[None]:
    yield
    deadline = time.monotonic() + 5
    while any(thread.name == "strategy" for thread in threading.enumerate()):
        assert time.monotonic() < deadline, "a run is still going on"
        time.sleep(0.01)
