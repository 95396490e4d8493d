r"""Calls of tools in a run's steps: those made, those malformed, those cut off.

Place in the data's way: an answer's steps -> counts -> `evaluation.reasoning`. What the model wrote is read
anew here, not taken from what the strategy made of it.

Example:
    >>> written = "Thought: I need it.\nAction: calculator\nInput: 6*7"
    >>> count_calls([Step("generate", "", 0.1, output=written)]).num_malformed
    1
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from ..core.types import Step

# A turn of ReAct as Yao et al. (2023, "ReAct", section 2) have it: a thought, an action; and its input.
_ACTION = re.compile(r"\s*(?:Thought:[^\n]*\n)?\s*Action:[^\n]*(?:\n\s*Input:(?P<input>.*))?", re.DOTALL)
_REFUSED = re.compile(r"arguments\b")
_BEGUN_VALUE = re.compile(r"-?\d*\.?\d*(?:[eE][-+]?)?|t(?:r(?:ue?)?)?|f(?:a(?:l(?:se?)?)?)?|n(?:u(?:ll?)?)?")


@dataclass(frozen=True, slots=True)
class CallCounts:
    """The calls of a run.

    Attributes:
        num_made: Calls that were made, whatever came of them.
        num_malformed: Calls whose input is no JSON object, or whose arguments the schema refused.
        num_cut: Calls that are the beginning of a whole one: a limit of tokens or time cut them off.
    """

    num_made: int
    num_malformed: int
    num_cut: int


def count_calls(steps: Sequence[Step]) -> CallCounts:
    """Count the calls in a run's steps, those within steps included."""
    flat = list(all_steps(steps))
    made = [step for step in flat if step.kind == "tool"]
    turns = [_ACTION.match(step.output) for step in flat if step.kind == "generate"]
    states = [_state(turn["input"] or "") for turn in turns if turn is not None]
    num_refused = sum(step.is_error and _REFUSED.match(step.output) is not None for step in made)
    return CallCounts(len(made), states.count("malformed") + num_refused, states.count("cut"))


def all_steps(steps: Sequence[Step]) -> Iterator[Step]:
    """Yield the steps of a run and those within them, depth first."""
    for step in steps:
        yield step
        yield from all_steps(step.steps)


def _state(written: str) -> Literal["whole", "malformed", "cut"]:
    """Tell whether a text is a JSON object, the beginning of one, or neither."""
    written = written.strip()
    if not written:
        return "cut"
    try:
        return "whole" if isinstance(json.loads(written), dict) else "malformed"
    except RecursionError:
        return "malformed"
    except json.JSONDecodeError as exc:
        if not written.startswith("{"):
            return "malformed"
        is_in_text = exc.msg.startswith("Unterminated string")
        is_in_escape = exc.msg.startswith("Invalid \\") and len(written) - exc.pos < len("\\uXXXX")
        is_at_end = _BEGUN_VALUE.fullmatch(written, exc.pos) is not None
        return "cut" if is_in_text or is_in_escape or is_at_end else "malformed"
