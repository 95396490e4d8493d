"""The steps of a run as bars over its time.

Place in the data's way: `Answer.steps` -> HTML for the Traces page. Everything in it is escaped: a step's
words come from the model, from tools and from documents.
"""

from __future__ import annotations

from ..core.trace_rows import flat
from ..core.types import Answer, Step, StepKind, Usage
from . import words
from .text import escaped

MAX_ROWS = 400
NUM_TICKS = 4

_NAMES: dict[StepKind, str] = {
    "rewrite": "Rewritten",
    "search": "Searched",
    "budget": "Window filled",
    "generate": "Written",
    "check": "Checked",
    "plan": "Planned",
    "sample": "Sample",
    "vote": "Vote",
    "program": "Program",
    "tool": "Tool",
    "remember": "Remembered",
}


def name_of(step: Step) -> str:
    """Return the kind of a step in a word for people."""
    return _NAMES.get(step.kind, step.kind.capitalize())


def span_s(answer: Answer) -> float:
    """Return the seconds that the timeline of a run has to cover; more than 0."""
    ends = (step.begun_s + step.duration_s for _, step in flat(answer.steps))
    return max(answer.duration_s, max(ends, default=0.0), 1e-3)


def timeline(answer: Answer, total_s: float | None = None) -> str:
    """Return the bars, one a step, inner steps below theirs.

    Args:
        answer: The run's answer.
        total_s: Seconds from the left edge to the right; None for the run's own. Two runs drawn over the same
            time can be compared by eye.
    """
    total_s = total_s or span_s(answer)
    steps = list(flat(answer.steps))
    rows = [_row(number, depth, step, total_s) for number, (depth, step) in enumerate(steps[:MAX_ROWS], 1)]
    if len(steps) > MAX_ROWS:
        rows.append(f'<p class="ls-note">{words.count(len(steps) - MAX_ROWS, "more step")}.</p>')
    label = f"{words.count(len(steps), 'step')} in {words.duration(answer.duration_s)}"
    return (
        f'<div class="ls-timeline" role="table" aria-label="{escaped(label)}">'
        f"{_axis(total_s)}{''.join(rows)}</div>"
    )


def cost(usage: Usage | None) -> str:
    """Return the tokens of a step in a few words; "" where no model ran."""
    if usage is None:
        return ""
    cached = f" ({usage.cached_tokens / usage.prompt_tokens:.0%} cached)" if usage.cached_tokens else ""
    return f"{usage.prompt_tokens:,} read{cached}, {usage.completion_tokens:,} written"


def _axis(total_s: float) -> str:
    ticks = "".join(
        f'<span style="left:{100 * n / NUM_TICKS:.2f}%">{words.duration(total_s * n / NUM_TICKS)}</span>'
        for n in range(NUM_TICKS + 1)
    )
    return (
        f'<div class="ls-tl-row ls-tl-axis" aria-hidden="true"><div></div><div>{ticks}</div><div></div></div>'
    )


def _row(number: int, depth: int, step: Step, total_s: float) -> str:
    failed = ' <b class="ls-tl-failed">failed</b>' if step.is_error else ""
    facts = " · ".join(part for part in (words.duration(step.duration_s), cost(step.usage)) if part)
    title = escaped(f"{name_of(step)}, from {words.duration(step.begun_s)}: {facts}. {step.summary}")
    return (
        f'<div class="ls-tl-row" role="row" title="{title}">'
        f'<div class="ls-tl-name" role="cell" style="padding-left:{min(depth, 8) * 0.9:.1f}rem">'
        f'<i class="ls-kind-{escaped(step.kind)}"></i><span>{number}. {escaped(name_of(step))}</span>{failed}'
        f"<small>{escaped(step.summary)}</small></div>"
        f'<div class="ls-tl-track" role="cell">{_bar(step, total_s)}</div>'
        f'<div class="ls-tl-cost" role="cell">{escaped(facts)}</div></div>'
    )


def _bar(step: Step, total_s: float) -> str:
    left = min(max(0.0, step.begun_s / total_s), 1.0)
    width = min(max(0.0, step.duration_s / total_s), 1.0 - left)
    css = f"ls-tl-bar ls-kind-{step.kind}" + (" ls-tl-error" if step.is_error else "")
    return f'<span class="{escaped(css)}" style="left:{left:.3%};width:{width:.3%}">{_reading(step)}</span>'


def _reading(step: Step) -> str:
    """Return the lighter part of a bar: the share of its time that the model read."""
    usage = step.usage
    if usage is None or step.duration_s <= 0 or usage.prefill_s <= 0:
        return ""
    share = min(usage.prefill_s / step.duration_s, 1.0)
    return f'<span class="ls-tl-read" style="width:{share:.1%}"></span>'
