"""Measures a strategy on questions with known answers: how often it is right, and what an answer costs.

Place in the data's way: tasks and a strategy, handed in as anything with `events` -> several questions at
once, since the engine computes them in one batch -> one `Record` a question, kept in a journal -> figures.

Example:
    records = run_tasks(load_tasks(path, limit=100), strategy, at_once=8)
    figures = reasoning_figures(records)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from statistics import fmean, median
from typing import Protocol

import numpy as np

from ..core.errors import (
    ContextOverflow,
    EvaluationError,
    GenerationError,
    LocalsmithError,
    OutputParseError,
    ToolArgumentError,
    ToolExecutionError,
)
from ..core.types import Answer, Event, Final, Question
from .calls import all_steps, count_calls
from .grading import Grade, TextGrader
from .journal import Journal
from .metrics import Interval, bootstrap, wilson
from .tasks import Task

OnRecord = Callable[[int, int], None]
"""Called with (questions done, questions in all)."""

# What one question can fail of while the others go on; it then counts as wrong.
QUESTION_FAILURES: tuple[type[LocalsmithError], ...] = (
    ContextOverflow,
    GenerationError,
    OutputParseError,
    ToolArgumentError,
    ToolExecutionError,
)
# A user of its own: its share of the engine is one user's, and its unfinished runs are nobody's to resume.
USER = "evaluation"
LIMITS = ("step_limit", "time_limit")


class AskedStrategy(Protocol):
    """What is measured; every strategy of `agents` is one."""

    def events(self, question: Question, *, cancel: threading.Event | None = None) -> Iterable[Event]:
        """Run, the last event being `Final`; several threads ask at once."""
        ...


@dataclass(frozen=True, slots=True)
class Record:
    """What came of one question.

    Attributes:
        id: Its line in the file.
        question: What was asked.
        gold: The gold answer.
        text: The answer as shown; "" where the run failed.
        prediction: What was taken from the text as its answer; None where nothing could be.
        value: 0 or 1; F1 for free text.
        is_exact: Whether it is right; for free text, whether it equals a gold answer.
        is_free_text: Whether free words were asked for.
        explanation: What was compared, or what failed.
        stop_reason: Why the run ended; "failed" where it raised.
        plan: What the planner chose, in its words; "" where nothing was planned.
        prompt_tokens: Prompt tokens of all its requests.
        cached_tokens: Those of them found in the KV cache.
        completion_tokens: Tokens generated.
        num_samples: Completions that voted or were written beside each other.
        num_tool_calls: Calls of tools.
        num_malformed_calls: Calls that no tool could take; see `evaluation.calls`.
        num_cut_calls: Calls that a limit cut off while they were written; they were not made.
        begun_at: Seconds since the epoch.
        seconds: Wall time of the run, beside the others that ran at once.
        trace_id: Identifier of the run.
    """

    id: str
    question: str
    gold: str
    text: str
    prediction: str | None
    value: float
    is_exact: bool
    is_free_text: bool
    explanation: str
    stop_reason: str
    plan: str
    prompt_tokens: int
    cached_tokens: int
    completion_tokens: int
    num_samples: int
    num_tool_calls: int
    num_malformed_calls: int
    num_cut_calls: int
    begun_at: float
    seconds: float
    trace_id: str


def run_tasks(
    tasks: Sequence[Task],
    strategy: AskedStrategy,
    *,
    at_once: int = 8,
    collection: str | None = None,
    journal: Journal[Record] | None = None,
    on_record: OnRecord | None = None,
) -> list[Record]:
    """Ask every question that the journal does not have yet.

    Args:
        tasks: The questions.
        strategy: What answers them.
        at_once: Questions asked at the same time.
        collection: The collection to search; None for none.
        journal: Where each record is kept as soon as it is there; None for nowhere.
        on_record: Told how far it is.

    Returns:
        One record a task, in their order.

    Raises:
        KeyboardInterrupt: The person stopped it; what had ended by then is in the journal.
        LocalsmithError: What no other question would escape either, such as a sandbox that can't run.
    """
    progress = _Progress(len(tasks), journal, on_record)
    progress.begin([record for task in tasks if (record := _kept(journal, task))])
    cancel = threading.Event()
    with ThreadPoolExecutor(at_once, thread_name_prefix="localsmith-evaluate") as pool:
        left = [task for task in tasks if task.id not in progress.records]
        futures = [pool.submit(_ask, task, strategy, collection, cancel) for task in left]
        try:
            for future in as_completed(futures):
                progress.keep(future)
        finally:
            cancel.set()
            pool.shutdown(cancel_futures=True)
            for future in futures:  # those that ended before they were told to
                if not future.cancelled() and future.exception() is None:
                    progress.keep(future)
    return [progress.records[task.id] for task in tasks]


def _kept(journal: Journal[Record] | None, task: Task) -> Record | None:
    return None if journal is None else journal.get(task.id)


class _Progress:
    """The records so far, each kept once."""

    def __init__(self, num_tasks: int, journal: Journal[Record] | None, on_record: OnRecord | None) -> None:
        self.records: dict[str, Record] = {}
        self._num_tasks = num_tasks
        self._journal = journal
        self._on_record = on_record

    def begin(self, records: Sequence[Record]) -> None:
        self.records = {record.id: record for record in records}
        self._tell()

    def keep(self, future: Future[Record | None]) -> None:
        record = future.result()
        if record is None or record.id in self.records:
            return
        self.records[record.id] = record
        if self._journal is not None:
            self._journal.add(record.id, record)
        self._tell()

    def _tell(self) -> None:
        if self._on_record:
            self._on_record(len(self.records), self._num_tasks)


def _ask(
    task: Task, strategy: AskedStrategy, collection: str | None, cancel: threading.Event
) -> Record | None:
    """Return what came of a question; None where it was stopped on the way."""
    begun_at, begun = time.time(), time.perf_counter()
    question = Question(task.text, collection=collection, user=USER, priority="batch")
    failure = ""
    answer: Answer | None = None
    try:
        for event in strategy.events(question, cancel=cancel):
            if isinstance(event, Final):
                answer = event.answer
    except QUESTION_FAILURES as exc:
        failure = f"{type(exc).__name__}: {exc}"
    seconds = time.perf_counter() - begun
    if cancel.is_set():
        return None
    if answer is None and not failure:
        raise EvaluationError(f"The question of line {task.id} ended without an answer.")
    return _record(task, answer, failure, begun_at, seconds)


def _record(task: Task, answer: Answer | None, failure: str, begun_at: float, seconds: float) -> Record:
    shown = answer or Answer("", "answered")
    grade = Grade(0.0, failure, None, False) if failure else task.grader.grade(shown.text)
    if shown.stop_reason == "abstained":
        grade = Grade(0.0, "It abstained.", None, False)
    steps = list(all_steps(shown.steps))
    calls = count_calls(shown.steps)
    return Record(
        id=task.id,
        question=task.text,
        gold=task.grader.gold,
        text=shown.text,
        prediction=grade.prediction,
        value=grade.value,
        is_exact=grade.is_exact,
        is_free_text=isinstance(task.grader, TextGrader),
        explanation=grade.explanation,
        stop_reason="failed" if failure else shown.stop_reason,
        plan=next((step.summary for step in steps if step.kind == "plan"), ""),
        prompt_tokens=shown.usage.prompt_tokens,
        cached_tokens=shown.usage.cached_tokens,
        completion_tokens=shown.usage.completion_tokens,
        num_samples=sum(step.kind == "sample" for step in steps),
        num_tool_calls=calls.num_made,
        num_malformed_calls=calls.num_malformed,
        num_cut_calls=calls.num_cut,
        begun_at=begun_at,
        seconds=seconds,
        trace_id=shown.trace_id,
    )


def reasoning_figures(records: Sequence[Record]) -> dict[str, float]:
    """Return the figures that docs/reference/evaluation.md describes."""
    figures: dict[str, float] = {"num_questions": len(records)}
    exact = wilson(sum(record.is_exact for record in records), len(records))
    if any(record.is_free_text for record in records):
        figures |= _with_interval("exact_match", exact)
        figures |= _with_interval("f1", bootstrap([record.value for record in records]))
    else:
        figures |= _with_interval("accuracy", exact)
    if not records:
        return figures
    figures |= _shares(records) | _costs(records)
    return figures | _calls(records)


def _calls(records: Sequence[Record]) -> dict[str, float]:
    num_malformed = sum(record.num_malformed_calls for record in records)
    num_calls = sum(record.num_tool_calls for record in records)
    num_attempts = num_calls + num_malformed
    share = wilson(num_malformed, num_attempts)
    return {
        "tool_calls_mean": num_calls / len(records),
        "malformed_calls": num_malformed,
        "malformed_calls_low": share.low * num_attempts,
        "malformed_calls_high": share.high * num_attempts,
        "cut_calls": sum(record.num_cut_calls for record in records),
    }


def _shares(records: Sequence[Record]) -> dict[str, float]:
    def share(counts: Callable[[Record], bool]) -> float:
        return fmean(map(counts, records))

    return {
        "no_answer_share": share(lambda record: record.prediction is None),
        "limit_share": share(lambda record: record.stop_reason in LIMITS),
        "abstained_share": share(lambda record: record.stop_reason == "abstained"),
        "failed_share": share(lambda record: record.stop_reason == "failed"),
    }


def _costs(records: Sequence[Record]) -> dict[str, float]:
    computed = [r.prompt_tokens - r.cached_tokens + r.completion_tokens for r in records]
    return {
        **_with_interval("tokens_mean", bootstrap(computed)),
        "prompt_tokens_mean": fmean(r.prompt_tokens for r in records),
        "cached_tokens_mean": fmean(r.cached_tokens for r in records),
        "completion_tokens_mean": fmean(r.completion_tokens for r in records),
        "seconds_per_question": busy_seconds(records) / len(records),
        "seconds_to_answer_median": median(r.seconds for r in records),
        "seconds_to_answer_p90": float(np.quantile([r.seconds for r in records], 0.9)),
    }


def busy_seconds(records: Sequence[Record]) -> float:
    """Return the time in which at least one question ran; pauses between two runs do not count."""
    total, end = 0.0, 0.0
    for record in sorted(records, key=lambda record: record.begun_at):
        ended = record.begun_at + record.seconds
        total += max(0.0, ended - max(end, record.begun_at))
        end = max(end, ended)
    return total


def _with_interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}
