"""A LoRA adapter, merged into its base or beside it, is the model that was trained."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import ExportError
from localsmith.models.llama.adapter import LoraAdapter
from localsmith.training.export.adapter import write_adapter
from localsmith.training.export.base_file import BaseFile
from localsmith.training.export.gguf_writer import Provenance, write_gguf
from localsmith.training.export.lora_folder import LoraFolder, LoraPair
from localsmith.training.export.token_models import GgufTokenModel, HfTokenModel
from localsmith.training.export.weights import MergedWeights, ModelWeights

from .tiny_gguf import TOKENS, tiny_lora

PROVENANCE = Provenance("trained", "tiny", "ab" * 32, "run-7")

OPTIONS = [
    {},
    {"use_rslora": True, "lora_alpha": 3},
    {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"layers.1.mlp.down_proj": 32}},
]


@given(
    rows=st.integers(1, 9),
    columns=st.integers(1, 9),
    rank=st.integers(1, 5),
    scale=st.floats(-8, 8, width=32),
    seed=st.integers(0, 99),
)
def test_the_merged_matrix_does_what_the_layer_beside_its_base_did(
    rows: int, columns: int, rank: int, scale: float, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    w, a, b, x = (
        rng.normal(size=shape).astype(np.float32)
        for shape in ((rows, columns), (rank, columns), (rows, rank), (columns, 3))
    )
    merged = w + LoraPair(a, b, scale).delta
    np.testing.assert_allclose(merged @ x, w @ x + scale * (b @ (a @ x)), atol=2e-3)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_merging_is_what_peft_merges(
    options: dict[str, Any],
    architecture: str,
    gguf_base: Callable[[str], Path],
    gguf_model: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    base = BaseFile.open(gguf_base(architecture))
    trained = tiny_lora(gguf_model(architecture), **options)
    trained.save_pretrained(tmp_path / "adapter")
    in_memory = ModelWeights(trained, base.layout)
    from_folder = MergedWeights(base, LoraFolder.open(tmp_path / "adapter"))
    by_peft = ModelWeights(copy.deepcopy(trained).merge_and_unload(), base.layout)
    changed = [name for name in base.tensors if not np.array_equal(by_peft.tensor(name), base.tensor(name))]
    assert len(changed) == 8
    for name in base.tensors:
        np.testing.assert_allclose(from_folder.tensor(name), by_peft.tensor(name), atol=1e-5)
        np.testing.assert_allclose(in_memory.tensor(name), by_peft.tensor(name), atol=1e-5)


def test_exporting_leaves_the_model_in_memory_as_it_was(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    base, trained = BaseFile.open(gguf_base("llama")), tiny_lora(gguf_model("llama"))
    before = {name: values.clone() for name, values in trained.state_dict().items()}
    write_gguf(base, ModelWeights(trained, base.layout), tmp_path / "out.gguf", PROVENANCE)
    after = trained.state_dict()
    assert list(after) == list(before)
    assert all(bool((after[name] == before[name]).all()) for name in before)


@pytest.mark.parametrize("architecture", ["llama", "qwen2", "qwen3"])
def test_the_merged_file_gives_the_unmerged_adapters_logits(
    architecture: str, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    base, trained = BaseFile.open(gguf_base(architecture)), tiny_lora(gguf_model(architecture))
    trained.save_pretrained(tmp_path / "adapter")
    weights = MergedWeights(base, LoraFolder.open(tmp_path / "adapter"))
    write_gguf(base, weights, tmp_path / "out.gguf", PROVENANCE, is_half=False)
    expected = HfTokenModel(trained).logits(TOKENS)
    with trained.disable_adapter():
        untrained = HfTokenModel(trained).logits(TOKENS)
    with GgufTokenModel(tmp_path / "out.gguf") as merged:
        error = np.abs(merged.logits(TOKENS) - expected).mean()
    assert error < 0.005 * expected.std()
    assert np.abs(untrained - expected).mean() > 20 * error


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("architecture", ["llama", "qwen2"])
def test_llama_cpp_loads_the_adapter_beside_its_base(
    options: dict[str, Any],
    architecture: str,
    gguf_base: Callable[[str], Path],
    gguf_model: Callable[[str], Any],
    tmp_path: Path,
) -> None:
    base, trained = BaseFile.open(gguf_base(architecture)), tiny_lora(gguf_model(architecture), **options)
    trained.save_pretrained(tmp_path / "adapter")
    write_adapter(LoraFolder.open(tmp_path / "adapter"), base, tmp_path / "lora.gguf", PROVENANCE)
    expected = HfTokenModel(trained).logits(TOKENS)
    with GgufTokenModel(base.path) as engine:
        untrained = engine.logits(TOKENS)
    with GgufTokenModel(base.path, adapter=LoraAdapter(tmp_path / "lora.gguf")) as engine:
        error = np.abs(engine.logits(TOKENS) - expected).mean()
    assert error < 0.005 * expected.std()
    assert np.abs(untrained - expected).mean() > 20 * error


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"use_dora": True}, "use_dora is True"),
        ({"bias": "all"}, "bias is 'all'"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save is"),
        ({"peft_type": "IA3"}, "its kind is IA3"),
        ({"lora_alpha": float("nan")}, "lora_alpha is nan"),
        ({"lora_alpha": "many"}, "can't be read"),
    ],
)
def test_an_adapter_that_is_no_plain_lora_is_refused(
    change: dict[str, Any], words: str, gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    tiny_lora(gguf_model("llama")).save_pretrained(tmp_path)
    config = json.loads((tmp_path / "adapter_config.json").read_text())
    (tmp_path / "adapter_config.json").write_text(json.dumps(config | change))
    with pytest.raises(ExportError, match=words) as caught:
        LoraFolder.open(tmp_path)
    assert caught.value.hint


@pytest.mark.parametrize("kind", ["IA3", "DoRA"])
def test_other_layers_of_peft_are_merged_as_peft_merges_them(
    kind: str, gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any]
) -> None:
    import torch
    from peft import IA3Config, get_peft_model

    model, base = gguf_model("qwen2"), BaseFile.open(gguf_base("qwen2"))
    if kind == "DoRA":
        trained = tiny_lora(model, use_dora=True)
    else:
        trained = get_peft_model(
            model,
            IA3Config(
                task_type="CAUSAL_LM",
                target_modules=["k_proj", "down_proj"],
                feedforward_modules=["down_proj"],
            ),
        )
        for name, values in trained.named_parameters():
            if "ia3_" in name:
                torch.nn.init.normal_(values, mean=1.0, std=0.2)
    in_memory = ModelWeights(trained, base.layout)
    found = {name: in_memory.tensor(name) for name in base.tensors}
    by_peft = ModelWeights(trained.merge_and_unload(), base.layout)
    # IA3 scales what a layer gives, its bias too
    num_changed = {"DoRA": 8, "IA3": 6}[kind]
    assert sum(not np.array_equal(by_peft.tensor(n), base.tensor(n)) for n in base.tensors) == num_changed
    for name, values in found.items():
        np.testing.assert_allclose(values, by_peft.tensor(name), atol=1e-5)


def test_a_learned_prompt_is_refused_and_not_silently_dropped(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any]
) -> None:
    from peft import PromptTuningConfig, get_peft_model

    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=4)
    with pytest.raises(ExportError, match="no weights of the model"):
        ModelWeights(get_peft_model(gguf_model("llama"), config), BaseFile.open(gguf_base("llama")).layout)


def test_an_adapter_of_another_base_is_refused(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    from safetensors.torch import load_file, save_file

    tiny_lora(gguf_model("llama")).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    wider = {
        name: values.repeat(1, 2) if "lora_A" in name else values for name, values in load_file(path).items()
    }
    save_file(wider, path)
    with pytest.raises(ExportError, match=r"is \(\d+, \d+\) in llama\.gguf"):
        MergedWeights(BaseFile.open(gguf_base("llama")), LoraFolder.open(tmp_path))


def test_a_cut_adapter_file_is_an_error_with_words(gguf_model: Callable[[str], Any], tmp_path: Path) -> None:
    tiny_lora(gguf_model("llama")).save_pretrained(tmp_path)
    path = tmp_path / "adapter_model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(ExportError, match="can't be read"):
        LoraFolder.open(tmp_path)


def test_an_adapter_file_leaves_the_output_layer_to_the_merged_model(
    gguf_base: Callable[[str], Path], gguf_model: Callable[[str], Any], tmp_path: Path
) -> None:
    trained = tiny_lora(gguf_model("llama"), target_modules=["lm_head"])
    trained.save_pretrained(tmp_path / "adapter", save_embedding_layers=False)
    base = BaseFile.open(gguf_base("llama"))
    with pytest.raises(ExportError, match=r"output\.weight"):
        write_adapter(LoraFolder.open(tmp_path / "adapter"), base, tmp_path / "a.gguf", PROVENANCE)
    assert not (tmp_path / "a.gguf").exists()
