"""The table of methods as a picture: what is gained for how many parameters, and what is forgotten for it.

Place in the data's way: `report.read` -> here -> `benchmarks/results/peft.png`.

Example:
    draw(read(RESULTS), RESULTS.with_suffix(".png"))
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .entries import BASE, ENTRIES
from .report import Table, flat_figures

TRAINED_COLOUR, BASE_COLOUR, MULTITASK_COLOUR = "#2f6f6a", "#8a8a8a", "#c9a227"


def draw(entries: Table, path: Path) -> None:
    """Draw ROUGE-L over trained parameters, and forgetting beside it; nothing where nothing was trained."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = [name for name in entries if name != BASE]
    if not names or BASE not in entries:
        return
    figures = flat_figures(entries)
    plot, (gained, forgotten) = plt.subplots(1, 2, figsize=(11, 4.6), width_ratios=(3, 2))
    _draw_gained(gained, names, figures)
    _draw_forgotten(forgotten, names, figures)
    plot.tight_layout()
    plot.savefig(path, dpi=120)
    plt.close(plot)


def _draw_gained(axes: Any, names: list[str], figures: dict[str, float]) -> None:
    level = figures[f"{BASE}_rouge_l"]
    largest = max(figures[f"{name}_trained_parameters"] for name in names)
    axes.axhline(level, color=BASE_COLOUR, linestyle="--", linewidth=1)
    axes.annotate(
        "base",
        (0, level),
        xycoords=("axes fraction", "data"),
        xytext=(4, 3),
        textcoords="offset points",
        fontsize=8,
    )
    for name in names:
        parameters, rouge_l = figures[f"{name}_trained_parameters"], figures[f"{name}_rouge_l"]
        below = rouge_l - figures[f"{name}_rouge_l_low"]
        above = figures[f"{name}_rouge_l_high"] - rouge_l
        spread = [[max(0.0, below)], [max(0.0, above)]]
        axes.errorbar(
            parameters, rouge_l, yerr=spread, fmt="o", color=_colour(name), elinewidth=0.8, capsize=2
        )
        is_largest = parameters == largest  # its words would leave the picture on the right
        axes.annotate(
            ENTRIES[name].label,
            (parameters, rouge_l),
            xytext=(-5 if is_largest else 5, 4),
            textcoords="offset points",
            ha="right" if is_largest else "left",
            fontsize=8,
        )
    axes.set_xscale("log")
    axes.margins(x=0.2)
    axes.set_xlabel("trained parameters (lines are 95 % intervals)", fontsize=8)
    axes.set_ylabel("ROUGE-L on DialogSum (more is better)", fontsize=8)
    axes.tick_params(labelsize=8)


def _draw_forgotten(axes: Any, names: list[str], figures: dict[str, float]) -> None:
    values = [figures[f"{name}_forgetting"] for name in names]
    below = [max(0.0, figures[f"{name}_forgetting"] - figures[f"{name}_forgetting_low"]) for name in names]
    above = [max(0.0, figures[f"{name}_forgetting_high"] - figures[f"{name}_forgetting"]) for name in names]
    labels = [ENTRIES[name].label for name in names]
    axes.barh(labels, values, xerr=[below, above], capsize=2, color=[_colour(name) for name in names])
    axes.axvline(0, color=BASE_COLOUR, linewidth=1)
    axes.invert_yaxis()
    axes.set_xlabel("rise of the loss on other tasks, nats a token", fontsize=8)
    axes.tick_params(labelsize=8)


def _colour(name: str) -> str:
    return MULTITASK_COLOUR if ENTRIES[name].is_multitask else TRAINED_COLOUR
