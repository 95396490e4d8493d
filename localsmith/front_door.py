"""The one object that people program against: documents in, cited answers out.

Place in the data's way: the CLI, the chat in the browser and three lines of Python all go through
`Localsmith`, which wires settings, model, embedder, library and strategy together and loads each when it is
first needed.

Example:
    ls = Localsmith()
    ls.add("handbook.pdf")
    print(ls.ask("How many days of leave are there?"))
"""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Generator, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from .agents.registry import strategy_info
from .core.logs import log_to_file
from .core.settings import Settings, load_settings
from .core.types import (
    DEFAULT_COLLECTION,
    Answer,
    Box,
    Delta,
    Document,
    Event,
    Final,
    Message,
    Progress,
    Question,
)
from .loading import LoadingState, Part, Report
from .models.remote.address import is_remote
from .serving_model import ServingModel

if TYPE_CHECKING:
    from langchain_core.language_models import BaseChatModel
    from langchain_core.tools import BaseTool

    from .agents.acting.approval import Approval
    from .agents.acting.checkpoints import UnfinishedRun
    from .agents.strategy import Strategy
    from .agents.tools.tool import Tool
    from .core.conversations import ConversationStore
    from .core.traces import TraceStore
    from .models.embedding.embedder import EmbedderProcess
    from .models.engine import Engine
    from .models.hot_swap import HotSwap
    from .models.remote.model import RemoteModel
    from .retrieval.library import Library
    from .retrieval.parser_process import ParserProcess
    from .strategies import Strategies
    from .training_runs import TrainingRuns


LOADING_POLL_S = 0.1


class Localsmith:
    """A local model over a library of documents.

    Making one costs nothing; the model and the embedder load at the first question, or by `warm_up`.

    Args:
        model: Catalog name of the chat model, or the address of one on another server, as
            openai://HOST:PORT/MODEL; None for the one in use or the best for this machine.
        settings: All settings; None to read them from `localsmith.toml` and the environment.
        tools: What agents may use beside the tools that come along: tools of ours, or LangChain's, whose
            every call a person is asked about.
        follows_promotions: Whether a model that is put in use meanwhile takes over, where none is named here
            or in the settings; False for one model to the end, as evaluations need it.

    Raises:
        ConfigError: The settings are not valid.
        StorageError: The data folder can't be written.
    """

    def __init__(
        self,
        model: str | None = None,
        *,
        settings: Settings | None = None,
        tools: Sequence[Tool | BaseTool] = (),
        follows_promotions: bool = True,
    ) -> None:
        self.settings = settings or load_settings()
        self.tools = tuple(tools)
        log_to_file(self.settings)
        if model:
            named = self.settings.model.model_copy(update={"name": model})
            self.settings = self.settings.model_copy(update={"model": named})
        self._embedder: Part[EmbedderProcess] = Part("embedder", self._start_embedder)
        self._engine = ServingModel(self.settings, follows_promotions=follows_promotions)
        self._library: Library | None = None
        self._library_lock = threading.Lock()  # the embedder's thread and a page may ask for it at once

    # -- documents

    def add(
        self, source: str | Path | bytes, *, name: str | None = None, collection: str = DEFAULT_COLLECTION
    ) -> Document:
        """Read a file into a collection; a file already there is recognised by its content.

        Args:
            source: Path of the file, or its bytes.
            name: Name to show; required with bytes.
            collection: The collection.

        Returns:
            The document, searchable from now on.

        Raises:
            LoadError: The file can't be read; the reason and the next step are in it.
            StorageError: The disk is full.
            IndexNotFoundError: There is no such collection; `library.create_collection` makes one.
        """
        return self.library.add(source, name=name, collection=collection)

    @property
    def library(self) -> Library:
        """The document library: collections, ingest, search, remove and restore.

        Raises:
            ModelNotFoundError: The embedding model is not installed.
            StorageError: The library's files can't be read.
        """
        from .models.embedding.embedder import load_embedder
        from .retrieval.library import Library

        with self._library_lock:
            if self._library is None:
                self._embedder_process = load_embedder(self.settings)
                self._library = Library(
                    self.settings.library_dir, self._embedder_process, self.settings.retrieval
                )
            return self._library

    # -- questions

    def ask(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
    ) -> Answer:
        """Answer a question.

        Args:
            question: The question.
            history: Earlier turns, oldest first.
            collection: The collection to search.
            strategy: How: "rag", "cot", "pal", …, or "auto" for the planner's choice; None for the setting
                `answer.strategy`.

        Returns:
            The answer with its citations; `print` shows its text.

        Raises:
            LocalsmithError: With a message for people and a hint.
        """
        for event in self.events(question, history=history, collection=collection, strategy=strategy):
            if isinstance(event, Final):
                return event.answer
        raise AssertionError("a run ends with Final")

    def stream(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
    ) -> Iterator[str]:
        """Yield the answer's text as it is written."""
        for event in self.events(question, history=history, collection=collection, strategy=strategy):
            if isinstance(event, Delta):
                yield event.text

    def events(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
        cancel: threading.Event | None = None,
    ) -> Generator[Event, None, None]:
        """Yield what is being done, the text as it comes, and at last the whole answer.

        Args:
            question: The question.
            history: Earlier turns, oldest first; ignored where `question` is a `Question`.
            collection: The collection; ignored where `question` is a `Question`.
            strategy: How; see `ask`.
            cancel: Setting it ends the run with what there is.

        Raises:
            ConfigError: There is no such strategy; the nearest is named.
        """
        info = strategy_info(strategy or self.settings.answer.strategy)
        yield from self._wait_for_parts(cancel, needs_embedder=info.reads_documents)
        if cancel is not None and cancel.is_set():
            yield Final(Answer("", "cancelled"))
            return
        asked = _as_question(question, history, collection)
        yield from self.strategies.events(info.name, asked, cancel=cancel)

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Go on with a run that was interrupted, or that waits for a person's word on a call.

        Args:
            run_id: The run: `ApprovalNeeded.run_id`, or one of `unfinished_runs`.
            approval: What the person decided; None where no call waits.
            cancel: Setting it ends the run with what there is.

        Yields:
            Events, as `events` does.

        Raises:
            AgentError: There is no such run, it is at work, or a call waits and nothing was decided.
        """
        yield from self._wait_for_parts(cancel, needs_embedder=True)
        if cancel is not None and cancel.is_set():
            yield Final(Answer("", "cancelled", trace_id=run_id))
            return
        yield from self.strategies.resume(run_id, approval, cancel=cancel)

    def unfinished_runs(self, user: str | None = None) -> list[UnfinishedRun]:
        """Return the runs that `resume` can go on with, the latest first; `user` None for everybody's."""
        return self.strategies.unfinished_runs(user)

    async def aask(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
    ) -> Answer:
        """Answer without blocking the event loop; see `ask`."""
        async for event in self.aevents(question, history=history, collection=collection, strategy=strategy):
            if isinstance(event, Final):
                return event.answer
        raise AssertionError("a run ends with Final")

    async def astream(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
    ) -> AsyncIterator[str]:
        """Yield the text without blocking the event loop; see `stream`."""
        async for event in self.aevents(question, history=history, collection=collection, strategy=strategy):
            if isinstance(event, Delta):
                yield event.text

    async def aevents(
        self,
        question: str | Question,
        *,
        history: Sequence[Message] = (),
        collection: str = DEFAULT_COLLECTION,
        strategy: str | None = None,
        cancel: threading.Event | None = None,
    ) -> AsyncIterator[Event]:
        """Yield events without blocking the event loop; see `events`."""
        from .agents.streaming import iterate_in_thread

        stop = cancel or threading.Event()
        stream = iterate_in_thread(
            lambda: self.events(
                question, history=history, collection=collection, strategy=strategy, cancel=stop
            )
        )
        try:
            async for event in stream:
                yield event
        finally:
            stop.set()

    @cached_property
    def strategies(self) -> Strategies:
        """Every strategy by its name, each a LangChain `Runnable[Question, Answer]`."""
        from .strategies import Strategies

        return Strategies(self)

    @property
    def traces(self) -> TraceStore:
        """The traces of all runs."""
        return self.strategies.traces

    @property
    def strategy(self) -> Strategy:
        """The strategy of the setting `answer.strategy`."""
        return self.strategies[self.settings.answer.strategy]

    @cached_property
    def chat_model(self) -> BaseChatModel:
        """The model as a LangChain chat model, without documents: `ChatLocalsmith`, or `ChatOpenAI`."""
        from .core.types import SamplingParams

        answer = self.settings.answer
        sampling = SamplingParams(
            max_tokens=answer.max_tokens, temperature=answer.temperature, seed=answer.seed
        )
        engine = self.engine
        if is_remote(self.settings.model.name):
            from .models.remote.model import RemoteModel

            assert isinstance(engine, RemoteModel)
            return engine.chat_model(sampling)
        from .models.chat.model import ChatLocalsmith

        return ChatLocalsmith(engine=engine, sampling=sampling)

    # -- what else the pages need

    @property
    def engine(self) -> Engine | HotSwap | RemoteModel:
        """The engine, one that a promoted model may take over, or the model on another server; waits for it.

        Raises:
            ModelError: The model is not installed or can't be loaded.
            ModelNotReadyError: The other server can't be reached.
            AccessDenied: The other server refuses the key.
        """
        return self._engine.result()

    @property
    def embedder(self) -> EmbedderProcess:
        """The embedder; waits until it is loaded.

        Raises:
            ModelError: The embedding model is not installed or can't be loaded.
        """
        return self._embedder.result()

    @cached_property
    def conversations(self) -> ConversationStore:
        """Conversations and feedback."""
        from .core.conversations import ConversationStore

        return ConversationStore(self.settings.conversations_path, self.settings.retrieval.undo_days)

    @cached_property
    def training_runs(self) -> TrainingRuns:
        """What trains models for the chat: checks, runs, promotions."""
        from .training_runs import TrainingRuns

        return TrainingRuns(self.settings)

    @property
    def loading(self) -> list[LoadingState]:
        """How far the model and the embedder are."""
        return [self._engine.state, self._embedder.state]

    def warm_up(self) -> None:
        """Start loading the model and the embedder in the background; again after a failure."""
        self._embedder.start()
        self._engine.start()

    def page_image(self, document_id: str, page: int, boxes: Sequence[Box]) -> bytes:
        """Return a PNG of a document's page with the boxes highlighted.

        Raises:
            IndexNotFoundError: There is no such document.
            LoadError: Its format has no pages to show.
        """
        return self._parser.render_page(self.library.document_path(document_id), page, list(boxes))

    def close(self) -> None:
        """Stop the model, the embedder and the parser; a second call does nothing."""
        if "strategies" in self.__dict__:
            self.__dict__.pop("strategies").close()  # what learns in the background uses the model
        self._engine.close()
        with self._library_lock:
            if self._library is not None:
                self._library.close()
                self._embedder_process.close()
                self._library = None
        for name in ("_parser", "conversations"):
            if name in self.__dict__:
                self.__dict__.pop(name).close()

    def __enter__(self) -> Localsmith:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    # -- loading

    @cached_property
    def _parser(self) -> ParserProcess:
        from .retrieval.parser_process import ParserProcess

        limits = self.settings.retrieval
        return ParserProcess(
            limits.parse_timeout_s, limits.parse_memory_bytes, limits.max_file_bytes, limits.max_text_chars
        )

    def _start_embedder(self, report: Report) -> EmbedderProcess:
        report(None, f"loading {self.settings.embedder.name}")
        _ = self.library
        self._embedder_process.encode(["warm up"])
        return self._embedder_process

    def _wait_for_parts(self, cancel: threading.Event | None, *, needs_embedder: bool) -> Iterator[Event]:
        """Yield where loading stands until the parts are there or one has failed."""
        self.warm_up()
        while waiting := [state for state in self.loading[: 1 + needs_embedder] if state.state == "loading"]:
            if cancel is not None and cancel.is_set():
                return
            share = None if waiting[0].progress is None else round(100 * waiting[0].progress)
            yield Progress("loading", share, None if share is None else 100, waiting[0].detail)
            time.sleep(LOADING_POLL_S)
        if needs_embedder:
            self._embedder.result()


def _as_question(question: str | Question, history: Sequence[Message], collection: str) -> Question:
    if isinstance(question, Question):
        return question
    return Question(question, tuple(history), collection)
