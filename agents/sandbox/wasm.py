r"""The sandbox of WebAssembly: CPython compiled for it, without files, network, processes or environment.

Place in the data's way: PAL and the Python tool -> `WasmSandbox.run` -> a warm worker process ->
`ProgramResult`. The program sees an empty machine: what it could do to the host is not forbidden but absent.
Time is limited by epoch interruption, also inside C code; a worker that is late or dies all the same is
killed and replaced.

Example:
    >>> with WasmSandbox(compiled_folder(cache), SandboxSettings()) as sandbox:  # doctest: +SKIP
    ...     sandbox.run("print(6 * 7)").stdout
    '42\n'
"""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Any

import psutil
import structlog

from ...core.errors import SandboxError
from ...core.settings import SandboxSettings
from ...core.types import ProgramResult
from . import seccomp
from .child import ChildDied, ChildTooSlow, WorkerChild
from .outcome import Ending, Limits, result, too_long

log = structlog.get_logger(__name__)

WORKER = Path(__file__).with_name("worker.py")
MAX_WORKERS = 4
_GRACE_S = 0.4
_START_TIMEOUT_S = 60.0
_MAX_GROWTH_BYTES = 150_000_000
_MAX_UTF8_BYTES = 4
_STDERR_BYTES = 65_536


class WasmSandbox:
    """Runs programs in worker processes that stay warm; threads share them."""

    name = "wasm"

    def __init__(self, compiled: Path, settings: SandboxSettings, num_workers: int | None = None) -> None:
        """Keep the limits; a worker starts with the first program, or with `warm_up`.

        Args:
            compiled: Folder of the compiled module, see `compiled.compiled_folder`.
            settings: Limits on time, memory and output.
            num_workers: Programs that run at the same time; None for one a core, at most 4.
        """
        self._compiled = compiled
        self._settings = settings
        self._slots = threading.BoundedSemaphore(num_workers or min(os.cpu_count() or 1, MAX_WORKERS))
        self._lock = threading.Lock()
        self._idle: list[_Worker] = []
        self._all: set[_Worker] = set()
        self._is_closed = False
        self._finalizer = weakref.finalize(self, _stop_all, self._all)

    def __enter__(self) -> WasmSandbox:
        """Return the sandbox."""
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the workers."""
        self.close()

    @property
    def worker_pids(self) -> tuple[int, ...]:
        """The workers' process ids."""
        with self._lock:
            return tuple(worker.child.pid for worker in self._all)

    def warm_up(self) -> None:
        """Start a worker without waiting for it, so that the first program is quick.

        Raises:
            SandboxError: It can't be started.
        """
        self._put_back(self._take())

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        """Run a program; see `core.contracts.Sandbox.run`.

        Args:
            program: Python source.
            timeout_s: Limit on wall time; None for the settings'.

        Returns:
            What it printed, or what stopped it.

        Raises:
            SandboxError: No worker can be started.
        """
        if (refused := too_long(program)) is not None:
            return refused
        limits = Limits(
            timeout_s or self._settings.timeout_s, self._settings.memory_bytes, self._settings.output_chars
        )
        with self._slots:
            worker = self._take()
            try:
                worker.await_ready()
                ending = worker.run(program, limits)
            finally:
                self._put_back(worker)
        return result(ending, program, limits)

    def close(self) -> None:
        """End the workers; programs that run come back as crashed."""
        with self._lock:
            self._is_closed = True
            idle, self._idle = self._idle, []
            self._all.difference_update(idle)
        for worker in idle:
            worker.child.kill()
        self._finalizer()

    def _take(self) -> _Worker:
        with self._lock:
            if self._is_closed:
                raise SandboxError("The sandbox is closed.")
            if self._idle:
                return self._idle.pop()
            worker = _Worker(self._compiled)
            self._all.add(worker)
            return worker

    def _put_back(self, worker: _Worker) -> None:
        """Keep a worker for the next program, or replace it by one that warms up meanwhile."""
        is_fit = worker.is_fit
        with self._lock:
            if is_fit and not self._is_closed:
                self._idle.append(worker)
                return
            self._all.discard(worker)
        worker.child.kill()
        if worker.was_ready and not self._is_closed:
            try:
                self.warm_up()
            except SandboxError as exc:  # this program has its result; the next one will say so
                log.warning("sandbox_not_replaced", reason=str(exc))


class _Worker:
    """A worker process and how much memory it had when it was new."""

    def __init__(self, compiled: Path) -> None:
        filter_program = seccomp.worker_filter()
        command = [sys.executable, "-P", str(WORKER), "wasm", str(compiled), str(os.getpid())]
        try:
            self.child = WorkerChild([*command, filter_program.hex()])
        except OSError as exc:
            raise SandboxError(f"The sandbox's process can't be started: {exc.strerror}.") from exc
        self.was_ready = False
        self._is_spent = False
        self._first_bytes = 0

    def await_ready(self) -> None:
        """Wait for the greeting.

        Raises:
            SandboxError: The module can't be loaded.
        """
        if self.was_ready:
            return
        hint = "Run `localsmith setup`; it compiles the sandbox once more."
        try:
            greeting = self.child.greeting(_START_TIMEOUT_S)
        except (ChildDied, ChildTooSlow) as exc:
            self._is_spent = True
            raise SandboxError(f"The sandbox did not start: {exc}.", hint=hint) from exc
        if "error" in greeting:
            self._is_spent = True
            raise SandboxError(f"The sandbox can't be loaded: {greeting['error']}.", hint=hint)
        self.was_ready = True
        self._first_bytes = self._memory_bytes()

    @property
    def is_fit(self) -> bool:
        """Whether it can run another program: alive, in step with us, and not grown by leaks."""
        if self._is_spent or self.child.has_ended:
            return False
        return not self.was_ready or self._memory_bytes() < self._first_bytes + _MAX_GROWTH_BYTES

    def run(self, program: str, limits: Limits) -> Ending:
        """Run a program and say how it ended; never longer than the limit and half a second."""
        request = {
            "program": program,
            "timeout_s": limits.timeout_s,
            "memory_bytes": limits.memory_bytes,
            "output_bytes": max(limits.output_chars * _MAX_UTF8_BYTES + 1, _STDERR_BYTES),
        }
        began = time.monotonic()
        self._is_spent = True  # until its answer is read: an exception such as Ctrl-C may come between
        try:
            reply = self.child.ask(request, limits.timeout_s + _GRACE_S)
        except ChildTooSlow:
            return Ending(None, stopped_by="timeout", duration_s=time.monotonic() - began)
        except ChildDied as exc:
            log.warning("sandbox_worker_died", reason=str(exc))
            detail = "The program crashed the interpreter."
            return Ending(None, stopped_by="crashed", detail=detail, duration_s=time.monotonic() - began)
        self._is_spent = False
        return _ending(reply, time.monotonic() - began)

    def _memory_bytes(self) -> int:
        try:
            return int(psutil.Process(self.child.pid).memory_info().rss)
        except psutil.Error:
            return 0


def _ending(reply: dict[str, Any], duration_s: float) -> Ending:
    if "error" in reply:
        log.warning("sandbox_run_failed", reason=reply["error"])
        return Ending(None, stopped_by="crashed", detail=str(reply["error"]), duration_s=duration_s)
    trapped, words = reply["trapped"], ""
    stderr = str(reply["stderr"])
    status = reply["exit_code"]
    if trapped == "deadline":
        return Ending(None, reply["stdout"], stderr, "timeout", duration_s=duration_s)
    if trapped == "stack overflow":
        words = "RecursionError: the program's calls go too deep."
        return Ending(1, reply["stdout"], words, duration_s=duration_s)
    if trapped is not None:
        words = f"The program crashed the interpreter ({trapped}): {stderr.strip()[-200:]}"
        return Ending(None, reply["stdout"], stderr, "crashed", words, duration_s)
    return Ending(status, reply["stdout"], stderr, duration_s=duration_s)


def _stop_all(workers: set[_Worker]) -> None:
    """Stop what still runs; the threads that wait for it free the pipes."""
    for worker in tuple(workers):
        worker.child.stop()
