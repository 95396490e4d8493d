"""Training as a person sees it in a terminal: stages with the time left, a loss curve, before and after.

Place in the data's way: `cli_train.py` shows through here; bars go to standard error, figures to standard
output.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from rich.table import Table

if TYPE_CHECKING:
    from .training.data.versions import DataVersion

_BLOCKS = " ▁▂▃▄▅▆▇█"
_CURVE_CHARS = 60
_LABELS = {
    "rouge_1": "ROUGE-1 on held-out rows",
    "rouge_2": "ROUGE-2 on held-out rows",
    "rouge_l": "ROUGE-L on held-out rows",
    "bleu": "BLEU on held-out rows",
    "words_mean": "words a completion",
    "held_out_loss": "loss on held-out rows",
}


@contextmanager
def stages() -> Iterator[Callable[[str, int, int, str], None]]:
    """Show a bar a stage, with the time left; yield what moves it: (stage, done, total, words)."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[words]}"),
    )
    bars: dict[str, TaskID] = {}
    with Progress(*columns, console=Console(stderr=True)) as progress:

        def show(stage: str, done: int, total: int, words: str) -> None:
            if stage not in bars:
                bars[stage] = progress.add_task(stage.capitalize(), total=total or None, words=words)
            progress.update(bars[stage], completed=done, total=total or None, words=words)

        yield show


def print_comparison(figures: Mapping[str, float]) -> None:
    """Print what was measured before and after training, side by side, then the rest."""
    table = Table("figure", "base", "trained", box=None, pad_edge=False)
    for name, label in _LABELS.items():
        before, after = figures.get(f"{name}_before"), figures.get(f"{name}_after")
        if before is not None and after is not None:
            table.add_row(label, f"{before:.3f}", f"{after:.3f}")
    console = Console(highlight=False)
    if table.row_count:
        console.print(table)
    if figures.get("train_s"):
        console.print(
            f"Trained for {figures['train_s']:.0f} s at {figures.get('tokens_per_s', 0):.0f} tokens/s; "
            f"loss {figures.get('first_loss', 0):.3f} -> {figures.get('last_loss', 0):.3f}."
        )


def print_report(version: DataVersion) -> None:
    """Say what became of the data."""
    report = version.report
    console = Console(stderr=True, highlight=False)
    for stage in report.filters:
        if stage.num_dropped:
            reasons = ", ".join(f"{reason} ({number})" for reason, number in stage.reasons[:3])
            console.print(f"{stage.name}: {stage.num_dropped} of {stage.num_before} rows dropped: {reasons}")
    console.print(
        f"Data version {version.id}: {report.num_train} rows to train on, {report.num_held_out} held out."
    )


def loss_curve(losses: Sequence[tuple[int, float]]) -> str:
    """Return the loss over the steps as one line of blocks, with its ends; "" without losses."""
    if not losses:
        return ""
    values = [loss for _, loss in losses]
    size = max(1, len(values) // _CURVE_CHARS)
    means = [sum(values[i : i + size]) / len(values[i : i + size]) for i in range(0, len(values), size)]
    low, high = min(means), max(means)
    scale = (len(_BLOCKS) - 2) / (high - low) if high > low else 0.0
    blocks = "".join(_BLOCKS[1 + round((mean - low) * scale)] for mean in means)
    return f"loss {values[0]:.3f} {blocks} {values[-1]:.3f}"
