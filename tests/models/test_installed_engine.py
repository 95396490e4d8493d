"""The memory that an engine will take is reckoned before it is loaded beside another."""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

import psutil
import pytest
from localsmith.core.settings import ModelSettings, load_settings
from localsmith.core.types import Message, SamplingParams
from localsmith.models import installed_engine
from localsmith.models.catalog.installed import InstalledModel
from localsmith.models.catalog.pull import pull
from localsmith.models.catalog.weights import Weights
from localsmith.models.engine import Engine
from localsmith.models.installed_engine import fits_beside, memory_bytes
from localsmith.models.llama import devices
from localsmith.models.llama.devices import Gpu

pytestmark = pytest.mark.real_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory, small_model_path: Path) -> InstalledModel:
    return pull(load_settings(home=tmp_path_factory.mktemp("home")), str(small_model_path))


def test_the_memory_reckoned_is_what_an_engine_takes_at_most(small_model_path: Path) -> None:
    settings = ModelSettings(n_ctx=4096)
    before = psutil.Process().memory_info().rss
    with closing(Engine(small_model_path, name="x", settings=settings)) as engine:
        list(engine.submit([Message("user", "word " * 300)], SamplingParams(max_tokens=2)))
        taken = psutil.Process().memory_info().rss - before
    reckoned = memory_bytes(Weights(small_model_path, None, ""), settings)
    assert small_model_path.stat().st_size < taken < reckoned < 4 * taken


def test_a_model_fits_where_the_memory_free_holds_it(
    model: InstalledModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(installed_engine, "gpus", list)
    settings = load_settings(home=model.folder.parent.parent)
    needed = memory_bytes(Weights(model.path, None, ""), settings.model)
    memory = psutil.virtual_memory()
    for available, fits in ((needed, True), (needed - 1, False)):
        monkeypatch.setattr(psutil, "virtual_memory", lambda free=available: memory._replace(available=free))
        assert fits_beside(settings, model) is fits


# 31 layers of some 9 MB, and what is kept free: 700 MiB and a tenth.
@pytest.mark.parametrize(
    ("free_bytes", "n_gpu_layers", "fits"),
    [(8 * 10**9, -1, True), (10**9, -1, False), (10**9, 10, True), (10**9, 30, False), (10**9, 99, False)],
)
def test_on_a_card_the_layers_must_fit_that_an_empty_card_would_take(
    model: InstalledModel,
    monkeypatch: pytest.MonkeyPatch,
    free_bytes: int,
    n_gpu_layers: int,
    fits: bool,
) -> None:
    for module in (devices, installed_engine):
        monkeypatch.setattr(module, "gpus", lambda: [Gpu("CUDA0", free_bytes, 24 * 10**9)])
    settings = load_settings(home=model.folder.parent.parent, model={"n_gpu_layers": n_gpu_layers})
    assert fits_beside(settings, model) is fits
