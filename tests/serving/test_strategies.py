"""`localsmith/rag` and its like: answers with citations in the shape of a chat completion."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from typing import Any

import httpx
import openai
import pytest
from localsmith.agents.rag import RagStrategy
from localsmith.core.errors import GenerationError
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
)
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.scripted import ScriptedModel
from localsmith.serving.parts import ServedParts

LEAVE = "Every employee has thirty days of paid leave a year."
ASK: Any = [{"role": "user", "content": "How many days of paid leave does an employee have?"}]


class OnePassage:
    """A retriever with one document of one sentence."""

    def search(self, query: str, collection: str, k: int = 8, document_ids: Any = ()) -> list[Passage]:
        chunk = Chunk("c1", "d1", 0, LEAVE, 0, len(LEAVE), 3, (), 12)
        return [Passage(chunk, "handbook.pdf", 1, 1.0, 1, 1, 0.9)]


class Recorder:
    """A strategy that keeps what it is asked and runs until it is told to stop."""

    def __init__(self, delay_s: float = 0.0, num_words: int = 3, error: Exception | None = None) -> None:
        self.questions: list[Question] = []
        self.ended = threading.Event()
        self._delay_s, self._num_words, self._error = delay_s, num_words, error

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        self.questions.append(question)
        try:
            yield Progress("searching", detail="x")
            if self._error:
                raise self._error
            for _ in range(self._num_words):
                if cancel is not None and cancel.wait(self._delay_s):
                    yield Final(Answer("", "cancelled"))
                    return
                yield Delta("word ")
            yield Final(Answer("word " * self._num_words, "answered"))
        finally:
            self.ended.set()


def parts(**strategies: Any) -> ServedParts:
    model, embedder = ScriptedModel([]), HashingEmbedder()
    return ServedParts(lambda: model, lambda: embedder, strategies, lambda: ["default", "papers"])


def client(server: Any) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def rag_parts() -> ServedParts:
    return parts(rag=RagStrategy(ScriptedModel(["Thirty days of paid leave [1]."]), OnePassage()))


def check(extension: dict[str, Any]) -> None:
    [citation] = extension["citations"]
    assert (citation["document"], citation["document_id"], citation["page"]) == ("handbook.pdf", "d1", 3)
    assert citation["quote"] == LEAVE and citation["support"] > 0.5 and citation["is_supported"]
    assert [step["kind"] for step in extension["steps"]] == ["search", "budget", "generate", "check"]
    assert extension["stop_reason"] == "answered"


def test_an_answer_carries_its_citations(serve: Callable[..., Any]) -> None:
    reply = client(serve(parts=rag_parts())).chat.completions.create(model="localsmith/rag", messages=ASK)
    assert reply.choices[0].message.content == "Thirty days of paid leave [1]."
    assert reply.usage.prompt_tokens > 0 and reply.usage.completion_tokens > 0
    check(reply.model_extra["localsmith"])


def test_a_stream_ends_with_the_citations(serve: Callable[..., Any]) -> None:
    chunks = list(
        client(serve(parts=rag_parts())).chat.completions.create(
            model="localsmith/rag", messages=ASK, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == "Thirty days of paid leave [1]."
    assert [bool((c.model_extra or {}).get("localsmith")) for c in chunks[-2:]] == [True, False]
    check(chunks[-2].model_extra["localsmith"])
    assert chunks[-1].usage.prompt_tokens > 0


def test_progress_is_told_to_those_who_ask(serve: Callable[..., Any]) -> None:
    stages = []
    for options in ({"include_progress": True}, {}):
        chunks = client(serve(parts=rag_parts())).chat.completions.create(
            model="localsmith/rag", messages=ASK, stream=True, extra_body={"stream_options": options}
        )
        told = [(chunk.model_extra or {}).get("localsmith", {}).get("progress") for chunk in chunks]
        stages.append([progress["stage"] for progress in told if progress])
    assert stages[0][:2] == ["searching", "reading"] and stages[1] == []


def test_the_question_carries_history_collection_documents_and_user(serve: Callable[..., Any]) -> None:
    strategy = Recorder()
    server = serve(parts=parts(rag=strategy))
    turns: Any = [*ASK, {"role": "assistant", "content": "Thirty."}, {"role": "user", "content": "Sure?"}]
    client(server).chat.completions.create(
        model="localsmith/rag",
        messages=turns,
        user="ann",
        temperature=0.3,
        extra_body={"collection": "papers", "document_ids": ["d1"], "priority": "batch"},
    )
    [question] = strategy.questions
    assert question.text == "Sure?" and question.collection == "papers"
    assert [turn.content for turn in question.history] == [ASK[0]["content"], "Thirty."]
    assert (question.document_ids, question.user, question.priority) == (("d1",), "127.0.0.1/ann", "batch")


def test_a_strategy_is_a_model_by_being_registered(serve: Callable[..., Any]) -> None:
    server = serve(parts=parts(rag=Recorder(), pal=Recorder(num_words=1)))
    listed = [model.id for model in client(server).models.list()]
    assert {"localsmith/rag", "localsmith/pal"} <= set(listed)
    reply = client(server).chat.completions.create(model="localsmith/pal", messages=ASK)
    assert reply.choices[0].message.content == "word "


def test_a_missing_collection_or_strategy_is_404(serve: Callable[..., Any]) -> None:
    server = serve(parts=parts(rag=Recorder()))
    with pytest.raises(openai.NotFoundError, match="papers") as refused:
        client(server).chat.completions.create(
            model="localsmith/rag", messages=ASK, extra_body={"collection": "none"}
        )
    assert refused.value.code == "collection_not_found"
    with pytest.raises(openai.NotFoundError) as refused:
        client(server).chat.completions.create(model="localsmith/nothing", messages=ASK)
    assert refused.value.code == "model_not_found"


@pytest.mark.parametrize(
    "more",
    [
        {"n": 2},
        {"logprobs": True},
        {"stop": ["x"]},
        {"tools": [{"type": "function", "function": {"name": "f"}}]},
        {"messages": [{"role": "system", "content": "Be brief."}, *ASK]},
        {"messages": [*ASK, {"role": "assistant", "content": "Thirty."}]},
    ],
)
def test_what_a_strategy_cant_do_is_refused_by_name(serve: Callable[..., Any], more: dict[str, Any]) -> None:
    body = {"model": "localsmith/rag", "messages": ASK} | more
    response = httpx.post(serve(parts=parts(rag=Recorder())).url + "/v1/chat/completions", json=body)
    assert response.status_code == 400
    assert response.json()["error"]["param"].partition(".")[0] in more


@pytest.mark.parametrize("is_stream", [True, False])
def test_a_client_that_leaves_stops_the_strategy(serve: Callable[..., Any], is_stream: bool) -> None:
    strategy = Recorder(delay_s=0.02, num_words=1000)
    server = serve(parts=parts(rag=strategy))
    with pytest.raises(httpx.ReadTimeout):
        body = {"model": "localsmith/rag", "messages": ASK, "stream": is_stream}
        with httpx.stream(
            "POST", server.url + "/v1/chat/completions", json=body, timeout=httpx.Timeout(5, read=0.5)
        ) as response:
            for i, _ in enumerate(response.iter_raw()):
                if i == 3:
                    raise httpx.ReadTimeout("enough")
    assert strategy.ended.wait(2)


def test_the_deadline_ends_a_strategy(serve: Callable[..., Any]) -> None:
    strategy = Recorder(delay_s=0.02, num_words=1000)
    server = serve(parts=parts(rag=strategy), deadline_s=0.2)
    begun = time.monotonic()
    reply = client(server).chat.completions.create(model="localsmith/rag", messages=ASK)
    assert reply.choices[0].finish_reason == "length" and time.monotonic() - begun < 3


def test_a_failing_strategy_is_told_as_an_error(serve: Callable[..., Any]) -> None:
    server = serve(parts=parts(rag=Recorder(error=GenerationError("The model ended without a word."))))
    for is_stream in (False, True):
        with pytest.raises(openai.APIError, match="without a word"):
            list(
                client(server).chat.completions.create(  # type: ignore[call-overload]
                    model="localsmith/rag", messages=ASK, stream=is_stream
                )
            )


class Stepwise:
    """A strategy with a program, and a call that waits for a person."""

    program = Step("program", "Returned 18", 0.1, prompt="print(18)", output="18")

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        yield StepEnded(self.program)
        yield ApprovalNeeded("run1", "send", '{"to": "Ann"}', "It sends a letter.", 2)
        yield Final(Answer("", "needs_approval", steps=(self.program,), trace_id="run1"))


def test_a_call_that_waits_for_approval_is_told(serve: Callable[..., Any]) -> None:
    server = serve(parts=parts(react=Stepwise()))
    reply = client(server).chat.completions.create(model="localsmith/react", messages=ASK)
    assert reply.choices[0].finish_reason == "stop"
    told = reply.model_extra["localsmith"]
    assert told["stop_reason"] == "needs_approval"
    assert told["approval"] == {
        "run_id": "run1",
        "tool": "send",
        "arguments": '{"to": "Ann"}',
        "reason": "It sends a letter.",
        "call": 2,
    }
    [step] = told["steps"]
    assert (step["kind"], step["input"], step["output"]) == ("program", "print(18)", "18")


def test_steps_are_told_as_they_end_to_those_who_ask(serve: Callable[..., Any]) -> None:
    told = []
    for options in ({"include_progress": True}, {}):
        chunks = client(serve(parts=parts(react=Stepwise()))).chat.completions.create(
            model="localsmith/react", messages=ASK, stream=True, extra_body={"stream_options": options}
        )
        extensions = [(chunk.model_extra or {}).get("localsmith") or {} for chunk in chunks]
        told.append([extension["step"]["summary"] for extension in extensions if "step" in extension])
        assert extensions[-1]["approval"]["tool"] == "send"
    assert told == [["Returned 18"], []]


def test_every_strategy_of_the_front_door_is_served(serve: Callable[..., Any]) -> None:
    from localsmith.agents.registry import STRATEGIES

    from localsmith import Localsmith
    from localsmith.cli_serve import parts_of

    with Localsmith() as ls:
        served = parts_of(ls)
    assert list(served.strategies) == list(STRATEGIES)
    server = serve(parts=parts(**dict.fromkeys(served.strategies, Recorder())))
    listed = {model.id for model in client(server).models.list()}
    assert {f"localsmith/{name}" for name in STRATEGIES} <= listed
