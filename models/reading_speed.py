"""How fast prompts are read here and now: as measured at set-up, corrected by what is seen since.

Place in the data's way: the engine's steps report how long they took to read; `Engine.prompt_tokens_per_s`,
and with it every time budget, comes from here. A machine that shares its cores with a browser and other
programs reads slower than it did when it was measured, and promises made with the old speed would be broken.

Example:
    >>> speed = ReadingSpeed(100.0)
    >>> speed.observe(1000, 20.0)
    >>> 50 < speed.tokens_per_s < 100
    True
"""

from __future__ import annotations

import math

# What was measured counts as much as this many tokens that were read; what was seen fades over as many.
MEMORY_TOKENS = 1000
# A step's fixed costs would count too much in shorter ones.
MIN_STEP_TOKENS = 32
# A machine that slept in the middle of a step says nothing about the next one.
MAX_CHANGE = 4.0


class ReadingSpeed:
    """The speed of reading prompts, in tokens a second, learnt from steps that do nothing else.

    Args:
        measured: Measured speed, tokens/s; infinity where it was not measured, which stays so.
    """

    def __init__(self, measured: float) -> None:
        self._measured = measured
        self._tokens = float(MEMORY_TOKENS)
        self._seconds = MEMORY_TOKENS / measured

    @property
    def tokens_per_s(self) -> float:
        """What to expect of the next prompt: within a factor of `MAX_CHANGE` of what was measured."""
        if math.isinf(self._measured):
            return self._measured
        speed = self._tokens / self._seconds
        return min(max(speed, self._measured / MAX_CHANGE), self._measured * MAX_CHANGE)

    def observe(self, num_tokens: int, seconds: float) -> None:
        """Learn from a step in which nothing was written.

        Args:
            num_tokens: Prompt tokens that were read; steps below `MIN_STEP_TOKENS` are ignored.
            seconds: How long that took.
        """
        if num_tokens < MIN_STEP_TOKENS or math.isinf(self._measured):
            return
        slowest = num_tokens * MAX_CHANGE / self._measured
        kept = math.exp(-num_tokens / MEMORY_TOKENS)
        self._tokens = kept * self._tokens + num_tokens
        self._seconds = kept * self._seconds + min(seconds, slowest)
