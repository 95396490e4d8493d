"""How much there is to compute, how many tokens a model deserves, and how long that takes.

Place in the data's way: shape, plan and the tokens of the data -> `training_flops` -> `seconds_by_flops`, or
straight `seconds_by_speed` once a few steps were measured -> the ETA before a run begins.

Example:
    >>> compute_optimal_tokens(134_515_008)
    2690300160
"""

from __future__ import annotations

from .plan import TrainingPlan, trained_parameters
from .shape import ModelShape

_TOKENS_A_PARAMETER = 20


def compute_optimal_tokens(num_parameters: int) -> int:
    """Return the tokens of pre-training with which a budget of computation gives the lowest loss.

    It is about training from scratch. Fine-tuning begins from a model that has seen far more.

    Raises:
        ValueError: `num_parameters` is below 1.

    Source:
        Hoffmann et al. 2022, "Training Compute-Optimal Large Language Models", section 3.4 and table 3: about
        20 tokens a parameter.
    """
    if num_parameters < 1:
        raise ValueError(f"num_parameters must be at least 1, not {num_parameters}.")
    return _TOKENS_A_PARAMETER * num_parameters


def training_flops(shape: ModelShape, plan: TrainingPlan, num_tokens: int) -> float:
    """Return the floating-point operations of a run.

    A token costs 2 for each weight forward, 2 backward for the gradient of the layer's input, and 2 for that
    of each weight that is trained: 6 N for full training, 4 N for LoRA and 6 for each of its own weights.
    Where only the last layers are trained, nothing goes backward below them. Checkpointing computes the
    reached layers forward once more. Attention's products of queries, keys and values come on top. That
    logits are computed for labels only is left out: with a large vocabulary this is an upper bound.

    Args:
        shape: The model.
        plan: The plan; of `max_tokens` half is what a token attends to on average.
        num_tokens: Tokens of all epochs together.

    Raises:
        ValueError: `num_tokens` is negative, or the plan trains nothing of this model.

    Source:
        Kaplan et al. 2020, "Scaling Laws for Neural Language Models", section 2.1 and table 1 (2 N forward, 2
        n_layer n_ctx d_attn for attention, twice as much backward); N counts the embedding as in Hoffmann et
        al. 2022, appendix F.
    """
    if num_tokens < 0:
        raise ValueError(f"num_tokens must not be negative, but is {num_tokens}.")
    trained = trained_parameters(shape, plan)
    is_partial = plan.method == "last_layers"
    num_reached = min(plan.num_trained_layers, shape.num_layers) if is_partial else shape.num_layers
    head = 0 if shape.has_tied_embeddings else shape.embedding_parameters  # an untied embedding is looked up
    base = shape.num_parameters - head
    reached = num_reached * shape.layer_parameters + shape.embedding_parameters
    added = trained if plan.has_frozen_base else 0
    attention = 2 * shape.query_size * plan.max_tokens  # one layer forward; causal, so half of 4 s d
    per_token = 2 * base + 2 * reached + 2 * trained + 4 * added
    per_token += attention * (shape.num_layers + 2 * num_reached)
    if plan.is_checkpointed:
        per_token += num_reached * (2 * shape.layer_parameters + attention)
    return float(per_token) * num_tokens


def seconds_by_flops(flops: float, flops_per_s: float, num_devices: int = 1) -> float:
    """Return the seconds that so many operations take at a measured speed of each device.

    Raises:
        ValueError: The speed is not above 0, or there is no device.
    """
    if flops_per_s <= 0 or num_devices < 1:
        raise ValueError(f"{num_devices} devices of {flops_per_s} FLOP/s compute nothing.")
    return flops / (flops_per_s * num_devices)


def seconds_by_speed(num_tokens: int, tokens_per_s: float) -> float:
    """Return the seconds that so many tokens take at a measured speed.

    Raises:
        ValueError: The speed is not above 0.
    """
    if tokens_per_s <= 0:
        raise ValueError(f"tokens_per_s must be above 0, not {tokens_per_s}.")
    return num_tokens / tokens_per_s
