"""One worker process, the pipes to it and the watch over its time and memory.

Place in the data's way: `parser_process` starts it, asks it and replaces it when it fails; `parser_worker`
is what runs inside.

Example:
    >>> child = ReaderChild(memory_bytes=10**9, timeout_s=60)  # doctest: +SKIP
    >>> child.receive(60, 10**9, 0)[0]  # doctest: +SKIP
    b'R'
"""

from __future__ import annotations

import json
import os
import resource
import selectors
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import structlog

from .parser_wire import HEADER

log = structlog.get_logger(__name__)

_WORKER = "localsmith.retrieval.parser_worker"
_WATCH_INTERVAL_S = 0.05
_STDERR_BYTES = 8_192
_OUT_OF_MEMORY = (b"memory allocation", b"bad_alloc", b"MemoryError", b"Out of memory", b"out of memory")


class ReaderFailed(Exception):
    """The child did not answer as it should."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class ReaderChild:
    """One worker process and the pipes to it."""

    def __init__(self, memory_bytes: int, timeout_s: float) -> None:
        self._command = [
            *(sys.executable, "-P", "-m", _WORKER),
            *(str(memory_bytes), str(timeout_s), str(os.getpid())),
        ]
        self._started = threading.Event()
        self._ended = threading.Event()
        self._error: OSError | None = None
        self._status = 0
        self._peak_bytes = 0
        # Linux counts to a child's peak what its parent held when it was started, so one below says nothing.
        self._inherited_bytes = _bytes_of(resource.getrusage(resource.RUSAGE_SELF))
        # Linux sends the "parent died" signal when the thread that started the child ends: it has to stay.
        threading.Thread(target=self._keep, name="parser-keeper", daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise ReaderFailed("corrupt", f"can't start: {self._error}")
        self._selector = selectors.DefaultSelector()
        for pipe in (self._process.stdout, self._process.stderr):
            if pipe is not None:
                os.set_blocking(pipe.fileno(), False)
                self._selector.register(pipe, selectors.EVENT_READ)
        self._buffer = bytearray()
        self._last_words = bytearray()

    def _keep(self) -> None:
        try:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as exc:
            self._error = exc
            return
        finally:
            self._started.set()
        _, status, usage = os.wait4(self._process.pid, 0)
        self._status = os.waitstatus_to_exitcode(status)
        self._process.returncode = self._status
        if (peak_bytes := _bytes_of(usage)) > self._inherited_bytes:
            self._peak_bytes = peak_bytes
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        """Whether the process is gone."""
        return self._ended.is_set()

    def memory_bytes(self) -> int:
        """Return the memory that the process has in use, 0 where it has ended."""
        import psutil

        try:
            used_bytes = int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0
        self._peak_bytes = max(self._peak_bytes, used_bytes)
        return used_bytes

    def send(self, request: dict[str, Any]) -> None:
        """Write a request.

        Raises:
            ReaderFailed: The process has died.
        """
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as exc:
            raise self._death(0) from exc

    def receive(self, timeout_s: float, memory_bytes: int, max_bytes: int) -> tuple[bytes, bytes]:
        """Wait for a frame, watching clock and memory.

        Args:
            timeout_s: Wall-clock time allowed.
            memory_bytes: Memory allowed.
            max_bytes: Longest payload accepted.

        Returns:
            The frame's kind and payload.

        Raises:
            ReaderFailed: The process died or broke a limit.
        """
        deadline = time.monotonic() + timeout_s
        self._buffer.clear()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise ReaderFailed("timeout", "deadline")
            is_open = self._read(min(left, _WATCH_INTERVAL_S))
            if len(self._buffer) >= HEADER.size:
                kind, length = HEADER.unpack_from(self._buffer)
                if length > max_bytes:
                    raise ReaderFailed("corrupt", f"an answer of {length} bytes")
                if len(self._buffer) >= HEADER.size + length:
                    return kind, bytes(self._buffer[HEADER.size : HEADER.size + length])
            if not is_open:
                raise self._death(memory_bytes)
            if self.memory_bytes() > memory_bytes:
                raise ReaderFailed("memory", "watch")

    def _read(self, timeout_s: float) -> bool:
        for key, _ in self._selector.select(timeout_s):
            data = os.read(key.fd, 1 << 20)
            if key.fileobj is self._process.stderr:
                self._last_words += data
                del self._last_words[:-_STDERR_BYTES]
                if not data:
                    self._selector.unregister(key.fileobj)
            elif data:
                self._buffer += data
            else:
                return False
        return True

    def _death(self, memory_bytes: int) -> ReaderFailed:
        self._ended.wait(5.0)
        detail = f"exit {self._status}: {self._last_words.decode('utf-8', 'replace').strip()[-500:]}"
        if self._status == -signal.SIGXCPU:
            return ReaderFailed("timeout", detail)
        is_short = any(words in self._last_words for words in _OUT_OF_MEMORY)
        # Killed from outside: the system's own guard against running out of memory.
        if is_short or self._status == -signal.SIGKILL or 0 < memory_bytes < 1.25 * self._peak_bytes:
            return ReaderFailed("memory", detail)
        return ReaderFailed("corrupt", detail)

    def kill(self) -> None:
        """End the process and free the pipes."""
        if not self._ended.is_set():
            os.kill(self._process.pid, signal.SIGKILL)
            self._ended.wait(10.0)
        self._selector.close()
        for pipe in (self._process.stdin, self._process.stdout, self._process.stderr):
            if pipe is not None:
                try:
                    pipe.close()
                except OSError:
                    log.debug("pipe_close_failed")


def _bytes_of(usage: resource.struct_rusage) -> int:
    """Return the highest resident memory that was counted."""
    return usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
