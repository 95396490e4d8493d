"""Tokens, operations and time follow the papers' formulas."""

from __future__ import annotations

import pytest
from localsmith.training.estimate.compute import (
    compute_optimal_tokens,
    seconds_by_flops,
    seconds_by_speed,
    training_flops,
)
from localsmith.training.estimate.plan import TrainingPlan, trained_parameters
from localsmith.training.estimate.shape import ModelShape

SHAPE = ModelShape(49152, 576, 1536, 30, 9, 3, 64, True)
ATTENTION = 30 * 2 * 576 * 128


def flops_of(plan: TrainingPlan) -> float:
    """Return the operations of a token without attention's products."""
    return training_flops(SHAPE, plan, 1)


@pytest.mark.parametrize(
    ("parameters", "tokens"), [(400e6, 8.0e9), (1e9, 20.2e9), (10e9, 205.1e9), (67e9, 1.5e12)]
)
def test_tokens_are_those_of_the_papers_table(parameters: float, tokens: float) -> None:
    # Source: Hoffmann et al. 2022, table 3.
    assert compute_optimal_tokens(int(parameters)) == pytest.approx(tokens, rel=0.12)


def test_full_training_costs_six_operations_a_parameter_and_attention() -> None:
    assert (
        flops_of(TrainingPlan("full", max_tokens=128)) == 6 * SHAPE.num_parameters + 3 * ATTENTION - 2 * 576
    )


def test_lora_costs_four_operations_a_parameter_and_six_of_its_own() -> None:
    plan = TrainingPlan("lora", max_tokens=128)
    base, own = SHAPE.num_parameters, trained_parameters(SHAPE, plan)
    assert flops_of(plan) == pytest.approx(4 * base + 6 * own + 3 * ATTENTION, rel=1e-4)


def test_checkpointing_costs_one_more_forward_pass_of_the_layers() -> None:
    without = flops_of(TrainingPlan("full", max_tokens=128))
    with_it = flops_of(TrainingPlan("full", max_tokens=128, is_checkpointed=True))
    assert with_it - without == 2 * 30 * SHAPE.layer_parameters + ATTENTION


def test_nothing_goes_backward_below_the_last_layers() -> None:
    few = flops_of(TrainingPlan("last_layers", max_tokens=128, num_trained_layers=2))
    assert 2 * SHAPE.num_parameters < few < 3.5 * SHAPE.num_parameters


def test_the_operations_are_those_that_pytorch_counts() -> None:
    import torch
    from torch.utils.flop_counter import FlopCounterMode
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = ModelShape(300, 64, 192, 4, 4, 2, 16, True)
    config = LlamaConfig(
        vocab_size=300,
        hidden_size=64,
        intermediate_size=192,
        num_hidden_layers=4,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        attn_implementation="eager",
    )
    tokens = torch.randint(0, 300, (1, 64))
    with FlopCounterMode(display=False) as counter:
        LlamaForCausalLM(config)(tokens, labels=tokens).loss.backward()
    # Eager attention computes the half of the products that the causal mask throws away.
    attention = 4 * 2 * 64 * 64 * 3
    expected = training_flops(shape, TrainingPlan("full", max_tokens=64), 64) + attention * 64
    assert counter.get_total_flops() == pytest.approx(expected, rel=0.02)


def test_time_is_work_over_speed() -> None:
    assert seconds_by_flops(6e12, 1e11) == 60
    assert seconds_by_flops(6e12, 1e11, num_devices=2) == 30
    assert seconds_by_speed(1000, 50.0) == 20


def test_a_speed_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0"):
        seconds_by_speed(10, 0.0)
    with pytest.raises(ValueError, match="0 devices"):
        seconds_by_flops(1.0, 1.0, num_devices=0)
    with pytest.raises(ValueError, match="-1"):
        training_flops(SHAPE, TrainingPlan(), -1)
    with pytest.raises(ValueError, match="0"):
        compute_optimal_tokens(0)
