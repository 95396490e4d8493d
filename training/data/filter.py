"""Runs named rules over rows, one after the other, and keeps account of what each dropped.

Place in the data's way: imported rows -> each rule in turn sees what the ones before it left -> the rows that
stay and a `StageReport` a rule, with samples that a person can judge the rule by.

Example:
    kept, reports = filtered(rows, [LengthRule(max_tokens=512, count_tokens=count), RepetitionRule()])
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias

from .rows import TrainingRow

NUM_SAMPLES = 3
_SAMPLE_CHARS = 240
_ROWS_BETWEEN_CALLS = 100

OnRows: TypeAlias = Callable[[int, int, str], None]
"""Called with (rows done, rows in all, stage)."""


@dataclass(frozen=True, slots=True)
class Judgement:
    """A rule's word on one row.

    Attributes:
        row: The row to go on with, changed or not; None to drop it.
        reason: Why it was dropped or changed, in words that can be counted; "" where it was neither.
    """

    row: TrainingRow | None
    reason: str = ""


class Rule(Protocol):
    """One test that rows have to pass."""

    @property
    def name(self) -> str:
        """Name of the stage."""
        ...

    def judge(self, rows: Sequence[TrainingRow]) -> Iterator[Judgement]:
        """Yield a judgement for each row, in order."""
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """A row that a rule dropped or changed.

    Attributes:
        source: Where the row came from.
        reason: Why.
        text: The beginning of what the rule was given.
    """

    source: str
    reason: str
    text: str


@dataclass(frozen=True, slots=True)
class StageReport:
    """What one rule did.

    Attributes:
        name: The rule's name.
        num_before: Rows it was given.
        num_dropped: Rows it dropped.
        num_changed: Rows it changed.
        reasons: (reason, rows) pairs, the most frequent first.
        samples: The first rows of each reason, a few in all.
        duration_s: Wall time.
    """

    name: str
    num_before: int
    num_dropped: int
    num_changed: int
    reasons: tuple[tuple[str, int], ...]
    samples: tuple[Sample, ...]
    duration_s: float


def filtered(
    rows: Sequence[TrainingRow], rules: Iterable[Rule], on_rows: OnRows | None = None
) -> tuple[list[TrainingRow], list[StageReport]]:
    """Return (rows that pass all rules, a report of each rule).

    Args:
        rows: What to judge; order is kept.
        rules: In the order in which they run, so the cheap ones belong first.
        on_rows: Told how far each rule is.
    """
    kept: list[TrainingRow] = list(rows)
    reports = []
    for rule in rules:
        kept, report = _stage(kept, rule, on_rows)
        reports.append(report)
    return kept, reports


def _stage(
    rows: list[TrainingRow], rule: Rule, on_rows: OnRows | None
) -> tuple[list[TrainingRow], StageReport]:
    begun = time.monotonic()
    kept: list[TrainingRow] = []
    reasons: Counter[str] = Counter()
    samples: list[Sample] = []
    for number, (row, judgement) in enumerate(zip(rows, rule.judge(rows), strict=True), 1):
        if judgement.row is not None:
            kept.append(judgement.row)
        if judgement.reason:
            reasons[judgement.reason] += 1
            if len(samples) < NUM_SAMPLES or reasons[judgement.reason] == 1:
                samples.append(Sample(row.source, judgement.reason, _shortened(row.text)))
        if on_rows and (number % _ROWS_BETWEEN_CALLS == 0 or number == len(rows)):
            on_rows(number, len(rows), rule.name)
    num_dropped = len(rows) - len(kept)
    return kept, StageReport(
        name=rule.name,
        num_before=len(rows),
        num_dropped=num_dropped,
        num_changed=reasons.total() - num_dropped,
        reasons=tuple(reasons.most_common()),
        samples=tuple(samples[: NUM_SAMPLES * 4]),
        duration_s=round(time.monotonic() - begun, 3),
    )


def _shortened(text: str) -> str:
    return text if len(text) <= _SAMPLE_CHARS else f"{text[:_SAMPLE_CHARS]}…"
