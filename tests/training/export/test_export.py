"""The way from a training run to a file that can be served, on the real small model and on tiny ones."""

from __future__ import annotations

import json
import shutil
from collections import namedtuple
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from filelock import FileLock
from gguf import GGUFReader
from localsmith.core.errors import ExportError, StorageError
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Delta, Message, SamplingParams
from localsmith.models.catalog.installed import sha256_of
from localsmith.models.engine import Engine
from localsmith.models.llama.adapter import LoraAdapter
from localsmith.models.llama.vocabulary import LlamaVocabulary
from localsmith.training.export.base_file import BaseFile
from localsmith.training.export.export import VerifyRow, export, export_adapter
from localsmith.training.export.gguf_writer import Provenance, write_gguf
from localsmith.training.export.token_models import GgufTokenModel, HfTokenModel
from localsmith.training.export.verify import Limits
from localsmith.training.export.weights import ModelWeights

from .tiny_gguf import TOKENS, tiny_lora

ROWS = [VerifyRow("<|im_start|>Where is the sea?<|im_end|>", "The sea is here, and wide.")]
ANY = Limits(0.0, 1000.0)
LOCK = ".exporting.lock"


@pytest.fixture(scope="module")
def small_model(small_model_path: Path) -> Any:
    """SmolLM2 as a trainer holds it."""
    from localsmith.training.bases import Base, load_trainable

    return load_trainable(Base("small", small_model_path, "gguf", "")).eval()


@pytest.fixture
def paragraphs(shared_data: Path) -> list[str]:
    """Paragraphs of real articles."""
    lines = (shared_data / "squad" / "articles.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["paragraphs"][0] for line in lines[:2]]


@pytest.mark.real_model
def test_the_small_model_comes_back_with_its_logits(
    small_model: Any, small_model_path: Path, paragraphs: list[str], tmp_path: Path
) -> None:
    base = BaseFile.open(small_model_path)
    write_gguf(base, ModelWeights(small_model, base.layout), tmp_path / "F16.gguf", Provenance("m", "b", ""))
    with GgufTokenModel(small_model_path) as original, GgufTokenModel(tmp_path / "F16.gguf") as written:
        tokens = original.tokenize(paragraphs[0])[:100]
        assert written.tokenize(paragraphs[0])[:100] == tokens
        before, after = original.logits(tokens), written.logits(tokens)
    dequantized = HfTokenModel(small_model).logits(tokens)
    assert np.abs(after - dequantized).mean() < 0.003 * dequantized.std()
    assert (after.argmax(1) == dequantized.argmax(1)).mean() >= 0.98
    # llama.cpp rounds what it multiplies with quantized weights to 8 bits: that is all the file is off by.
    assert np.abs(after - before).mean() < 1.1 * np.abs(dequantized - before).mean() < 0.05 * before.std()


@pytest.mark.real_model
def test_a_trained_adapter_becomes_a_file_that_the_engine_serves(
    small_model: Any, small_model_path: Path, paragraphs: list[str], tmp_path: Path
) -> None:
    trained = tiny_lora(small_model, r=8, lora_alpha=8)
    prompt = "<|im_start|>user\n{}<|im_end|>\n<|im_start|>assistant\n"
    rows = [VerifyRow(prompt.format(text[:200]), text[200:600]) for text in paragraphs]
    stages: list[str] = []
    try:
        exported = export(
            trained,
            small_model_path,
            tmp_path,
            "Q8_0",
            rows,
            lambda stage, _: stages.append(stage),
            name="mine",
            run="run-1",
        )
    finally:
        trained.unload()
    assert list(dict.fromkeys(stages)) == ["writing", "quantizing", "verifying"]
    path = exported.model.path
    assert path == tmp_path / "mine-Q8_0.gguf"
    assert sorted(file.name for file in tmp_path.iterdir()) == [LOCK, "mine-Q8_0.gguf"]
    assert exported.model.sha256 == sha256_of(path)
    assert exported.model.size_bytes == path.stat().st_size < 150_000_000
    fields = GGUFReader(path).fields
    assert fields["localsmith.base_sha256"].contents() == sha256_of(small_model_path)
    assert fields["localsmith.run"].contents() == "run-1"
    with LlamaVocabulary(small_model_path) as old, LlamaVocabulary(path) as new:
        assert new.template == old.template
        text = rows[0].prompt + rows[0].completion
        assert new.tokenize(text, parse_special=True) == old.tokenize(text, parse_special=True)
    engine = Engine(path, name="mine", settings=ModelSettings(n_ctx=512))
    try:
        events = list(engine.submit([Message("user", "Say hello.")], SamplingParams(max_tokens=8)))
    finally:
        engine.close()
    assert "".join(event.text for event in events if isinstance(event, Delta))


def test_memory_and_folder_give_the_same_model(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    trained = tiny_lora(gguf_model("llama"))
    trained.save_pretrained(tmp_path / "adapter")
    trained_again = gguf_model("llama")
    for values in trained_again.parameters():
        values.data *= 1.05
    trained_again.save_pretrained(tmp_path / "whole")
    for name, memory, folder in (
        ("adapter", trained, tmp_path / "adapter"),
        ("whole", trained_again, tmp_path / "whole"),
    ):
        expected = HfTokenModel(memory).logits(TOKENS)
        for kind, source in (("memory", memory), ("folder", folder)):
            target = tmp_path / name / kind
            exported = export(source, gguf_base("llama"), target, "F16", ROWS, name="tiny", limits=ANY)
            assert abs(exported.verification.perplexity_percent) < 1.0
            with GgufTokenModel(exported.model.path) as file:
                assert np.abs(file.logits(TOKENS) - expected).mean() < 0.01 * expected.std()


def test_an_adapter_file_is_written_beside(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    trained = tiny_lora(gguf_model("qwen2"))
    trained.save_pretrained(tmp_path / "adapter")
    base = gguf_base("qwen2")
    file = export_adapter(tmp_path / "adapter", base, tmp_path / "out", name="tiny", run="run-9")
    assert file.path == tmp_path / "out" / "tiny-lora.gguf"
    assert file.sha256 == sha256_of(file.path)
    assert GGUFReader(file.path).fields["localsmith.run"].contents() == "run-9"
    expected = HfTokenModel(trained).logits(TOKENS)
    with GgufTokenModel(base, adapter=LoraAdapter(file.path)) as beside:
        assert np.abs(beside.logits(TOKENS) - expected).mean() < 0.01 * expected.std()


def test_a_file_beyond_the_limits_is_not_handed_over(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    with pytest.raises(ExportError, match="is not the trained model: Greedy text agrees") as caught:
        export(
            gguf_model("llama"),
            gguf_base("llama"),
            tmp_path,
            "Q4_K_M",
            ROWS,
            name="tiny",
            limits=Limits(1.0, 0.0),
        )
    assert "importance matrix" in caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


def test_an_importance_matrix_is_measured_where_texts_are_given(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    stages: list[str] = []
    export(
        gguf_model("llama"),
        gguf_base("llama"),
        tmp_path,
        "Q5_K_M",
        ROWS,
        lambda stage, _: stages.append(stage),
        name="tiny",
        imatrix_texts=["The sea is wide and the stars are far. " * 20],
        limits=ANY,
    )
    assert list(dict.fromkeys(stages)) == ["writing", "measuring", "quantizing", "verifying"]
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "tiny-Q5_K_M.gguf"]


def test_what_a_killed_export_left_is_cleared_by_the_next(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    (tmp_path / ".exporting").mkdir()
    (tmp_path / ".exporting" / "F16.gguf").write_bytes(b"half of a model")
    export(gguf_model("llama"), gguf_base("llama"), tmp_path, "F16", ROWS, name="tiny", limits=ANY)
    assert sorted(path.name for path in tmp_path.iterdir()) == [LOCK, "tiny-F16.gguf"]


def test_a_second_export_into_the_same_folder_waits_its_turn(
    gguf_base: Callable[[str], Path], tmp_path: Path
) -> None:
    with FileLock(tmp_path / LOCK), pytest.raises(ExportError, match="Another export"):
        export(tmp_path, gguf_base("llama"), tmp_path, "F16", ROWS, name="tiny")


def test_a_disk_that_is_too_small_is_said_before_anything_is_written(
    gguf_base: Callable[[str], Path],
    gguf_model: Callable[[str], Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usage = namedtuple("usage", "total used free")(10**9, 10**9, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage)
    with pytest.raises(StorageError, match="takes 2 MB in 16 bits"):
        export(gguf_model("llama"), gguf_base("llama"), tmp_path, "F16", ROWS, name="tiny")
    assert [path.name for path in tmp_path.iterdir()] == [LOCK]


@pytest.mark.parametrize("name", ["../up", "", ".hidden", "a b", "a/b"])
def test_a_name_can_not_lead_out_of_the_folder(name: str, tmp_path: Path) -> None:
    for call in (
        lambda: export(tmp_path, tmp_path, tmp_path, "F16", ROWS, name=name),
        lambda: export_adapter(tmp_path, tmp_path, tmp_path, name=name),
    ):
        with pytest.raises(ValueError, match="name must be of letters"):
            call()


def test_bad_arguments_are_named(gguf_base: Callable[[str], Path], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not 'Q2_K'"):
        export(tmp_path, gguf_base("llama"), tmp_path, "Q2_K", ROWS, name="a")  # type: ignore[arg-type]
    with pytest.raises(ExportError, match="no held-out row"):
        export(tmp_path, gguf_base("llama"), tmp_path, "F16", [], name="a")
    with pytest.raises(ValueError, match="needs `cache`"):
        export(tmp_path, tmp_path, tmp_path / "out", "F16", ROWS, name="a")
