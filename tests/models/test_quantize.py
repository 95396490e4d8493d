"""A model with fewer bits a weight: whole or not at all, and llama.cpp's failures are errors, not the end."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from gguf import GGMLQuantizationType, GGUFReader
from localsmith.core.errors import ExportError, ModelLoadError, StorageError
from localsmith.models.llama.quantize import QUANTIZATIONS, Quantization, quantize

TYPES = {
    "F16": GGMLQuantizationType.F16,
    "Q8_0": GGMLQuantizationType.Q8_0,
    "Q5_K_M": GGMLQuantizationType.Q5_K,
    "Q4_K_M": GGMLQuantizationType.Q4_K,
}


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random model in 32 bits a weight, of one block, that nothing but quantizing is done with."""
    from gguf import GGUFWriter

    path = tmp_path_factory.mktemp("quantize") / "source.gguf"
    rng = np.random.default_rng(1)
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(64)
    writer.add_embedding_length(256)
    writer.add_block_count(1)
    writer.add_feed_forward_length(512)
    writer.add_head_count(4)
    writer.add_head_count_kv(4)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(512)
    writer.add_tokenizer_model("none")
    shapes = {"token_embd": (512, 256), "output": (512, 256), "output_norm": (256,)}
    shapes |= {f"blk.0.attn_{name}": (256, 256) for name in ("q", "k", "v", "output")}
    shapes |= {"blk.0.ffn_gate": (512, 256), "blk.0.ffn_up": (512, 256), "blk.0.ffn_down": (256, 512)}
    shapes |= {"blk.0.attn_norm": (256,), "blk.0.ffn_norm": (256,)}
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", rng.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@contextmanager
def file_size_limit(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("quantization", QUANTIZATIONS)
def test_the_weights_are_near_the_old_ones_in_fewer_bits(
    quantization: Quantization, source: Path, tmp_path: Path
) -> None:
    from gguf import dequantize

    shares: list[float] = []
    target = tmp_path / "new" / "out.gguf"
    quantize(source, target, quantization, on_progress=shares.append, num_threads=1)
    before = {tensor.name: tensor for tensor in GGUFReader(source).tensors}
    after = {tensor.name: tensor for tensor in GGUFReader(target).tensors}
    assert set(after) == set(before)
    assert after["blk.0.attn_q.weight"].tensor_type == TYPES[quantization]
    assert after["blk.0.attn_norm.weight"].tensor_type == GGMLQuantizationType.F32
    largest_error = {"F16": 2e-3, "Q8_0": 0.02, "Q5_K_M": 0.2, "Q4_K_M": 0.4}[quantization]
    for name, tensor in after.items():
        values = dequantize(tensor.data, tensor.tensor_type)
        assert np.abs(values - before[name].data).max() < largest_error
    assert shares == sorted(shares)
    assert shares[-1] == 1.0
    assert [path.name for path in target.parent.iterdir()] == ["out.gguf"]


def test_each_type_is_smaller_than_the_one_before(source: Path, tmp_path: Path) -> None:
    sizes = []
    for quantization in QUANTIZATIONS:
        quantize(source, tmp_path / "out.gguf", quantization)
        sizes.append((tmp_path / "out.gguf").stat().st_size)
    assert sizes == sorted(sizes, reverse=True)
    assert len(set(sizes)) == 4


def test_a_full_disk_is_said_and_the_old_file_stays(source: Path, tmp_path: Path) -> None:
    target = tmp_path / "out.gguf"
    target.write_bytes(b"old")
    with file_size_limit(200_000), pytest.raises(StorageError, match="full"):
        quantize(source, target, "Q8_0")
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_what_is_quantized_already_is_refused_with_llama_cpps_reason(source: Path, tmp_path: Path) -> None:
    quantize(source, tmp_path / "small.gguf", "Q8_0")
    with pytest.raises(ExportError, match="requantizing from type q8_0 is disabled") as caught:
        quantize(tmp_path / "small.gguf", tmp_path / "smaller.gguf", "Q4_K_M")
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["small.gguf"]


@pytest.mark.parametrize("share", [0.02, 0.5, 0.99])
def test_a_cut_file_is_an_error_and_leaves_nothing(share: float, source: Path, tmp_path: Path) -> None:
    cut = tmp_path / "cut.gguf"
    cut.write_bytes(source.read_bytes()[: int(share * source.stat().st_size)])
    with pytest.raises(ExportError, match=r"could not quantize cut\.gguf"):
        quantize(cut, tmp_path / "out.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["cut.gguf"]


def test_a_process_that_dies_is_an_error_here(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """llama.cpp ends its process where an assertion fails; a program that does the same stands in for it."""
    program = tmp_path / "python"
    program.write_text("#!/bin/sh\necho 'GGML_ASSERT(nrows > 0) failed' >&2\nkill -ABRT $$\n")
    program.chmod(0o755)
    monkeypatch.setattr("sys.executable", str(program))
    with pytest.raises(ExportError, match="GGML_ASSERT"):
        quantize(source, tmp_path / "out.gguf", "Q8_0")
    assert [path.name for path in tmp_path.iterdir()] == ["python"]


def test_stopping_halfway_leaves_nothing(source: Path, tmp_path: Path) -> None:
    def stop(_: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quantize(source, tmp_path / "out.gguf", "Q4_K_M", on_progress=stop)
    assert list(tmp_path.iterdir()) == []


def test_bad_arguments_are_named(source: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 'Q3_K'"):
        quantize(source, tmp_path / "out.gguf", "Q3_K")  # type: ignore[arg-type]
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelLoadError, match="is not a GGUF file"):
        quantize(tmp_path / "text.gguf", tmp_path / "out.gguf", "Q8_0")
    with pytest.raises(ModelLoadError, match="can't be read"):
        quantize(tmp_path / "gone.gguf", tmp_path / "out.gguf", "Q8_0")
