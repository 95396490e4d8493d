"""A run that can't fit is refused with both numbers, and every way out that is named fits."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import TrainingError
from localsmith.training.config import SftConfig
from localsmith.training.estimate.memory import CPU_FRAMEWORK_BYTES, estimate_run
from localsmith.training.estimate.plan import TrainingPlan, trained_parameters
from localsmith.training.estimate.sft_plan import sft_plan
from localsmith.training.estimate.shape import ModelShape
from localsmith.training.estimate.verdict import Device, alternatives, check_fits, this_cpu, this_gpu

SMALL = ModelShape(49152, 576, 1536, 30, 9, 3, 64, True)
LARGE = ModelShape(151936, 1536, 8960, 28, 12, 2, 128, True, has_attention_bias=True)
FULL = TrainingPlan("full", batch_size=8, max_tokens=512, num_label_tokens=800)


def cpu(gigabytes: float) -> Device:
    return Device("this machine", "cpu", int(gigabytes * 1e9))


def gpu(gigabytes: float) -> Device:
    return Device("a GPU", "cuda", int(gigabytes * 1e9))


def test_a_run_that_fits_gets_its_estimate() -> None:
    assert check_fits(SMALL, FULL, cpu(100)) == estimate_run(SMALL, FULL)


def test_a_run_that_does_not_fit_is_refused_with_need_and_have() -> None:
    need = estimate_run(SMALL, FULL).total_bytes / 1e9
    with pytest.raises(TrainingError) as caught:
        check_fits(SMALL, FULL, cpu(4))
    assert f"{need:.1f} GB" in str(caught.value) and "4.0 GB free" in str(caught.value)
    assert caught.value.hint.startswith("This would fit: gradient checkpointing (")


def test_the_least_change_of_each_kind_is_named_in_order() -> None:
    ways = alternatives(
        SMALL, FULL, cpu(5), {"half": SMALL, "tiny": ModelShape(1000, 64, 128, 2, 2, 1, 32, True)}
    )
    assert [way.words for way in ways[:2]] == ["gradient checkpointing", "batches of 2, 4 accumulated"]
    assert ways[-1].words == "base tiny"
    larger = TrainingPlan("full", batch_size=4, max_tokens=512, num_label_tokens=400, num_accumulated=2)
    assert estimate_run(SMALL, larger).total_bytes > 5e9, "batches of 4 would have been the lesser change"


def test_changes_are_made_together_where_none_suffices_alone() -> None:
    way = alternatives(LARGE, FULL, cpu(9))[0]
    assert way.words == "gradient checkpointing and batches of 1, 8 accumulated and LoRA of rank 16"


def test_four_bits_are_named_on_a_gpu_only() -> None:
    plan = TrainingPlan("lora", batch_size=1, max_tokens=512, num_label_tokens=100)
    assert "a base of 4 bits" in {way.words for way in alternatives(LARGE, plan, gpu(5))}
    assert not any("bits" in way.words for way in alternatives(LARGE, plan, cpu(5)))


def test_as_few_gpus_as_suffice_are_named() -> None:
    way = next(way for way in alternatives(LARGE, FULL, gpu(40)) if way.plan.sharding == "fsdp")
    fewer = TrainingPlan(
        "full",
        batch_size=8,
        max_tokens=512,
        num_label_tokens=800,
        num_devices=way.plan.num_devices - 1,
        sharding="fsdp" if way.plan.num_devices > 2 else "none",
        device="cuda",
    )
    assert way.estimate.total_bytes <= 40e9 < estimate_run(LARGE, fewer).total_bytes


def test_where_nothing_fits_that_is_said() -> None:
    with pytest.raises(TrainingError) as caught:
        check_fits(LARGE, FULL, cpu(0.1))
    assert caught.value.hint.startswith("Nothing that was tried fits")


@given(st.floats(0.1, 60), st.booleans(), st.sampled_from(["full", "lora"]))
def test_every_way_out_that_is_named_fits(gigabytes: float, is_gpu: bool, method: str) -> None:
    device = gpu(gigabytes) if is_gpu else cpu(gigabytes)
    plan = TrainingPlan(method, batch_size=8, max_tokens=512)  # type: ignore[arg-type]
    for way in alternatives(LARGE, plan, device, {"small": SMALL}):
        assert estimate_run(way.shape, way.plan).total_bytes == way.estimate.total_bytes <= device.free_bytes
        assert way.words


def test_the_free_memory_of_this_machine_is_what_it_has_at_most() -> None:
    import psutil

    device = this_cpu()
    assert 0 < device.free_bytes <= psutil.virtual_memory().total + CPU_FRAMEWORK_BYTES


def test_a_gpu_that_is_not_there_is_an_error_of_ours() -> None:
    with pytest.raises(TrainingError, match="no GPU 99"):
        this_gpu(99)


@pytest.mark.parametrize(
    ("method", "options"),
    [
        ("full", {}),
        ("lora", {"rank": 4}),
        ("selective", {"which": "norms"}),
        ("selective", {"which": "last_layers", "num_layers": 2}),
        ("bottleneck", {"size": 8}),
        ("ia3", {}),
        ("prompt", {"num_virtual_tokens": 5}),
        ("prefix", {"num_virtual_tokens": 5}),
    ],
)
def test_the_settings_of_a_run_become_a_plan_that_trains_as_many(
    method: str, options: dict[str, int]
) -> None:
    from localsmith.training.methods.method import count_parameters
    from localsmith.training.methods.registry import method_of
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = ModelShape(300, 64, 192, 3, 4, 2, 16, True)
    llama = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    model = LlamaForCausalLM(llama)
    config = SftConfig(
        "base", "version", method=method, method_options=options, batch_size=8, micro_batch_size=2
    )
    plan = sft_plan(config, shape, "cpu", num_label_tokens=50)
    assert (plan.batch_size, plan.num_accumulated) == (2, 4)
    if method != "prompt":  # peft fills the prompt from a tokenizer, which a random model has not
        trained = count_parameters(method_of(method, options).prepare(model)).trained
        assert trained_parameters(shape, plan) == trained
