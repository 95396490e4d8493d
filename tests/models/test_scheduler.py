"""Who is let in, who gives way, and what goes into a step; no model behind it."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import Overloaded
from localsmith.core.types import Priority, SamplingParams
from localsmith.models.generation import EngineGeneration
from localsmith.models.pacing import MIN_TOKENS, PrefillPacer
from localsmith.models.prefix_cache import PrefixCache
from localsmith.models.request import Request
from localsmith.models.scheduler import Scheduler
from localsmith.models.waiting import WaitingQueue

N_BATCH = 64


class NoMemory:
    """KV memory that nobody looks into."""

    can_share = True

    def share(self, source: int, target: int, start: int, end: int) -> None:
        pass

    def forget(self, seq_id: int, start: int, end: int = -1) -> None:
        pass


class House:
    """A scheduler and its parts."""

    def __init__(self, *, num_cells: int = 1000, max_running: int = 4, max_waiting: int = 50) -> None:
        self.waiting = WaitingQueue(max_waiting)
        self.cache = PrefixCache(NoMemory(), num_cells, max_running + 8)
        self.scheduler = Scheduler(
            self.cache,
            self.waiting,
            num_cells=num_cells,
            n_batch=N_BATCH,
            max_running=max_running,
            draft_tokens=0,
        )

    def push(
        self,
        prompt: list[int],
        *,
        user: str = "",
        priority: Priority = "interactive",
        max_tokens: int = 10,
    ) -> Request:
        generation = EngineGeneration(
            prompt,
            SamplingParams(max_tokens=max_tokens),
            deadline_s=None,
            cancel=None,
            priority=priority,
            user=user,
            on_cancel=lambda _: None,
        )
        request = Request(generation)
        self.waiting.push(request)
        return request

    def step(self) -> int:
        """Compute a plan; a token is sampled for all that have read their prompt."""
        works = self.scheduler.plan()
        for work in works:
            self.cache.extend(work.request.seq_id, work.tokens)
            work.request.num_held += len(work.tokens)
            if work.wants_logits:
                work.request.tokens.append(10_000 + work.request.num_completed)
                work.request.num_completed += 1
        return sum(len(work.tokens) for work in works)


def numbers(start: int, num: int) -> list[int]:
    return list(range(start, start + num))


def test_people_go_before_batch_work_and_keep_their_order() -> None:
    house = House(max_running=1)
    batch = house.push([1, 2], priority="batch")
    first = house.push([3, 4])
    second = house.push([5, 6])
    assert list(house.waiting.in_order({})) == [first, second, batch]


def test_a_user_served_less_goes_first() -> None:
    house = House()
    greedy = house.push([1], user="a")
    modest = house.push([2], user="b")
    house.waiting.charge("a", 5.0)
    assert list(house.waiting.in_order({})) == [modest, greedy]


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=30))
def test_users_take_turns(users: list[str]) -> None:
    house = House()
    for i, user in enumerate(users):
        house.push([i], user=user)
    order = [request.user for request in house.waiting.in_order({})]
    assert sorted(order) == sorted(users)
    for n in range(1, len(order) + 1):
        taken = {user: order[:n].count(user) for user in set(users)}
        for user, num in taken.items():
            # Nobody is more than one turn behind another, unless all of theirs have had a turn.
            assert num == users.count(user) or num >= max(taken.values()) - 1


def test_a_full_queue_refuses() -> None:
    house = House(max_waiting=2)
    house.push([1])
    house.push([2])
    with pytest.raises(Overloaded):
        house.push([3])


def test_a_batch_request_is_put_back_for_a_person() -> None:
    house = House(max_running=1)
    batch = house.push(numbers(0, 10), priority="batch")
    house.scheduler.admit()
    house.step()
    person = house.push(numbers(100, 10))
    house.scheduler.admit()
    assert house.scheduler.running == [person]
    assert list(house.waiting.in_order({})) == [batch]
    house.scheduler.leave(person)
    house.scheduler.admit()
    assert house.scheduler.running == [batch]
    assert batch.num_held >= 10  # what it had computed was still there


def test_who_shares_a_prefix_waits_until_it_is_read() -> None:
    house = House()
    prefix = numbers(0, 100)
    first = house.push([*prefix, 500])
    second = house.push([*prefix, 600])
    other = house.push(numbers(1000, 5))
    house.scheduler.admit()
    assert house.scheduler.running == [first, other]
    while first.num_completed == 0:
        house.step()
    assert house.scheduler.admit() == [second]
    assert second.num_held == 100


def test_beside_a_stream_short_prompts_are_read_in_larger_pieces_than_long_ones() -> None:
    house = House(num_cells=5000)
    stream = house.push(numbers(0, 4))
    house.scheduler.admit()
    house.step()
    house.scheduler.pacer.observe(1, 0, 0.05)
    long = house.push(numbers(1000, 900))
    house.scheduler.admit()
    assert 0 < sum(len(work.tokens) for work in house.scheduler.plan() if work.request is long) <= 16
    short = house.push(numbers(3000, 300))
    house.scheduler.admit()
    works = {work.request: len(work.tokens) for work in house.scheduler.plan()}
    assert works[stream] == 1
    assert 1 <= works[long] <= 8
    assert works[short] == N_BATCH - 1 - works[long]


def test_no_more_is_let_in_than_there_are_cells_for() -> None:
    house = House(num_cells=100)
    first = house.push(numbers(0, 40), max_tokens=30)
    house.push(numbers(200, 40), max_tokens=30)
    assert house.scheduler.admit() == [first]
    assert house.scheduler.admit() == []


@given(
    st.lists(st.tuples(st.integers(1, 150), st.booleans()), min_size=1, max_size=8),
    st.integers(1, 8),
)
def test_every_prompt_is_read_and_no_step_is_over_the_batch(
    prompts: list[tuple[int, bool]], max_running: int
) -> None:
    house = House(num_cells=5000, max_running=max_running)
    requests = [
        house.push(numbers(1000 * i, length), priority="batch" if is_batch else "interactive")
        for i, (length, is_batch) in enumerate(prompts)
    ]
    for _ in range(2000):
        house.scheduler.admit()
        assert house.step() <= N_BATCH
        for request in list(house.scheduler.running):
            if request.num_completed >= 3:
                house.scheduler.leave(request)
        if all(request.num_completed >= 3 for request in requests):
            return
    raise AssertionError("a request was never served")


def test_reading_takes_about_as_long_as_a_decode_step() -> None:
    def seconds(num_decoding: int, num_reading: int) -> float:
        return 0.050 + 0.004 * num_reading + (0.01 if num_decoding > 1 else 0)

    pacer = PrefillPacer(n_batch=256)
    assert pacer.num_tokens(0) == 256
    for _ in range(10):
        pacer.observe(1, 0, seconds(1, 0))
    for load in (1.0, 3.0, 1.0):  # what else runs makes every step longer; the ratio is what counts
        for _ in range(60):
            num = pacer.num_tokens(1)
            pacer.observe(1, num, load * seconds(1, num))
        pacer.observe(1, 0, load * seconds(1, 0))
        assert 9 <= pacer.num_tokens(1) <= 12  # 0.85 of 50 ms, at 4 ms a token


@given(st.lists(st.tuples(st.integers(0, 8), st.integers(0, 256), st.floats(1e-6, 100)), max_size=50))
def test_the_pace_stays_within_its_bounds_whatever_the_clock_says(
    steps: list[tuple[int, int, float]],
) -> None:
    pacer = PrefillPacer(n_batch=256)
    for num_decoding, num_reading, seconds in steps:
        pacer.observe(num_decoding, num_reading, seconds)
        assert pacer.num_tokens(4) == 0 or MIN_TOKENS <= pacer.num_tokens(4) <= 252


def test_decoding_is_looked_at_now_and_then_while_prompts_are_read() -> None:
    pacer = PrefillPacer(n_batch=256)
    pacer.observe(2, 0, 0.05)
    looks = 0
    for _ in range(100):
        num = pacer.num_tokens(2)
        looks += num == 0
        pacer.observe(2, num, 0.05 + 0.001 * num)
    assert 5 <= looks <= 10


def test_a_near_deadline_makes_the_pieces_small() -> None:
    pacer = PrefillPacer(n_batch=256)
    for _ in range(5):
        pacer.observe(0, 256, 1.024)
    assert pacer.num_tokens(0, seconds=0.1) == pytest.approx(25, abs=2)
    assert pacer.num_tokens(0, seconds=-1.0) == MIN_TOKENS
