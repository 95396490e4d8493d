"""What the forward pass keeps for the backward pass.

Place in the data's way: `estimate_run` asks `kept_bytes` for the peak between the two passes.

Source: the method, adding up what each operation keeps, is that of Korthikanti et al. 2022, "Reducing
Activation Recomputation in Large Transformer Models", section 4.1. Their block has layer norms, GELU and
dropout in 16 bits: 34 bytes a token and unit of width, and 5 a head and pair of tokens. Here it is the block
of transformers' `LlamaDecoderLayer` with PyTorch's fused attention, which keeps no matrix of scores (Dao et
al. 2022, "FlashAttention", section 3.1). The tests compare with what autograd keeps.

Example:
    kept_bytes(shape, TrainingPlan("lora", batch_size=4, max_tokens=512))
"""

from __future__ import annotations

from .plan import TrainingPlan
from .shape import ModelShape


def kept_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return the bytes that all blocks keep between forward and backward pass on one device.

    With checkpointing each block keeps its input only (Chen et al. 2016, "Training Deep Nets with Sublinear
    Memory Cost", section 4), and one block at a time everything.
    """
    num_layers = plan.num_trained_layers if plan.method == "last_layers" else shape.num_layers
    residual_bytes = 4 if plan.precision in ("fp32", "mixed") else 2
    # The last norm and the embedding's output.
    ends = plan.tokens * shape.hidden_size * (4 + residual_bytes)
    if not plan.is_checkpointed:
        return num_layers * layer_bytes(shape, plan) + ends
    inputs = num_layers * plan.tokens * shape.hidden_size * residual_bytes
    return inputs + layer_bytes(shape, plan) + ends


def layer_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return the bytes that one block keeps."""
    per_token = _norm_bytes(shape, plan) + _attention_bytes(shape, plan) + _feed_forward_bytes(shape, plan)
    per_token += _linear_input_bytes(shape, plan) + _added_bytes(shape, plan)
    # PyTorch turns the mask of padded rows into numbers anew in every block, and keeps them.
    mask = plan.batch_size * plan.max_tokens**2 * plan.compute_bytes if plan.is_padded else 0
    return plan.tokens * per_token + mask


def working_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Return what the backward pass of one feed-forward needs beside all that is kept: four gradients."""
    return 4 * plan.tokens * shape.intermediate_size * plan.compute_bytes


def _norm_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Two norms: the input in FP32, and for the gradient of their weights the normed input."""
    residual_bytes = 4 if plan.precision in ("fp32", "mixed") else 2
    is_trained = plan.method in ("full", "last_layers", "norms")
    return 2 * shape.hidden_size * (4 + (residual_bytes if is_trained else 0))


def _attention_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Queries, keys, values, output, and a number in FP32 for each head.

    Keys and values are repeated for every head of queries where a mask is given.
    """
    kv_size = shape.query_size if plan.is_padded else shape.kv_size
    return (2 * shape.query_size + 2 * kv_size) * plan.compute_bytes + 4 * shape.num_heads


def _feed_forward_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Gate, its activation, and what it is multiplied with (Shazeer 2020, "GLU Variants", section 2)."""
    return 3 * shape.intermediate_size * plan.compute_bytes


def _linear_input_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """Inputs of the linear layers whose weights, or thin matrices beside them, are trained.

    A frozen layer needs none. The output of attention is kept already, so `o_proj` adds nothing.
    """
    if plan.method == "lora":
        return _lora_input_bytes(shape, plan)
    if plan.method not in ("full", "last_layers"):
        return 0
    # Autocast makes a 16-bit copy of the FP32 input for each of the five layers that read a norm's output.
    copies = 5 if plan.precision == "mixed" else 2
    return (copies * shape.hidden_size + shape.intermediate_size) * plan.compute_bytes


def _lora_input_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    thin = plan.lora_rank * len(plan.lora_targets) * plan.compute_bytes
    inputs = {name: shape.linears[name][0] for name in plan.lora_targets}
    if plan.precision == "fp32" and not plan.lora_dropout:
        # Layers that read the same tensor keep it once.
        groups = [{"q_proj", "k_proj", "v_proj"}, {"gate_proj", "up_proj"}, {"down_proj"}]
        shared = sum(max((inputs[name] for name in group & set(inputs)), default=0) for group in groups)
        return thin + shared * plan.compute_bytes
    mask_bytes = 0
    if plan.lora_dropout:  # on a CPU the mask is a number of FP32, to which peft turns the input first
        mask_bytes = 1 if plan.device == "cuda" else 4
    return thin + sum(inputs.values()) * (plan.compute_bytes + mask_bytes)


def _added_bytes(shape: ModelShape, plan: TrainingPlan) -> int:
    """For other added parts, the larger of adapters' two inputs and of what IA3 multiplies."""
    if plan.method != "added":
        return 0
    h, kv, f = shape.hidden_size, shape.kv_size, shape.intermediate_size
    return max(2 * h, 2 * kv + f) * plan.compute_bytes
