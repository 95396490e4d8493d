"""Sizes are read from the files alone, and agree with the model that transformers builds from them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import TrainingError
from localsmith.models.catalog.gguf_facts import read_gguf_facts
from localsmith.training.estimate.shape import ModelShape, read_shape

QWEN = {
    "model_type": "qwen2",
    "vocab_size": 151936,
    "hidden_size": 896,
    "intermediate_size": 4864,
    "num_hidden_layers": 24,
    "num_attention_heads": 14,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
}


def folder_of(tmp_path: Path, config: dict[str, Any]) -> Path:
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


@pytest.mark.real_model
def test_a_gguf_has_the_parameters_that_its_tensors_add_up_to(small_model_path: Path) -> None:
    shape = read_shape(small_model_path)
    assert shape.num_parameters == read_gguf_facts(small_model_path).parameters == 134_515_008
    assert (shape.num_layers, shape.num_heads, shape.num_kv_heads, shape.head_size) == (30, 9, 3, 64)
    assert shape.has_tied_embeddings and not shape.has_attention_bias
    assert shape.file_bytes == small_model_path.stat().st_size


@pytest.mark.parametrize("is_tied", [True, False])
def test_a_config_has_the_parameters_of_the_model_built_from_it(tmp_path: Path, is_tied: bool) -> None:
    from transformers import AutoConfig, AutoModelForCausalLM

    small = {"vocab_size": 100, "hidden_size": 64, "intermediate_size": 96, "num_hidden_layers": 3}
    heads = {"num_attention_heads": 4, "num_key_value_heads": 2, "tie_word_embeddings": is_tied}
    folder = folder_of(tmp_path, {**QWEN, **small, **heads})
    model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder))
    shape = read_shape(folder)
    assert shape.num_parameters == sum(parameter.numel() for parameter in model.parameters())
    assert shape.bias_parameters == sum(p.numel() for n, p in model.named_parameters() if n.endswith("bias"))
    assert shape.norm_parameters == sum(p.numel() for n, p in model.named_parameters() if "norm" in n)


def test_the_published_size_of_qwen_is_found(tmp_path: Path) -> None:
    # Source: the card of Qwen2.5-0.5B: 0.49 B parameters, 0.36 B of them without embeddings.
    shape = read_shape(folder_of(tmp_path, QWEN))
    assert round(shape.num_parameters / 1e9, 2) == 0.49
    assert round((shape.num_parameters - shape.embedding_parameters) / 1e9, 2) == 0.36


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"model_type": "mixtral"}, "mixtral"),
        ({"hidden_size": None}, "missing"),
        ({"vocab_size": 0}, "vocabulary"),
    ],
)
def test_a_config_that_is_not_understood_is_refused(
    tmp_path: Path, change: dict[str, Any], named: str
) -> None:
    with pytest.raises(TrainingError, match=named) as caught:
        read_shape(folder_of(tmp_path, {**QWEN, **change}))
    assert "Llama" in caught.value.hint


@pytest.mark.parametrize("content", ["", "{", "[]"])
def test_a_damaged_config_is_an_error_of_ours(tmp_path: Path, content: str) -> None:
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(TrainingError):
        read_shape(tmp_path)


def test_what_is_no_gguf_is_an_error_of_ours(tmp_path: Path) -> None:
    path = tmp_path / "x.gguf"
    for content in (b"", b"not a model", b"GGUF" + bytes(20)):
        path.write_bytes(content)
        with pytest.raises(TrainingError):
            read_shape(path)


def test_a_size_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="num_layers must be at least 1, not 0"):
        ModelShape(10, 4, 8, 0, 1, 1, 4, True)
