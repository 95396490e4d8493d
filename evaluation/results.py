"""Results as files: the figures, the command that made them, the machine and the date.

Place in the data's way: every evaluation and benchmark ends here; the README and the plots read from here.

Example:
    write_results(Path("rag.json"), {"f1": 0.71}, command="localsmith evaluate rag ...")
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import psutil

from ..core.errors import EvaluationError
from ..core.whole_file import write_json


def write_results(
    path: Path, figures: Mapping[str, float], *, command: str, details: Mapping[str, Any] | None = None
) -> None:
    """Write a results file, wholly or not at all.

    Args:
        path: The file; its folder is made where it is missing.
        figures: A number a name.
        command: How to get these figures again.
        details: What the figures were computed from, as JSON values; None for nothing.

    Raises:
        EvaluationError: A figure is no number.
        StorageError: The file can't be written.
    """
    wrong = [name for name, value in figures.items() if not isinstance(value, int | float) or value != value]
    if wrong:
        raise EvaluationError(f"These figures are not numbers: {', '.join(wrong)}.")
    content: dict[str, Any] = {
        "figures": {name: round(float(value), 6) for name, value in figures.items()},
        "command": command,
        "machine": machine(),
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
    }
    if details is not None:
        content["details"] = details
    write_json(path, content)


def machine() -> str:
    """Describe this machine by what decides speed: processor, cores, memory, system."""
    memory_gib = psutil.virtual_memory().total / 2**30
    cores = psutil.cpu_count(logical=True)
    return f"{_processor()}, {cores} logical cores, {memory_gib:.0f} GiB, {platform.system()}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
