"""QLoRA: what 4 bits keep of a base, and that the exported model is the one that was trained beside them."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import TrainingError
from localsmith.training.export.base_file import BaseFile
from localsmith.training.export.weights import ModelWeights
from localsmith.training.methods.four_bit import dequantized, quantize_linears
from localsmith.training.methods.method import count_parameters
from localsmith.training.methods.qlora import QLora


def trained(model: Any, method: QLora) -> Any:
    """Return the model with an adapter that changes its logits."""
    import torch

    prepared = method.prepare(model)
    torch.manual_seed(3)
    for name, parameter in prepared.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return prepared.eval()


@pytest.mark.parametrize(
    ("architecture", "targets", "is_double"),
    [
        ("llama", (), True),
        ("qwen2", (), False),  # with biases
        ("qwen2", ("q_proj", "down_proj"), True),
    ],
)
def test_the_exported_weights_are_those_of_the_trained_model(
    architecture: str,
    targets: tuple[str, ...],
    is_double: bool,
    gguf_base: Callable[[str], Path],
    gguf_model: Callable[[str], Any],
) -> None:
    import torch

    method = QLora(rank=4, targets=targets, is_double=is_double)
    model = trained(gguf_model(architecture), method)
    tokens = torch.tensor([[5, 9, 3, 7, 2]])
    with torch.no_grad():
        beside = model(input_ids=tokens).logits
        plain = gguf_model(architecture)(input_ids=tokens).logits
    base = BaseFile.open(gguf_base(architecture))
    weights = ModelWeights(model, base.layout)
    exported = {name: weights.tensor(name) for name in weights.names()}
    merged = method.merged(model)
    with torch.no_grad():
        alone = merged(input_ids=tokens).logits
    torch.testing.assert_close(alone, beside, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(alone, plain, atol=1e-2)
    of_merged = ModelWeights(merged, base.layout)
    assert set(base.tensors) <= set(exported)
    for name in base.tensors:
        torch.testing.assert_close(
            torch.tensor(exported[name]), torch.tensor(of_merged.tensor(name)), atol=1e-6, rtol=1e-5
        )


def test_four_bits_keep_the_weights_nearly_and_take_an_eighth_of_the_memory() -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=50, hidden_size=128, intermediate_size=256, num_hidden_layers=1, num_attention_heads=2
    )
    model = LlamaForCausalLM(config)
    before = model.model.layers[0].mlp.up_proj.weight.detach().clone()
    output, num_parameters = model.lm_head.weight, count_parameters(model).total
    quantize_linears(model, is_double=True)
    layer = model.model.layers[0].mlp.up_proj
    assert layer.weight.numel() * layer.weight.element_size() == before.numel() // 2
    assert model.lm_head.weight is output, "the output layer stays as it is"
    # A step of NF4 near 0 is 0.08 of a block's largest weight, which is about 2.5 deviations.
    assert 0 < (dequantized(layer) - before).std() < 0.12 * before.std()
    assert count_parameters(model).total == num_parameters


def test_without_bitsandbytes_it_says_what_to_install(
    gguf_model: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(TrainingError, match="needs bitsandbytes"):
        QLora().prepare(gguf_model("llama"))
