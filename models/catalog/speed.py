"""How fast a model reads and writes on this machine, and where that is remembered.

Place in the data's way: `measure` runs the engine after a pull -> `SpeedStore` keeps the figures -> the
choice of the default model and every time budget read them.

Example:
    >>> store = SpeedStore(settings.models_dir / SPEED_FILE)  # doctest: +SKIP
    >>> store.get(model.sha256, n_threads=2)  # doctest: +SKIP
    Speed(prompt_tokens_per_s=141.0, decode_tokens_per_s=34.2)
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
import os
import platform
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ...core.errors import StorageError
from ...core.whole_file import write_json

SPEED_FILE = "speed.json"
# From this share of the cores kept busy by others on, a speed is likely too low to decide by.
BUSY_SHARE = 0.25


@dataclass(frozen=True, slots=True)
class Speed:
    """Measured speed of one model with one number of threads.

    Attributes:
        prompt_tokens_per_s: Prompt tokens read a second.
        decode_tokens_per_s: Completion tokens generated a second, for one sequence.
        busy_cores: Processor cores that other programs kept busy meanwhile; 0 where nobody looked.
        measured_at: Seconds since the epoch, UTC; 0 where it was not noted.
    """

    prompt_tokens_per_s: float
    decode_tokens_per_s: float
    busy_cores: float = 0.0
    measured_at: float = 0.0

    @property
    def is_doubtful(self) -> bool:
        """Whether other programs slowed the machine down while it was measured."""
        return self.busy_cores > BUSY_SHARE * (os.cpu_count() or 1)

    def __str__(self) -> str:
        """Return the figures in words, and the load where it makes them doubtful."""
        words = f"reads {self.prompt_tokens_per_s:.0f}, writes {self.decode_tokens_per_s:.0f} tokens/s"
        if self.is_doubtful:
            cores = os.cpu_count() or 1
            words += f", while other programs kept {self.busy_cores:.1f} of {cores} cores busy"
        return words


class SpeedStore:
    """Speeds by model, threads and machine, in one JSON file.

    A figure counts only for the machine, the engine's version and the threads it was measured with: a home
    folder that moves to another machine, or a new engine, is measured again.
    """

    def __init__(self, path: Path, host: str | None = None) -> None:
        """Name the file; read nothing yet.

        Args:
            path: The file; made by the first `put`.
            host: What tells machines apart; None for `host_fingerprint()`.
        """
        self._path = path
        self._host = host

    def get(self, sha256: str, n_threads: int) -> Speed | None:
        """Return the speed measured here for the model with this hash, or None."""
        raw = self._read().get(self._key(sha256, n_threads))
        try:
            return Speed(**raw) if raw else None
        except TypeError:  # written by another version; measured again
            return None

    def put(self, sha256: str, n_threads: int, speed: Speed) -> None:
        """Remember a speed.

        Raises:
            StorageError: The file can't be written.
        """
        from filelock import FileLock

        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            with FileLock(self._path.with_suffix(".lock")):
                write_json(self._path, self._read() | {self._key(sha256, n_threads): asdict(speed)})
        except OSError as exc:
            raise StorageError(f"{self._path} can't be written: {exc.strerror or exc}.") from exc

    def _key(self, sha256: str, n_threads: int) -> str:
        return f"{sha256[:16]}/{n_threads}/{self._host or host_fingerprint()}"

    def _read(self) -> dict[str, Any]:
        try:
            raw = json.loads(self._path.read_text(encoding="utf-8"))
        except (OSError, ValueError):  # figures that can't be read are measured again
            return {}
        return raw if isinstance(raw, dict) else {}


@functools.cache
def host_fingerprint() -> str:
    """Return a short hash of what speed depends on: processor, cores, memory and the engine's version."""
    import psutil

    try:
        engine = importlib.metadata.version("llama-cpp-python")
    except importlib.metadata.PackageNotFoundError:
        engine = "none"
    gigabytes = round(psutil.virtual_memory().total / 1e9)
    facts = (_processor(), os.cpu_count(), gigabytes, engine, os.environ.get("CUDA_VISIBLE_DEVICES", ""))
    return hashlib.sha256(repr(facts).encode()).hexdigest()[:12]


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line
    except OSError:  # not Linux
        return f"{platform.machine()} {platform.processor()}"
    return platform.machine()
