"""How many prompt tokens go into a step, so that reading a prompt never stalls the answers being written.

Place in the data's way: the engine asks before each step and reports how long the step took.

Example:
    >>> pacer = PrefillPacer(n_batch=256)
    >>> pacer.num_tokens(num_decoding=0)
    256
"""

from __future__ import annotations

MIN_TOKENS = 4
# Reading may add this share of a decode step's time to it: with 1 the time between two tokens doubles.
EXTRA_SHARE = 0.9
_FIRST_TOKENS = 16
_OLD_SHARE = 0.7  # of a moving average


class PrefillPacer:
    """Learns from the steps' times how many prompt tokens take as long as a decode step.

    Args:
        n_batch: Most tokens in a step.
    """

    def __init__(self, n_batch: int) -> None:
        self._n_batch = n_batch
        self._decode_s: dict[int, float] = {}
        self._paced = float(_FIRST_TOKENS)
        self._token_s = 0.0  # seconds a prompt token takes in a step of its own

    def num_tokens(self, num_decoding: int, seconds: float | None = None) -> int:
        """Return how many prompt tokens to compute in the next step.

        Args:
            num_decoding: Requests that are waiting for their next token in this step.
            seconds: Time until the nearest deadline among those that read; None for none.
        """
        most = self._n_batch - num_decoding
        if seconds is not None and self._token_s > 0:
            most = min(most, max(MIN_TOKENS, int(seconds / self._token_s)))
        if num_decoding == 0:
            return most
        return max(min(MIN_TOKENS, most), min(most, int(self._paced)))

    def observe(self, num_decoding: int, num_reading: int, seconds: float) -> None:
        """Learn from a step.

        Args:
            num_decoding: Rows of requests that were writing.
            num_reading: Rows of prompts.
            seconds: How long `llama_decode` took.
        """
        if num_reading == 0:
            before = self._decode_s.get(num_decoding, seconds)
            # A step that something else on the machine slowed down counts less than one at full speed.
            share = _OLD_SHARE if seconds > before else 0.3
            self._decode_s[num_decoding] = share * before + (1 - share) * seconds
            return
        if num_decoding == 0:
            if num_reading >= MIN_TOKENS:
                token_s = seconds / num_reading
                self._token_s = token_s if not self._token_s else 0.5 * (self._token_s + token_s)
            return
        usual = self._usual_s(num_decoding)
        if usual is None:
            return
        extra = max(seconds - usual, 0.02 * usual)
        wanted = num_reading * EXTRA_SHARE * usual / extra
        # Halving at once and growing slowly keeps the time between two tokens bounded on a noisy machine.
        bounded = min(max(wanted, self._paced / 2), self._paced * 1.25)
        self._paced = min(max(bounded, MIN_TOKENS), self._n_batch)

    def _usual_s(self, num_decoding: int) -> float | None:
        if not self._decode_s:
            return None
        nearest = min(self._decode_s, key=lambda rows: abs(rows - num_decoding))
        return self._decode_s[nearest]
