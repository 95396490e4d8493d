"""Runs and ingests as a person sees them in a terminal.

Place in the data's way: the CLI hands the events of a run or an ingest to one of these functions. The answer
goes to standard output, everything about it to standard error, so that `localsmith ask … > answer.txt` works.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

from .core.types import Answer, ApprovalNeeded, Delta, Event, Final, Step, StepEnded
from .core.types import Progress as RunProgress

if TYPE_CHECKING:
    from .core.types import Document
    from .retrieval.ingest import IngestEvent
    from .setup import SetupStep

STAGES = {
    "loading": "Loading",
    "rewriting": "Rewriting the question",
    "searching": "Searching",
    "reading": "Reading",
    "answering": "Answering",
    "checking": "Checking citations",
    "planning": "Choosing a way to answer",
    "thinking": "Thinking",
    "programming": "Writing a program",
    "running": "Running",
    "voting": "Voting",
}
_MAX_OUTPUT_LINES = 12
_MAX_LINE_CHARS = 200
console = Console(stderr=True, highlight=False)


def show_run(
    make_events: Callable[[threading.Event], Iterable[Event]],
    on_approval: Callable[[ApprovalNeeded], None] | None = None,
) -> Answer:
    """Print the answer as it comes, and each step as it ends; Ctrl-C stops the model and keeps what is there.

    Args:
        make_events: Starts the run, given the event that cancels it.
        on_approval: Called with the call that waits for a person, where one does; the run ends with it.

    Returns:
        The answer.
    """
    cancel = threading.Event()
    answer: Answer | None = None
    status = console.status("Starting")
    status.start()
    events = iter(make_events(cancel))
    while answer is None:
        try:
            event = next(events)
        except KeyboardInterrupt:
            cancel.set()
            continue
        if isinstance(event, RunProgress):
            status.update(_stage_text(event))
        elif isinstance(event, Delta):
            status.stop()
            sys.stdout.write(event.text)
            sys.stdout.flush()
        elif isinstance(event, StepEnded):
            _show_step(event.step)
        elif isinstance(event, ApprovalNeeded) and on_approval is not None:
            on_approval(event)
        elif isinstance(event, Final):
            answer = event.answer
    status.stop()
    if answer.text:
        sys.stdout.write("\n")
    return answer


def printable(text: str) -> str:
    """Return a line in which nothing steers the terminal: a tool or a document may have written it."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def _show_step(step: Step) -> None:
    """Print what a step did; of a program and a call also what went in and what came out."""
    from .agents.telling import is_telling

    if not is_telling(step):
        return
    style = "yellow" if step.is_error else "cyan"
    kind = "thought" if step.kind == "generate" else step.kind
    console.print(f"{kind}: {printable(step.summary)}", style=style, markup=False)
    if step.kind in ("program", "tool"):
        for label, text in (("", step.prompt), ("→ ", step.output)):
            _show_lines(label, text)


def _show_lines(label: str, text: str) -> None:
    lines = text.strip().splitlines()
    for number, line in enumerate(lines[:_MAX_OUTPUT_LINES]):
        mark = label if number == 0 else " " * len(label)
        console.print(f"    {mark}{printable(line)[:_MAX_LINE_CHARS]}", style="dim", markup=False)
    if len(lines) > _MAX_OUTPUT_LINES:
        console.print(f"    … {len(lines) - _MAX_OUTPUT_LINES} more lines", style="dim", markup=False)


def show_sources(answer: Answer) -> None:
    """Print where the answer comes from, and what it cost, to standard error."""
    words = {
        "cancelled": "Stopped.",
        "step_limit": "Ended at the limit of steps; the answer may be incomplete.",
        "time_limit": "Ended at the limit of time; the answer may be incomplete.",
    }
    if answer.stop_reason in words:
        console.print(words[answer.stop_reason], style="yellow")
    seen = set()
    for citation in answer.citations:
        if citation.number in seen:
            continue
        seen.add(citation.number)
        chunk = citation.passage.chunk
        page = f", page {chunk.page}" if chunk.page else ""
        doubt = "not supported by the passage" if citation.similarity is None else "nearest, in other words"
        mark = "" if citation.is_supported else f" ({doubt})"
        console.print(f"[{citation.number}] {citation.passage.document_name}{page}{mark}", markup=False)
        console.print(f"    “{citation.quote.strip()}”", style="dim", markup=False)
    usage = answer.usage
    if usage.completion_tokens:
        cached = f", {usage.cached_tokens} of them cached" if usage.cached_tokens else ""
        first_s = answer.time_to_first_text_s
        waited = f"first word after {first_s:.1f} s, " if first_s else ""
        console.print(
            f"{answer.model}: read {usage.prompt_tokens} tokens{cached}, wrote {usage.completion_tokens}, "
            f"{waited}{answer.duration_s:.1f} s in all",
            style="dim",
            markup=False,
        )


class SetupBar:
    """What set-up does, one line a step, with a bar, the rate and the time left."""

    def __init__(self) -> None:
        self._bar = Progress(
            TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn(), console=console
        )
        self._tasks: dict[str, TaskID] = {}

    def __enter__(self) -> SetupBar:
        """Start to draw."""
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop drawing; what was drawn stays."""
        self._bar.stop()

    def show(self, step: SetupStep) -> None:
        """Draw one step's state."""
        if step.name not in self._tasks:
            self._tasks[step.name] = self._bar.add_task(step.name, total=None)
        description = f"{step.name} {step.detail}".rstrip()
        self._bar.update(
            self._tasks[step.name], description=description, completed=step.done, total=step.total
        )


def show_ingest(events: Iterable[IngestEvent]) -> tuple[list[Document], int]:
    """Show a batch of files being added, with a bar and the time left; without a terminal, lines.

    Returns:
        The documents that are there now, and how many files failed.
    """
    from .retrieval import ingest
    from .stage_progress import StageLines

    lines = StageLines(lambda line: console.print(line, markup=False, soft_wrap=True))
    documents: list[Document] = []
    num_failed = 0
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task("Reading", total=None)
        for event in events:
            match event:
                case ingest.FileStarted(name=name):
                    bar.update(task, description=f"Reading {name}", total=None)
                case ingest.FileEmbedding(name=name, done=done, total=total):
                    bar.update(task, description=f"Embedding {name}", completed=done, total=total)
                    if not console.is_terminal:
                        lines.show(f"Embedding {name}", done, total, "")
                case ingest.FileAdded(document=document):
                    documents.append(document)
                    pages = f"{document.num_pages} pages, " if document.num_pages else ""
                    bar.console.print(
                        f"Added {document.name}: {pages}{document.num_chunks} chunks", markup=False
                    )
                    for warning in document.warnings:
                        bar.console.print(f"  {warning}", style="yellow", markup=False)
                case ingest.FileDuplicate(document=document, name=name):
                    documents.append(document)
                    bar.console.print(f"{name} is there already", style="dim", markup=False)
                case ingest.FileFailed(name=name, error=error):
                    num_failed += 1
                    bar.console.print(f"{name}: {error} {error.hint}", style="red", markup=False)
    return documents, num_failed


def _stage_text(progress: RunProgress) -> str:
    text = STAGES[progress.stage]
    if progress.stage == "reading" and progress.total:
        text += f" {progress.done} of {progress.total} tokens"
    elif progress.detail:
        text += f": {progress.detail}"
    if progress.eta_s:
        text += f", about {progress.eta_s:.0f} s left"
    return text
