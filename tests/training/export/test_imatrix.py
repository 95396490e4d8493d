"""The importance matrix holds what went into each matrix, and quantizing takes it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from localsmith.core.errors import ExportError
from localsmith.models.llama.quantize import quantize, read_imatrix
from localsmith.training.export import imatrix
from localsmith.training.export.imatrix import CHUNK_TOKENS, compute_imatrix

TEXT = "The sea is wide and the stars are far. " * 44  # one token a byte here


def test_it_holds_the_mean_square_of_what_torch_feeds_each_layer(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    import torch

    base, model, shares = gguf_base("llama"), gguf_model("llama"), []
    assert compute_imatrix(base, [TEXT], tmp_path / "im.gguf", on_progress=shares.append) == 3
    assert shares == [1 / 3, 2 / 3, 1.0]
    found = read_imatrix(tmp_path / "im.gguf")
    assert len(found) == 2 * 7

    inputs: dict[str, list[Any]] = {"attn_v": [], "ffn_down": []}
    layer = model.model.layers[1]
    for name, module in (("attn_v", layer.self_attn.v_proj), ("ffn_down", layer.mlp.down_proj)):
        module.register_forward_pre_hook(lambda _, args, name=name: inputs[name].append(args[0][0]))
    from localsmith.models.llama.vocabulary import LlamaVocabulary

    with LlamaVocabulary(base) as vocabulary:
        tokens = vocabulary.tokenize(TEXT, parse_special=True)
    with torch.inference_mode():
        for start in range(0, 3 * CHUNK_TOKENS, CHUNK_TOKENS):
            model(torch.tensor([tokens[start : start + CHUNK_TOKENS]]))
    for name, rows in inputs.items():
        expected = torch.cat(rows).square().mean(0).numpy()
        np.testing.assert_allclose(
            found[f"blk.1.{name}.weight"], expected, rtol=0.05, atol=0.01 * expected.mean()
        )


def test_quantizing_with_it_gives_other_weights_of_the_same_size(
    gguf_base: Callable[[str], Path], tmp_path: Path
) -> None:
    base = gguf_base("qwen2")
    compute_imatrix(base, [TEXT], tmp_path / "im.gguf")
    quantize(base, tmp_path / "plain.gguf", "Q4_K_M")
    quantize(base, tmp_path / "weighed.gguf", "Q4_K_M", imatrix=tmp_path / "im.gguf")
    plain, weighed = (
        {tensor.name: tensor.data for tensor in GGUFReader(tmp_path / name).tensors}
        for name in ("plain.gguf", "weighed.gguf")
    )
    differing = {name for name in plain if not np.array_equal(plain[name], weighed[name])}
    assert differing == set(read_imatrix(tmp_path / "im.gguf"))
    assert {name: data.shape for name, data in plain.items()} == {n: d.shape for n, d in weighed.items()}


def test_too_little_text_is_said(gguf_base: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="shorter than 512 tokens"):
        compute_imatrix(gguf_base("llama"), ["short"], tmp_path / "im.gguf")
    assert list(tmp_path.iterdir()) == []


def test_another_llama_cpp_is_noticed_before_its_memory_is_read(
    gguf_base: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(imatrix, "_OBJECT_BYTES", 24)
    with pytest.raises(ExportError, match="another tensor layout"):
        compute_imatrix(gguf_base("llama"), [TEXT], tmp_path / "im.gguf")


def test_a_file_that_is_no_matrix_is_refused_by_quantizing(
    gguf_base: Callable[[str], Path], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="is no importance matrix"):
        quantize(gguf_base("llama"), tmp_path / "q.gguf", "Q4_K_M", imatrix=gguf_base("qwen2"))
