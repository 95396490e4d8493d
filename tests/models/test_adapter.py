"""A LoRA adapter beside the real small model: it acts, it fits or is refused, its prefixes are its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from localsmith.core.errors import ModelLoadError
from localsmith.core.settings import ModelSettings, load_settings
from localsmith.core.types import Delta, Message, SamplingParams
from localsmith.models.catalog.installed import InstalledModel
from localsmith.models.catalog.lineage import Lineage
from localsmith.models.catalog.pull import pull, register_trained
from localsmith.models.engine import Engine
from localsmith.models.installed_engine import installed_engine
from localsmith.models.llama.adapter import LoraAdapter
from localsmith.models.llama.runtime import LlamaRuntime

pytestmark = pytest.mark.real_model

Write = Callable[..., Path]
Pair = tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]
QUERY = "blk.0.attn_q.weight"  # 576 x 576
GATE = "blk.3.ffn_gate.weight"  # 576 -> 1536


def pair(n_in: int, n_out: int, *, b: float, rank: int = 4) -> Pair:
    random = np.random.default_rng(5)
    return (
        random.normal(0, 0.1, (rank, n_in)).astype(np.float32),
        random.normal(0, b, (n_out, rank)).astype(np.float32) if b else np.zeros((n_out, rank), np.float32),
    )


@contextmanager
def runtime_of(path: Path, adapter: LoraAdapter | None = None) -> Iterator[LlamaRuntime]:
    runtime = LlamaRuntime(path, ModelSettings(n_ctx=512), n_seq=2, adapter=adapter)
    try:
        yield runtime
    finally:
        runtime.close()


def logits(path: Path, adapter: LoraAdapter | None = None) -> npt.NDArray[np.float32]:
    with runtime_of(path, adapter) as runtime:
        tokens = runtime.tokenize("The capital of France is", parse_special=False)
        row = runtime.batch.add(0, tokens, start=0, num_logits=1)
        assert runtime.decode() == 0
        return runtime.logits(row).copy()


def test_an_adapter_changes_the_logits_and_a_zero_one_nothing(
    small_model_path: Path, tmp_path: Path, tiny_adapter: Write
) -> None:
    bare = logits(small_model_path)
    acting = tiny_adapter(tmp_path / "a.gguf", {QUERY: pair(576, 576, b=0.1), GATE: pair(576, 1536, b=0.1)})
    zero = tiny_adapter(tmp_path / "zero.gguf", {QUERY: pair(576, 576, b=0), GATE: pair(576, 1536, b=0)})
    full = logits(small_model_path, LoraAdapter(acting))
    half = logits(small_model_path, LoraAdapter(acting, scale=0.5))
    assert np.abs(full - bare).max() > 0.1
    assert 0 < np.abs(half - bare).max() < np.abs(full - bare).max()
    np.testing.assert_allclose(logits(small_model_path, LoraAdapter(zero)), bare, atol=1e-4)
    np.testing.assert_array_equal(logits(small_model_path, LoraAdapter(acting, scale=0.0)), bare)


@pytest.mark.parametrize(
    ("pairs", "architecture", "reason"),
    [
        ({QUERY: pair(576, 576, b=0.1)}, "qwen2", "arch mismatch"),
        ({QUERY: pair(896, 896, b=0.1)}, "llama", "incorrect shape"),
        ({"blk.99.attn_q.weight": pair(576, 576, b=0.1)}, "llama", "does not exist in base model"),
    ],
)
def test_an_adapter_of_another_base_is_refused_with_the_reason(
    small_model_path: Path,
    tmp_path: Path,
    tiny_adapter: Write,
    pairs: dict[str, Pair],
    architecture: str,
    reason: str,
) -> None:
    path = tiny_adapter(tmp_path / "other.gguf", pairs, architecture=architecture)
    with pytest.raises(ModelLoadError, match=reason) as caught:
        Engine(small_model_path, name="x", settings=ModelSettings(n_ctx=512), adapter=LoraAdapter(path))
    assert "other.gguf" in str(caught.value) and caught.value.hint


def test_a_file_that_is_no_adapter_is_refused(
    small_model_path: Path, tmp_path: Path, tiny_adapter: Write
) -> None:
    whole = tiny_adapter(tmp_path / "a.gguf", {QUERY: pair(576, 576, b=0.1)}).read_bytes()
    (tmp_path / "short.gguf").write_bytes(whole[:-1000])
    (tmp_path / "words.gguf").write_text("words")
    for path in (
        small_model_path,
        tmp_path / "short.gguf",
        tmp_path / "words.gguf",
        tmp_path / "absent.gguf",
    ):
        with pytest.raises(ModelLoadError, match=path.name):
            LlamaRuntime(small_model_path, ModelSettings(n_ctx=512), n_seq=2, adapter=LoraAdapter(path))


SYSTEM = Message("system", "You are a guide. " + "The tower was built in 1350 and burnt in 1611. " * 12)


def ask(engine: Engine, question: str) -> tuple[str, int]:
    """Return the answer and the tokens of the prompt that were not computed."""
    generation = engine.submit([SYSTEM, Message("user", question)], SamplingParams(max_tokens=8))
    text = "".join(event.text for event in generation if isinstance(event, Delta))
    return text, generation.usage.cached_tokens


def test_an_installed_adapter_runs_on_its_base_and_shares_no_prefix_with_it(
    small_model_path: Path, tmp_path: Path, tiny_adapter: Write
) -> None:
    settings = load_settings(home=tmp_path / "home", model={"n_ctx": 1024, "n_batch": 128})
    base = pull(settings, str(small_model_path))
    path = tiny_adapter(tmp_path / "a.gguf", {GATE: pair(576, 1536, b=3.0)})
    lineage = Lineage(base.name, base.sha256, "run", "data", "lora", "F32", 0.0, adapter_file="a.gguf")
    adapter = register_trained(settings, path, "tuned", lineage)
    assert adapter.n_ctx_train == base.n_ctx_train and adapter.parameters > base.parameters

    def answers(model: InstalledModel) -> list[tuple[str, int]]:
        with closing(installed_engine(settings, model)) as engine:
            assert engine.name == model.name
            return [ask(engine, question) for question in ("When was it built?", "When did it burn?")]

    bare = answers(base)
    tuned = answers(adapter)
    assert tuned[0][1] == 0, "the base's prefix is not the adapter's"
    assert tuned[1][0] != bare[1][0]
    assert answers(base)[0][1] > 150 and answers(adapter)[0][1] > 150
    weaker = dataclasses.replace(adapter, lineage=dataclasses.replace(lineage, adapter_scale=0.5))
    assert answers(weaker)[0][1] == 0, "nor is it that of another scale"
