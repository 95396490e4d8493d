"""How many prompt tokens go into a step, so that reading a prompt never stalls the answers being written.

Place in the data's way: the scheduler asks before each step; the engine reports how long the step took.

Example:
    >>> pacer = PrefillPacer(n_batch=256)
    >>> pacer.num_tokens(num_decoding=0)
    256
"""

from __future__ import annotations

from collections import deque
from statistics import median

MIN_TOKENS = 4
# Reading may add this share of a decode step's time to it: with 1 the time between two tokens doubles.
EXTRA_SHARE = 0.85
# Every so many steps nothing is read, to learn anew what a decode step takes: other programs come and go, and
# what matters is the ratio of two times measured under the same load.
STEPS_BETWEEN_LOOKS = 12
_FIRST_TOKENS = 12
_MAX_GROWTH = 1.5
_NUM_KEPT = 7


class PrefillPacer:
    """Learns from the steps' times how many prompt tokens take as long as a decode step.

    Args:
        n_batch: Most tokens in a step.
    """

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._decode_s: dict[int, deque[float]] = {}
        self._paced = float(_FIRST_TOKENS)
        self._extra_s: deque[float] = deque(maxlen=_NUM_KEPT)  # a prompt token beside decoding
        self._token_s = 0.0  # a prompt token in a step of its own
        self._steps_since_look = 0

    def num_tokens(self, num_decoding: int, seconds: float | None = None) -> int:
        """Return how many prompt tokens to compute in the next step; 0 to look what decoding alone takes.

        Args:
            num_decoding: Rows of requests that are waiting for their next token in this step.
            seconds: Time until the nearest deadline among those that read; None for none.
        """
        most = self._n_batch - num_decoding
        if seconds is not None and self._token_s > 0:
            most = min(most, max(MIN_TOKENS, int(seconds / self._token_s)))
        if num_decoding == 0:
            return most
        if self._steps_since_look >= STEPS_BETWEEN_LOOKS:
            return 0
        return max(min(MIN_TOKENS, most), min(most, int(self._paced)))

    def observe(self, num_decoding: int, num_reading: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            num_decoding: Rows of requests that were writing.
            num_reading: Rows of prompts.
            seconds: How long `llama_decode` took.
        """
        if num_reading == 0:
            self._decode_s.setdefault(num_decoding, deque(maxlen=_NUM_KEPT)).append(seconds)
            self._steps_since_look = 0
        elif num_decoding == 0:
            if num_reading >= MIN_TOKENS:
                token_s = seconds / num_reading
                self._token_s = token_s if not self._token_s else 0.5 * (self._token_s + token_s)
        else:
            self._steps_since_look += 1
            self._learn_pace(num_decoding, num_reading, seconds)

    def _learn_pace(self, num_decoding: int, num_reading: int, seconds: float) -> None:
        if not self._decode_s:
            return
        nearest = min(self._decode_s, key=lambda rows: abs(rows - num_decoding))
        usual_s = median(self._decode_s[nearest])
        self._extra_s.append(max(seconds - usual_s, 0.01 * usual_s) / num_reading)
        wanted = EXTRA_SHARE * usual_s / median(self._extra_s)
        self._paced = min(max(wanted, MIN_TOKENS), self._paced * _MAX_GROWTH, self._n_batch)
