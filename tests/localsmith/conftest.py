"""A data folder of the test's own over the shared test models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from localsmith.core.settings import Settings, load_settings

from localsmith import Localsmith

SMALL_MODEL = "smollm2-135m"


@pytest.fixture(scope="package")
def ready_home(
    tmp_path_factory: pytest.TempPathFactory, models_home: Path, small_model_path: Path, embedder_path: Path
) -> Path:
    """A data folder with the test models, an own library, own conversations and a remembered speed."""
    home = tmp_path_factory.mktemp("ready")
    (home / "models").symlink_to(models_home / "models")
    return home


@pytest.fixture(scope="package")
def ready_settings(ready_home: Path) -> Settings:
    """Settings for that folder, with the small model and short answers."""
    return load_settings(
        home=ready_home, model={"name": SMALL_MODEL, "n_ctx": 2048}, answer={"max_tokens": 48}
    )


@pytest.fixture(scope="module")
def ls(ready_settings: Settings) -> Iterator[Localsmith]:
    """One front door for all tests here."""
    with Localsmith(settings=ready_settings) as ls:
        yield ls
