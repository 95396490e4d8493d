"""A model that was loaded from a GGUF file goes back into one, unchanged where nothing was trained."""

from __future__ import annotations

import json
import resource
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from localsmith.core.errors import ExportError, StorageError
from localsmith.training.export.base_file import BaseFile
from localsmith.training.export.gguf_writer import Provenance, write_gguf
from localsmith.training.export.token_models import GgufTokenModel, HfTokenModel
from localsmith.training.export.weights import FolderWeights, ModelWeights

from .tiny_gguf import TEMPLATE, TOKENS, write_tiny

PROVENANCE = Provenance("trained", "tiny", "ab" * 32, "run-7")
OURS = {"general.name", "general.file_type", "localsmith.base", "localsmith.base_sha256", "localsmith.run"}


def export(model: Any, base: Path, target: Path, **options: Any) -> Path:
    opened = BaseFile.open(base)
    write_gguf(opened, ModelWeights(model, opened.layout), target, PROVENANCE, **options)
    return target


def values(path: Path) -> dict[str, Any]:
    return {tensor.name: tensor.data for tensor in GGUFReader(path).tensors}


def header(path: Path) -> dict[str, Any]:
    fields = GGUFReader(path).fields
    return {key: (f.types, f.contents()) for key, f in fields.items() if not key.startswith("GGUF.")}


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_an_untrained_model_comes_back_bit_for_bit(
    architecture: str, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    base = gguf_base(architecture)
    written = export(gguf_model(architecture), base, tmp_path / "out.gguf", is_half=False)
    before, after = values(base), values(written)
    assert list(after) == list(before)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == []
    old, new = header(base), header(written)
    assert {key: new[key] for key in new if key not in OURS} == {
        k: v for k, v in old.items() if k not in OURS
    }
    assert new["general.name"][1] == "trained"
    assert new["localsmith.base_sha256"][1] == "ab" * 32
    assert new["localsmith.run"][1] == "run-7"


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_llama_cpp_gives_the_trained_models_logits(
    architecture: str, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    model = gguf_model(architecture)
    for values in model.parameters():  # trained: no tensor is the base's any more
        values.data *= 1.1
    written = export(model, gguf_base(architecture), tmp_path / "out.gguf")
    expected = HfTokenModel(model).logits(TOKENS)
    with GgufTokenModel(written) as exported:
        found = exported.logits(TOKENS)
    # 16-bit weights and keys; the untrained base is off by more than 40 times as much.
    assert np.abs(found - expected).mean() < 0.01 * expected.std()
    with GgufTokenModel(gguf_base(architecture)) as base:
        assert np.abs(base.logits(TOKENS) - expected).mean() > 0.05 * expected.std()


def test_loading_a_base_draws_no_bar_of_another_library(
    gguf_model: Callable[[str], Any], capsys: pytest.CaptureFixture[str]
) -> None:
    gguf_model("llama")
    assert capsys.readouterr() == ("", "")


def test_the_template_that_was_trained_with_takes_the_place_of_the_bases(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    template = "{{ messages[0].content }} \u2013 now:"
    written = export(gguf_model("llama"), gguf_base("llama"), tmp_path / "out.gguf", template=template)
    assert header(written)["tokenizer.chat_template"][1] == template
    assert header(gguf_base("llama"))["tokenizer.chat_template"][1] == TEMPLATE


def test_vectors_keep_32_bits_and_matrices_take_16(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    written = export(gguf_model("qwen2"), gguf_base("qwen2"), tmp_path / "out.gguf")
    assert {data.dtype for data in values(written).values() if data.ndim == 1} == {np.dtype(np.float32)}
    assert {data.dtype for data in values(written).values() if data.ndim == 2} == {np.dtype(np.float16)}
    assert header(written)["general.file_type"][1] == 1


@pytest.mark.parametrize("shard_size", ["1GB", "1MB"])
def test_a_saved_folder_is_written_as_the_model_in_memory(
    shard_size: str, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    model, base = gguf_model("llama"), BaseFile.open(gguf_base("llama"))
    model.save_pretrained(tmp_path / "saved", max_shard_size=shard_size)
    assert (tmp_path / "saved" / "model.safetensors.index.json").exists() == (shard_size == "1MB")
    write_gguf(base, FolderWeights(tmp_path / "saved", base.layout), tmp_path / "folder.gguf", PROVENANCE)
    export(model, base.path, tmp_path / "memory.gguf")
    assert (tmp_path / "folder.gguf").read_bytes() == (tmp_path / "memory.gguf").read_bytes()


def test_an_index_does_not_lead_out_of_its_folder(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    gguf_model("llama").save_pretrained(tmp_path / "outside")
    inside = tmp_path / "inside"
    inside.mkdir()
    places = {"model.norm.weight": "../outside/model.safetensors"}
    (inside / "model.safetensors.index.json").write_text(json.dumps({"weight_map": places}))
    weights = FolderWeights(inside, BaseFile.open(gguf_base("llama")).layout)
    with pytest.raises(ExportError, match="can't be read"):
        weights.tensor("output_norm.weight")


@pytest.mark.parametrize("bad", [float("nan"), 1e6])
def test_weights_that_no_file_can_hold_are_refused_and_nothing_is_left(
    bad: float, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    model = gguf_model("llama")
    model.model.layers[1].mlp.up_proj.weight.data[3, 5] = bad
    with pytest.raises(ExportError, match=r"blk\.1\.ffn_up\.weight holds values that are not finite"):
        export(model, gguf_base("llama"), tmp_path / "out" / "out.gguf")
    assert list((tmp_path / "out").iterdir()) == []


def test_a_full_disk_leaves_the_old_file_and_nothing_else(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    model, target = gguf_model("llama"), tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with file_size_limit(1 << 20), pytest.raises(StorageError, match="can't be written") as caught:
        export(model, gguf_base("llama"), target)
    assert caught.value.hint
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_the_wrong_base_is_named(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match=r"lacks 6 of the base's tensors"):
        export(gguf_model("llama"), gguf_base("qwen2"), tmp_path / "out.gguf")
    with pytest.raises(ExportError, match="the base has not"):
        export(gguf_model("qwen2"), gguf_base("llama"), tmp_path / "out.gguf")


def test_an_enlarged_vocabulary_is_refused(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    model = gguf_model("llama")
    model.resize_token_embeddings(264)
    with pytest.raises(ExportError, match=r"shape \(264, 256\), in the base it is \(260, 256\)") as caught:
        export(model, gguf_base("llama"), tmp_path / "out.gguf")
    assert "vocabulary" in caught.value.hint


def test_an_output_layer_that_was_untied_is_refused(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    import torch

    model = gguf_model("llama")
    model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach() * 2)
    with pytest.raises(ExportError, match="trained apart"):
        export(model, gguf_base("llama"), tmp_path / "out.gguf")


def test_an_architecture_that_no_test_proves_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ExportError, match="'gemma2' can't be exported from a GGUF base; llama, qwen2, qwen3 can"
    ):
        BaseFile.open(write_tiny(tmp_path / "gemma.gguf", "gemma2"))


def test_a_damaged_base_is_an_error_with_words(gguf_base: Callable[[str], Path], tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.gguf"
    damaged.write_bytes(gguf_base("llama").read_bytes()[:5000])
    with pytest.raises(ExportError, match=r"damaged\.gguf is damaged"):
        BaseFile.open(damaged)


def test_one_tensor_at_a_time_is_in_memory(gguf_base: Callable[[str], Path], tmp_path: Path) -> None:
    base = BaseFile.open(gguf_base("llama"))
    alive: set[int] = set()
    most = 0

    class Counted(np.ndarray):  # type: ignore[type-arg]
        def __del__(self) -> None:
            alive.discard(id(self))

    class Watched:
        def names(self) -> list[str]:
            return list(base.tensors)

        def tensor(self, name: str) -> Any:
            nonlocal most
            array = base.tensor(name).copy().view(Counted)
            alive.add(id(array))
            most = max(most, len(alive))
            return array

    write_gguf(base, Watched(), tmp_path / "out.gguf", PROVENANCE)
    assert 1 <= most <= 2
