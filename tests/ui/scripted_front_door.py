"""A front door whose model follows a script, so that a test decides what happens and when.

Conversations, library and page images are the real ones (with a hashing embedder); only the loading and the
words are scripted. Where "react" is chosen, the strategy, its checkpoints and its tools are real, too. The
question says what to do:

    slow     reads for a long time, then writes a word at a time
    error please    fails with an error of ours
    crash please    fails with one that nobody foresaw
    unsourced  answers without a citation
    reworded   cites a passage that says it in other words
    hostile  answers with HTML, a remote picture and a script link
    delete   with react, wants to call a tool that needs approval
    hold NAME   with steps, waits in the middle for the file NAME in the data folder

Any strategy but "auto", "rag" and "react" shows the steps of programs that vote.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import scripted_steps
from localsmith.agents.react import Approval, ReactStrategy, UnfinishedRun
from localsmith.core.conversations import ConversationStore
from localsmith.core.errors import LocalsmithError, ModelError, ModelLoadError
from localsmith.core.settings import Settings, load_settings
from localsmith.core.types import (
    Answer,
    Box,
    BudgetPart,
    BudgetReport,
    Citation,
    Delta,
    Event,
    Final,
    Message,
    Passage,
    Progress,
    Question,
    Step,
    Usage,
)
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library

from localsmith.training_runs import TrainingRuns

HOSTILE = (
    "<img src=x onerror=\"window.hacked='img'\"><script>window.hacked='script'</script>\n\n"
    "![inline](http://192.0.2.1/inline.png) ![ref][r] ![short]\n\n"
    "```\n![code](http://192.0.2.1/code.png)\n```\n\n"
    "$$\n```\n$$\n![math](http://192.0.2.1/math.png)\n\n"
    "[link](javascript:window.hacked='link')\n\n[r]: http://192.0.2.1/ref.png\n[short]: http://192.0.2.1/short.png\n"
)


@dataclass(frozen=True)
class ScriptedLoading:
    """A `core.contracts.PartState`."""

    name: str
    state: str = "idle"
    progress: float | None = None
    detail: str = ""
    error: LocalsmithError | None = None


class ScriptedFrontDoor:
    """Stands where `Localsmith` stands."""

    def __init__(self) -> None:
        self.settings: Settings = load_settings()
        self._loading_s = float(os.environ.get("SCRIPT_LOADING_S", "0"))
        self._failures = int(os.environ.get("SCRIPT_LOADING_FAILURES", "0"))
        self._states = {name: ScriptedLoading(name) for name in ("model", "embedder")}

    @cached_property
    def conversations(self) -> ConversationStore:
        return ConversationStore(self.settings.conversations_path)

    @cached_property
    def library(self) -> Library:
        return Library(self.settings.library_dir, HashingEmbedder(), self.settings.retrieval)

    @cached_property
    def training_runs(self) -> TrainingRuns:
        return TrainingRuns(self.settings)

    @property
    def loading(self) -> list[ScriptedLoading]:
        return list(self._states.values())

    def warm_up(self) -> None:
        for name, state in self._states.items():
            if state.state not in ("loading", "ready"):
                self._states[name] = ScriptedLoading(name, "loading")
                threading.Thread(target=self._load, args=(name,), daemon=True).start()

    def _load(self, name: str) -> None:
        for step in range(1, 21):
            time.sleep(self._loading_s / 20)
            self._states[name] = ScriptedLoading(name, "loading", step / 20, "scripted")
        if name == "model" and self._failures:
            self._failures -= 1
            error = ModelLoadError("The file is damaged.", hint="Pull the model again.")
            self._states[name] = ScriptedLoading(name, "failed", error=error)
        else:
            self._states[name] = ScriptedLoading(name, "ready", 1.0)

    @cached_property
    def react(self) -> ReactStrategy:
        return scripted_steps.react(self.settings.home)

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Iterator[Event]:
        return self.react.resume(run_id, approval, cancel=cancel)

    def unfinished_runs(self, user: str | None = None) -> list[UnfinishedRun]:
        return self.react.list_runs(user)

    def page_image(self, document_id: str, page: int, boxes: Sequence[Box]) -> bytes:
        from localsmith.retrieval.page_image import render_page

        return render_page(self.library.document_path(document_id), page, list(boxes))

    def events(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = "default",
        strategy: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Iterator[Event]:
        if isinstance(question, Question):
            history, collection = question.history, question.collection or collection
        asked = question.text if isinstance(question, Question) else question
        cancel = cancel or threading.Event()
        if strategy == "react":
            yield from self.react.events(Question(asked, collection=collection), cancel=cancel)
            return
        if strategy not in (None, "auto", "rag"):
            yield from scripted_steps.votes(asked, self.settings.home, cancel)
            return
        started = time.monotonic()
        yield Progress("searching")
        passages = tuple(self.library.search(asked, collection, 3))
        if "error please" in asked:
            raise ModelError("The model stumbled.", hint="Ask again.")
        if "crash please" in asked:
            raise RuntimeError("nobody foresaw this")
        is_slow = "slow" in asked
        for done in range(0, 1001, 50):
            if cancel.is_set():
                break
            eta_s = (1000 - done) / 200 if is_slow else None
            yield Progress("reading", done, 1000, "" if is_slow else "scripted", eta_s)
            time.sleep(0.25 if is_slow else 0.01)
        text = ""
        for word in _words(asked, passages):
            if cancel.is_set():
                break
            text += word
            yield Delta(word)
            time.sleep(0.1 if is_slow else 0.005)
        answer = _answer(text, passages, len(history), time.monotonic() - started)
        if "reworded" in asked:
            nearest = replace(answer.citations[0], support=0.3, is_supported=False, similarity=0.7)
            answer = replace(answer, citations=(nearest,))
        yield Final(replace(answer, stop_reason="cancelled") if cancel.is_set() else answer)


def _words(asked: str, passages: Sequence[Passage]) -> list[str]:
    if "hostile" in asked:
        return [HOSTILE]
    if "unsourced" in asked:
        return ["It ", "is ", "so."]
    if not passages:
        return ["The documents ", "don't ", "answer ", "this."]
    first = " ".join(passages[0].chunk.text.split()[:18])
    words = f"The document says: {first} [1]. It may also cost $5 or $10, which nobody said [2].".split(" ")
    return [word + " " for word in words] * (8 if "slow" in asked else 1)


def _answer(text: str, passages: tuple[Passage, ...], num_history: int, duration_s: float) -> Answer:
    citations = tuple(
        Citation(
            n, passage, f"Statement {n} of the answer.", _sentence(passage), 0.9 if n == 1 else 0.1, n == 1
        )
        for n, passage in enumerate(passages[:2], 1)
        if f"[{n}]" in text
    )
    parts = (
        BudgetPart("system", 180, 1),
        BudgetPart("history", 90 * num_history, num_history),
        BudgetPart("passages", 650, len(passages), 5, 1100, "time"),
        BudgetPart("question", 22, 1),
    )
    used = sum(part.used_tokens for part in parts)
    return Answer(
        text,
        "answered",
        citations,
        passages,
        (
            Step("search", f"{len(passages)} passages found", 0.02),
            Step("generate", "answer written", duration_s),
        ),
        Usage(used, 180, len(text.split()), 0.4, 0.4, max(duration_s - 0.4, 0.1)),
        BudgetReport(8192, 900, "time", used, 400, parts),
        "scripted",
        f"trace-{abs(hash(text)) % 10000}",
        duration_s,
    )


def _sentence(passage: Passage) -> str:
    return " ".join(passage.chunk.text.split()[:18])
