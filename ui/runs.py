"""Answers in the making, owned by the server process and not by a browser tab.

Place in the data's way: the chat page starts a run and then only looks at it. The thread that runs it
stores the answer when it is whole, so that a reload, a closed tab or a second tab changes nothing.
Questions of one conversation are answered in the order they were asked.

Example:
    runs = AnswerRuns(front_door)
    run = runs.start(turn, collection="papers")
    run.view().text     # what has been written so far
    runs.stop(turn.id)  # keeps it
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

import structlog

from ..core.conversations import Turn
from ..core.errors import LocalsmithError, ModelNotReadyError
from ..core.types import Answer, Delta, Event, Final, Progress, Question, Step, StepEnded
from . import words
from .frontdoor import FrontDoor

if TYPE_CHECKING:
    from ..agents.acting.approval import Approval

log = structlog.get_logger(__name__)

State: TypeAlias = Literal["queued", "running", "stopping", "ended"]
MakeEvents: TypeAlias = Callable[["AnswerRun"], Iterator[Event]]

POLL_S = 0.05


@dataclass(frozen=True, slots=True)
class RunView:
    """A run as it stands at one moment.

    Attributes:
        state: Where it stands.
        text: The answer so far.
        progress: What it is doing; None before it says.
        elapsed_s: Seconds since it was asked.
        steps: What has been done so far.
    """

    state: State
    text: str
    progress: Progress | None
    elapsed_s: float
    steps: tuple[Step, ...] = ()


class AnswerRun:
    """One question being answered; written by its thread, read by any page."""

    def __init__(self, turn: Turn, collection: str) -> None:
        """Begin in the queue."""
        self.turn = turn
        self.collection = collection
        self.cancel = threading.Event()
        self.ended = threading.Event()
        self._lock = threading.Lock()
        self._text = ""
        self._progress: Progress | None = None
        self._steps: tuple[Step, ...] = ()
        self._is_queued = True
        self._started = time.monotonic()

    def view(self) -> RunView:
        """Return text, progress and steps that belong together."""
        with self._lock:
            state: State = "queued" if self._is_queued else "running"
            if self.cancel.is_set():
                state = "stopping"
            if self.ended.is_set():
                state = "ended"
            elapsed_s = time.monotonic() - self._started
            return RunView(state, self._text, self._progress, elapsed_s, self._steps)

    def wait_for(self, event: threading.Event, reason: str) -> None:
        """Stay in the queue until `event` is set or the run is cancelled; say why."""
        self.take(Progress("loading", detail=reason))
        while not event.wait(POLL_S) and not self.cancel.is_set():
            pass

    def begin(self) -> None:
        """Leave the queue."""
        with self._lock:
            self._is_queued = False

    def take(self, event: Event) -> None:
        """Note one event."""
        with self._lock:
            if isinstance(event, Delta):
                self._text += event.text
                if self._progress is None or self._progress.stage != "answering":
                    self._progress = Progress("answering")
            elif isinstance(event, Progress):
                self._progress = event
            elif isinstance(event, StepEnded):
                self._steps = (*self._steps, event.step)

    def partial_answer(self) -> Answer:
        """Return what there is as a cancelled answer."""
        view = self.view()
        return Answer(view.text, "cancelled", steps=view.steps, duration_s=view.elapsed_s)


class AnswerRuns:
    """All runs of the process, by turn."""

    def __init__(self, front_door: FrontDoor) -> None:
        """Start with none."""
        self._front = front_door
        self._lock = threading.Lock()
        self._runs: dict[str, AnswerRun] = {}
        self._last: dict[str, AnswerRun] = {}

    def start(
        self,
        turn: Turn,
        collection: str,
        after: threading.Event | None = None,
        *,
        strategy: str | None = None,
    ) -> AnswerRun:
        """Answer a stored question in the background; a turn that is being answered is left as it is.

        Args:
            turn: The question.
            collection: Where to look for the answer.
            after: Wait for this, for example documents being added; None for nothing.
            strategy: How it is answered; None for the setting.
        """
        return self._begin(turn, collection, after, lambda run: self._asked(run, strategy))

    def resume(self, turn: Turn, collection: str, run_id: str, approval: Approval | None = None) -> AnswerRun:
        """Go on with an unfinished run of a turn in the background; its answer becomes the turn's.

        Args:
            turn: The question.
            collection: Where its answer is looked for.
            run_id: The run.
            approval: What the person decided on the call that waits; None where none does.
        """
        return self._begin(
            turn, collection, None, lambda run: self._front.resume(run_id, approval, cancel=run.cancel)
        )

    def _begin(
        self, turn: Turn, collection: str, after: threading.Event | None, make_events: MakeEvents
    ) -> AnswerRun:
        with self._lock:
            running = self._runs.get(turn.id)
            if running is not None:
                return running
            run = AnswerRun(turn, collection)
            self._runs[turn.id] = run
            before = self._last.get(turn.conversation_id)
            self._last[turn.conversation_id] = run
        name = f"answer-{turn.id[:8]}"
        work = (run, before, after, make_events)
        threading.Thread(target=self._work, args=work, name=name, daemon=True).start()
        return run

    def active(self, turn_id: str) -> AnswerRun | None:
        """Return the run of a turn while it is being answered."""
        with self._lock:
            return self._runs.get(turn_id)

    def stop(self, turn_id: str) -> None:
        """Ask a run to end with what it has; nothing happens where it has ended."""
        run = self.active(turn_id)
        if run is not None:
            run.cancel.set()

    def stop_conversation(self, conversation_id: str) -> None:
        """Stop everything that is being answered in a conversation."""
        with self._lock:
            runs = [run for run in self._runs.values() if run.turn.conversation_id == conversation_id]
        for run in runs:
            run.cancel.set()

    def _work(
        self,
        run: AnswerRun,
        before: AnswerRun | None,
        after: threading.Event | None,
        make_events: MakeEvents,
    ) -> None:
        try:
            if before is not None:
                run.wait_for(before.ended, "the answer before")
            if after is not None:
                run.wait_for(after, "the documents")
            run.begin()
            self._finish(run, self._answer(run, make_events))
        except Exception as error:  # noqa: BLE001 - the last frame of a thread: told to the person, logged in full
            self._fail(run, error)
        finally:
            with self._lock:
                self._runs.pop(run.turn.id, None)
                if self._last.get(run.turn.conversation_id) is run:
                    del self._last[run.turn.conversation_id]
            run.ended.set()

    def _answer(self, run: AnswerRun, make_events: MakeEvents) -> Answer:
        self._wait_until_loaded(run)
        if run.cancel.is_set():
            return run.partial_answer()
        answer: Answer | None = None
        for event in make_events(run):  # to its end: what follows the answer stores the run's trace
            if isinstance(event, Final):
                answer = event.answer
            else:
                run.take(event)
        return answer or run.partial_answer()

    def _asked(self, run: AnswerRun, strategy: str | None) -> Iterator[Event]:
        turn = run.turn
        history = self._front.conversations.history(turn.conversation_id, before=turn.position)
        question = Question(
            turn.question,
            history,
            run.collection,
            conversation_id=turn.conversation_id,
            turn_id=turn.id,
        )
        return self._front.events(question, strategy=strategy, cancel=run.cancel)

    def _wait_until_loaded(self, run: AnswerRun) -> None:
        while not run.cancel.is_set():
            states = self._front.loading
            for failed in (state for state in states if state.state == "failed"):
                raise failed.error or ModelNotReadyError(f"The {failed.name} could not be loaded.")
            if all(state.state == "ready" for state in states):
                return
            run.take(Progress("loading"))
            time.sleep(POLL_S)

    def _finish(self, run: AnswerRun, answer: Answer) -> None:
        self._front.conversations.add_answer(run.turn.id, answer)
        log.info("answer_stored", turn=run.turn.id, trace=answer.trace_id, stop_reason=answer.stop_reason)

    def _fail(self, run: AnswerRun, error: Exception) -> None:
        message, hint = words.of_error(error)
        try:
            if run.view().text:
                self._front.conversations.add_answer(run.turn.id, run.partial_answer())
            self._front.conversations.set_error(run.turn.id, message, hint)
        except LocalsmithError as storage_error:
            # The disk failed as well: the question is stored, the page will offer to try again.
            log.error("error_not_stored", turn=run.turn.id, error=str(storage_error))
