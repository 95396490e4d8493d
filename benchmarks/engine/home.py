"""A throw-away data folder for `localsmith serve`, so that a benchmark touches nobody's library or keys.

Place in the data's way: `servers` and `soak` make one -> `LOCALSMITH_HOME` of the server ->
deleted at the end.

Example:
    with throwaway_home(find_model("qwen2.5-coder-0.5b")) as home:
        ...
"""

from __future__ import annotations

import contextlib
import dataclasses
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from localsmith.core.settings import Settings, load_settings
from localsmith.models.catalog.installed import InstalledModel, describe_file, installed, register, sha256_of


@dataclass(frozen=True, slots=True)
class ModelFile:
    """The GGUF to measure.

    Attributes:
        name: Catalog name, or the file's name without its ending.
        path: The file.
        sha256: SHA-256 of its bytes.
    """

    name: str
    path: Path
    sha256: str


def find_model(named: str) -> ModelFile:
    """Return an installed model by name, or a GGUF file by path.

    Raises:
        FileNotFoundError: There is neither.
    """
    path = Path(named)
    if path.is_file():
        return ModelFile(path.stem, path.resolve(), sha256_of(path))
    models = installed(load_settings())
    if named not in models:
        have = ", ".join(sorted(name for name, model in models.items() if model.kind == "chat")) or "none"
        raise FileNotFoundError(
            f"{named!r} is neither a file nor an installed model (installed: {have}). "
            f"Get it: localsmith models pull {named}"
        )
    model = models[named].verify()
    return ModelFile(named, model.path, model.sha256)


@contextlib.contextmanager
def throwaway_home(model: ModelFile) -> Iterator[Path]:
    """Make a data folder that holds this model and, by links, what else is installed here.

    The real folder's measured speeds are copied, so that the server does not measure again.
    """
    real = load_settings()
    with tempfile.TemporaryDirectory(prefix="localsmith-benchmark-") as folder:
        home = Path(folder)
        settings = real.model_copy(update={"home": home})
        settings.models_dir.mkdir()
        for found in installed(real).values():
            _link(settings, found)
        _add(settings, model)
        speeds = real.models_dir / "speed.json"
        if speeds.is_file():
            shutil.copy2(speeds, settings.models_dir / speeds.name)
        yield home


def _link(settings: Settings, found: InstalledModel) -> None:
    target = settings.models_dir / found.folder.name
    target.symlink_to(found.folder.resolve(), target_is_directory=True)
    register(settings, dataclasses.replace(found, folder=target))


def _add(settings: Settings, model: ModelFile) -> None:
    if model.name in installed(settings):
        return
    folder = settings.models_dir / model.name
    folder.mkdir()
    (folder / model.path.name).symlink_to(model.path)
    record = describe_file(folder, model.path.name, model.sha256)
    register(
        settings,
        InstalledModel(model.name, "chat", folder, (record,), "benchmark", "unknown", 0, 0, installed_at=0.0),
    )
