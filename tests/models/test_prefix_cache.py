"""Sequences are shared by prefix, and never claim cells they do not hold."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from localsmith.models.prefix_cache import MIN_SHARED_TOKENS, PrefixCache

PROMPTS = st.lists(
    st.builds(
        lambda prefix, rest: [prefix] * (MIN_SHARED_TOKENS + 2) + rest,
        st.integers(0, 4),
        st.lists(st.integers(0, 2), min_size=1, max_size=12),
    ),
    min_size=1,
    max_size=25,
)


@given(PROMPTS, st.integers(1, 4))
def test_what_a_lease_calls_cached_is_held_by_that_sequence(prompts: list[list[int]], n_seq: int) -> None:
    cache = PrefixCache(n_seq)
    held: dict[int, list[int]] = {}
    for prompt in prompts:
        lease = cache.lease(prompt)
        assert lease.num_cached < len(prompt)
        assert held.get(lease.seq_id, [])[: lease.num_cached] == prompt[: lease.num_cached]
        cache.store(lease.seq_id, prompt)
        held[lease.seq_id] = prompt
        assert cache.longest_prefix(prompt) == len(prompt)


def test_a_second_conversation_does_not_push_out_the_first() -> None:
    cache = PrefixCache(2)
    first, second = [1] * 50, [2] * 50
    cache.store(cache.lease(first).seq_id, first)
    cache.store(cache.lease(second).seq_id, second)
    assert cache.lease(first).num_cached == 49
    assert cache.lease(second).num_cached == 49


def test_the_least_recently_used_is_given_up_first_and_the_running_one_never() -> None:
    cache = PrefixCache(3)
    for value in (1, 2, 3):
        cache.store(cache.lease([value] * 50).seq_id, [value] * 50)
    running = cache.lease([1] * 50).seq_id
    cache.store(running, [1] * 50)
    given_up = [cache.evict(keep=running) for _ in range(3)]
    assert given_up[2] is None
    assert running not in given_up
    assert cache.longest_prefix([1] * 50) == 50
    assert cache.longest_prefix([2] * 50) == 0
