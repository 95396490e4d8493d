"""The KV cache's sequences and cells: who uses them, what prefixes they hold, what makes room.

Place in the data's way: the engine begins a request here and learns how much of its prompt is computed
already; it reports what it computes; at the end the sequence stays as a cached prefix until its cells are
needed. What never changes in a prompt therefore stands first.

Example:
    lease = cache.begin(prompt)                       # lease.num_cached tokens need not be computed
    cache.extend(lease.seq_id, prompt[lease.num_cached :])
    cache.end(lease.seq_id)                           # stays as a cached prefix
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from .radix_tree import Match, Node, RadixTree

# Cutting a prefix's end a few cells at a time would make every new token cost an eviction.
_EVICTION_CELLS = 64


class CellMemory(Protocol):
    """llama.cpp's KV memory: cells marked with the sequences that hold them."""

    @property
    def can_share(self) -> bool:
        """Whether sequences can share cells and be cut at any position."""
        ...

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Mark the cells of `source` at positions `start` to `end` (exclusive) as held by `target` too."""
        ...

    def forget(self, seq_id: int, start: int, end: int = -1) -> None:
        """Take a sequence's mark from its cells at `start` to `end` (exclusive; -1 for all behind)."""
        ...


@dataclass(frozen=True, slots=True)
class Lease:
    """A sequence to use for a prompt.

    Attributes:
        seq_id: The sequence.
        num_cached: Leading prompt tokens whose KV cells it holds.
    """

    seq_id: int
    num_cached: int


class PrefixCache:
    """Radix tree over the KV cache, with eviction of what was used longest ago.

    Only the engine's thread changes it; `longest_prefix` and the counts may be asked from any thread.

    Args:
        memory: Where the cells are.
        num_cells: Cells of the KV cache.
        num_seqs: Sequences of the KV cache.
        max_idle_cells: Most cells that hold only what no running request uses; None for no bound.
    """

    def __init__(
        self, memory: CellMemory, num_cells: int, num_seqs: int, max_idle_cells: int | None = None
    ) -> None:
        self._max_idle_cells = num_cells if max_idle_cells is None else max_idle_cells
        self._memory = memory
        self._num_cells = num_cells
        self._tree = RadixTree()
        self._free_seqs = list(range(num_seqs - 1, -1, -1))
        self._running: set[int] = set()
        self._cells_used = 0
        self._lock = threading.Lock()

    @property
    def cells_used(self) -> int:
        """Cells held by running requests and cached prefixes."""
        return self._cells_used

    @property
    def sequences_used(self) -> int:
        """Sequences that run or hold a cached prefix."""
        return len(self._tree.ends)

    @property
    def cells_running(self) -> int:
        """Cells that running requests hold, shared ones counted once."""
        return sum(len(node.tokens) for node in self._tree.nodes() if node.seqs & self._running)

    def longest_prefix(self, prompt: Sequence[int]) -> int:
        """Return how many leading tokens of `prompt` need not be computed."""
        with self._lock:
            return self._tree.match(prompt).num_tokens

    def begin(self, prompt: Sequence[int]) -> Lease | None:
        """Take a sequence for a prompt and share what is held of it; at least one token is left to compute.

        Args:
            prompt: The tokens, not empty.

        Returns:
            The lease; None where every sequence runs.
        """
        with self._lock:
            match = self._match(prompt)
            if not self._free_seqs:
                if not self._free_a_sequence(pinned={match.seq_id}) and not self._free_a_sequence(set()):
                    return None
                match = self._match(prompt)
            seq_id = self._free_seqs.pop()
            self._running.add(seq_id)
            self._tree.start(seq_id)
            if match.num_tokens:
                self._memory.share(match.seq_id, seq_id, 0, match.num_tokens)
                self._tree.follow(seq_id, prompt[: match.num_tokens])
                self._tree.touch(seq_id, is_hit=True)
            return Lease(seq_id, match.num_tokens)

    def extend(self, seq_id: int, tokens: Sequence[int]) -> None:
        """Note tokens that were computed behind a sequence's end.

        Where another sequence holds the same tokens in the same place, their cells replace the new ones.
        """
        with self._lock:
            start = self._tree.ends[seq_id].end
            if not self._memory.can_share:
                tokens = [-1 - seq_id] * len(tokens)  # equal to no other sequence's
            num_held = self._tree.follow(seq_id, tokens)
            if num_held:
                source = next(other for other in self._tree.ends[seq_id].seqs if other != seq_id)
                self._memory.forget(seq_id, start, start + num_held)
                self._memory.share(source, seq_id, start, start + num_held)
                self._tree.merge(seq_id)
            if num_held < len(tokens):
                self._tree.append(seq_id, tokens[num_held:])
                self._cells_used += len(tokens) - num_held

    def end(self, seq_id: int, *, is_kept: bool = True) -> None:
        """Note that a sequence runs no longer; it stays as a cached prefix unless `is_kept` is False."""
        with self._lock:
            self._running.discard(seq_id)
            if not is_kept or not self._memory.can_share or self._tree.is_redundant(seq_id):
                self._drop(seq_id)
            else:
                self._tree.touch(seq_id)
            self._bound_idle()

    def bound_idle(self) -> None:
        """Evict what no running request uses down to its share: with r of them, an r-th of the cache.

        Every row of a step passes over every cell in use, so what idle cells cost grows with those that run.
        """
        with self._lock:
            self._bound_idle()

    def make_room(self, num_cells: int) -> bool:
        """Evict cached prefixes until `num_cells` cells are free; False where too many are in use."""
        with self._lock:
            while self._num_cells - self._cells_used < num_cells:
                leaf = self._oldest_leaf(set())
                if leaf is None:
                    return False
                missing = num_cells - (self._num_cells - self._cells_used)
                self._cut(leaf, max(missing, _EVICTION_CELLS))
            return True

    def evict_all(self) -> bool:
        """Evict every cached prefix; False where there was none."""
        with self._lock:
            cached = [seq_id for seq_id in self._tree.ends if seq_id not in self._running]
            for seq_id in cached:
                self._drop(seq_id)
            return bool(cached)

    def hottest(self, min_tokens: int) -> list[list[int]]:
        """Return the tokens of the prefixes that new prompts found, most often found first."""
        with self._lock:
            nodes = [node for node in self._tree.nodes() if node.num_hits and node.end >= min_tokens]
            nodes.sort(key=lambda node: (node.num_hits, node.end), reverse=True)
            return [self._tree.tokens(next(iter(node.seqs)))[: node.end] for node in nodes]

    # -- within the lock

    def _bound_idle(self) -> None:
        most = min(self._max_idle_cells, self._num_cells // max(1, len(self._running)))
        while (excess := self._cells_used - self.cells_running - most) > 0:
            leaf = self._oldest_leaf(set())
            if leaf is None:
                break
            self._cut(leaf, max(excess, _EVICTION_CELLS))

    def _match(self, prompt: Sequence[int]) -> Match:
        if not self._memory.can_share:
            return Match(0, -1)
        # The last token must be computed again, for its logits are not kept.
        return self._tree.match(prompt[: len(prompt) - 1])

    def _oldest_leaf(self, pinned: set[int]) -> Node | None:
        kept = self._running | pinned
        leaves = (node for node in self._tree.nodes() if not node.children and not node.seqs & kept)
        return min(leaves, key=lambda node: node.used_at, default=None)

    def _cut(self, leaf: Node, num_cells: int) -> None:
        """Take cells from the end of a cached prefix; the whole sequence where nothing of its own is left."""
        *others, seq_id = leaf.seqs
        for other in others:
            self._drop(other)
        num = min(num_cells, len(leaf.tokens))
        self._memory.forget(seq_id, leaf.end - num)
        self._tree.cut(seq_id, num)
        self._cells_used -= num
        if self._tree.is_redundant(seq_id):
            self._drop(seq_id)

    def _free_a_sequence(self, pinned: set[int]) -> bool:
        idle = (seq_id for seq_id in self._tree.ends if seq_id not in self._running | pinned)
        seq_id = next((seq_id for seq_id in idle if self._tree.is_redundant(seq_id)), None)
        if seq_id is None:
            leaf = self._oldest_leaf(pinned)
            if leaf is None:
                return False
            seq_id = next(iter(leaf.seqs))
        self._drop(seq_id)
        return True

    def _drop(self, seq_id: int) -> None:
        self._cells_used -= sum(len(node.tokens) for node in self._tree.path(seq_id) if len(node.seqs) == 1)
        self._tree.drop(seq_id)
        self._memory.forget(seq_id, 0)
        self._free_seqs.append(seq_id)
