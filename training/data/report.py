"""What happened to the data on the way, stage by stage, for people to look through before they train.

Place in the data's way: `prepare` fills it -> report.json in the data version's folder -> command line and
page.

Example:
    for stage in version.report.filters:
        stage.name, stage.num_dropped, stage.samples
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from ...core.errors import DatasetError
from .filter import StageReport
from .mix import TaskShare
from .rows import TrainingRow
from .sources import ImportReport

if TYPE_CHECKING:
    from pydantic import TypeAdapter


@dataclass(frozen=True, slots=True)
class DataReport:
    """The account of one preparation.

    Attributes:
        imports: A report a source.
        filters: A report a rule, in the order in which they ran.
        mix: What the mixture took of each task; empty where nothing was mixed.
        train_tasks: (task, rows to train on) pairs, by task.
        held_out_tasks: (task, held-out rows) pairs, by task.
        num_clusters: Sets of rows that the split kept together, rows that stand alone included.
        largest_cluster: Rows in the largest of them.
        prepared_at: Seconds since the epoch, UTC.
        duration_s: Wall time of the preparation, without writing.
    """

    imports: tuple[ImportReport, ...]
    filters: tuple[StageReport, ...]
    mix: tuple[TaskShare, ...]
    train_tasks: tuple[tuple[str, int], ...]
    held_out_tasks: tuple[tuple[str, int], ...]
    num_clusters: int
    largest_cluster: int
    prepared_at: float
    duration_s: float

    @property
    def num_train(self) -> int:
        """Rows to train on."""
        return sum(number for _, number in self.train_tasks)

    @property
    def num_held_out(self) -> int:
        """Held-out rows."""
        return sum(number for _, number in self.held_out_tasks)


def rows_by_task(rows: Iterable[TrainingRow]) -> tuple[tuple[str, int], ...]:
    """Return (task, rows) pairs, by task."""
    return tuple(sorted(Counter(row.task for row in rows).items()))


def report_to_json(report: DataReport) -> dict[str, Any]:
    """Return what `report_from_json` makes the report from again."""
    raw: dict[str, Any] = _adapter().dump_python(report, mode="json")
    return raw


def report_from_json(raw: Any) -> DataReport:
    """Return the report that a JSON value describes.

    Raises:
        DatasetError: It describes none.
    """
    try:
        return _adapter().validate_python(raw)
    except ValueError as exc:
        raise DatasetError(f"The report is not valid: {exc}.") from exc


@cache
def _adapter() -> TypeAdapter[DataReport]:
    from pydantic import TypeAdapter

    return TypeAdapter(DataReport)
