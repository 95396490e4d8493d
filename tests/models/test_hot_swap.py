"""One serving model takes over from another on the real small model: nothing is cut, nothing is refused."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from localsmith.core.contracts import Generation
from localsmith.core.errors import ModelLoadError, ModelNotReadyError
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Delta, Message, SamplingParams
from localsmith.models.engine import Engine
from localsmith.models.hot_swap import HotSwap, Load, held

pytestmark = pytest.mark.real_model

STORY = [Message("user", "Tell a story about a fox and a bear.")]
SHORT = SamplingParams(max_tokens=4)
LONG = SamplingParams(max_tokens=60)
WAIT_S = 60


class Models:
    """Loads the small model under any name and remembers what it loaded."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.loaded: list[Engine] = []

    def load(self, name: str) -> Load:
        def load(on_share: Callable[[float], None]) -> Engine:
            engine = Engine(
                self.path, name=name, settings=ModelSettings(n_ctx=512, n_batch=64), on_progress=on_share
            )
            self.loaded.append(engine)
            return engine

        return load

    def broken(self, on_share: Callable[[float], None]) -> Engine:
        raise ModelLoadError("broken", hint="mend it")


@pytest.fixture
def models(small_model_path: Path) -> Models:
    return Models(small_model_path)


@pytest.fixture
def swap(models: Models) -> Iterator[HotSwap]:
    load = models.load("old")
    swap = HotSwap(load(lambda share: None), load)
    yield swap
    swap.close()
    for engine in models.loaded:
        assert is_closed(engine), f"{engine.name} was left open"


def is_closed(engine: Engine) -> bool:
    return not engine._thread.is_alive() and engine._runtime._closed


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def text_of(generation: Generation) -> str:
    return "".join(event.text for event in generation if isinstance(event, Delta))


def begun(generation: Generation) -> tuple[str, Iterator[object]]:
    """Read the first piece; returns it and the rest."""
    events = iter(generation)
    text = next(event.text for event in events if isinstance(event, Delta))
    return text, events


def rest_of(events: Iterator[object]) -> str:
    return "".join(event.text for event in events if isinstance(event, Delta))


def in_thread(call: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=call)
    thread.start()
    return thread


def test_an_answer_that_began_before_ends_whole_on_the_old_model_and_the_next_is_the_new_ones(
    swap: HotSwap, models: Models
) -> None:
    generation = swap.submit(STORY, LONG)
    first, events = begun(generation)
    swap.swap("new", models.load("new"), has_room=lambda: True)
    old, new = models.loaded
    assert swap.name == "new" and generation.finish_reason is None, "the old one still writes"
    assert text_of(swap.submit(STORY, SHORT))
    assert dict(new.stats().finished)["length"] == 1
    assert first and rest_of(events)
    assert (generation.finish_reason, generation.usage.completion_tokens) == ("length", LONG.max_tokens)
    wait_until(lambda: is_closed(old))
    with pytest.raises(ModelNotReadyError):
        old.submit(STORY, SHORT)


def test_who_holds_the_old_model_gets_all_answers_from_it(swap: HotSwap, models: Models) -> None:
    with held(swap) as model:
        swap.swap("new", models.load("new"), has_room=lambda: True)
        assert (model.name, swap.name) == ("old", "new")
        assert text_of(model.submit(STORY, SHORT)) and text_of(model.submit(STORY, SHORT))
        assert swap.count_prompt(STORY) == model.count_prompt(STORY)
        with held(swap) as other:
            assert other.name == "new"
        assert not is_closed(models.loaded[0])
    wait_until(lambda: is_closed(models.loaded[0]))


def test_without_room_questions_wait_for_the_new_model_and_none_fails(swap: HotSwap, models: Models) -> None:
    generation = swap.submit(STORY, LONG)
    first, events = begun(generation)
    old, may_load, texts = models.loaded[0], threading.Event(), []

    def load(on_share: Callable[[float], None]) -> Engine:
        assert is_closed(old), "the old one makes room first"
        assert may_load.wait(WAIT_S)
        return models.load("new")(on_share)  # type: ignore[return-value]

    swapping = in_thread(lambda: swap.swap("new", load, has_room=lambda: False))
    wait_until(lambda: swap.state.stage == "between")
    assert swap.state.detail
    assert first and rest_of(events)
    assert (generation.finish_reason, generation.usage.completion_tokens) == ("length", LONG.max_tokens)
    wait_until(lambda: is_closed(old))
    asking = [in_thread(lambda: texts.append(text_of(swap.submit(STORY, SHORT)))) for _ in range(3)]
    assert swap.name == "old" and swap.n_ctx == 512 and swap.stats().num_running == 0
    time.sleep(0.1)
    assert not texts
    may_load.set()
    for thread in [swapping, *asking]:
        thread.join(WAIT_S)
    assert swap.name == "new" and swap.state.stage == "serving"
    assert len(set(texts)) == 1 and len(texts) == 3
    assert dict(models.loaded[1].stats().finished)["length"] == 3


def test_a_held_model_can_be_asked_through_the_swap_while_room_is_made(swap: HotSwap, models: Models) -> None:
    with held(swap) as model:
        swapping = in_thread(lambda: swap.swap("new", models.load("new"), has_room=lambda: False))
        wait_until(lambda: swap.state.stage == "between")
        assert text_of(swap.submit(STORY, SHORT)) == text_of(model.submit(STORY, SHORT))
        assert not is_closed(models.loaded[0])
    swapping.join(WAIT_S)
    assert swap.name == "new"


def test_a_lease_that_nobody_gives_back_does_not_hold_up_everyone_for_ever(models: Models) -> None:
    load = models.load("old")
    swap = HotSwap(load(lambda share: None), load, patience_s=0.2)
    with held(swap) as forgotten:
        swap.swap("new", models.load("new"), has_room=lambda: False)
        assert swap.name == "new" and text_of(swap.submit(STORY, SHORT))
        with pytest.raises(ModelNotReadyError):
            forgotten.submit(STORY, SHORT)
    swap.close()


def test_room_that_comes_when_an_earlier_model_is_gone_is_used(swap: HotSwap, models: Models) -> None:
    first = models.loaded[0]
    generation = swap.submit(STORY, LONG)
    _, events = begun(generation)
    swap.swap("second", models.load("second"), has_room=lambda: True)
    swapping = in_thread(lambda: swap.swap("third", models.load("third"), has_room=lambda: is_closed(first)))
    rest_of(events)
    swapping.join(WAIT_S)
    assert generation.finish_reason == "length" and swap.name == "third"


@pytest.mark.parametrize("has_room", [True, False])
def test_a_model_that_does_not_load_leaves_the_old_one_serving(
    swap: HotSwap, models: Models, has_room: bool
) -> None:
    with pytest.raises(ModelLoadError, match="broken"):
        swap.swap("new", models.broken, has_room=lambda: has_room)
    assert swap.name == "old" and swap.state.stage == "serving"
    assert text_of(swap.submit(STORY, SHORT))
    assert len(models.loaded) == (1 if has_room else 2)


def test_a_bug_while_loading_is_an_error_and_leaves_the_old_one_serving(swap: HotSwap) -> None:
    def load(on_share: Callable[[float], None]) -> Engine:
        raise KeyError("bug")

    with pytest.raises(ModelLoadError, match="bug"):
        swap.swap("new", load, has_room=lambda: True)
    assert swap.state.stage == "serving" and text_of(swap.submit(STORY, SHORT))


def test_where_nothing_loads_questions_fail_until_something_does(models: Models) -> None:
    swap = HotSwap(models.load("old")(lambda share: None), models.broken)
    with pytest.raises(ModelLoadError):
        swap.swap("new", models.broken, has_room=lambda: False)
    assert swap.state.stage == "failed" and isinstance(swap.state.error, ModelLoadError)
    with pytest.raises(ModelLoadError, match="broken"):
        swap.submit(STORY, SHORT)
    swap.swap("new", models.load("new"), has_room=lambda: False)
    assert swap.state.stage == "serving" and text_of(swap.submit(STORY, SHORT))
    swap.close()
    swap.close()
    with pytest.raises(ModelNotReadyError):
        swap.submit(STORY, SHORT)


def test_closing_in_the_middle_of_a_replacement_frees_everything(swap: HotSwap, models: Models) -> None:
    generation = swap.submit(STORY, SamplingParams(max_tokens=400))
    _, events = begun(generation)
    swapping = in_thread(lambda: swap.swap("new", models.load("new"), has_room=lambda: False))
    wait_until(lambda: swap.state.stage == "between")
    swap.close()
    swapping.join(WAIT_S)
    assert not swapping.is_alive()
    rest_of(events)
    assert generation.finish_reason == "cancelled"  # and the fixture finds every engine closed


def test_draining_ends_what_waits_and_refuses_what_comes(models: Models) -> None:
    engine = models.load("old")(lambda share: None)
    running = [
        engine.submit(STORY, SamplingParams(max_tokens=20)) for _ in range(12)
    ]  # more than fit at once
    draining = in_thread(engine.drain)
    wait_until(lambda: engine._is_draining)  # type: ignore[attr-defined]
    with pytest.raises(ModelNotReadyError):
        engine.submit(STORY, SHORT)
    assert all(text_of(generation) for generation in running)
    assert {generation.finish_reason for generation in running} == {"length"}
    draining.join(WAIT_S)
    assert is_closed(models.loaded[0])
