"""Which steps of a run a person wants to follow while it goes on; the others are in the trace.

Place in the data's way: the terminal and the chat ask here before they show a step.

Example:
    >>> is_telling(Step("vote", "18 (5 of 8), 26 (2 of 8)", 0.0)), is_telling(Step("budget", "", 0.0))
    (True, False)
"""

from __future__ import annotations

from ..core.types import Step

_ALWAYS = frozenset({"plan", "rewrite", "sample", "vote", "program", "tool", "remember"})
# A completion whose only news is how it ended: its text is the answer, or stands in the next step.
_JUST_ENDED = "Ended by"


def is_telling(step: Step) -> bool:
    """Return whether a step says more than that another piece of the answer was made."""
    if step.kind == "generate":
        return not step.summary.startswith(_JUST_ENDED)
    return step.kind in _ALWAYS or step.is_error
