"""The results on disk and as a picture: `benchmarks/results/engine.json` and `engine.png`.

Place in the data's way: `workloads` return raw rounds and figures -> here they are merged with earlier ones
(a run may do only some workloads), written with all that is needed to judge them, and drawn.

Example:
    >>> misses({"react_prompt_share_computed": 0.2})
    ['react_prompt_share_computed = 0.200, to be at most 0.15']
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .setup import LLAMA_CPP_PYTHON_SERVER, LLAMA_IN_TURN, LLAMA_SERVER, OURS
from .workloads import CACHED, FRESH

RESULTS = Path(__file__).resolve().parent.parent / "results"
OUR_COLOUR, PEER_COLOUR, TARGET_COLOUR = "#2f6f6a", "#b9c4c2", "#c9a227"


@dataclass(frozen=True, slots=True)
class Target:
    """What a figure is to reach.

    Attributes:
        value: The bound.
        is_upper: Whether the figure must not exceed it; False where it must not fall below.
    """

    value: float
    is_upper: bool = False


TARGETS = {
    "clients8_vs_llama_cpp_python_server": Target(2.0),
    "clients8_vs_llama_server": Target(0.95),
    "samples8_vs_llama_in_turn": Target(4.0),
    "react_prompt_share_computed": Target(0.15, is_upper=True),
    "react_first_token_speedup": Target(5.0),
    "busy_share_in_decode_and_sampling": Target(0.97),
    "stall_p95_pause_in_decode_steps": Target(2.0, is_upper=True),
}


def misses(figures: Mapping[str, float]) -> list[str]:
    """Return, in words, the targets that the figures at hand miss."""
    found = []
    for name, target in TARGETS.items():
        if name not in figures:
            continue
        is_missed = figures[name] > target.value if target.is_upper else figures[name] < target.value
        if is_missed:
            bound = "at most" if target.is_upper else "at least"
            found.append(f"{name} = {figures[name]:.3f}, to be {bound} {target.value:g}")
    return found


def merged(earlier: Mapping[str, Any], figures: dict[str, float], details: dict[str, Any]) -> dict[str, Any]:
    """Return the whole content: what this run measured, and what an earlier run of the model did besides.

    Args:
        earlier: The results file as it stands, or an empty mapping.
        figures: This run's.
        details: This run's conditions and raw rounds, as `__main__` puts them together.
    """
    before = earlier.get("details", {})
    if before.get("model", {}).get("sha256") != details["model"]["sha256"]:
        return {"figures": figures, "details": details}
    kept = {
        name: run for name, run in before.get("workloads", {}).items() if name not in details["workloads"]
    }
    prefixes = tuple(f"{name}_" for name in details["workloads"])
    old = {key: value for key, value in earlier["figures"].items() if not key.startswith(prefixes)}
    return {"figures": old | figures, "details": details | {"workloads": kept | details["workloads"]}}


def read(path: Path) -> dict[str, Any]:
    """Return the results file, or an empty mapping where there is none."""
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content


def table(figures: Mapping[str, float]) -> str:
    """Return the six figures with quartiles and targets, a line each."""
    lines = []
    for name, target in TARGETS.items():
        if name in figures:
            q1, q3 = figures.get(f"{name}_q1", 0.0), figures.get(f"{name}_q3", 0.0)
            bound = "<=" if target.is_upper else ">="
            mark = "ok" if not misses({name: figures[name]}) else "MISSED"
            value = f"{figures[name]:8.3f}  ({q1:.3f} to {q3:.3f})"
            lines.append(f"{name:38} {value:28} {bound} {target.value:<5g} {mark}")
    return "\n".join(lines)


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture of the plot.

    Attributes:
        title: Above it.
        unit: Of the values.
        bars: (name for people, key of the figure), ours first.
        targets: Lines to draw: (name for people, key of a figure, factor); "" for the factor itself.
    """

    title: str
    unit: str
    bars: tuple[tuple[str, str], ...]
    targets: tuple[tuple[str, str, float], ...]


_PYTHON_SERVER, _SERVER = "clients8_llama_cpp_python_server", "clients8_llama_server"
PANELS = (
    Panel(
        "8 clients, different prompts",
        "tokens/s (more is better)",
        (
            (OURS, "clients8_localsmith_tokens_per_s"),
            (LLAMA_SERVER, f"{_SERVER}_tokens_per_s"),
            (LLAMA_CPP_PYTHON_SERVER, f"{_PYTHON_SERVER}_tokens_per_s"),
        ),
        (
            (f"0.95 x {LLAMA_SERVER}", f"{_SERVER}_tokens_per_s", 0.95),
            ("2 x llama-cpp-python", f"{_PYTHON_SERVER}_tokens_per_s", 2.0),
        ),
    ),
    Panel(
        "8 samples of a 1,000-token prompt",
        "seconds (less is better)",
        ((OURS, "samples8_localsmith_s"), (LLAMA_IN_TURN, "samples8_llama_in_turn_s")),
        ((f"{LLAMA_IN_TURN} / 4", "samples8_llama_in_turn_s", 0.25),),
    ),
    Panel(
        "First token of a ReAct step",
        "seconds (less is better)",
        ((CACHED, "react_first_token_s"), (FRESH, "react_first_token_without_cache_s")),
        (("a fifth", "react_first_token_without_cache_s", 0.2),),
    ),
    Panel(
        "Prompt computed from step 2",
        "share (less is better)",
        ((OURS, "react_prompt_share_computed"),),
        (("target", "", 0.15),),
    ),
    Panel(
        "Busy time in decode and sampling",
        "share (more is better)",
        ((OURS, "busy_share_in_decode_and_sampling"),),
        (("target", "", 0.97),),
    ),
)


def draw(figures: Mapping[str, float], title: str, path: Path) -> None:
    """Draw medians with quartiles and the targets; panels without figures are left out."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    panels = [panel for panel in PANELS if all(key in figures for _, key in panel.bars)]
    if not panels:
        return
    widths = [1 + len(panel.bars) for panel in panels]
    figure, all_axes = plt.subplots(
        1, len(panels), figsize=(1.1 * sum(widths) + 2, 4.4), width_ratios=widths, squeeze=False
    )
    for axes, panel in zip(all_axes[0], panels, strict=True):
        _draw_panel(axes, panel, figures)
    figure.suptitle(title, fontsize=10)
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def _draw_panel(axes: Any, panel: Panel, figures: Mapping[str, float]) -> None:
    keys = [key for _, key in panel.bars]
    medians = [figures[key] for key in keys]
    below = [max(0.0, figures[key] - figures.get(f"{key}_q1", figures[key])) for key in keys]
    above = [max(0.0, figures.get(f"{key}_q3", figures[key]) - figures[key]) for key in keys]
    colours = [OUR_COLOUR, *[PEER_COLOUR] * (len(keys) - 1)]
    names = [name.replace(" ", "\n", 1) for name, _ in panel.bars]
    bars = axes.bar(names, medians, yerr=[below, above], capsize=4, color=colours)
    axes.bar_label(
        bars,
        [f"{value:.3g}" for value in medians],
        label_type="center",
        bbox={"facecolor": "white", "pad": 1.5},
    )
    heights = [factor * figures[key] if key else factor for _, key, factor in panel.targets]
    for number, ((name, _, _), height) in enumerate(zip(panel.targets, heights, strict=True)):
        style = ("--", ":")[number % 2]
        axes.axhline(height, color=TARGET_COLOUR, linestyle=style, linewidth=1.6, label=name)
    axes.set_ylim(0, 1.3 * max(*heights, *(m + a for m, a in zip(medians, above, strict=True))))
    axes.set_title(panel.title, fontsize=9)
    axes.set_ylabel(panel.unit, fontsize=8)
    axes.tick_params(labelsize=8)
    axes.legend(fontsize=7, loc="upper right")
