"""Which prompt prefix lies in which sequence of the KV cache.

Place in the data's way: the engine asks for the sequence that shares the longest prefix with a new prompt, so
that only the rest is computed. What never changes in a prompt therefore stands first.

Example:
    >>> cache = PrefixCache(n_seq=2)
    >>> lease = cache.lease([1, 2, 3]); lease.num_cached
    0
    >>> cache.store(lease.seq_id, [1, 2, 3]); cache.lease([1, 2, 9]).num_cached
    2
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

# A shorter common prefix is chance (template markup) and not worth overwriting another conversation's cache.
MIN_SHARED_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Lease:
    """A sequence to use for a prompt.

    Attributes:
        seq_id: The sequence.
        num_cached: Leading prompt tokens whose KV cells it holds; cells behind them must be dropped.
    """

    seq_id: int
    num_cached: int


class PrefixCache:
    """Least-recently-used book-keeping over a fixed number of sequences.

    Only the engine's thread changes it; other threads may call `longest_prefix`, which reads snapshots.

    Args:
        n_seq: Sequences of the KV cache.
    """

    def __init__(self, n_seq: int) -> None:
        self._tokens: list[tuple[int, ...]] = [()] * n_seq
        self._used_at = [0] * n_seq
        self._clock = 0

    def longest_prefix(self, prompt: Sequence[int]) -> int:
        """Return how many leading tokens of `prompt` some sequence holds."""
        return max(shared_prefix(tokens, prompt) for tokens in tuple(self._tokens))

    def lease(self, prompt: Sequence[int]) -> Lease:
        """Choose the sequence for a prompt; at least one token is always left to compute.

        Args:
            prompt: Tokens of the rendered prompt, not empty.
        """
        shared = [shared_prefix(tokens, prompt) for tokens in self._tokens]
        best = max(range(len(shared)), key=lambda i: (shared[i], self._used_at[i]))
        if shared[best] < MIN_SHARED_TOKENS:
            best = self._least_recent()
        # The last token must be decoded again, for its logits are not kept.
        return Lease(best, min(shared[best], len(prompt) - 1))

    def store(self, seq_id: int, tokens: Sequence[int]) -> None:
        """Note what a sequence holds now."""
        self._clock += 1
        self._tokens[seq_id] = tuple(tokens)
        self._used_at[seq_id] = self._clock

    def evict(self, keep: int) -> int | None:
        """Give up the least recently used sequence other than `keep`; None where all others are empty."""
        filled = [i for i, tokens in enumerate(self._tokens) if tokens and i != keep]
        if not filled:
            return None
        oldest = min(filled, key=lambda i: self._used_at[i])
        self._tokens[oldest] = ()
        return oldest

    def _least_recent(self) -> int:
        return min(range(len(self._tokens)), key=lambda i: (bool(self._tokens[i]), self._used_at[i]))


def shared_prefix(left: Sequence[object], right: Sequence[object]) -> int:
    """Return how many leading items two sequences share."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count
