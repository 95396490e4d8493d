"""The formula of activations says what autograd keeps, on a small model of the real architecture."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from localsmith.training.estimate.activations import kept_bytes, layer_bytes
from localsmith.training.estimate.plan import TrainingPlan, trained_parameters
from localsmith.training.estimate.shape import ModelShape
from localsmith.training.methods.registry import method_of

SHAPE = ModelShape(
    vocabulary_size=64,
    hidden_size=64,
    intermediate_size=192,
    num_layers=6,
    num_heads=4,
    num_kv_heads=2,
    head_size=16,
    has_tied_embeddings=True,
)
# Layers at the ends and numbers a row (the norms' scales) are what the formula rounds.
TOLERANCE = 0.04
ADDED_TOLERANCE = 0.15


def model_of(plan: TrainingPlan, name: str, options: dict[str, Any]) -> Any:
    """Build a random model of the shape and prepare it as the trainer does."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=SHAPE.vocabulary_size,
        hidden_size=SHAPE.hidden_size,
        intermediate_size=SHAPE.intermediate_size,
        num_hidden_layers=SHAPE.num_layers,
        num_attention_heads=SHAPE.num_heads,
        num_key_value_heads=SHAPE.num_kv_heads,
        tie_word_embeddings=True,
        use_cache=False,
    )
    model = LlamaForCausalLM(config)
    model = method_of(name, options).prepare(model.bfloat16() if plan.precision == "bf16" else model)
    if plan.is_checkpointed:
        model.activation_checkpointing_enable({"use_reentrant": False})
    return model.train()


def kept_by_autograd(model: Any, plan: TrainingPlan) -> int:
    """Return the bytes that the blocks' forward pass keeps, without weights and copies of them."""
    import torch

    decoder = model.get_base_model().model if hasattr(model, "get_base_model") else model.model
    weights = {parameter.untyped_storage().data_ptr() for parameter in model.parameters()}
    shapes = {tuple(sorted(parameter.shape)) for parameter in model.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        is_copy = tensor.dtype == torch.bfloat16 and tuple(sorted(tensor.shape)) in shapes
        if tensor.untyped_storage().data_ptr() not in weights and not is_copy:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor.detach()

    tokens = torch.randint(0, SHAPE.vocabulary_size, (plan.batch_size, plan.max_tokens))
    mask = torch.ones_like(tokens)
    if plan.batch_size > 1:
        mask[0, :5] = 0
    half = plan.precision != "fp32"
    with torch.autocast("cpu", torch.bfloat16) if half else contextlib.nullcontext():
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            decoder(input_ids=tokens, attention_mask=mask)
    return sum(storage.nbytes() for storage in kept.values())


@pytest.mark.parametrize(
    ("method", "options", "changes"),
    [
        ("full", {}, {}),
        ("full", {}, {"batch_size": 3}),
        ("full", {}, {"max_tokens": 200}),
        ("full", {}, {"precision": "bf16"}),
        ("full", {}, {"precision": "bf16", "batch_size": 2}),
        ("full", {}, {"precision": "mixed"}),
        ("full", {}, {"is_checkpointed": True}),
        ("selective", {"which": "last_layers", "num_layers": 3}, {"num_trained_layers": 3}),
        ("selective", {"which": "norms"}, {}),
        ("lora", {"rank": 4}, {"lora_rank": 4}),
        ("lora", {"rank": 4, "targets": ("q_proj", "v_proj")}, {"lora_targets": ("q_proj", "v_proj")}),
        ("lora", {"rank": 4, "dropout": 0.1}, {"lora_dropout": 0.1}),
        ("lora", {"rank": 4, "dropout": 0.1}, {"lora_dropout": 0.1, "precision": "bf16"}),
        ("lora", {"rank": 4}, {"precision": "bf16"}),
        ("lora", {"rank": 4}, {"precision": "mixed"}),
        ("ia3", {}, {"trained_parameters": 1}),
        ("bottleneck", {"size": 8}, {"trained_parameters": 1}),
    ],
)
def test_the_formula_says_what_autograd_keeps(
    method: str, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    is_added = method in ("ia3", "bottleneck")
    name: Any = "added" if is_added else options.get("which", method)
    plan = TrainingPlan(name, **{"max_tokens": 100, "lora_rank": 4} | changes)
    measured = kept_by_autograd(model_of(plan, method, options), plan)
    # While forward runs, no block's activations have been computed again yet.
    expected = kept_bytes(SHAPE, plan) - (layer_bytes(SHAPE, plan) if plan.is_checkpointed else 0)
    assert expected == pytest.approx(measured, rel=ADDED_TOLERANCE if is_added else TOLERANCE)


@pytest.mark.parametrize(
    ("method", "options", "changes"),
    [
        ("full", {}, {}),
        ("lora", {"rank": 8}, {"lora_rank": 8}),
        ("lora", {"rank": 8, "targets": ("q_proj",)}, {"lora_rank": 8, "lora_targets": ("q_proj",)}),
        ("selective", {"which": "last_layers", "num_layers": 2}, {"num_trained_layers": 2}),
        ("selective", {"which": "norms"}, {}),
    ],
)
def test_the_trained_parameters_are_those_that_the_method_trains(
    method: str, options: dict[str, Any], changes: dict[str, Any]
) -> None:
    from localsmith.training.methods.method import count_parameters

    name: Any = options.get("which", method)
    plan = TrainingPlan(name, **changes)
    model = model_of(plan, method, options)
    assert trained_parameters(SHAPE, plan) == count_parameters(model).trained


def test_twice_the_rows_keep_twice_the_bytes() -> None:
    two, four = (kept_bytes(SHAPE, TrainingPlan(batch_size=size, max_tokens=64)) for size in (2, 4))
    assert four == 2 * two
