"""The strategies of one front door: built when they are first asked for, remembering and traced as they run.

Place in the data's way: `Localsmith.events(question, strategy="pal")` -> `Strategies.events` -> memory -> the
strategy, built by `agents/registry.py` -> its events, kept as a trace on their way. What strategies share,
such as the sandbox, is made once and closed here.

Example:
    ls = Localsmith()
    answer = ls.strategies["cot"].invoke(Question("Is 91 a prime number?"))
"""

from __future__ import annotations

import threading
from contextlib import closing
from functools import cached_property
from typing import TYPE_CHECKING

import structlog

from .agents.registry import StrategyParts, build_strategy, checkpoints_path, strategy_info
from .core.errors import SandboxError
from .core.types import Final, Question
from .models.hot_swap import held

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Sequence

    from langchain_core.tools import BaseTool

    from .agents.acting.approval import Approval
    from .agents.acting.checkpoints import Checkpoints, UnfinishedRun
    from .agents.memory import Memory
    from .agents.strategy import Strategy
    from .agents.tools.mcp import McpServers
    from .agents.tools.tool import Tool
    from .core.contracts import LanguageModel, Sandbox, ServedModel
    from .core.memory_store import MemoryStore
    from .core.telemetry import TraceExporter
    from .core.traces import Trace, TraceStore
    from .core.types import Event, Passage
    from .front_door import Localsmith

RESUMABLE = "react"
_log = structlog.get_logger(__name__)


class Strategies:
    """Strategies by name; getting one waits for the model to be loaded.

    Args:
        front_door: Whose model, documents and settings they use.
    """

    def __init__(self, front_door: Localsmith) -> None:
        self._front = front_door
        self._built: dict[ServedModel, dict[str, Strategy]] = {}
        self._sandbox: Sandbox | None = None
        self._lock = threading.RLock()

    def __getitem__(self, name: str) -> Strategy:
        """Return the strategy of this name, bare: it neither remembers nor leaves a trace.

        A model that is promoted takes over between any two of its completions; a run by `events` keeps one.

        Raises:
            ConfigError: There is none of this name; the nearest is named.
            SandboxError: It runs programs, and no sandbox can run here.
            ModelError: The model can't be loaded.
        """
        strategy_info(name)
        return self._strategy(name, self._front.engine)

    def _strategy(self, name: str, model: ServedModel) -> Strategy:
        with self._lock:
            if model not in self._built:  # of those that were replaced, nothing is kept
                serving = self._front.engine
                self._built = {key: built for key, built in self._built.items() if key is serving}
                self._built[model] = {}
            built = self._built[model]
            if name not in built:
                built[name] = build_strategy(name, self._parts(model))
            return built[name]

    # -- runs

    def events(
        self, name: str, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run a strategy; the run is kept as a trace, and a question of a conversation has its memory.

        Args:
            name: The strategy.
            question: The question.
            cancel: Setting it ends the run with what there is.
        """
        strategy_info(name)

        def run(model: ServedModel) -> Generator[Event, None, None]:
            strategy = self._strategy(name, model)
            if question.conversation_id:
                from .agents.remembering import RememberingStrategy

                strategy = RememberingStrategy(strategy, self._memory, model.name)
            return self._kept(strategy.events(question, cancel=cancel), question, name, model.name)

        return self._on_one_model(run)

    def resume(
        self, run_id: str, approval: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Go on with an unfinished run of `react`, whoever chose it; see `Localsmith.resume`."""
        from .agents.react import ReactStrategy

        def run(model: ServedModel) -> Generator[Event, None, None]:
            strategy = self._strategy(RESUMABLE, model)
            assert isinstance(strategy, ReactStrategy)
            asked = {run.run_id: Question(run.question, user=run.user) for run in self.unfinished_runs()}
            events = strategy.resume(run_id, approval, cancel=cancel)
            return self._kept(events, asked.get(run_id, Question("")), RESUMABLE, model.name)

        return self._on_one_model(run)

    def _on_one_model(
        self, run: Callable[[ServedModel], Generator[Event, None, None]]
    ) -> Generator[Event, None, None]:
        """Run on the model that serves now, and let go of it before the answer is handed over."""
        final: Final | None = None
        with held(self._front.engine) as model, closing(run(model)) as events:
            for event in events:
                if isinstance(event, Final):
                    final = event  # the last: who has it may never ask for more, and would hold the model
                else:
                    yield event
        if final is not None:
            yield final

    def unfinished_runs(self, user: str | None = None) -> list[UnfinishedRun]:
        """Return the runs that can be resumed, the latest first; the model need not be loaded.

        Args:
            user: Only this user's; None for everybody's.
        """
        return self._checkpoints.unfinished(user)

    def forget_run(self, run_id: str) -> None:
        """Delete an unfinished run; one that is not there is no error.

        Raises:
            AgentError: It is at work.
        """
        self._checkpoints.forget(run_id)

    def close(self) -> None:
        """Stop what they share; it is made anew when it is asked for again."""
        with self._lock:
            self._built.clear()
            closers = [self.__dict__.pop(name, None) for name in ("_memory", "_mcp", "_exporter")]
            closers += [self.__dict__.pop(name, None) for name in ("_memory_store", "traces", "_checkpoints")]
            closers.append(self._sandbox)
            self._sandbox = None
        for part in closers:
            if (close := getattr(part, "close", None)) is not None:
                close()

    # -- what they share

    @cached_property
    def traces(self) -> TraceStore:
        """Every run that was made through the front door."""
        from .core.traces import TraceStore

        return TraceStore(self._front.settings.traces_path, self._front.settings.traces)

    def sandbox(self) -> Sandbox:
        """Return the sandbox that runs programs.

        Raises:
            SandboxError: None can run here; the hint says what to do.
        """
        from .agents.sandbox import choose_sandbox

        settings = self._front.settings
        with self._lock:
            if self._sandbox is None:
                self._sandbox = choose_sandbox(settings.sandbox, settings.sandbox_cache_dir)
            return self._sandbox

    @cached_property
    def _exporter(self) -> TraceExporter | None:
        settings = self._front.settings.traces
        if not settings.otlp_endpoint:
            return None
        from .core.telemetry import TraceExporter

        return TraceExporter(settings.otlp_endpoint, with_texts=settings.otlp_texts)

    @cached_property
    def _memory_store(self) -> MemoryStore:
        from .core.memory_store import MemoryStore

        settings = self._front.settings
        return MemoryStore(settings.memory_path, settings.retrieval.undo_days)

    @cached_property
    def _memory(self) -> Memory:
        from .agents.memory import Memory

        front = self._front
        return Memory(front.engine, self._memory_store, front.embedder, front.settings.memory)

    @cached_property
    def _checkpoints(self) -> Checkpoints:
        from .agents.acting.checkpoints import Checkpoints

        return Checkpoints(checkpoints_path(self._front.settings.home))

    @cached_property
    def _mcp(self) -> McpServers:
        from .agents.tools.mcp import McpServers

        return McpServers(self._front.settings.tools.mcp_servers)

    def _kept(
        self, events: Generator[Event, None, None], question: Question, name: str, model_name: str
    ) -> Generator[Event, None, None]:
        from .agents.recorded import record

        with self._lock:
            store, exporter = self.traces, self._exporter
        on_kept: Callable[[Trace], None] | None = None if exporter is None else exporter.send
        return record(events, question, store, name, model=model_name, on_kept=on_kept)

    def _parts(self, model: LanguageModel) -> StrategyParts:
        front = self._front
        return StrategyParts(
            model=model,
            retriever=_Documents(front),
            sandbox=self.sandbox,
            tools=self._tools,
            state_dir=front.settings.home,
            answer=front.settings.answer,
            k=front.settings.retrieval.k,
            embedder=lambda: front.embedder,
            has_own_tools=bool(front.tools or front.settings.tools.mcp_servers),
        )

    def _tools(self) -> Sequence[Tool]:
        """Return what `react` may call; without a sandbox it goes without Python."""
        from .agents.tools.sql import library_tables
        from .agents.tools.standard import standard_tools

        library, settings = self._front.library, self._front.settings.tools
        sandbox: Sandbox | None = None
        try:
            sandbox = self.sandbox()
        except SandboxError as exc:
            _log.warning("react_without_python", error=str(exc))
        tools = standard_tools(
            retriever=library,
            sandbox=sandbox,
            tables=library_tables(library),
            allowed_hosts=settings.web_hosts,
        )
        if settings.mcp_servers:
            tools += self._mcp.tools()
        return [*tools, *map(_as_tool, self._front.tools)]


def _as_tool(tool: Tool | BaseTool) -> Tool:
    """Return a LangChain tool as one of ours; a person is asked before each of its calls."""
    from langchain_core.tools import BaseTool

    from .agents.tools.langchain import from_langchain

    return from_langchain(tool) if isinstance(tool, BaseTool) else tool


class _Documents:
    """The library's search, opened when something is searched: most strategies need no embedder."""

    def __init__(self, front_door: Localsmith) -> None:
        self._front = front_door

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        return self._front.library.search(query, collection, k, document_ids)


class NamedStrategy:
    """One strategy of a front door, which waits for what it needs when it is asked; the server serves these.

    Args:
        front_door: Whose it is.
        name: Its name.
    """

    def __init__(self, front_door: Localsmith, name: str) -> None:
        self._front = front_door
        self._name = name

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run; see `Localsmith.events`."""
        return self._front.events(question, strategy=self._name, cancel=cancel)
