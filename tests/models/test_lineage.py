"""A trained model is registered whole with where it comes from, promoted if it is better, and rolled back."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import (
    ConfigError,
    GateRejected,
    ModelLoadError,
    ModelNotFoundError,
    StorageError,
    TrainingError,
)
from localsmith.core.settings import Settings, load_settings
from localsmith.models.catalog.installed import (
    STATE_FILE,
    changing,
    history,
    in_use,
    installed,
    installed_model,
    path_of,
    sha256_of,
    use,
)
from localsmith.models.catalog.lineage import Lineage, Metric
from localsmith.models.catalog.promotion import Change, promote, rollback
from localsmith.models.catalog.pull import pull, register_trained
from localsmith.models.catalog.trash import remove
from localsmith.models.catalog.weights import weights_of

Write = Callable[..., Path]
BETTER = Metric("rouge_l", 0.20, 0.30)
WORSE = Metric("perplexity", 9.0, 12.0, is_higher_better=False)


@pytest.fixture
def settings(tmp_path: Path, tiny_model: Write) -> Settings:
    """A data folder with one model, "base"."""
    settings = load_settings(home=tmp_path / "home")
    pull(settings, str(tiny_model(tmp_path / "base.gguf")), name="base")
    return settings


def lineage_of(settings: Settings, *metrics: Metric, adapter_file: str = "") -> Lineage:
    sha256 = installed_model(settings, "base").sha256
    return Lineage("base", sha256, "run-7", "d41d", "lora", "Q8_0", 1.7e9, adapter_file, 0.5, metrics)


def trained(
    settings: Settings, folder: Path, write: Write, name: str, *metrics: Metric, seed: int = 1
) -> str:
    path = write(folder / f"{name}.gguf", seed=seed)
    return register_trained(settings, path, name, lineage_of(settings, *metrics)).name


# -- figures


@given(
    before=st.floats(-1e6, 1e6),
    after=st.floats(-1e6, 1e6),
    tolerance=st.floats(0, 10),
    is_higher_better=st.booleans(),
)
def test_a_figure_is_worse_exactly_where_it_fell_by_more_than_its_tolerance(
    before: float, after: float, tolerance: float, is_higher_better: bool
) -> None:
    metric = Metric("x", before, after, is_higher_better, tolerance)
    fall = before - after if is_higher_better else after - before
    assert metric.is_worse == (fall > tolerance)
    assert not Metric("x", before, before, is_higher_better).is_worse


@pytest.mark.parametrize("figure", [math.nan, math.inf, -math.inf])
def test_a_figure_that_cant_be_compared_is_refused(figure: float) -> None:
    with pytest.raises(ValueError, match="finite"):
        Metric("loss", 1.0, figure)
    with pytest.raises(ValueError, match="-1"):
        Metric("loss", 1.0, 1.0, tolerance=-1)


# -- registering


def test_a_trained_model_is_kept_whole_with_its_lineage(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    path = tiny_model(tmp_path / "tuned.gguf", seed=1)
    lineage = lineage_of(settings, BETTER)
    model = register_trained(settings, path, "tuned", lineage)
    assert installed(settings)["tuned"] == model
    assert model.lineage == lineage and not model.is_adapter
    assert model.sha256 == sha256_of(path) and path_of(settings, "tuned").read_bytes() == path.read_bytes()
    path.unlink()
    assert weights_of(settings, model).path == model.path


def test_a_record_from_before_there_was_lineage_still_loads(settings: Settings) -> None:
    state = settings.models_dir / STATE_FILE
    raw = json.loads(state.read_text())
    assert "lineage" not in raw["models"]["base"], "and what has none is written as before"
    del raw["history"]
    state.write_text(json.dumps(raw))
    assert installed(settings)["base"].lineage is None
    assert history(settings) == []


def test_a_record_with_a_figure_that_is_none_is_an_error_with_a_next_step(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    trained(settings, tmp_path, tiny_model, "tuned", BETTER)
    state = settings.models_dir / STATE_FILE
    state.write_text(state.read_text().replace("0.3", "NaN"))
    with pytest.raises(StorageError) as caught:
        installed(settings)
    assert caught.value.hint


def test_the_same_file_is_registered_once_and_takes_the_new_lineage(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    trained(settings, tmp_path, tiny_model, "tuned", WORSE)
    inode = installed_model(settings, "tuned").path.stat().st_ino
    trained(settings, tmp_path, tiny_model, "tuned", BETTER)
    again = installed_model(settings, "tuned")
    assert again.lineage is not None and again.lineage.metrics == (BETTER,)
    assert again.path.stat().st_ino == inode


def test_a_trained_model_never_takes_the_place_of_another(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    before = path_of(settings, "base").read_bytes()
    other = tiny_model(tmp_path / "other.gguf", seed=3)
    for name in ("base", "smollm2-135m", "No Name"):
        with pytest.raises(ValueError, match=name):
            register_trained(settings, other, name, lineage_of(settings))
    assert path_of(settings, "base").read_bytes() == before
    assert list(installed(settings)) == ["base"]


def test_what_is_no_model_is_refused(settings: Settings, tmp_path: Path, tiny_adapter: Write) -> None:
    lineage = lineage_of(settings)
    (tmp_path / "words.gguf").write_text("no model")
    for name in ("words.gguf", "absent.gguf"):
        with pytest.raises(ModelLoadError):
            register_trained(settings, tmp_path / name, "tuned", lineage)
    adapter = tiny_adapter(tmp_path / "adapter.gguf", {})
    with pytest.raises(ValueError, match="adapter"):
        register_trained(settings, adapter, "tuned", lineage)
    with pytest.raises(ModelLoadError, match="adapter"):
        pull(settings, str(adapter))
    assert list(installed(settings)) == ["base"]


def test_an_adapter_stands_beside_its_base_and_misses_it_by_name(
    settings: Settings, tmp_path: Path, tiny_adapter: Write
) -> None:
    lineage = lineage_of(settings, adapter_file="adapter.gguf")
    adapter = register_trained(settings, tiny_adapter(tmp_path / "adapter.gguf", {}), "tuned", lineage)
    base = installed_model(settings, "base")
    weights = weights_of(settings, adapter)
    assert weights.path == base.path
    assert weights.adapter is not None and (weights.adapter.path, weights.adapter.scale) == (
        adapter.path,
        0.5,
    )
    assert base.sha256 in weights.identity and adapter.sha256 in weights.identity
    with pytest.raises(ModelLoadError, match="adapter"):
        path_of(settings, "tuned")
    remove(settings, "base")
    with pytest.raises(ModelNotFoundError, match="base") as caught:
        weights_of(settings, adapter)
    assert "restore base" in caught.value.hint
    with pytest.raises(ModelNotFoundError):
        promote(settings, "tuned")


_REGISTER = """
import sys
from pathlib import Path
from localsmith.core.settings import load_settings
from localsmith.models.catalog.lineage import Lineage
from localsmith.models.catalog.pull import register_trained
settings = load_settings(home=Path(sys.argv[1]))
lineage = Lineage("base", "0" * 64, "run", "data", "full", "F16", 0.0)
print("begun", flush=True)
register_trained(settings, Path(sys.argv[2]), "tuned", lineage)
"""


@pytest.mark.parametrize("delay_s", [0.0, 0.02, 0.1])
def test_a_killed_registration_leaves_the_model_whole_or_absent(
    settings: Settings, tmp_path: Path, tiny_model: Write, delay_s: float
) -> None:
    path = tiny_model(tmp_path / "tuned.gguf", seed=1)
    command = [sys.executable, "-c", _REGISTER, str(settings.home), str(path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ, text=True)
    assert process.stdout is not None and process.stdout.readline() == "begun\n"
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    if "tuned" in installed(settings):
        assert path_of(settings, "tuned").read_bytes() == path.read_bytes()
        assert installed(settings)["tuned"].lineage is not None
    assert trained(settings, tmp_path, tiny_model, "tuned") == "tuned", "and the next try succeeds"


# -- promoting


def test_what_was_promoted_is_undone_step_by_step(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    one = trained(settings, tmp_path, tiny_model, "one", BETTER, seed=1)
    two = trained(settings, tmp_path, tiny_model, "two", seed=2)
    assert promote(settings, one) == Change(None, one)
    assert promote(settings, two) == Change(one, two)
    promote(settings, two)  # again: nothing to remember
    use(settings, "base")
    assert [rollback(settings).now for _ in range(3)] == [two, one, None]
    assert in_use(settings) is None
    with pytest.raises(ConfigError, match="no earlier model") as caught:
        rollback(settings)
    assert "promote" in caught.value.hint


def test_a_model_worse_than_its_base_needs_a_persons_word(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    name = trained(settings, tmp_path, tiny_model, "tuned", BETTER, WORSE)
    with pytest.raises(GateRejected) as caught:
        promote(settings, name)
    assert isinstance(caught.value, TrainingError)
    assert "perplexity 9 -> 12" in str(caught.value) and "rouge_l" not in str(caught.value)
    assert "--anyway" in caught.value.hint and in_use(settings) is None
    promote(settings, name, anyway=True)
    assert in_use(settings) == name


def test_what_chance_alone_would_do_is_let_pass_and_said(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    by_chance = Metric("held_out_loss", 1.0, 1.009, is_higher_better=False, tolerance=0.01)
    name = trained(settings, tmp_path, tiny_model, "tuned", by_chance)
    assert promote(settings, name).now == name
    beyond = Metric("held_out_loss", 1.0, 1.02, is_higher_better=False, tolerance=0.01)
    other = trained(settings, tmp_path, tiny_model, "other", beyond, seed=2)
    with pytest.raises(GateRejected, match=r"held_out_loss 1 -> 1.02 \(lower is better; worse by up to 0.01"):
        promote(settings, other)


def test_rolling_back_to_what_is_gone_is_refused_and_changes_nothing(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    one = trained(settings, tmp_path, tiny_model, "one", seed=1)
    two = trained(settings, tmp_path, tiny_model, "two", seed=2)
    promote(settings, one)
    promote(settings, two)
    remove(settings, one)
    with pytest.raises(ModelNotFoundError, match="one") as caught:
        rollback(settings)
    assert "restore one" in caught.value.hint
    assert (in_use(settings), history(settings)) == (two, [None, one])


def test_a_damaged_model_is_neither_promoted_nor_gone_back_to(
    settings: Settings, tmp_path: Path, tiny_model: Write
) -> None:
    one = trained(settings, tmp_path, tiny_model, "one", seed=1)
    two = trained(settings, tmp_path, tiny_model, "two", seed=2)
    promote(settings, one)
    promote(settings, two)
    installed_model(settings, one).path.write_bytes(b"GGUF")
    with pytest.raises(ModelLoadError):
        rollback(settings)
    with pytest.raises(ModelLoadError):
        promote(settings, one)
    assert in_use(settings) == two


def test_the_history_is_bounded(settings: Settings, tmp_path: Path, tiny_model: Write) -> None:
    one = trained(settings, tmp_path, tiny_model, "one", seed=1)
    for _ in range(15):
        promote(settings, one)
        promote(settings, "base")
    with changing(settings.models_dir) as state:
        assert state.history[-1] == one and len(state.history) == 20
