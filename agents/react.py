"""ReAct: the model thinks, calls a tool, reads what it brought, and so on until it answers.

Place in the data's way: a `Question` -> `events` -> an `Answer` whose steps are the thoughts and calls. The
parts are in `acting/`: each turn is held to a grammar, so a malformed call can't be produced (`actions.py`);
each node of the loop is followed by a checkpoint, so a killed run is resumed (`graph.py`); tools that change
anything wait for a person (`execution.py`); what tools return is data (`observations.py`).

Source:
    Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models", ICLR 2023.

Example:
    strategy = ReactStrategy(engine, [calculator()], checkpoints=Path("react.sqlite3"))
    print(strategy.invoke(Question("What do 4 pens at 3.20 and a book at 11.75 cost?")))
"""

from __future__ import annotations

import contextlib
import json
import threading
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path

from ..core.contracts import LanguageModel
from ..core.errors import AgentError, ConfigError, ToolArgumentError
from ..core.settings import AnswerSettings
from ..core.types import Answer, Delta, Event, Final, Message, Question
from .acting.actions import turn_grammar, turn_tokens
from .acting.approval import Approval
from .acting.checkpoints import Checkpoints, UnfinishedRun
from .acting.graph import ReactGraph
from .acting.parts import ReactLimits, ReactParts
from .acting.run import ReactRun, Stopped
from .acting.trajectory import Trajectory
from .answering.abstention import ABSTENTION
from .linked_event import LinkedEvent
from .prompts import load_prompt
from .strategy import Strategy
from .tools.arguments import signature
from .tools.check import check_arguments
from .tools.tool import Tool

__all__ = ["Approval", "ReactLimits", "ReactStrategy", "UnfinishedRun"]

_MAX_HISTORY_SHARE = 0.25
"""Share of the window that earlier turns of the conversation may take."""


class ReactStrategy(Strategy):
    """Reasoning and acting with tools."""

    def __init__(
        self,
        model: LanguageModel,
        tools: Sequence[Tool],
        answer: AnswerSettings | None = None,
        *,
        limits: ReactLimits | None = None,
        checkpoints: Path,
    ) -> None:
        """Build the grammar of the turns; nothing runs yet.

        Args:
            model: The chat model.
            tools: What it may call.
            answer: Sampling and the longest answer; None for the defaults.
            limits: How long a run may go on; None for the defaults.
            checkpoints: SQLite file of unfinished runs; made with the first one.

        Raises:
            ConfigError: A tool's name or schema can't be used, or two have one name.
        """
        self.tools = tuple(tools)
        self._parts = ReactParts(
            model=model,
            tools={tool.name: tool for tool in tools},
            answer=answer or AnswerSettings(),
            limits=limits or ReactLimits(),
            checkpoints=Checkpoints(checkpoints),
            grammar=turn_grammar(tools),
            turn_tokens=turn_tokens(tools),
        )

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run from the beginning, telling where it stands.

        Args:
            question: The question with its history and collection.
            cancel: Setting it stops the run; it can be resumed.

        Yields:
            `Progress` from the start, a `StepEnded` a thought and a call, `Delta`s whose texts joined are the
            answer's text, and one `Final`. Where a call waits for a person, `ApprovalNeeded` comes before a
            `Final` with `stop_reason` "needs_approval"; go on with `resume`.

        Raises:
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed; the run can be resumed.
            StorageError: The checkpoints can't be written.
        """
        run_id = uuid.uuid4().hex
        begun = Trajectory(run_id, question, self._system(), self._history(question))
        checkpoints = self._parts.checkpoints
        with checkpoints.locked(run_id):
            checkpoints.begin(run_id, question)
            yield from self._run(begun, lambda graph: graph.begin(begun), cancel)

    def resume(
        self, run_id: str, decision: Approval | None = None, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Go on with an unfinished run: one that was stopped or killed, or whose call waits for a person.

        Args:
            run_id: The run, its answer's `trace_id`.
            decision: The person's word on the call that waits; None to go on without one, which asks again.
            cancel: Setting it stops the run; it can be resumed.

        Yields:
            What `events` yields, from the last checkpoint on.

        Raises:
            AgentError: There is no such run, it is at work, or no call waits for this decision.
            ToolArgumentError: The person's arguments don't obey the tool's schema; nothing was decided.
        """
        checkpoints = self._parts.checkpoints
        with checkpoints.locked(run_id):
            if not checkpoints.has(run_id):
                raise AgentError(
                    f"There is no unfinished run {run_id}.", hint="It has ended, or was forgotten."
                )
            begun = self._checkpoint(run_id)
            if decision is not None:
                self._decide(begun, decision)
            checkpoints.note(run_id, len(begun.exchanges))
            yield from self._run(begun, lambda graph: graph.go_on(), cancel)

    def list_runs(self, user: str | None = None) -> list[UnfinishedRun]:
        """Return the runs that can be resumed, the latest first; a user's, or everybody's."""
        return self._parts.checkpoints.unfinished(user)

    def forget(self, run_id: str) -> None:
        """Delete an unfinished run; one that is not there is no error.

        Raises:
            AgentError: It is at work.
        """
        self._parts.checkpoints.forget(run_id)

    # -- from here on: within a run's lock

    def _run(
        self,
        begun: Trajectory,
        start: Callable[[ReactGraph], Generator[Event, None, None]],
        cancel: threading.Event | None,
    ) -> Generator[Event, None, None]:
        checkpoints, run_id = self._parts.checkpoints, begun.run_id
        stop = LinkedEvent(cancel)
        run = ReactRun(self._parts, begun, stop)
        with checkpoints.saver() as saver:
            graph = ReactGraph(saver, run_id, run.think, run.act)
            try:
                with contextlib.closing(start(graph)) as events:
                    try:
                        yield from _passed(events, stop)
                    except Stopped:
                        yield run.notebook.final(run.shown, "cancelled")
                        return
                if (asked := run.execution.asked) is not None:
                    checkpoints.note(run_id, asked.call, asked)
                    yield asked
                    yield run.notebook.final("", "needs_approval")
                    return
                answer = graph.trajectory.answer
            finally:
                stop.set()
        yield from self._ended(run_id, answer, run.shown)

    def _ended(self, run_id: str, answer: Answer | None, shown: str) -> Iterator[Event]:
        """Tell the answer and delete the run, which is over."""
        if answer is None:
            raise AgentError("The run ended without an answer.", hint="Resume it.")
        self._parts.checkpoints.delete(run_id)
        if not shown and answer.text:  # it was killed between the answer and its end
            yield Delta(answer.text)
        yield Final(answer)

    def _checkpoint(self, run_id: str) -> Trajectory:
        with self._parts.checkpoints.saver() as saver:
            return ReactGraph(saver, run_id, _nowhere, _nowhere).trajectory

    def _decide(self, begun: Trajectory, decision: Approval) -> None:
        """Note a person's word on the call that waits."""
        call, number = begun.pending, len(begun.exchanges)
        tool = self._parts.tools.get(call.tool) if call is not None else None
        attempt = self._parts.checkpoints.attempt(begun.run_id, number)
        if tool is None or not tool.needs_approval or attempt.result is not None:
            raise AgentError("No call of this run waits for approval.")
        if decision.call not in (None, number):
            raise AgentError(f"The call {decision.call} of this run waits for approval no longer.")
        if decision.verdict not in ("approve", "refuse"):
            raise ValueError(f"A verdict is approve or refuse, not {decision.verdict!r}.")
        if decision.arguments is not None:
            try:
                values = json.loads(decision.arguments)
            except ValueError as exc:
                raise ToolArgumentError(f"The arguments are not JSON: {exc}.") from exc
            check_arguments(tool.parameters, values)
        self._parts.checkpoints.decide(begun.run_id, number, attempt.number, decision)

    def _system(self) -> str:
        names = set(self._parts.tools)
        listed = [
            {
                "name": tool.name,
                "description": " ".join(tool.description.split()),
                "signature": signature(tool.parameters),
            }
            for tool in self.tools
        ]
        return load_prompt("react_system").render(
            tools=listed,
            has_calculator="calculator" in names,
            has_search="search_documents" in names,
            abstention=ABSTENTION,
        )

    def _history(self, question: Question) -> tuple[Message, ...]:
        """Return as many of the latest earlier turns as a share of the window holds."""
        model = self._parts.model
        allowed = int(_MAX_HISTORY_SHARE * model.n_ctx)
        kept: tuple[Message, ...] = ()
        for message in reversed(question.history):
            if len(message.content) > 8 * allowed or model.count_prompt((message, *kept)) > allowed:
                break
            kept = (message, *kept)
        while kept and kept[0].role != "user":  # templates want turns in turn
            kept = kept[1:]
        return kept


def _passed(events: Iterator[Event], stop: threading.Event) -> Generator[Event, None, None]:
    """Yield the events; where nobody wants more, tell the run before its graph waits for it to end."""
    try:
        for event in events:  # noqa: UP028 - `yield from` would close them before `stop` is set
            yield event
    except GeneratorExit:
        stop.set()
        raise


def _nowhere(_: Trajectory) -> Generator[Event, None, Trajectory]:
    raise ConfigError("This graph is only read.")
    yield  # a node is a generator
