"""Bytes of weights, gradients and states are those of the papers; the peak is the highest of the moments."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.training.estimate.memory import estimate_run, rule_of_thumb, weight_bytes
from localsmith.training.estimate.plan import TrainingPlan, trained_parameters
from localsmith.training.estimate.shape import LINEARS, ModelShape

SMOLLM2_135M = ModelShape(49152, 576, 1536, 30, 9, 3, 64, True, file_bytes=98_362_432)
LLAMA_7B = ModelShape(32000, 4096, 11008, 32, 32, 32, 128, False)

plans = st.builds(
    TrainingPlan,
    st.sampled_from(["full", "last_layers", "norms", "lora"]),
    precision=st.sampled_from(["fp32", "mixed", "bf16"]),
    batch_size=st.integers(1, 16),
    max_tokens=st.integers(1, 2048),
    num_accumulated=st.integers(1, 4),
    is_checkpointed=st.booleans(),
    lora_rank=st.integers(1, 64),
    device=st.sampled_from(["cpu", "cuda"]),
)


def step(plan: TrainingPlan, shape: ModelShape = SMOLLM2_135M) -> Any:
    return estimate_run(shape, plan).moments["optimizer step"]


def test_full_fp32_holds_four_and_four_and_eight_bytes_a_parameter() -> None:
    # Source: Rajbhandari et al. 2020, section 3.1, with FP32 in place of their mixed precision.
    parts, n = step(TrainingPlan("full")), SMOLLM2_135M.num_parameters
    assert (parts["weights"], parts["gradients"], parts["optimizer states"]) == (4 * n, 4 * n, 8 * n)


def test_the_rule_of_thumb_is_24_bytes_a_parameter() -> None:
    parts = rule_of_thumb(1_000)
    assert parts["weights"] == 4_000
    assert sum(parts.values()) - parts["weights"] == 20_000


@pytest.mark.parametrize(
    ("precision", "weights", "states"), [("mixed", 4, 8), ("bf16", 2, 4), ("fp16", 2, 4)]
)
def test_sixteen_bits_halve_weights_and_states_unless_there_are_master_weights(
    precision: Any, weights: int, states: int
) -> None:
    parts, n = step(TrainingPlan("full", precision=precision)), SMOLLM2_135M.num_parameters
    assert (parts["weights"], parts["optimizer states"]) == (weights * n, states * n)


@pytest.mark.parametrize(("optimizer", "share"), [("adamw", 8), ("adamw_8bit", 2.03125), ("sgd", 0)])
def test_the_optimizer_decides_the_states(optimizer: Any, share: float) -> None:
    states = step(TrainingPlan("full", optimizer=optimizer))["optimizer states"]
    assert states == round(share * SMOLLM2_135M.num_parameters)


def test_lora_has_gradients_and_states_for_its_own_matrices_only() -> None:
    plan = TrainingPlan("lora", lora_rank=8)
    trained = trained_parameters(SMOLLM2_135M, plan)
    assert trained == 2_442_240  # counted in peft's model
    parts = step(plan)
    assert (parts["gradients"], parts["optimizer states"]) == (4 * trained, 8 * trained)
    assert parts["weights"] == 4 * (SMOLLM2_135M.num_parameters + trained)


def test_loras_worked_example_trains_86_percent_less() -> None:
    # A matrix of 512 x 64 with r = 8: 32,768 against 4,608.
    shape = ModelShape(10, 512, 64, 1, 1, 1, 64, True)
    plan = TrainingPlan("lora", lora_rank=8, lora_targets=("q_proj",))
    assert (shape.linears["q_proj"], trained_parameters(shape, plan)) == ((512, 64), 4608)
    assert round(1 - 4608 / 32768, 2) == 0.86


def test_a_base_of_four_bits_has_the_bits_of_the_paper() -> None:
    # Source: Dettmers et al. 2023, section 3: constants of 0.127 bits a parameter after double quantization.
    plan = TrainingPlan("lora", precision="bf16", base_bits=4)
    others = 2 * (LLAMA_7B.num_parameters - LLAMA_7B.linear_parameters)
    bits = 8 * (weight_bytes(LLAMA_7B, plan, 0) - others) / LLAMA_7B.linear_parameters
    assert bits == pytest.approx(4.127, abs=0.001)


def test_a_base_of_eight_bits_has_a_byte_a_weight() -> None:
    plan = TrainingPlan("lora", precision="bf16", base_bits=8)
    others = 2 * (LLAMA_7B.num_parameters - LLAMA_7B.linear_parameters)
    linear = weight_bytes(LLAMA_7B, plan, 0) - others
    assert linear / LLAMA_7B.linear_parameters == pytest.approx(1, abs=0.002)


@pytest.mark.parametrize("num_devices", [2, 8])
def test_fsdp_divides_weights_gradients_and_states(num_devices: int) -> None:
    alone = step(TrainingPlan("full"))
    sharded = step(TrainingPlan("full", num_devices=num_devices, sharding="fsdp"))
    for part in ("weights", "gradients", "optimizer states"):
        assert sharded[part] == pytest.approx(alone[part] / num_devices, abs=1)


def test_ddp_holds_everything_and_buckets_of_gradients() -> None:
    alone, each = step(TrainingPlan("full")), step(TrainingPlan("full", num_devices=4, sharding="ddp"))
    assert each == alone | {"buckets of gradients": alone["gradients"]}


def test_only_positions_with_labels_cost_logits() -> None:
    few, many = (
        estimate_run(SMOLLM2_135M, TrainingPlan("lora", max_tokens=512, num_label_tokens=labels))
        for labels in (10, 512)
    )
    assert many.total_bytes - few.total_bytes == 12 * 49152 * 502


@given(plans)
def test_the_peak_is_the_highest_moment_and_its_parts_add_up(plan: TrainingPlan) -> None:
    estimate = estimate_run(SMOLLM2_135M, plan)
    totals = [sum(parts.values()) for parts in estimate.moments.values()]
    assert estimate.total_bytes == sum(estimate.parts.values()) == max(totals)
    assert all(size >= 0 for parts in estimate.moments.values() for size in parts.values())
    assert f"{estimate.total_bytes / 1e9:.2f} GB" in estimate.table().splitlines()[-1]


@given(plans)
def test_more_rows_never_need_less_and_checkpointing_never_more(plan: TrainingPlan) -> None:
    need = estimate_run(SMOLLM2_135M, plan).total_bytes
    more = dataclasses.replace(plan, batch_size=plan.batch_size + 1)
    assert estimate_run(SMOLLM2_135M, more).total_bytes >= need
    if plan.method != "last_layers":  # one layer's activations beside the inputs of few layers can be more
        checkpointed = dataclasses.replace(plan, is_checkpointed=True)
        assert (
            estimate_run(SMOLLM2_135M, checkpointed).total_bytes
            <= estimate_run(SMOLLM2_135M, dataclasses.replace(plan, is_checkpointed=False)).total_bytes
        )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, not 0"),
        ({"num_label_tokens": 2000}, "num_label_tokens must be 0 to 1024, not 2000"),
        ({"num_devices": 2}, "2 devices and sharding 'none'"),
        ({"sharding": "fsdp"}, "1 devices and sharding 'fsdp'"),
        ({"base_bits": 4}, "4 bits can't be trained with 'full'"),
        ({"method": "lora", "lora_targets": ("wq",)}, "not wq"),
        ({"method": "added"}, "trained_parameters"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        TrainingPlan(**changes)


def test_a_model_without_biases_has_none_to_train() -> None:
    with pytest.raises(ValueError, match="no biases"):
        estimate_run(SMOLLM2_135M, TrainingPlan("bias"))


def test_lora_can_stand_beside_any_of_the_linear_layers() -> None:
    each = [trained_parameters(LLAMA_7B, TrainingPlan("lora", lora_targets=(name,))) for name in LINEARS]
    assert sum(each) == trained_parameters(LLAMA_7B, TrainingPlan("lora"))
