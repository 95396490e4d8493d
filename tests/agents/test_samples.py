from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from localsmith.agents.reasoning.samples import Live, Sample, sample_all
from localsmith.core.errors import ContextOverflow, GenerationError, Overloaded
from localsmith.core.settings import load_settings
from localsmith.core.types import Message, SamplingParams
from localsmith.models.engine import Engine
from localsmith.models.scripted import ScriptedGeneration, ScriptedModel

ASKED = (Message("user", "Name a colour."),)


class FullModel(ScriptedModel):
    """A model whose queue is full for its first calls."""

    num_refusals = 3

    def submit(self, *args: Any, **kwargs: Any) -> ScriptedGeneration:
        if self.num_refusals:
            self.num_refusals -= 1
            raise Overloaded("Full.")
        return super().submit(*args, **kwargs)


def test_every_sample_is_drawn_with_its_own_seed_for_the_one_who_asks() -> None:
    model = ScriptedModel(["red", "green", "blue"])
    samples = list(sample_all(model, ASKED, SamplingParams(temperature=0.7, seed=5), 3))
    assert {sample.text for sample in samples} == {"red", "green", "blue"}
    assert [sampling.seed for sampling in model.samplings] == [5, 6, 7]
    assert {sample.seed for sample in samples} == {5, 6, 7}
    assert all(sample.finish_reason == "stop" and sample.mean_logprob is None for sample in samples)


def test_samples_come_as_they_finish() -> None:
    model = ScriptedModel(["a very long list of many different words " * 4, "red"], token_delay_s=0.01)
    first, second = sample_all(model, ASKED, SamplingParams(), 2)
    assert first.text == "red" and len(second.text) > 100


def test_leaving_the_loop_stops_the_others() -> None:
    model = ScriptedModel(["red", *["word " * 1000] * 3], token_delay_s=0.01)
    begun = time.monotonic()
    for sample in sample_all(model, ASKED, SamplingParams(max_tokens=1200), 4):
        assert sample.text == "red"
        break
    assert time.monotonic() - begun < 6  # of 10 s and more
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("localsmith-sample")]


def test_stopped_samples_come_with_what_they_cost() -> None:
    model = ScriptedModel(["red " * 20, *["word " * 1000] * 2], token_delay_s=0.01)
    samples = sample_all(model, ASKED, SamplingParams(max_tokens=1200), 3)
    seen = []
    for sample in samples:
        samples.cancel()
        seen.append(sample)
    assert sorted(sample.finish_reason for sample in seen) == ["cancelled", "cancelled", "stop"]
    assert all(0 < sample.usage.completion_tokens < 300 for sample in seen)


def test_cancel_stops_all_within_a_step() -> None:
    model, cancel = ScriptedModel(lambda _: "word " * 1000, token_delay_s=0.01), threading.Event()
    threading.Timer(0.1, cancel.set).start()
    begun = time.monotonic()
    samples = list(sample_all(model, ASKED, SamplingParams(max_tokens=1200), 2, cancel=cancel))
    assert time.monotonic() - begun < 6  # of 10 s and more
    assert [sample.finish_reason for sample in samples] == ["cancelled"] * 2


def test_a_full_queue_is_waited_for() -> None:
    samples = list(sample_all(FullModel(["red", "green"]), ASKED, SamplingParams(), 2))
    assert len(samples) == 2


def test_waiting_for_a_full_queue_ends_with_cancel() -> None:
    model, cancel = FullModel(["red"]), threading.Event()
    model.num_refusals = 10**6
    threading.Timer(0.3, cancel.set).start()
    assert list(sample_all(model, ASKED, SamplingParams(), 2, cancel=cancel)) == []


def test_a_failed_sample_fails_the_rest() -> None:
    model = ScriptedModel([GenerationError("Broken."), "word " * 1000], token_delay_s=0.01)
    begun = time.monotonic()
    with pytest.raises(GenerationError, match="Broken"):
        list(sample_all(model, ASKED, SamplingParams(max_tokens=1200), 2))
    assert time.monotonic() - begun < 6  # of 10 s and more


def test_a_prompt_that_does_not_fit_is_an_error_before_anything_runs() -> None:
    with pytest.raises(ContextOverflow):
        list(sample_all(ScriptedModel([], n_ctx=20), ASKED, SamplingParams(), 2))


def test_people_are_told_how_far_the_samples_are() -> None:
    model = ScriptedModel(["one two three " * 40] * 2, token_delay_s=0.01)
    parts = list(sample_all(model, ASKED, SamplingParams(), 2).live())
    told = [part for part in parts if isinstance(part, Live)]
    assert len(told) >= 2 and told[0].prefill is not None
    assert 0 < len(told[0].text) < len(told[-1].text)
    assert sum(isinstance(part, Sample) for part in parts) == 2


def test_no_sample_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        sample_all(ScriptedModel([]), ASKED, SamplingParams(), 0)


@pytest.fixture(scope="module")
def engine(small_model_path: Path) -> Iterator[Engine]:
    settings = load_settings(model={"n_ctx": 1024, "max_running": 3}).model
    engine = Engine(small_model_path, name="smollm2-135m", settings=settings)
    yield engine
    engine.close()


@pytest.mark.real_model
def test_the_prompt_is_read_once_for_all_samples(engine: Engine) -> None:
    prompt = (Message("user", "List some colours and say which of them people like best, and why. " * 6),)
    sampling = SamplingParams(max_tokens=6, temperature=1.0, num_logprobs=0)
    samples = list(sample_all(engine, prompt, sampling, 5))
    total = sum(sample.usage.prompt_tokens for sample in samples)
    read = total - sum(sample.usage.cached_tokens for sample in samples)
    assert read < 1.3 * total / 5
    assert all(sample.mean_logprob is not None and sample.mean_logprob < 0 for sample in samples)


@pytest.mark.real_model
def test_different_seeds_give_different_samples(engine: Engine) -> None:
    samples = sample_all(engine, ASKED, SamplingParams(max_tokens=12, temperature=1.0), 3)
    assert len({sample.text for sample in samples}) > 1
