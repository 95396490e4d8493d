"""Where training data come from, and their import with an account of what could not be used.

Place in the data's way: a person names files, or the chat's feedback -> `import_source` -> rows, and a report
that counts the bad lines and shows the first.

Example:
    imported = import_source(FileSource(Path("dialogues.jsonl")), seed=7)
    imported.report.num_rows, imported.report.bad_examples
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

from ...core.errors import DatasetError
from ...core.feedback import Feedback
from .feedback import TASK, feedback_rows
from .forms import KNOWN_FORMS, Shape, rows_of
from .records import BadLine, Record, read_records
from .rows import TrainingRow
from .task_template import TaskTemplate

NUM_EXAMPLES = 5
OnBytes: TypeAlias = Callable[[int], None]
"""Called now and then with the bytes of the file read so far."""
_BYTES_BETWEEN_CALLS = 1 << 20


@dataclass(frozen=True, slots=True)
class FileSource:
    """A file of examples; see `forms.Shape` for what the settings do.

    Attributes:
        path: The file: .jsonl, .ndjson, .csv or .tsv.
        task: The rows' task; "" for what the form or the template says.
        template: The template; None to tell by the fields.
        wording: "one", "all" or a wording's name.
        fields: The file's field by the name that a form or template looks for.
        constants: Variables that are the same for every row, as `labels`.
    """

    path: Path
    task: str = ""
    template: TaskTemplate | None = None
    wording: str = "one"
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    def describe(self) -> dict[str, Any]:
        """Return what is kept of it in a recipe; not the folder, so that data can be moved."""
        return {
            "file": self.path.name,
            "task": self.task,
            "template": dataclasses.asdict(self.template) if self.template else None,
            "wording": self.wording,
            "fields": dict(self.fields),
            "constants": dict(self.constants),
        }


@dataclass(frozen=True, slots=True)
class FeedbackSource:
    """What people said about answers in the chat.

    Attributes:
        feedback: As `FeedbackStore.all` returns it.
        task: The rows' task.
    """

    feedback: Iterable[Feedback]
    task: str = TASK

    def describe(self) -> dict[str, Any]:
        """Return what is kept of it in a recipe."""
        return {"feedback": True, "task": self.task}


Source: TypeAlias = FileSource | FeedbackSource


@dataclass(frozen=True, slots=True)
class ImportReport:
    """What came of one source.

    Attributes:
        source: The file's name, or "feedback".
        num_records: Lines that are not blank, or pieces of feedback.
        num_rows: Rows made of them.
        num_bad: Records that no row could be made of because something is wrong with them.
        bad_examples: "file:line: reason" of the first of these.
        left_out: (reason, count) of records that are in order but teach nothing.
    """

    source: str
    num_records: int
    num_rows: int
    num_bad: int = 0
    bad_examples: tuple[str, ...] = ()
    left_out: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Imported:
    """The rows of a source in its order, and the account of them."""

    rows: tuple[TrainingRow, ...]
    report: ImportReport


def import_source(source: Source, seed: int, on_bytes: OnBytes | None = None) -> Imported:
    """Read all of a source.

    Args:
        source: A file or feedback.
        seed: Seed of the choice of wordings.
        on_bytes: Told how far a file is read.

    Raises:
        DatasetError: The file can't be read, or no row came of it.
    """
    imported = _feedback(source) if isinstance(source, FeedbackSource) else _file(source, seed, on_bytes)
    report = imported.report
    if not imported.rows:
        reasons = [*report.bad_examples[:1], *(f"{count} × {reason}" for reason, count in report.left_out)]
        raise DatasetError(
            f"{report.source} holds no row that can be learned"
            + (f" ({report.num_records} read; {'; '.join(reasons)})." if reasons else ": it is empty."),
            hint=f"A row has one of these sets of fields: {KNOWN_FORMS}.",
        )
    return imported


def _feedback(source: FeedbackSource) -> Imported:
    rows, left_out = feedback_rows(source.feedback, source.task)
    total = len(rows) + left_out.total()
    return Imported(
        tuple(rows), ImportReport("feedback", total, len(rows), left_out=tuple(left_out.most_common()))
    )


def _file(source: FileSource, seed: int, on_bytes: OnBytes | None) -> Imported:
    shape = Shape(source.task, source.template, source.wording, source.fields, source.constants, seed)
    rows: list[TrainingRow] = []
    num_records = num_bad = told = 0
    examples: list[str] = []
    for item in read_records(source.path):
        num_records += 1
        made = _made(item, shape)
        if isinstance(made, str):
            num_bad += 1
            if len(examples) < NUM_EXAMPLES:
                examples.append(f"{item.source}: {made}")
        else:
            rows += made
        if on_bytes and item.end_byte - told >= _BYTES_BETWEEN_CALLS:
            told = item.end_byte
            on_bytes(told)
    return Imported(
        tuple(rows), ImportReport(source.path.name, num_records, len(rows), num_bad, tuple(examples))
    )


def _made(item: Record | BadLine, shape: Shape) -> list[TrainingRow] | str:
    """Return the rows of a record, or why there are none."""
    if isinstance(item, BadLine):
        return item.reason
    try:
        return rows_of(item, shape)
    except DatasetError as exc:
        return f"{exc} {exc.hint}".strip()
    except ValueError as exc:
        return str(exc)
