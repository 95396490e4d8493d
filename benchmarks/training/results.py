"""The figures of training in one file, gathered from benchmarks that run on their own.

Place in the data's way: `benchmarks.training`, `benchmarks.shards` and `benchmarks.estimate` each add what
they measured -> `benchmarks/results/training.json`, which keeps the figures of the others and says of each
part by which command, on which machine and on which day it was taken.

Example:
    add_figures("shards", {"fsdp_memory_per_rank_share": 0.5}, command="python -m benchmarks.shards")
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from localsmith.evaluation.results import machine, write_results

RESULTS = Path(__file__).resolve().parents[1] / "results" / "training.json"


def add_figures(
    part: str,
    figures: Mapping[str, float],
    *,
    command: str,
    details: Mapping[str, Any] | None = None,
    path: Path = RESULTS,
) -> None:
    """Put the figures of a part in the place of its earlier ones; those of the other parts stay.

    Args:
        part: What they are of; one name a benchmark, or a part of it that is run alone.
        figures: A number a name.
        command: How to get them again.
        details: What they were computed from, as JSON values.
        path: The results file.

    Raises:
        EvaluationError: A figure is no number.
        StorageError: The file can't be written.
    """
    content = (
        json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"figures": {}, "details": {}}
    )
    parts: dict[str, Any] = content["details"]
    own = parts.pop(part, {"figures": []})
    kept = {name: value for name, value in content["figures"].items() if name not in own["figures"]}
    commands = dict.fromkeys([*(taken["command"] for taken in parts.values()), command])
    about = {
        "figures": list(figures),
        "command": command,
        "machine": machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "details": dict(details or {}),
    }
    write_results(path, {**kept, **figures}, command="; ".join(commands), details={**parts, part: about})
