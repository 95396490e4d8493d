"""The table of methods as a page: what stands between the marks of docs/benchmarks/peft.md.

Place in the data's way: `report.read` -> here -> the page. The words around the marks are written by hand;
the sentences about what was found are made of the figures, whichever way they fall.

Example:
    PAGE.write(page_text(read(RESULTS)))
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..marked_page import MarkedPage
from .entries import BASE, ENTRIES, OTHER_TASKS
from .report import Table, flat_figures, forgetting

ROOT = Path(__file__).resolve().parent.parent.parent
PAGE = MarkedPage(ROOT / "docs" / "benchmarks" / "peft.md", "methods", "python -m benchmarks.peft --page")
NOT_MEASURED = "not measured yet"
PICTURE = "![ROUGE-L over trained parameters, and forgetting, by method](../../benchmarks/results/peft.png)"
_HEAD = (
    "| key in the results | what is trained | parameters (share) | learning rate | peak memory, GB | "
    "tokens/s | ROUGE-L (95 % interval) | words a summary | forgetting, nats a token (95 % interval) | "
    "SQuAD answered |\n|---|---|---|---|---|---|---|---|---|---|\n"
)
_NUM_CELLS = 10


def page_text(entries: Table) -> str:
    """Return what stands between the marks: tables, picture, what was found, and where it was measured."""
    figures = flat_figures(entries)
    rows = "".join(_row(name, entries, figures) for name in ENTRIES)
    parts = [f"{_HEAD}{rows}"]
    if BASE in entries and len(entries) > 1:
        parts += [_by_task(entries, figures), PICTURE + "\n", _found(entries, figures)]
    if entries:
        parts.append(_conditions(entries))
    return "\n".join(parts)


def _row(name: str, entries: Table, figures: Mapping[str, float]) -> str:
    first = [f"`{name}`", ENTRIES[name].trained]
    if name not in entries:
        return _line([*first, NOT_MEASURED, *[""] * (_NUM_CELLS - 3)])
    trained = ["", "", "", ""]
    if name != BASE:
        trained = [
            f"{figures[f'{name}_trained_parameters']:,.0f} ({100 * figures[f'{name}_trained_share']:.3g} %)",
            f"{figures[f'{name}_learning_rate']:g}",
            f"{figures[f'{name}_peak_bytes'] / 1e9:.2f}",
            f"{figures[f'{name}_tokens_per_s']:.0f}",
        ]
    forgotten = _interval(figures, f"{name}_forgetting", "+.3f") if f"{name}_forgetting" in figures else ""
    return _line(
        [
            *first,
            *trained,
            _interval(figures, f"{name}_rouge_l", ".1f"),
            f"{figures[f'{name}_words_mean']:.1f}",
            forgotten,
            f"{100 * figures[f'{name}_squad_answered']:.0f} %",
        ]
    )


def _by_task(entries: Table, figures: Mapping[str, float]) -> str:
    """Return the table of the change on each other task; the base's row has its losses."""
    head = f"| loss, nats a token | {' | '.join(OTHER_TASKS.values())} |\n|---|{'---|' * len(OTHER_TASKS)}\n"
    lines = [_line([f"`{BASE}`", *(f"{figures[f'{BASE}_loss_{task}']:.3f}" for task in OTHER_TASKS)])]
    for name in entries:
        if name != BASE:
            changes = [_interval(figures, f"{name}_forgetting_{task}", "+.3f") for task in OTHER_TASKS]
            lines.append(_line([f"`{name}`", *changes]))
    return head + "".join(lines)


def _found(entries: Table, figures: Mapping[str, float]) -> str:
    """Say in sentences what the figures show: which ROUGE-L is highest, and what was forgotten."""
    trained = [name for name in entries if name != BASE]
    best = max(trained, key=lambda name: figures[f"{name}_rouge_l"])
    low = figures[f"{best}_rouge_l_low"]
    near = [name for name in trained if name != best and figures[f"{name}_rouge_l_high"] >= low]
    beside = f" The intervals of {_names(near)} overlap with it." if near else ""
    sentences = [
        f"- The highest ROUGE-L is that of `{best}`: {figures[f'{best}_rouge_l']:.1f}, "
        f"{figures[f'{best}_rouge_l'] - figures[f'{BASE}_rouge_l']:+.1f} points beside the base.{beside}"
    ]
    for name in (name for name in ("full", "full_fast", "full_fast_multitask", "lora") if name in entries):
        amounts = "; ".join(
            f"{task} {_interval(figures, f'{name}_forgetting_{task}', '+.3f')}" for task in OTHER_TASKS
        )
        sentences.append(f"- `{name}` **{_forgets(figures, name)}**: {amounts}.")
    if "full_fast" in entries:
        others = [name for name in trained if name != "full_fast"]
        less = [name for name in others if forgetting(entries["full_fast"], entries[name]).high < 0]
        sentences.append(
            f"- Less than `full_fast`, row by row and beyond chance (95 %), forget {_names(less)}."
            if less
            else "- No entry forgets less than `full_fast` by more than chance (95 %) may bring."
        )
    return "\n".join(sentences) + "\n"


def _forgets(figures: Mapping[str, float], name: str) -> str:
    if figures[f"{name}_forgetting_low"] > 0:
        return "forgets"
    if figures[f"{name}_forgetting_high"] < 0:
        return "does better on other tasks, too"
    return "forgets nothing that could be seen"


def _names(names: list[str]) -> str:
    words = [f"`{name}`" for name in names]
    return " and ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _conditions(entries: Table) -> str:
    plan = next(iter(entries.values())).plan
    machines = "; ".join(sorted({entry.machine for entry in entries.values()}))
    dates = sorted({entry.date for entry in entries.values()})
    days = dates[0] if len(dates) == 1 else f"{dates[0]} to {dates[-1]}"
    return (
        f"{plan['base']}, {plan['num_rows']} rows of at most {plan['max_tokens']} tokens, "
        f"{plan['batch_size']} a step; {plan['num_summaries']} summaries, {plan['num_others']} rows of each "
        f"other task. Measured {days} on: {machines}.\n"
    )


def _interval(figures: Mapping[str, float], name: str, form: str) -> str:
    value, low, high = (format(figures[f"{name}{end}"], form) for end in ("", "_low", "_high"))
    return f"{value} ({low} to {high})"


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |\n"
