"""Training as a person sees it in a terminal: a data report, costs, a loss curve, before and after.

Place in the data's way: `cli_train*.py` show through here, stages through `stage_progress.py`. What a command
was asked for goes to standard output, what it says beside to standard error.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from .stage_progress import duration
from .terminal import printable

if TYPE_CHECKING:
    from .training.data.filter import StageReport
    from .training.data.sources import ImportReport
    from .training.data.versions import DataVersion
    from .training.estimate.costs import Costs

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
    console = Console(stderr=True, highlight=False)
    for part in version.report.imports:
        if part.num_bad or part.left_out:
            _print(console, _import_lines(part))
    for stage in version.report.filters:
        if stage.num_dropped or stage.num_changed:
            _print(console, [_stage_line(stage)])
    _print(console, [_version_line(version)])


def print_whole_report(version: DataVersion, num_samples: int) -> None:
    """Print what became of the data, stage by stage, with samples of what was dropped or changed.

    Args:
        version: The data version.
        num_samples: Most samples of a stage.
    """
    report = version.report
    lines = [line for part in report.imports for line in _import_lines(part)]
    for stage in report.filters:
        lines.append(_stage_line(stage))
        for sample in stage.samples[:num_samples]:
            lines += [f"    {sample.source} ({sample.reason}):", f"        {' '.join(sample.text.split())}"]
    for share in report.mix:
        again = f", {share.num_repeats} of them again" if share.num_repeats else ""
        lines.append(f"mixture: {share.num_after} rows of {share.num_before} of {share.task!r}{again}")
    for words, tasks in (("to train on", report.train_tasks), ("held out", report.held_out_tasks)):
        named = ", ".join(f"{number} {task or 'of no task'}" for task, number in tasks)
        lines.append(f"{words}: {named or 'none'}")
    lines.append(
        f"kept together by the split: {report.num_clusters} sets, the largest of {report.largest_cluster}"
    )
    _print(Console(highlight=False), [*lines, _version_line(version)])


def print_costs(base: str, method: str, costs: Costs) -> None:
    """Print what a run needs, what is there, and what would fit."""
    plan, memory = costs.plan, costs.memory
    share = costs.num_trained / costs.num_parameters
    lines = [
        f"{base}: {costs.num_parameters:,} parameters; {method} trains {costs.num_trained:,} ({share:.2%}).",
        "",
        *memory.table().splitlines(),
        "",
    ]
    each = f" on each of {plan.num_devices} devices" if plan.num_devices > 1 else ""
    here = f"{costs.device.name} has {costs.device.free_bytes / 1e9:.2f} GB free"
    needed = f"{memory.total_bytes / 1e9:.2f} GB{each} at the peak"
    lines.append(f"It {'fits' if costs.fits else 'does not fit'}: {needed}, and {here}.")
    for way in costs.alternatives:
        lines.append(f"  would fit: {way.words} ({way.estimate.total_bytes / 1e9:.2f} GB)")
    if not costs.fits and not costs.alternatives:
        lines.append("  Nothing that was tried fits; use a smaller base.")
    lines += ["", f"From scratch, {costs.optimal_tokens:,} tokens are compute-optimal, 20 a parameter."]
    lines.append(_time_line(costs))
    _print(Console(highlight=False), lines)


def _time_line(costs: Costs) -> str:
    work = f"{costs.num_tokens:,} tokens are {costs.flops:.2e} floating-point operations"
    if costs.seconds is None or costs.speed is None:
        return f"{work}; how long that takes can't be told, for there is no such device here."
    if costs.speed.run_id:
        speed = f"{costs.speed.tokens_per_s:.0f} tokens/s of the run {costs.speed.run_id}"
        return f"{work}, about {duration(costs.seconds)} at the {speed}."
    speed = f"{(costs.speed.flops_per_s or 0.0) / 1e9:,.0f} GFLOP/s of matrix products here"
    return f"{work}, at least {duration(costs.seconds)} at the {speed}; training reaches less."


def _import_lines(part: ImportReport) -> list[str]:
    bad = f", {part.num_bad} could not be used" if part.num_bad else ""
    left_out = "".join(f", {number} left out: {reason}" for reason, number in part.left_out)
    line = f"{part.source}: {part.num_rows} rows of {part.num_records} records{bad}{left_out}"
    return [line, *(f"    {example}" for example in part.bad_examples)]


def _stage_line(stage: StageReport) -> str:
    changed = f", {stage.num_changed} changed" if stage.num_changed else ""
    reasons = ", ".join(f"{reason} ({number})" for reason, number in stage.reasons[:3])
    line = f"{stage.name}: {stage.num_dropped} of {stage.num_before} rows dropped{changed}"
    return f"{line}: {reasons}" if reasons else line


def _version_line(version: DataVersion) -> str:
    report = version.report
    return f"Data version {version.id}: {report.num_train} rows to train on, {report.num_held_out} held out."


def _print(console: Console, lines: Iterable[str]) -> None:
    """Print lines whose words may be a file's: as they stand, and nothing in them steers the terminal."""
    for line in lines:
        console.print(printable(line), markup=False, soft_wrap=True)


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
