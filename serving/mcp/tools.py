"""The tools that the MCP server offers: ask, search, run_python and list_collections.

Place in the data's way: checked arguments -> the strategy, the library or the sandbox, in a thread -> text
for the assistant to read and the same as a form for programs. Knows nothing of the protocol.

Example:
    tools = Tools(parts, ServeSettings())
    outcome = await tools.run("search", {"query": "trace trees"}, Call(ProgressReport(None)))
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Generator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from ...agents.streaming import iterate_in_thread
from ...core.errors import AccessDenied, IndexNotFoundError, ToolArgumentError
from ...core.settings import ServeSettings
from ...core.types import (
    DEFAULT_COLLECTION,
    Answer,
    ApprovalNeeded,
    Final,
    Passage,
    ProgramResult,
    Progress,
    Question,
)
from ..parts import Strategy
from . import forms
from .parts import McpParts
from .progress import ProgressReport

MAX_PROGRAMS = 2  # at the same time; others wait
LOADING_POLL_S = 0.1
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Call:
    """One call of a tool and who makes it.

    Attributes:
        progress: Tells the caller how far it is.
        user: Whose share of the engine it takes; "" where there is but one user.
        scopes: What the caller's key is good for; None for everything.
    """

    progress: ProgressReport
    user: str = ""
    scopes: frozenset[str] | None = None

    def require(self, scope: str) -> None:
        """Refuse a caller whose key is not good for `scope`.

        Raises:
            AccessDenied: It is not.
        """
        if self.scopes is not None and scope not in self.scopes:
            raise AccessDenied(
                f"This key is not good for {scope!r}.",
                hint=f"Make one that is: localsmith keys create NAME --scope {scope}",
            )


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tool returns.

    Attributes:
        text: For the assistant to read.
        form: The same for programs.
        is_error: Whether what was asked for failed.
    """

    text: str
    form: BaseModel
    is_error: bool = False


@dataclass(frozen=True, slots=True)
class ServedTool:
    """A tool as `tools/list` shows it.

    Attributes:
        name: Its name.
        description: What it does and when to use it, for the assistant.
        scope: What a key has to be good for.
        arguments: Form of its arguments.
        result: Form of its result.
        function: Runs it.
    """

    name: str
    description: str
    scope: str
    arguments: type[BaseModel]
    result: type[BaseModel]
    function: Callable[[Any, Call], Awaitable[Outcome]]


class Tools:
    """The four tools over one set of parts.

    Args:
        parts: What they work on.
        settings: How long a call may take.
    """

    def __init__(self, parts: McpParts, settings: ServeSettings) -> None:
        self._parts = parts
        self._deadline_s = settings.deadline_s
        self._program_slots = threading.BoundedSemaphore(MAX_PROGRAMS)
        self.by_name: Mapping[str, ServedTool] = {tool.name: tool for tool in self._tools()}

    def schema(self, tool: ServedTool) -> dict[str, Any]:
        """Return the JSON schema of a tool's arguments; the strategies there are stand in it by name."""
        schema = tool.arguments.model_json_schema()
        if "strategy" in schema["properties"]:
            schema["properties"]["strategy"]["enum"] = sorted(self._parts.served.strategies)
        return schema

    async def run(self, name: str, arguments: Mapping[str, Any], call: Call) -> Outcome:
        """Run a tool.

        Args:
            name: One of `by_name`.
            arguments: As the client sent them.
            call: Who calls.

        Returns:
            Its result; cancelling the task stops the model.

        Raises:
            AccessDenied: The caller's key is not good for it.
            ToolArgumentError: The arguments are not as its schema says.
            LocalsmithError: It failed; the hint says what to do.
        """
        tool = self.by_name[name]
        call.require(tool.scope)
        try:
            checked = tool.arguments.model_validate(arguments)
        except ValidationError as exc:
            raise ToolArgumentError(
                f"{name} can't use these arguments: {forms.fault_of(exc)}", hint="See the tool's schema."
            ) from exc
        return await tool.function(checked, call)

    def _tools(self) -> tuple[ServedTool, ...]:
        return (
            ServedTool(
                "ask",
                "Answer a question from the person's own documents with a model on their machine. The answer "
                "carries [n] marks; each is listed with document, page and the sentence it rests on.",
                "documents",
                forms.AskArguments,
                forms.AnswerForm,
                self._ask,
            ),
            ServedTool(
                "search",
                "Find passages in the person's own documents, by meaning and by words, best first.",
                "documents",
                forms.SearchArguments,
                forms.PassagesForm,
                self._search,
            ),
            ServedTool(
                "run_python",
                "Run a Python program in a sandbox without files or network and return what it prints. Every "
                "run starts from nothing.",
                "python",
                forms.ProgramArguments,
                forms.ProgramForm,
                self._run_python,
            ),
            ServedTool(
                "list_collections",
                "List the collections of documents that ask and search can look into.",
                "documents",
                forms.NoArguments,
                forms.CollectionsForm,
                self._list_collections,
            ),
        )

    async def _ask(self, given: forms.AskArguments, call: Call) -> Outcome:
        strategy = self._parts.served.strategies.get(given.strategy)
        if strategy is None:
            raise ToolArgumentError(
                f"There is no strategy {given.strategy!r}.",
                hint=f"There are: {', '.join(sorted(self._parts.served.strategies))}.",
            )
        await in_thread(lambda: self._check_collection(given.collection))
        question = Question(given.question, collection=given.collection, user=call.user)
        answer, note = await self._answer(strategy, question, call)
        form = forms.answer_form(answer, given.strategy)
        return Outcome("\n\n".join(part for part in (_with_sources(answer), note) if part), form)

    async def _answer(self, strategy: Strategy, question: Question, call: Call) -> tuple[Answer, str]:
        """Run a strategy to its end, or to the deadline; return its answer and a note for people, or ""."""
        cancel, note = threading.Event(), ""
        is_late = threading.Event()

        def end() -> None:
            is_late.set()
            cancel.set()

        timer = asyncio.get_running_loop().call_later(self._deadline_s, end)
        answer: Answer | None = None
        try:
            async with aclosing(
                iterate_in_thread(lambda: strategy.events(question, cancel=cancel))
            ) as events:
                async for event in events:
                    if isinstance(event, Final):
                        answer = event.answer
                    elif isinstance(event, ApprovalNeeded):
                        resume = f"localsmith runs resume {event.run_id}"
                        note = f"The tool {event.tool} waits for a person's word on this machine: {resume}"
                    await call.progress.tell(event)
        finally:
            timer.cancel()
            cancel.set()
        assert answer is not None, "a run ends with Final"
        if is_late.is_set() and answer.stop_reason == "cancelled":
            return replace(answer, stop_reason="time_limit"), f"Ended after {self._deadline_s:.0f} s."
        return answer, note

    async def _search(self, given: forms.SearchArguments, call: Call) -> Outcome:
        await in_thread(lambda: self._check_collection(given.collection))
        await self._wait_for("embedder", call)
        passages = await in_thread(
            lambda: self._parts.library().search(given.query, given.collection, given.k)
        )
        form = forms.PassagesForm(passages=[forms.passage_form(passage) for passage in passages])
        found = "\n\n".join(f"{_place(passage)}\n{passage.chunk.text}" for passage in passages)
        return Outcome(found or "Nothing was found.", form)

    async def _run_python(self, given: forms.ProgramArguments, call: Call) -> Outcome:
        await call.progress.tell(Progress("running", detail="the program"))
        is_unwanted = threading.Event()

        def run() -> ProgramResult:
            with self._program_slots:
                if is_unwanted.is_set():
                    return ProgramResult("error", error="Cancelled before it began.")
                return self._parts.sandbox().run(given.program, timeout_s=given.timeout_s)

        try:
            result = await in_thread(run)
        finally:
            is_unwanted.set()
        words = "\n".join(part for part in (result.stdout.rstrip("\n"), result.error) if part)
        text = words or "The program printed nothing."
        return Outcome(text, forms.program_form(result), is_error=result.status != "ok")

    async def _list_collections(self, given: forms.NoArguments, call: Call) -> Outcome:
        found = await in_thread(lambda: self._parts.library().collections())
        listed = [forms.CollectionForm(name=info.name, num_documents=info.num_documents) for info in found]
        lines = [
            f"{form.name}: {form.num_documents} document{'' if form.num_documents == 1 else 's'}"
            for form in listed
        ]
        return Outcome("\n".join(lines), forms.CollectionsForm(collections=listed))

    def _check_collection(self, name: str) -> None:
        """Refuse a collection that isn't there, and say which are.

        Raises:
            IndexNotFoundError: It isn't there.
        """
        if name == DEFAULT_COLLECTION:
            return  # always there; and a strategy that reads no documents needs no embedder
        names = [info.name for info in self._parts.library().collections()]
        if name not in names:
            raise IndexNotFoundError(
                f"There is no collection {name!r}.", hint=f"There are: {', '.join(names)}."
            )

    async def _wait_for(self, name: str, call: Call) -> None:
        """Wait until a part is loaded, telling how far it is.

        Raises:
            LocalsmithError: It can't be loaded.
        """
        while state := next((part for part in self._parts.served.loading() if part.name == name), None):
            if state.error is not None:
                raise state.error
            if state.state != "loading":
                return
            share = None if state.progress is None else round(100 * state.progress)
            await call.progress.tell(
                Progress("loading", share, None if share is None else 100, state.detail or name)
            )
            await asyncio.sleep(LOADING_POLL_S)


async def in_thread(call: Callable[[], T]) -> T:
    """Run what blocks in a thread of its own, which nobody waits for once the task is cancelled."""

    def once() -> Generator[T, None, None]:
        yield call()

    async with aclosing(iterate_in_thread(once)) as results:
        return await anext(results)


def _with_sources(answer: Answer) -> str:
    """Return the answer's text with its sources below."""
    sources: dict[tuple[int, str], str] = {}
    for citation in answer.citations:
        where = _place(replace(citation.passage, rank=citation.number))
        mark = "" if citation.is_supported else " (the passage does not say so)"
        sources.setdefault((citation.number, citation.quote), f"{where}: “{citation.quote}”{mark}")
    lines = [sources[key] for key in sorted(sources)]
    return "\n\n".join([answer.text, *(["Sources:\n" + "\n".join(lines)] if lines else [])])


def _place(passage: Passage) -> str:
    page = f", page {passage.chunk.page}" if passage.chunk.page is not None else ""
    return f"[{passage.rank}] {passage.document_name}{page}"
