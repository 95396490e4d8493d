"""What the engine has done since it started, counted by its own thread.

Place in the data's way: `Engine.stats` makes an `EngineStats` of it for the metrics page.

Example:
    >>> counters = Counters(); counters.step(0.1); counters.num_steps
    1
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field


@dataclass(slots=True)
class Counters:
    """Running totals; the fields are those of `core.types.EngineStats`."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    draft_tokens: int = 0
    accepted_draft_tokens: int = 0
    num_steps: int = 0
    decode_s: float = 0.0
    sampling_s: float = 0.0
    busy_s: float = 0.0
    finished: Counter[str] = field(default_factory=Counter)

    def step(self, seconds: float) -> None:
        """Count a call of `llama_decode`."""
        self.num_steps += 1
        self.decode_s += seconds
