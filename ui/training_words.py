"""Training runs in words: where a run stands, what it is doing, what it came to.

Place in the data's way: `RunView` -> words and HTML for the Training page; nothing here knows Streamlit.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..training_view import Phase, RunView
from . import words
from .text import escaped

_PHASES: dict[Phase, str] = {
    "starting": "starting",
    "running": "running",
    "stopping": "stopping",
    "interrupted": "interrupted",
    "stopped": "stopped",
    "failed": "failed",
    "finished": "finished",
    "never begun": "not begun",
}
_STAGES = {
    "reading": "Reading the data",
    "encoding": "Counting tokens",
    "training": "Training",
    "comparing": "Comparing on held-out rows",
    "evaluating": "Writing held-out rows with both models",
}
# (name of the figure, for people, whether more is better, digits)
_FIGURES = (
    ("rouge_l", "ROUGE-L", True, 1),
    ("rouge_1", "ROUGE-1", True, 1),
    ("rouge_2", "ROUGE-2", True, 1),
    ("bleu", "BLEU", True, 1),
    ("held_out_loss", "Loss on held-out rows", False, 3),
    ("words_mean", "Words a completion", None, 1),
)


def phase_of(view: RunView) -> str:
    """Return where a run stands, in a word or two for people."""
    return _PHASES[view.phase]


def doing(view: RunView) -> str:
    """Return what an active run is doing, with n of m and the time left where they are known."""
    if view.phase == "starting":
        return "Starting: the libraries are loaded"
    if view.phase == "stopping":
        return "Stopping after the step at hand; what was trained is kept"
    is_loading = view.stage == "encoding" and view.stage_done >= view.stage_total > 0
    if is_loading:
        return "Loading the base"
    text = _STAGES.get(view.stage, view.stage.capitalize())
    if view.stage == "training":
        text += f": step {view.stage_done:,} of {view.stage_total:,}"
    elif view.stage_total and not view.stage.startswith("export"):
        text += f": {view.stage_done:,} of {view.stage_total:,}"
    if view.eta_s is not None and view.eta_s >= 1:
        text += f" · about {words.duration(round(view.eta_s))} left"
    return text


def status_line(view: RunView, name: str = "") -> str:
    """Return HTML with what an active run is doing, and how much of it is done as a bar.

    Args:
        view: The run.
        name: Its name, where it is to be said.
    """
    share = view.stage_done / view.stage_total if view.stage_total else 0.0
    is_unknown = not view.stage_total or view.phase != "running"
    title = f"<b>{escaped(name)}</b> " if name else ""
    return (
        f'<div class="ls-status" role="status"><span class="ls-dot"></span>'
        f"<span>{title}{escaped(doing(view))}</span>"
        f'<span class="ls-elapsed">{escaped(view.stage_words)}</span></div>'
        f'<div class="ls-progress{" ls-unknown" if is_unknown else ""}">'
        f'<div style="width:{"30%" if is_unknown else f"{share:.1%}"}"></div></div>'
    )


def what_next(view: RunView) -> str:
    """Return what a person can do about a run that has ended too early; "" for any other."""
    where = f" It stands at step {view.step:,} of {view.num_steps:,}." if view.num_steps else ""
    return {
        "interrupted": "The process that trained it ended before the run did. Resume goes on from the last "
        f"whole checkpoint, with the loss curve it would have had.{where}",
        "stopped": f"It was stopped and can go on where it was.{where}",
        "never begun": "No process has come to work on it. Resume tries again.",
        "failed": f"After that, resume goes on from the last whole checkpoint.{where}",
    }.get(view.phase, "")


def figures_table(figures: Mapping[str, float]) -> str:
    """Return HTML with what was measured of base and trained model side by side; "" where nothing was."""
    rows = []
    for name, label, is_more_better, digits in _FIGURES:
        before, after = figures.get(f"{name}_before"), figures.get(f"{name}_after")
        if before is None or after is None:
            continue
        gain = after - before
        css = ""
        if is_more_better is not None and gain:
            css = "ls-better" if (gain > 0) is is_more_better else "ls-worse"
        rows.append(
            f"<tr><td>{label}</td><td>{before:,.{digits}f}</td><td>{after:,.{digits}f}</td>"
            f'<td class="{css}">{gain:+,.{digits}f}</td></tr>'
        )
    if not rows:
        return ""
    head = "<tr><th>On held-out rows</th><th>Base</th><th>Trained</th><th>Change</th></tr>"
    return f'<table class="ls-figures"><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table>'


def training_facts(figures: Mapping[str, float]) -> str:
    """Return in one line how long a run trained, how fast, and on how many rows; "" where not known."""
    parts = []
    if seconds := figures.get("train_s"):
        parts.append(f"trained for {words.duration(seconds)}")
    if speed := figures.get("tokens_per_s"):
        parts.append(f"{speed:,.0f} tokens/s")
    if num_train := figures.get("num_train"):
        parts.append(words.count(int(num_train), "row"))
    if (agreement := figures.get("export_agreement")) is not None:
        parts.append(f"the exported file agrees with the trained model on {agreement:.0%} of the tokens")
    line = " · ".join(parts)
    return line[:1].upper() + line[1:]
