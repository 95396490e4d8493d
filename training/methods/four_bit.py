"""A frozen base in 4 bits: its linear layers as NF4 blocks, and back.

Place in the data's way: `qlora` quantizes a base before LoRA is put beside it; `export` asks for the weights
that such a layer computes with.

Source: NF4 and the second quantization of the blocks' constants: Dettmers et al. 2023, "QLoRA", section 3.
bitsandbytes provides both, on GPUs and CPUs.

Example:
    quantize_linears(model, is_double=True)
    weight = dequantized(model.model.layers[0].mlp.up_proj)
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from ...core.errors import TrainingError

if TYPE_CHECKING:
    import torch
    from torch import nn


def quantize_linears(model: nn.Module, *, is_double: bool) -> None:
    """Put NF4 layers in the place of a model's linear layers, all but the output layer, one after the other.

    Args:
        model: A causal language model of transformers, in the type that is to be computed in.
        is_double: Whether the blocks' constants are quantized as well: 4.13 bits a weight instead of 4.5.

    Raises:
        TrainingError: bitsandbytes is not installed, or there is no linear layer.
    """
    from torch import nn

    bnb = _bitsandbytes()
    output = model.get_output_embeddings()  # type: ignore[operator]
    linears = [
        (name, part)
        for name, part in model.named_modules()
        if isinstance(part, nn.Linear) and part is not output
    ]
    if not linears:
        raise TrainingError(
            "This model has no linear layers to quantize.", hint="Use another method, such as full."
        )
    for name, linear in linears:
        parent, _, last = name.rpartition(".")
        setattr(model.get_submodule(parent), last, _quantized(bnb, linear, is_double))


def is_four_bit(module: Any) -> bool:
    """Return whether this is a layer that `quantize_linears` made."""
    return hasattr(getattr(module, "weight", None), "quant_state")


def dequantized(linear: Any) -> torch.Tensor:
    """Return the weights that an NF4 layer computes with, (outputs, inputs), float32."""
    weight = linear.weight
    values: torch.Tensor = _bitsandbytes().functional.dequantize_4bit(weight.data, weight.quant_state)
    return values.float()


@contextmanager
def known_as_four_bit(model: Any) -> Iterator[None]:
    """Let peft see that the model's linear layers are NF4 ones, while it puts its parts beside them."""
    model.is_loaded_in_4bit = True
    try:
        yield
    finally:
        del model.is_loaded_in_4bit  # the trainer would take it for a model that transformers has quantized


def _quantized(bnb: Any, linear: nn.Linear, is_double: bool) -> nn.Module:
    weight = linear.weight
    made: Any = bnb.nn.Linear4bit(
        linear.in_features,
        linear.out_features,
        bias=linear.bias is not None,
        compute_dtype=weight.dtype,
        compress_statistics=is_double,
        quant_type="nf4",
    )
    made.weight = bnb.nn.Params4bit(
        weight.data, requires_grad=False, quant_type="nf4", compress_statistics=is_double, module=made
    )
    # It would put the blocks in another order for a CPU's own instructions, which nobody else can read.
    made.support_avx512bf16_for_cpu = False
    if linear.bias is not None:
        made.bias = linear.bias
    quantized: nn.Module = made.to(weight.device)  # moving it is what quantizes
    return quantized


def _bitsandbytes() -> Any:
    try:
        import bitsandbytes
    except ImportError as exc:
        raise TrainingError(
            "A base in 4 bits needs bitsandbytes.", hint="Install it: pip install bitsandbytes; or use lora."
        ) from exc
    return bitsandbytes
