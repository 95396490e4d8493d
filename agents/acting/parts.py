"""What a ReAct strategy is made of, and the limits its runs keep.

Place in the data's way: made once by `ReactStrategy`, read by every `ReactRun`.

Example:
    >>> ReactLimits(max_steps=4, max_tokens=1000).thinking_tokens
    750
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...core.contracts import LanguageModel
from ...core.settings import AnswerSettings
from ..tools.tool import Tool
from .checkpoints import Checkpoints

_THINKING_SHARE = 0.8


@dataclass(frozen=True, slots=True)
class ReactLimits:
    """How long a run may go on; where one is reached, it answers with what it has found.

    Attributes:
        max_steps: Calls and turns that were cut, together.
        max_tokens: Completion tokens, the answer's included.
        max_seconds: Time at work; waiting for a person's approval doesn't count. A fifth is for the answer.
    """

    max_steps: int = 8
    max_tokens: int = 4000
    max_seconds: float = 300.0

    def __post_init__(self) -> None:
        """Refuse limits under which nothing can be done.

        Raises:
            ValueError: One is not positive.
        """
        if self.max_steps < 1 or self.max_tokens < 16 or self.max_seconds <= 0:
            raise ValueError(f"At least 1 step, 16 tokens and some time are needed, not {self}.")

    @property
    def answer_tokens(self) -> int:
        """Completion tokens kept for the answer."""
        return self.max_tokens // 4

    @property
    def thinking_tokens(self) -> int:
        """Completion tokens after which the run has to answer."""
        return self.max_tokens - self.answer_tokens

    @property
    def thinking_s(self) -> float:
        """Seconds after which the run has to answer."""
        return _THINKING_SHARE * self.max_seconds


@dataclass(frozen=True, slots=True)
class ReactParts:
    """The parts of a strategy.

    Attributes:
        model: The chat model.
        tools: The tools by their names.
        answer: Sampling and the longest answer.
        limits: How long a run may go on.
        checkpoints: Where unfinished runs are.
        grammar: What a turn may look like, GBNF.
        turn_tokens: Longest turn.
    """

    model: LanguageModel
    tools: Mapping[str, Tool]
    answer: AnswerSettings
    limits: ReactLimits
    checkpoints: Checkpoints
    grammar: str
    turn_tokens: int

    @property
    def reserve_tokens(self) -> int:
        """Tokens of the window kept free for the turn to come and for the answer after it."""
        return self.turn_tokens + min(self.answer.max_tokens, self.limits.answer_tokens)
