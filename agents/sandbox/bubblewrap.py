r"""The sandbox of bubblewrap (Linux): this machine's Python without network, files to write, other processes.

Place in the data's way: where WebAssembly is not compiled, PAL and the Python tool -> `BubblewrapSandbox.run`
-> `bwrap` -> `worker.py native` -> `ProgramResult`. Four walls: namespaces of its own with a read-only root
that holds the system's libraries and Python only; no capabilities; limits on memory, processor time and
files; and a seccomp filter that leaves computing, reading and printing. Starting a process, a fork bomb
included, is denied by that filter, not by a count.

Example:
    >>> BubblewrapSandbox(SandboxSettings()).run("print(6 * 7)").stdout  # doctest: +SKIP
    '42\n'
"""

from __future__ import annotations

import json
import os
import selectors
import shutil
import signal
import struct
import subprocess
import sys
import sysconfig
import time
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from ...core.errors import SandboxError
from ...core.settings import SandboxSettings
from ...core.types import ProgramResult, ProgramStatus
from . import seccomp
from .child import bare_environment
from .outcome import Ending, Limits, result, too_long

log = structlog.get_logger(__name__)

WORKER = Path(__file__).with_name("worker.py")
_WORKER_INSIDE = "/worker.py"
_GRACE_S = 0.1
_MAX_UTF8_BYTES = 4
_STDERR_BYTES = 65_536
_READ_BYTES = 1 << 16
_SIGNALLED = 128  # bwrap's exit status for a program that a signal ended, plus the signal
_INSTALL_HINT = (
    "Run `localsmith setup` for the WebAssembly sandbox, or install bubblewrap (apt install bubblewrap)."
)
_SYSTEM_FOLDERS = ("/usr", "/lib", "/lib32", "/lib64", "/bin", "/etc/ld.so.cache")


@dataclass(slots=True)
class _Output:
    """What came out so far.

    Attributes:
        stdout: Standard output, up to its limit.
        stderr: The end of standard error.
        stopped_by: What ended it early.
    """

    stdout: bytearray = field(default_factory=bytearray)
    stderr: bytearray = field(default_factory=bytearray)
    stopped_by: ProgramStatus | None = None


class BubblewrapSandbox:
    """Runs each program in a process of its own under `bwrap`; safe to use from several threads."""

    name = "bubblewrap"

    def __init__(self, settings: SandboxSettings) -> None:
        """Find `bwrap` and make sure that it works here.

        Args:
            settings: Limits on time, memory and output.

        Raises:
            SandboxError: It is not installed, or this system doesn't let it make namespaces or filters.
        """
        path = shutil.which("bwrap")
        if path is None or not seccomp.is_available():
            raise SandboxError("bubblewrap is not installed, or not for this system.", hint=_INSTALL_HINT)
        self._settings = settings
        self._filter = seccomp.program_filter().hex()
        self._packages = _package_folders()
        self._command = [path, *_walls(), *_folders(self._packages), "--", *_python()]
        tried = self.run("print(6 * 7)", timeout_s=10)
        if tried.stdout != "42\n":
            raise SandboxError(f"bubblewrap does not work here: {tried.error}", hint=_INSTALL_HINT)

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        """Run a program; see `core.contracts.Sandbox.run`.

        Args:
            program: Python source.
            timeout_s: Limit on wall time; None for the settings'.

        Returns:
            What it printed, or what stopped it.

        Raises:
            SandboxError: `bwrap` can't be started.
        """
        if (refused := too_long(program)) is not None:
            return refused
        limits = Limits(
            timeout_s or self._settings.timeout_s, self._settings.memory_bytes, self._settings.output_chars
        )
        began = time.monotonic()
        try:
            process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=bare_environment(),
                start_new_session=True,
            )
        except OSError as exc:
            raise SandboxError(f"bwrap can't be started: {exc.strerror}.", hint=_INSTALL_HINT) from exc
        with process:
            try:
                output = _communicate(process, self._request(program, limits), limits)
            finally:
                process.kill()  # takes everything inside with it, for `--die-with-parent`
        ending = _ending(process.returncode, output, time.monotonic() - began)
        return result(ending, program, limits)

    def _request(self, program: str, limits: Limits) -> bytes:
        body = json.dumps(
            {
                "program": program,
                "timeout_s": limits.timeout_s,
                "memory_bytes": limits.memory_bytes,
                "filter": self._filter,
                "paths": [str(folder) for folder in self._packages],
            }
        ).encode()
        return struct.pack("<I", len(body)) + body


def _walls() -> list[str]:
    """Return bwrap's options that take everything away."""
    return [
        *("--unshare-all", "--unshare-user", "--uid", "65534", "--gid", "65534", "--hostname", "sandbox"),
        *("--cap-drop", "ALL", "--die-with-parent", "--new-session", "--clearenv"),
        *("--setenv", "OPENBLAS_NUM_THREADS", "1", "--setenv", "OMP_NUM_THREADS", "1"),
    ]


def _folders(packages: tuple[Path, ...]) -> list[str]:
    """Return bwrap's options for what may be read: system libraries, Python, its packages, the worker."""
    options: list[str] = []
    for name in _SYSTEM_FOLDERS:
        if os.path.islink(name):
            options += ["--symlink", os.readlink(name), name]
        elif os.path.exists(name):
            options += ["--ro-bind", name, name]
    for folder in (Path(sys.base_prefix), *packages):
        if not folder.is_relative_to("/usr"):
            options += ["--ro-bind", str(folder), str(folder)]
    return [*options, "--ro-bind", str(WORKER), _WORKER_INSIDE, "--remount-ro", "/", "--chdir", "/"]


def _python() -> list[str]:
    # -I: isolated from environment and user; -S: site-packages come by `paths`, without running .pth files.
    executable = os.path.realpath(sys.executable)
    return [executable, "-I", "-S", "-B", _WORKER_INSIDE, "native"]


def _package_folders() -> tuple[Path, ...]:
    paths = (Path(sysconfig.get_path(name)) for name in ("purelib", "platlib"))
    return tuple(dict.fromkeys(path for path in paths if path.is_dir()))


def _communicate(process: subprocess.Popen[bytes], request: bytes, limits: Limits) -> _Output:
    """Hand the program over and collect what it prints, until it ends or breaks a limit."""
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    output = _Output()
    deadline = time.monotonic() + limits.timeout_s + _GRACE_S
    most = limits.output_chars * _MAX_UTF8_BYTES
    rest = memoryview(request)
    with selectors.DefaultSelector() as selector:
        for pipe in (process.stdin, process.stdout, process.stderr):
            os.set_blocking(pipe.fileno(), False)
            event = selectors.EVENT_WRITE if pipe is process.stdin else selectors.EVENT_READ
            selector.register(pipe, event)
        while selector.get_map():
            ready = selector.select(max(0.0, deadline - time.monotonic()))
            if not ready or len(output.stdout) > most:
                output.stopped_by = "output" if ready else "timeout"
                return output
            for chosen, _ in ready:
                if chosen.fileobj is process.stdin:
                    rest = _send(chosen.fd, rest)
                    is_done = not rest
                else:
                    is_done = not _read(chosen.fd, output, is_error=chosen.fileobj is process.stderr)
                if is_done:
                    selector.unregister(chosen.fileobj)
    return _awaited(process, output, deadline)


def _read(pipe: int, output: _Output, *, is_error: bool) -> bytes:
    data = os.read(pipe, _READ_BYTES)
    if is_error:
        output.stderr = (output.stderr + data)[-_STDERR_BYTES:]
    else:
        output.stdout += data
    return data


def _awaited(process: subprocess.Popen[bytes], output: _Output, deadline: float) -> _Output:
    """Wait for a program that has closed its output but may still run."""
    try:
        process.wait(max(0.0, deadline - time.monotonic()))
    except subprocess.TimeoutExpired:
        output.stopped_by = "timeout"
    return output


def _send(pipe: int, rest: memoryview) -> memoryview:
    try:
        return rest[os.write(pipe, rest) :]
    except BrokenPipeError:  # it ended before it read everything; its exit status says why
        return rest[:0]


def _ending(code: int, output: _Output, duration_s: float) -> Ending:
    stdout, stderr = output.stdout.decode(errors="replace"), output.stderr.decode(errors="replace")
    if output.stopped_by is not None:
        return Ending(None, stdout, stderr, output.stopped_by, duration_s=duration_s)
    if code in (_SIGNALLED + signal.SIGXCPU, _SIGNALLED + signal.SIGKILL):
        return Ending(None, stdout, stderr, "timeout", duration_s=duration_s)
    if code > _SIGNALLED:
        words = f"The program crashed the interpreter (signal {code - _SIGNALLED})."
        return Ending(None, stdout, stderr, "crashed", words, duration_s)
    return Ending(code, stdout, stderr, duration_s=duration_s)
