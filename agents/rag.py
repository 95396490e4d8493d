"""Answers from the user's documents: rewrite, search, budget, generate, check.

Place in the data's way: a `Question` and, by the `Retriever`, its passages -> events for the person who waits
-> an `Answer` with citations. One run is one pass through `_RagRun.events`, top to bottom.

Example:
    strategy = RagStrategy(engine, library)
    for event in strategy.events(Question("What is a trace tree?")):
        if isinstance(event, Delta):
            print(event.text, end="")
"""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Generator

from ..core.contracts import LanguageModel, Retriever
from ..core.errors import GenerationError
from ..core.settings import AnswerSettings
from ..core.types import (
    Citation,
    Delta,
    Event,
    Final,
    Message,
    Passage,
    Prefill,
    Progress,
    Question,
    SamplingParams,
    StopReason,
)
from ..retrieval.budget import Fitted, fit
from ..retrieval.citations import check
from ..retrieval.corrections import Corrections
from .answering.abstention import ABSTENTION, AnswerStream
from .answering.rewrite import is_plainly_standalone, rewrite
from .answering.search import is_hopeless, nearness, search_both
from .prompts import load_prompt
from .strategy import Run, Strategy

# However long rewriting took, this much of the time budget is left for reading.
MIN_READING_SHARE = 0.4
# Greedy decoding lets small models repeat a sentence until the completion is full. Only generated tokens
# count, so copying from a passage costs nothing.
REPEAT_PENALTY = 1.1


class RagStrategy(Strategy):
    """Retrieval-augmented generation over a collection."""

    def __init__(
        self,
        model: LanguageModel,
        retriever: Retriever,
        answer: AnswerSettings | None = None,
        k: int = 8,
    ) -> None:
        """Keep the parts; nothing runs yet.

        Args:
            model: The chat model.
            retriever: Finds passages.
            answer: Time budget and sampling; None for the defaults.
            k: Passages looked for; the budget decides how many are read.
        """
        self.model = model
        self.retriever = retriever
        self.answer = answer or AnswerSettings()
        self.k = k

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands.

        Args:
            question: The question with its history and collection.
            cancel: Setting it ends the run with what is there; closing the generator stops the model, too.

        Yields:
            `Progress` from the start, `Delta`s whose texts joined are the answer's text, and one `Final`.

        Raises:
            IndexNotFoundError: The collection does not exist.
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
        """
        return _RagRun(self, question, cancel).events()


class _RagRun:
    """One question on its way to the answer."""

    def __init__(self, strategy: RagStrategy, question: Question, cancel: threading.Event | None) -> None:
        self._strategy = strategy
        self._model = strategy.model
        self._question = question
        self._run = Run(strategy.model.name, cancel)
        self._cancel = self._run.cancel
        self._fitted: Fitted | None = None

    def events(self) -> Generator[Event, None, None]:
        query = yield from self._rewrite()
        passages = yield from self._search(query)
        if self._cancel.is_set():
            yield self._final("", "cancelled")
        elif is_hopeless(query, passages):
            yield Delta(ABSTENTION)
            yield self._final(ABSTENTION, "abstained")
        else:
            self._fitted = yield from self._fit(passages)
            yield from self._generate(self._fitted)

    def _rewrite(self) -> Generator[Event, None, str]:
        question = self._question
        if not question.history or is_plainly_standalone(question.text):
            return question.text
        yield Progress("rewriting", detail="with the conversation in mind")
        begun = time.monotonic()
        query, usage = rewrite(self._model, question, self._cancel)
        yield self._run.step("rewrite", f"Searched for: {query}", begun, usage)
        return query

    def _search(self, query: str) -> Generator[Event, None, list[Passage]]:
        if self._cancel.is_set():
            return []
        yield Progress("searching", detail=query)
        begun = time.monotonic()
        passages = search_both(self._strategy.retriever, self._question, query, self._strategy.k)
        documents = {passage.chunk.document_id for passage in passages}
        yield self._run.step("search", f"{len(passages)} passages from {len(documents)} documents", begun)
        return passages

    def _fit(self, passages: list[Passage]) -> Generator[Event, None, Fitted]:
        begun = time.monotonic()
        system = load_prompt("rag_system").render(abstention=ABSTENTION)
        user = load_prompt("rag_user")
        fitted = fit(
            self._model,
            system=system,
            question=self._question.text,
            render=lambda chosen: user.render(passages=chosen, question=self._question.text),
            passages=passages,
            history=self._question.history,
            reserve_tokens=self._strategy.answer.max_tokens,
            time_limit_tokens=self._time_limit_tokens(system),
        )
        report = fitted.report
        yield self._run.step(
            "budget",
            f"{len(fitted.passages)} of {len(passages)} passages, {report.prompt_tokens} of "
            f"{report.prompt_limit_tokens} tokens, limited by the {report.limited_by}",
            begun,
        )
        return fitted

    def _time_limit_tokens(self, system: str) -> int | None:
        """Return the longest prompt that can be read before the time budget ends."""
        speed = self._model.prompt_tokens_per_s
        if math.isinf(speed):
            return None
        allowed_s = self._strategy.answer.seconds_to_first_token
        left_s = max(allowed_s - self._run.elapsed_s, MIN_READING_SHARE * allowed_s)
        history = self._question.history
        if sum(len(message.content) for message in history) > 4 * self._model.n_ctx:
            history = ()  # it will be cut, so its cache is of no use
        start = (Message("system", system), *history, Message("user", ""))
        return self._model.cached_prefix_tokens(start) + int(left_s * speed)

    def _generate(self, fitted: Fitted) -> Generator[Event, None, None]:
        begun = time.monotonic()
        yield self._reading(fitted, 0)
        settings = self._strategy.answer
        sampling = SamplingParams(
            max_tokens=settings.max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            repeat_penalty=REPEAT_PENALTY,
        )
        stream = AnswerStream(len(fitted.passages), Corrections(fitted.passages, self._question.text))
        generation = self._model.submit(
            fitted.messages,
            sampling,
            cancel=self._cancel,
            priority=self._question.priority,
            user=self._question.user,
        )
        try:
            for part in generation:
                if isinstance(part, Prefill):
                    yield self._reading(fitted, part.done)
                elif not stream.is_abstention:
                    yield from self._show(stream, part)
                    if stream.is_abstention:
                        generation.cancel()  # whatever follows the sentence would contradict it
        finally:
            generation.cancel()
        if rest := stream.close():
            yield Delta(rest)
        yield self._run.step(
            "generate",
            f"Ended by {generation.finish_reason}",
            begun,
            generation.usage,
            prompt="\n\n".join(f"{message.role}: {message.content}" for message in fitted.messages),
            output=stream.text,
        )
        yield from self._conclude(stream, fitted)

    def _show(self, stream: AnswerStream, part: Delta) -> Generator[Event, None, None]:
        if not stream.has_begun:
            yield Progress("answering", detail=self._model.name)
        if shown := stream.feed(part.text):
            yield Delta(shown)

    def _conclude(self, stream: AnswerStream, fitted: Fitted) -> Generator[Event, None, None]:
        """Check the citations and end the run."""
        if stream.is_abstention:
            yield self._final(stream.text, "abstained")
            return
        if not stream.text and not self._cancel.is_set():
            raise GenerationError("The model ended without a word.", hint="Ask again in other words.")
        yield Progress("checking")
        begun = time.monotonic()
        checked = check(
            stream.text,
            fitted.passages,
            self._question.text,
            stream.corrected,
            lambda claim: nearness(self._strategy.retriever, self._question, claim, fitted.passages),
        )
        notes = (
            *(f"[{number}] names no passage and was taken out." for number in stream.removed),
            *checked.notes,
        )
        yield self._run.step("check", " ".join(notes) or "Every citation is supported by its passage.", begun)
        if attached := checked.text[len(stream.text) :]:
            yield Delta(attached)
        reason: StopReason = "cancelled" if self._cancel.is_set() else "answered"
        yield self._final(checked.text, reason, checked.citations)

    def _reading(self, fitted: Fitted, done: int) -> Progress:
        total = fitted.report.prompt_tokens
        num = len(fitted.passages)
        eta_s = max(0, total - done) / self._model.prompt_tokens_per_s
        return Progress("reading", done, total, f"{num} passage{'' if num == 1 else 's'}", eta_s)

    def _final(self, text: str, reason: StopReason, citations: tuple[Citation, ...] = ()) -> Final:
        if self._fitted is None:
            return self._run.final(text, reason)
        return self._run.final(text, reason, citations, self._fitted.passages, self._fitted.report)
