"""How the context window was spent, as a small picture.

Place in the data's way: `Answer.budget` -> HTML for the chat page. Names and reasons in it are escaped.
"""

from __future__ import annotations

from ..core.types import BudgetPart, BudgetReport
from .text import escaped
from .words import count

_NAMES = {
    "system": "Instructions",
    "examples": "Examples",
    "history": "Conversation",
    "passages": "Passages",
    "question": "Question",
}
_NOUNS = {"history": "turn", "passages": "passage", "examples": "example"}
_REASONS = {
    "window": "the window is full",
    "time": "reading more would take too long",
    "redundant": "says the same as another",
}


def bar(report: BudgetReport) -> str:
    """Return one stacked bar, its parts in prompt order, then the reserve and what stays free."""
    pieces = [
        (f"ls-part-{part.name}", _NAMES.get(part.name, part.name), part.used_tokens) for part in report.parts
    ]
    pieces.append(("ls-part-reserved", "Kept for the answer", report.reserved_tokens))
    pieces.append(("ls-part-free", "Free", free_tokens(report)))
    spans = "".join(
        f'<span class="{escaped(css)}" style="flex-grow:{tokens}"'
        f' title="{escaped(name)}: {tokens:,} tokens"></span>'
        for css, name, tokens in pieces
        if tokens > 0
    )
    label = f"{report.prompt_tokens:,} of {report.n_ctx:,} tokens used"
    return f'<div class="ls-bar" role="img" aria-label="{label}">{spans}</div>'


def legend(report: BudgetReport) -> str:
    """Return a table of the parts with their tokens, and in words what was cut and why."""
    rows = [
        _row(
            f"ls-part-{part.name}",
            _NAMES.get(part.name, part.name),
            _items(part),
            part.used_tokens,
            _cut(part),
        )
        for part in report.parts
        if part.used_tokens or part.num_cut
    ]
    rows.append(_row("ls-part-reserved", "Kept for the answer", "", report.reserved_tokens, ""))
    rows.append(_row("ls-part-free", "Free", "", free_tokens(report), ""))
    table = f'<table class="ls-legend"><tbody>{"".join(rows)}</tbody></table>'
    return f'{table}<p class="ls-note">{_limit(report)}</p>'


def free_tokens(report: BudgetReport) -> int:
    """Return the tokens of the window that nothing took."""
    return max(report.n_ctx - report.prompt_tokens - report.reserved_tokens, 0)


def _items(part: BudgetPart) -> str:
    noun = _NOUNS.get(part.name)
    return count(part.num_items, noun) if noun else ""


def _cut(part: BudgetPart) -> str:
    if not part.num_cut:
        return ""
    reason = _REASONS.get(part.reason, part.reason)
    words = f"left out or shortened: {count(part.num_cut, _NOUNS.get(part.name, 'item'))}"
    if part.cut_tokens:
        words += f" ({count(part.cut_tokens, 'token')})"
    return f"{words}, {reason}" if reason else words


def _limit(report: BudgetReport) -> str:
    if report.limited_by == "time":
        return (
            f"The prompt was held to {report.prompt_limit_tokens:,} tokens, as many as this machine reads "
            "in the time allowed before the first word (setting answer.seconds_to_first_token)."
        )
    return f"The prompt could take up to {report.prompt_limit_tokens:,} tokens of the window."


def _row(css: str, name: str, items: str, tokens: int, cut: str) -> str:
    note = f'<div class="ls-cut">{escaped(cut)}</div>' if cut else ""
    return (
        f'<tr><td><i class="{escaped(css)}"></i>{escaped(name)}{note}</td>'
        f"<td>{escaped(items)}</td><td>{tokens:,}</td></tr>"
    )
