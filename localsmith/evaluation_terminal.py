"""Evaluations as a person sees them in a terminal: a bar with the time left, a table of figures.

Place in the data's way: `cli_evaluate_*.py` show through here; the table goes to standard output, the bar to
standard error.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.table import Table

from .stage_progress import stages


def print_figures(figures: Mapping[str, float], names: Sequence[str], title: str) -> None:
    """Print those of the figures that are named, with their intervals."""
    table = Table("figure", "value", "95 % interval", title=title)
    for name in names:
        if name not in figures:
            continue
        low, high = figures.get(f"{name}_low"), figures.get(f"{name}_high")
        interval = f"{low:.3f} to {high:.3f}" if low is not None and high is not None else ""
        table.add_row(name, f"{figures[name]:.3f}".removesuffix(".000"), interval)
    Console().print(table)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None]]:
    """Show how far it is, with the time left; yield what moves it, called with (done, total)."""
    with stages() as on_stage:
        yield lambda done, total: on_stage(label, done, total, "")


def command_line() -> str:
    """Return the command as typed, without this machine's folders."""
    words = ["/".join(Path(word).parts[-2:]) if "/" in word else word for word in sys.argv[1:]]
    return " ".join(["localsmith", *words])
