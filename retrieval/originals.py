"""The files as they were given, kept under their hash beside the SQLite file.

Place in the data's way: upload -> `Originals.stage` (copied and hashed under a name of ours) -> parser ->
store transaction, within which `keep` moves it to `files/<sha256>`. A person's file name never becomes a
path.

Example:
    >>> import io, tempfile
    >>> originals = Originals(Path(tempfile.mkdtemp()))
    >>> staged = originals.stage(io.BytesIO(b"hello"), max_bytes=100)
    >>> originals.keep(staged)
    True
    >>> originals.path(staged.sha256).read_bytes()
    b'hello'
    >>> originals.close()
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from filelock import FileLock, Timeout

from ..core.errors import LoadError, StorageError

_BLOCK_BYTES = 1 << 20
_STALE_LOCK_S = 86_400.0


@dataclass(frozen=True, slots=True)
class StagedFile:
    """A copy that is not yet part of the library.

    Attributes:
        path: Where the copy lies.
        sha256: Of its bytes, lower-case hex.
        size_bytes: Its size.
    """

    path: Path
    sha256: str
    size_bytes: int


class Originals:
    """`files/` (kept) and `staging/` (on the way in) of one library folder.

    Each process stages in a folder of its own and holds a lock file beside it; the operating system drops the
    lock when the process dies, so whoever opens the library next knows which folders are rubbish.
    """

    def __init__(self, folder: Path) -> None:
        """Remember the folder; nothing is created before the first file."""
        self._files = folder / "files"
        self._staging = folder / "staging"
        self._own: Path | None = None
        self._lock: FileLock | None = None
        self._guard = threading.Lock()

    def path(self, sha256: str) -> Path:
        """Return where the original with this hash is kept."""
        return self._files / sha256

    def stage(
        self, source: BinaryIO, max_bytes: int, should_stop: Callable[[], bool] = lambda: False
    ) -> StagedFile:
        """Copy a stream to the staging folder, hashing it on the way.

        Args:
            source: The bytes, read to the end.
            max_bytes: Longer streams are refused.
            should_stop: Asked between blocks; True ends the copy with `InterruptedError`.

        Raises:
            LoadError: The stream is longer than `max_bytes`.
            StorageError: The disk is full.
        """
        digest = hashlib.sha256()
        size = 0
        with translated_os_errors(self._staging):
            target = self._own_staging() / uuid.uuid4().hex
            try:
                with target.open("wb") as file:
                    while block := source.read(_BLOCK_BYTES):
                        size += len(block)
                        if size > max_bytes:
                            raise too_large(max_bytes)
                        if should_stop():
                            raise InterruptedError
                        digest.update(block)
                        file.write(block)
                    file.flush()
                    os.fsync(file.fileno())
            except BaseException:
                target.unlink(missing_ok=True)
                raise
        return StagedFile(target, digest.hexdigest(), size)

    def keep(self, staged: StagedFile) -> bool:
        """Move a staged file to `files/`; call it inside the write transaction that will name it.

        Returns:
            Whether the file is new there; if so and the transaction fails, `discard` must follow.

        Raises:
            StorageError: The disk is full.
        """
        target = self.path(staged.sha256)
        with translated_os_errors(self._files):
            if target.exists():
                staged.path.unlink(missing_ok=True)
                return False
            self._files.mkdir(parents=True, exist_ok=True)
            os.replace(staged.path, target)
            _sync_folder(self._files)
        return True

    def discard(self, sha256: str) -> None:
        """Remove an original that no document names."""
        self.path(sha256).unlink(missing_ok=True)

    def remove_all_but(self, wanted: set[str]) -> int:
        """Remove files that no document names, left by a crash or a purge; call it as the only writer.

        Returns:
            How many were removed.
        """
        if not self._files.is_dir():
            return 0
        orphans = [entry.name for entry in os.scandir(self._files) if entry.name not in wanted]
        for name in orphans:
            self.discard(name)
        return len(orphans)

    def remove_dead_staging(self) -> None:
        """Remove the staging folders of processes that no longer run."""
        if not self._staging.is_dir():
            return
        for lock_path in self._staging.glob("*.lock"):
            folder = lock_path.with_suffix("")
            # A lock without a folder may belong to a process that is just making both.
            if folder == self._own or not (folder.is_dir() or _age_s(lock_path) > _STALE_LOCK_S):
                continue
            with contextlib.suppress(Timeout, OSError), FileLock(lock_path, timeout=0):
                shutil.rmtree(folder, ignore_errors=True)
                lock_path.unlink(missing_ok=True)

    def close(self) -> None:
        """Remove this process's staging folder."""
        with self._guard:
            if self._own is None or self._lock is None:
                return
            shutil.rmtree(self._own, ignore_errors=True)
            Path(self._lock.lock_file).unlink(missing_ok=True)
            self._lock.release()
            self._own = self._lock = None

    def _own_staging(self) -> Path:
        with self._guard:
            if self._own is None:
                own = self._staging / uuid.uuid4().hex
                self._staging.mkdir(parents=True, exist_ok=True)
                # thread_local=False: the thread that closes the library is not always the one that staged.
                lock = FileLock(own.with_suffix(".lock"), timeout=0, thread_local=False)
                lock.acquire()
                own.mkdir()
                self._own, self._lock = own, lock
            return self._own


def too_large(max_bytes: int) -> LoadError:
    """Return the error for a file over the limit."""
    return LoadError(
        f"The file is larger than the limit of {max_bytes / 1e6:,.0f} MB.",
        reason="too_large",
        hint="Split the file, or raise retrieval.max_file_bytes.",
    )


@contextlib.contextmanager
def translated_os_errors(folder: Path) -> Iterator[None]:
    """Raise `StorageError` for what the disk refuses: no space, quota, file size limit, no permission."""
    try:
        yield
    except OSError as exc:
        if isinstance(exc, InterruptedError):
            raise
        if exc.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            message, hint = (
                f"The disk of {folder} is full.",
                "Free some space and try again; nothing stored is lost.",
            )
        else:
            message, hint = (
                f"Can't write to {folder}: {exc.strerror or exc}.",
                "Check the folder's permissions.",
            )
        raise StorageError(message, hint) from exc


def _sync_folder(folder: Path) -> None:
    """Make a rename survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _age_s(path: Path) -> float:
    try:
        return time.time() - path.stat().st_mtime
    except OSError:
        return 0.0
