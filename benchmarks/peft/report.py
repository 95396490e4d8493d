"""The table of methods on disk: `benchmarks/results/peft.json`, with every change counted from the base.

Place in the data's way: `child` measures an entry -> `__main__` merges it here with those of the same plan ->
`page` and `picture` are made of the file.

Example:
    write(RESULTS, merged(read(RESULTS), {"lora": measured}, measured.plan))
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from localsmith.evaluation.metrics import Interval, bootstrap
from localsmith.evaluation.results import write_results

from .entries import BASE, ENTRIES, OTHER_TASKS

RESULTS = Path(__file__).resolve().parent.parent / "results" / "peft.json"
COMMAND = "python -m benchmarks.peft"


@dataclass(frozen=True, slots=True)
class Measured:
    """One entry as it was measured.

    Attributes:
        plan: The sizes, as JSON values; only entries of one plan stand beside each other.
        settings: The method's, as JSON values.
        date: Day, UTC, as YYYY-MM-DD.
        machine: What it ran on.
        figures: Of training and of the summaries.
        nats: Loss of each row in nats a token, by other task.
    """

    plan: Mapping[str, Any]
    settings: Mapping[str, Any]
    date: str
    machine: str
    figures: Mapping[str, float]
    nats: Mapping[str, Sequence[float]]


Table = Mapping[str, Measured]


def read(path: Path = RESULTS) -> dict[str, Measured]:
    """Return the entries of a results file; none where there is no file.

    Raises:
        ValueError: The file is not one of this benchmark.
    """
    if not path.exists():
        return {}
    content = json.loads(path.read_text(encoding="utf-8"))
    return {name: Measured(**fields) for name, fields in content["details"]["entries"].items()}


def merged(earlier: Table, measured: Table, plan: Mapping[str, Any]) -> dict[str, Measured]:
    """Return what was measured now, and of earlier entries those of the same plan and settings, in order."""
    kept = {
        name: entry
        for name, entry in earlier.items()
        if name in ENTRIES and entry.plan == plan and entry.settings == ENTRIES[name].settings
    }
    whole = kept | dict(measured)
    return {name: whole[name] for name in ENTRIES if name in whole}


def forgetting(base: Measured, entry: Measured, tasks: Sequence[str] = tuple(OTHER_TASKS)) -> Interval:
    """Return by how much an entry's loss on other tasks is above another's, the base's, in nats a token.

    Rows are compared one by one, so that how hard each is does not blur the change; the interval is of
    95 % by a bootstrap over them.
    """
    changes = [
        after - before
        for task in tasks
        for before, after in zip(base.nats[task], entry.nats[task], strict=True)
    ]
    return bootstrap(changes)


def flat_figures(entries: Table) -> dict[str, float]:
    """Return the figures under the entries' names, as `lora_rouge_l`, each change with its interval."""
    figures: dict[str, float] = {}
    base = entries.get(BASE)
    for name, entry in entries.items():
        own = dict(entry.figures)
        for task, nats in entry.nats.items():
            own[f"loss_{task}"] = _mean(nats)
        if base and name != BASE:
            own |= _with_interval("forgetting", forgetting(base, entry))
            for task in OTHER_TASKS:
                own |= _with_interval(f"forgetting_{task}", forgetting(base, entry, [task]))
        figures |= {f"{name}_{figure}": value for figure, value in own.items()}
    return figures


def write(path: Path, entries: Table) -> dict[str, float]:
    """Write the results file; return its figures.

    Raises:
        StorageError: The file can't be written.
    """
    figures = flat_figures(entries)
    details = {"entries": {name: asdict(measured) for name, measured in entries.items()}}
    write_results(path, figures, command=COMMAND, details=details)
    return figures


def _with_interval(name: str, interval: Interval) -> dict[str, float]:
    return {name: interval.mean, f"{name}_low": interval.low, f"{name}_high": interval.high}


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
