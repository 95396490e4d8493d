"""The rows that base and trained model are compared on, and the training rows that they leave out.

Place in the data's way: a data version, and a file of its own for the comparison where a person gives one ->
the rows to train on and the rows to compare on, with nothing in both.

Example:
    rows = comparison_rows(version, EvaluationFile("test.jsonl"), 100)
    len(rows.train), rows.num_given_away
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.errors import DatasetError
from .data.contamination import contamination
from .data.rows import TrainingRow
from .data.sources import FileSource, import_source
from .data.task_template import load_template
from .data.versions import DataVersion


@dataclass(frozen=True, slots=True)
class EvaluationFile:
    """A file of examples that are not trained on.

    Attributes:
        path: JSON Lines or CSV; "" for the held-out rows of the data version.
        template: Name of the template that makes prompts of its fields; "" to tell by the fields.
        wording: The template's wording.
        seed: Of the choice of wordings.
    """

    path: str = ""
    template: str = ""
    wording: str = "one"
    seed: int = 7


@dataclass(frozen=True, slots=True)
class ComparisonRows:
    """What to train on and what to compare on.

    Attributes:
        train: Rows to train on.
        held_out: Rows to compare on.
        num_given_away: Training rows that were left out because they nearly stand in the file.
    """

    train: Sequence[TrainingRow]
    held_out: Sequence[TrainingRow]
    num_given_away: int


def check_held_out(num_rows: int) -> None:
    """Refuse a run of which nobody could tell whether it made the model better.

    Args:
        num_rows: Rows to compare base and trained model on.

    Raises:
        DatasetError: There are none.
    """
    if not num_rows:
        raise DatasetError(
            "No row is held out, so nobody could tell whether the trained model is better.",
            hint="Give more rows, hold out a larger share (--held-out), or give a file to compare on "
            "(--evaluation).",
        )


def comparison_rows(version: DataVersion, file: EvaluationFile, num_rows: int) -> ComparisonRows:
    """Return the rows of both sides.

    Args:
        version: The prepared data.
        file: The file to compare on.
        num_rows: Rows to compare on, at most: the first ones.

    Raises:
        DatasetError: A file can't be read or has no rows, or every training row stands in it.
    """
    train = list(version.train_rows())
    if not file.path:
        return ComparisonRows(train, list(version.held_out_rows())[:num_rows], 0)
    template = load_template(file.template) if file.template else None
    source = FileSource(Path(file.path), template=template, wording=file.wording)
    held_out = import_source(source, file.seed).rows[:num_rows]
    given_away = {overlap.held_out.id for overlap in contamination(train, held_out)}
    kept = [row for row in train if row.id not in given_away]
    if not kept:
        raise DatasetError(
            f"Every row to train on stands in {file.path}, too.", hint="Compare on another file, or on none."
        )
    return ComparisonRows(kept, held_out, len(train) - len(kept))
