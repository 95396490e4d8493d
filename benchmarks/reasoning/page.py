"""The scoreboard as a page: the table of docs/benchmarks/reasoning.md, made from the results file.

Place in the data's way: `report.read` -> here -> the page between its two marks; the words around them are
written by hand. A test compares the page with the results file.

Example:
    PAGE.write(scoreboard_text(read(RESULTS)))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..marked_page import MarkedPage
from .entries import ENTRIES, PROBES, TARGETS
from .report import Scoreboard, flat_figures

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = MarkedPage(
    ROOT / "docs" / "benchmarks" / "reasoning.md", "scoreboard", "python -m benchmarks.reasoning --page"
)
NOT_MEASURED = "not measured yet"
PICTURE = "![Share right and tokens a question, by strategy](../../benchmarks/results/reasoning.png)"
_PROBES_HEAD = (
    "| key in the results | value (95 % interval) | to reach | model | measured |\n|---|---|---|---|---|\n"
)
_HEAD = (
    "| key in the results | strategy, questions | value (95 % interval) | to reach | tokens a question | "
    "seconds a question | no answer found | n | model | measured |\n"
    "|---|---|---|---|---|---|---|---|---|---|\n"
)


def scoreboard_text(entries: Scoreboard) -> str:
    """Return what stands between the marks: the tables, and the picture where anything is in it."""
    figures = flat_figures(entries)
    rows = "".join(_row(name, entries, figures) for name in ENTRIES if _is_shown(name, entries))
    probes = "".join(
        _probe_row(name, probe, entries, figures) for probe, names in PROBES.items() for name in names
    )
    auto = "".join(_auto_tokens(figures))
    machines = sorted({measured.machine for measured in entries.values()})
    is_drawn = any(name in ENTRIES for name in entries)
    parts = [
        f"{_HEAD}{rows}",
        auto,
        f"{_PROBES_HEAD}{probes}",
        *([PICTURE + "\n"] if is_drawn else []),
        *([f"Measured on: {'; '.join(machines)}.\n"] if machines else []),
    ]
    return "\n".join(part for part in parts if part)


def _is_shown(name: str, entries: Scoreboard) -> bool:
    return name in entries or not ENTRIES[name].is_extra


def _row(name: str, entries: Scoreboard, figures: Mapping[str, float]) -> str:
    entry = ENTRIES[name]
    voted = f" ({entry.num_samples} samples)" if entry.num_samples else ""
    what = f"{entry.strategy}{voted}, {entry.file.removesuffix('.jsonl')}"
    if name not in entries:
        return f"| `{name}` | {what} | {NOT_MEASURED} | {_target(name, figures)} | | | | | | |\n"
    measured = entries[name]
    cells = [
        f"`{name}`",
        what,
        _with_interval(name, figures),
        _target(name, figures),
        f"{figures[f'{name}_tokens']:,.0f}",
        f"{figures[f'{name}_seconds']:.1f}",
        f"{100 * figures[f'{name}_no_answer_share']:.0f} %",
        f"{measured.num_questions}",
        measured.model,
        measured.date,
    ]
    return f"| {' | '.join(cells)} |\n"


def _probe_row(name: str, probe: str, entries: Scoreboard, figures: Mapping[str, float]) -> str:
    if name not in figures:
        return f"| `{name}` | {NOT_MEASURED} | {_target(name, figures)} | | |\n"
    of = entries[probe]
    value = _with_interval(name, figures)
    return f"| `{name}` | {value} | {_target(name, figures)} | {of.model or 'none'} | {of.date} |\n"


def _auto_tokens(figures: Mapping[str, float]) -> str:
    target = next(target for target in TARGETS if target.name == "gsm8k_auto_tokens")
    bound = target.bound(figures)
    if bound is None or target.name not in figures:
        return ""
    share = figures[target.name] / (2 * bound)
    mark = "**missed**" if target.is_missed(figures) else "reached"
    return (
        f"The planner spends {100 * share:.0f} % of pal-vote's tokens on GSM8K; to be under 50 %: {mark}.\n"
    )


def _with_interval(name: str, figures: Mapping[str, float]) -> str:
    digits = 0 if name == "react_malformed_calls" else 1 if name.endswith("_ms") else 3
    value, low, high = (figures[f"{name}{end}"] for end in ("", "_low", "_high"))
    high_digits = digits or 1
    return f"{value:.{digits}f} ({low:.{high_digits}f} to {high:.{high_digits}f})"


def _target(name: str, figures: Mapping[str, float]) -> str:
    for target in TARGETS:
        if target.name == name:
            is_missed = target.is_missed(figures)
            mark = "" if is_missed is None else ": **missed**" if is_missed else ": reached"
            return f"{target.words}{mark}"
    return ""
