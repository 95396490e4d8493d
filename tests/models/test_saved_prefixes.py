"""Prefixes that outlive the engine, on the real small model."""

from __future__ import annotations

from pathlib import Path

import pytest
from localsmith.core.settings import ModelSettings
from localsmith.core.types import Delta, Message, SamplingParams
from localsmith.models.engine import Engine
from localsmith.models.saved_prefixes import SavedPrefixes

pytestmark = pytest.mark.real_model

SYSTEM = Message("system", "You are a guide. " + "The tower was built in 1350 and burnt in 1611. " * 12)


def ask(engine: Engine, question: str) -> tuple[str, int]:
    """Return the answer and the tokens of the prompt that were not computed."""
    generation = engine.submit([SYSTEM, Message("user", question)], SamplingParams(max_tokens=12))
    text = "".join(event.text for event in generation if isinstance(event, Delta))
    return text, generation.usage.cached_tokens


def engine_of(path: Path, folder: Path, *, key: str = "one", max_bytes: int = 2**28) -> Engine:
    settings = ModelSettings(n_ctx=1024, n_batch=128)
    saved = SavedPrefixes(folder, key, max_bytes)
    return Engine(path, name="small", settings=settings, saved_prefixes=saved)


def use_and_close(engine: Engine) -> str:
    ask(engine, "When was it built?")
    text, _ = ask(engine, "When did it burn?")
    engine.close()
    return text


def test_a_prefix_found_twice_survives_a_restart(small_model_path: Path, tmp_path: Path) -> None:
    before = use_and_close(engine_of(small_model_path, tmp_path))
    engine = engine_of(small_model_path, tmp_path)
    text, cached = ask(engine, "When did it burn?")
    engine.close()
    assert cached > 150
    assert text == before


def test_another_model_sees_nothing_of_it(small_model_path: Path, tmp_path: Path) -> None:
    use_and_close(engine_of(small_model_path, tmp_path))
    engine = engine_of(small_model_path, tmp_path, key="other")
    assert ask(engine, "When did it burn?")[1] == 0
    engine.close()


def test_a_damaged_file_is_computed_anew(small_model_path: Path, tmp_path: Path) -> None:
    before = use_and_close(engine_of(small_model_path, tmp_path))
    for path in tmp_path.rglob("*.kv"):
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 0xFF
        path.write_bytes(data)
    engine = engine_of(small_model_path, tmp_path)
    assert ask(engine, "When did it burn?") == (before, 0)
    engine.close()


def test_the_disk_limit_holds(small_model_path: Path, tmp_path: Path) -> None:
    use_and_close(engine_of(small_model_path, tmp_path, max_bytes=1000))
    assert not list(tmp_path.rglob("*.kv"))
    assert not list(tmp_path.glob("*.partial"))
