"""A person's word on a call that waits for it.

Place in the data's way: `ApprovalNeeded` ends a run's events; whoever shows it hands an `Approval` to
`ReactStrategy.resume`. Nothing that a model, a document or a tool writes can become one.

Example:
    >>> Approval("refuse", reason="Not this folder.").verdict
    'refuse'
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, slots=True)
class Approval:
    """What a person decided.

    Attributes:
        verdict: "approve" to make the call, "refuse" to go on without it.
        reason: Why it is refused, for the model; "" for no reason given.
        arguments: JSON of the arguments to call it with instead; None for those the model wrote.
        call: `ApprovalNeeded.call` of the call that was decided on, so that a second click on the same button
            can't approve the next call; None for whichever waits.
    """

    verdict: Literal["approve", "refuse"]
    reason: str = ""
    arguments: str | None = None
    call: int | None = None
