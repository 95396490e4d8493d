"""The prefix cache against a model of llama.cpp's memory that knows which cell holds what for whom."""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from localsmith.models.prefix_cache import PrefixCache

NUM_CELLS = 40
NUM_SEQS = 5
PROMPTS = st.lists(st.integers(0, 2), min_size=1, max_size=12)


class Cells:
    """Cells marked with the sequences that hold them, as llama.cpp's unified KV cache keeps them."""

    def __init__(self, *, can_share: bool = True) -> None:
        self.can_share = can_share
        self.cells: list[tuple[int, int, set[int]]] = []  # position, token, sequences

    def compute(self, seq_id: int, start: int, tokens: list[int]) -> None:
        self.cells += [(start + i, token, {seq_id}) for i, token in enumerate(tokens)]

    def share(self, source: int, target: int, start: int, end: int) -> None:
        for position, _, seqs in self.cells:
            if source in seqs and start <= position < end:
                seqs.add(target)

    def forget(self, seq_id: int, start: int, end: int = -1) -> None:
        for position, _, seqs in self.cells:
            if position >= start and (end < 0 or position < end):
                seqs.discard(seq_id)
        self.cells = [cell for cell in self.cells if cell[2]]

    def tokens(self, seq_id: int) -> list[int]:
        held = sorted((position, token) for position, token, seqs in self.cells if seq_id in seqs)
        assert [position for position, _ in held] == list(range(len(held))), "a position is missing or double"
        return [token for _, token in held]


def test_a_prompt_seen_before_is_shared_but_for_its_last_token() -> None:
    cells = Cells()
    cache = PrefixCache(cells, NUM_CELLS, NUM_SEQS)
    run(cache, cells, [1, 2, 3, 4])
    lease = cache.begin([1, 2, 3, 4])
    assert lease is not None
    assert lease.num_cached == 3
    assert cells.tokens(lease.seq_id) == [1, 2, 3]
    assert cache.cells_used == 4


def test_what_was_used_longest_ago_is_evicted_first() -> None:
    cells = Cells()
    cache = PrefixCache(cells, 200, NUM_SEQS)
    run(cache, cells, [1] * 3)
    run(cache, cells, [2] * 3)
    run(cache, cells, [1] * 3 + [3])
    assert cache.make_room(200 - cache.cells_used + 1)
    assert cache.longest_prefix([2] * 3) == 0
    assert cache.longest_prefix([1] * 3 + [3]) == 4


def test_running_requests_are_never_evicted() -> None:
    cells = Cells()
    cache = PrefixCache(cells, 10, NUM_SEQS)
    lease = cache.begin([1] * 8)
    assert lease is not None
    cells.compute(lease.seq_id, 0, [1] * 8)
    cache.extend(lease.seq_id, [1] * 8)
    assert not cache.make_room(3)
    assert cells.tokens(lease.seq_id) == [1] * 8


def test_the_more_run_the_fewer_cells_keep_what_nobody_uses() -> None:
    cells = Cells()
    cache = PrefixCache(cells, 1600, NUM_SEQS)
    run(cache, cells, [1] * 600)
    run(cache, cells, [2] * 600)
    for first in (3, 4):
        lease = cache.begin([first] * 100)
        assert lease is not None
        cache.bound_idle()
    assert cache.cells_used == 800  # half of the cache for two
    assert cache.longest_prefix([2] * 600) == 600
    assert cache.longest_prefix([1] * 600) == 200


def test_two_that_computed_the_same_hold_it_once() -> None:
    cells = Cells()
    cache = PrefixCache(cells, NUM_CELLS, NUM_SEQS)
    leases = [cache.begin([1, 2, 3]), cache.begin([1, 2, 3])]
    for lease in leases:
        assert lease is not None
        assert lease.num_cached == 0
        cells.compute(lease.seq_id, 0, [1, 2, 3])
        cache.extend(lease.seq_id, [1, 2, 3])
    assert len(cells.cells) == cache.cells_used == 3


def test_a_model_that_cannot_share_keeps_nothing() -> None:
    cells = Cells(can_share=False)
    cache = PrefixCache(cells, NUM_CELLS, NUM_SEQS)
    run(cache, cells, [1, 2, 3])
    lease = cache.begin([1, 2, 3])
    assert lease is not None
    assert lease.num_cached == 0
    assert cells.cells == []


def run(cache: PrefixCache, cells: Cells, prompt: list[int]) -> None:
    lease = cache.begin(prompt)
    assert lease is not None
    rest = prompt[lease.num_cached :]
    assert cache.make_room(len(rest))
    cells.compute(lease.seq_id, lease.num_cached, rest)
    cache.extend(lease.seq_id, rest)
    cache.end(lease.seq_id)


class CacheMachine(RuleBasedStateMachine):
    """Requests begin, compute and end in any order; the memory always holds what the cache says."""

    @initialize(can_share=st.sampled_from([True, True, False]))
    def make(self, can_share: bool) -> None:
        self.cells = Cells(can_share=can_share)
        self.cache = PrefixCache(self.cells, NUM_CELLS, NUM_SEQS, max_idle_cells=20)
        self.running: dict[int, list[int]] = {}

    @rule(prompt=PROMPTS)
    def begin(self, prompt: list[int]) -> None:
        expected = self.cache.longest_prefix(prompt)
        lease = self.cache.begin(prompt)
        if lease is None:
            assert len(self.running) == NUM_SEQS
            return
        assert lease.num_cached <= min(expected, len(prompt) - 1)
        assert self.cells.tokens(lease.seq_id) == prompt[: lease.num_cached]
        self.running[lease.seq_id] = prompt[: lease.num_cached]

    @precondition(lambda self: self.running)
    @rule(data=st.data(), tokens=st.lists(st.integers(0, 2), min_size=1, max_size=6))
    def extend(self, data: st.DataObject, tokens: list[int]) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.running)))
        if not self.cache.make_room(len(tokens)):
            return
        held = self.running[seq_id]
        self.cells.compute(seq_id, len(held), tokens)
        assert len(self.cells.cells) <= NUM_CELLS
        self.cache.extend(seq_id, tokens)
        self.running[seq_id] = held + tokens

    @precondition(lambda self: self.running)
    @rule(data=st.data(), is_kept=st.booleans())
    def end(self, data: st.DataObject, is_kept: bool) -> None:
        seq_id = data.draw(st.sampled_from(sorted(self.running)))
        tokens = self.running.pop(seq_id)
        used = self.cache.cells_used
        self.cache.end(seq_id, is_kept=is_kept)
        assert self.cache.cells_used - self.cache.cells_running <= 20
        if is_kept and self.cells.can_share and used <= 20:
            assert self.cache.longest_prefix(tokens) == len(tokens)

    @rule()
    def bound_idle(self) -> None:
        self.cache.bound_idle()
        assert self.cache.cells_used - self.cache.cells_running <= min(
            20, NUM_CELLS // max(1, len(self.running))
        )

    @rule()
    def evict_all(self) -> None:
        self.cache.evict_all()

    @invariant()
    def the_memory_holds_what_the_cache_says(self) -> None:
        if not hasattr(self, "cells"):
            return
        for seq_id, tokens in self.running.items():
            assert self.cells.tokens(seq_id) == tokens
        assert len(self.cells.cells) == self.cache.cells_used <= NUM_CELLS
        held = {seq_id for _, _, seqs in self.cells.cells for seq_id in seqs}
        assert held <= set(self.cache._tree.ends)
        if not self.cells.can_share:
            return
        for node in self.cache._tree.nodes():
            assert node.tokens
            for seq_id in node.seqs:
                assert self.cells.tokens(seq_id)[node.start : node.end] == node.tokens


TestCacheMachine = CacheMachine.TestCase
TestCacheMachine.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
