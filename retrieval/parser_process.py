"""Reads files in a process of its own, with limits on time and memory.

Place in the data's way: the library calls this for every file and every page picture. A file that hangs,
crashes or devours memory costs that process only: it is killed, the file is refused with a reason, and the
next file gets a new one.

Example:
    >>> from pathlib import Path
    >>> with ParserProcess() as parser:  # doctest: +SKIP
    ...     document = parser.parse(Path("paper.pdf"), "paper.pdf")
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ..core.errors import LoadError
from ..core.types import Box
from .loaded import LoadedDocument
from .parser_wire import (
    DOCUMENT,
    FAILURE,
    HEADER,
    PICTURE,
    READY,
    WireError,
    decode_document,
    decode_failure,
)

log = structlog.get_logger(__name__)

_WORKER = "localsmith.retrieval.parser_worker"
_START_TIMEOUT_S = 60.0
_WATCH_INTERVAL_S = 0.05
_STDERR_BYTES = 8_192
_MAX_PICTURE_BYTES = 100_000_000
_OUT_OF_MEMORY = (b"memory allocation", b"bad_alloc", b"MemoryError", b"Out of memory", b"out of memory")


class ParserProcess:
    """A reader of files that can't harm the process that uses it; threads take turns."""

    def __init__(
        self,
        timeout_s: float = 120.0,
        memory_bytes: int = 2_000_000_000,
        max_file_bytes: int = 200_000_000,
        max_text_chars: int = 20_000_000,
    ) -> None:
        """Set the limits; the process starts with the first file.

        Args:
            timeout_s: Wall-clock time for one file.
            memory_bytes: Memory for one file.
            max_file_bytes: Larger files are refused.
            max_text_chars: Longer texts are refused.
        """
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._max_file_bytes = max_file_bytes
        self._max_text_chars = max_text_chars
        self._lock = threading.Lock()
        self._child: _Child | None = None

    def parse(self, path: Path, name: str) -> LoadedDocument:
        """Read a file; see `loaders.load_document`.

        Args:
            path: Where it lies.
            name: What the person calls it.

        Raises:
            LoadError: It can't be read, took too long or needed too much memory.
        """
        request = {
            "op": "load",
            "path": str(path.absolute()),
            "name": name,
            "max_file_bytes": self._max_file_bytes,
            "max_text_chars": self._max_text_chars,
        }
        payload = self._ask(request, name, DOCUMENT)
        try:
            document = decode_document(payload)
        except WireError as exc:
            self.close()
            raise _crashed(name) from exc
        if not document.blocks:
            raise _crashed(name)
        return document

    def render_page(self, path: Path, page: int, boxes: Sequence[Box] = (), width_px: int = 900) -> bytes:
        """Draw a page of a PDF; see `page_image.render_page`.

        Args:
            path: The PDF.
            page: Page number, from 1.
            boxes: What to highlight; boxes of other pages are left out.
            width_px: Width of the picture.

        Returns:
            A PNG file.

        Raises:
            LoadError: The page can't be drawn, took too long or needed too much memory.
        """
        marks = [[box.page, box.left, box.top, box.right, box.bottom] for box in boxes if box.page == page]
        request = {
            "op": "render",
            "path": str(path.absolute()),
            "page": page,
            "boxes": marks,
            "width_px": width_px,
        }
        picture = self._ask(request, path.name, PICTURE)
        if not picture.startswith(b"\x89PNG\r\n\x1a\n"):
            self.close()
            raise _crashed(path.name)
        return picture

    def close(self) -> None:
        """End the process; the next file starts a new one."""
        with self._lock:
            self._stop()

    def __enter__(self) -> ParserProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _stop(self) -> None:
        child, self._child = self._child, None
        if child is not None:
            child.kill()

    def _ask(self, request: dict[str, Any], name: str, expected: bytes) -> bytes:
        with self._lock:
            try:
                child = self._running()
                child.send(request)
                kind, payload = child.receive(self._timeout_s, self._memory_bytes, self._max_frame(expected))
            except _Failed as exc:
                self._stop()
                log.warning("parser_failed", name=name, reason=exc.reason, detail=exc.detail)
                raise self._explained(exc.reason, name) from exc
            except BaseException:
                # Interrupted half-way: the answer still under way would be taken for the next one.
                self._stop()
                raise
            if child.memory_bytes() > self._memory_bytes // 2:
                self._stop()  # what it holds on to would count against the next file
        if kind == FAILURE:
            try:
                error = decode_failure(payload)
            except WireError as exc:
                self.close()
                raise _crashed(name) from exc
            raise self._explained("memory", name) if error.reason == "memory" else error
        if kind != expected:
            self.close()
            raise _crashed(name)
        return payload

    def _running(self) -> _Child:
        if self._child is None or self._child.has_ended:
            self._stop()
            self._child = _Child(self._memory_bytes, self._timeout_s)
            kind, _ = self._child.receive(_START_TIMEOUT_S, self._memory_bytes, 0)
            if kind != READY:
                raise _Failed("corrupt", "no greeting")
        return self._child

    def _max_frame(self, expected: bytes) -> int:
        # Six bytes a character at most, and as much again for boxes, structure and warnings.
        return _MAX_PICTURE_BYTES if expected == PICTURE else 12 * self._max_text_chars + 50_000_000

    def _explained(self, reason: str, name: str) -> LoadError:
        if reason == "timeout":
            return LoadError(
                f"{name} was given up after {self._timeout_s:g} seconds.",
                "timeout",
                hint="Split the file, or raise retrieval.parse_timeout_s.",
            )
        if reason == "memory":
            return LoadError(
                f"{name} needs more than {self._memory_bytes / 1e9:.1f} GB of memory to be read.",
                "memory",
                hint="Split the file, or raise retrieval.parse_memory_bytes.",
            )
        return _crashed(name)


class _Failed(Exception):
    """The child did not answer as it should."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


class _Child:
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
        # Linux sends the "parent died" signal when the thread that started the child ends: it has to stay.
        threading.Thread(target=self._keep, name="parser-keeper", daemon=True).start()
        self._started.wait()
        if self._error is not None:
            raise _Failed("corrupt", f"can't start: {self._error}")
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
        self._peak_bytes = usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024)
        self._ended.set()

    @property
    def has_ended(self) -> bool:
        return self._ended.is_set()

    def memory_bytes(self) -> int:
        """Return the memory that the process has in use, 0 where it has ended."""
        import psutil

        try:
            return int(psutil.Process(self._process.pid).memory_info().rss)
        except psutil.Error:
            return 0

    def send(self, request: dict[str, Any]) -> None:
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
            _Failed: The process died or broke a limit.
        """
        deadline = time.monotonic() + timeout_s
        self._buffer.clear()
        while True:
            left = deadline - time.monotonic()
            if left <= 0:
                raise _Failed("timeout", "deadline")
            is_open = self._read(min(left, _WATCH_INTERVAL_S))
            if len(self._buffer) >= HEADER.size:
                kind, length = HEADER.unpack_from(self._buffer)
                if length > max_bytes:
                    raise _Failed("corrupt", f"an answer of {length} bytes")
                if len(self._buffer) >= HEADER.size + length:
                    return kind, bytes(self._buffer[HEADER.size : HEADER.size + length])
            if not is_open:
                raise self._death(memory_bytes)
            if self.memory_bytes() > memory_bytes:
                raise _Failed("memory", "watch")

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

    def _death(self, memory_bytes: int) -> _Failed:
        self._ended.wait(5.0)
        detail = f"exit {self._status}: {self._last_words.decode('utf-8', 'replace').strip()[-500:]}"
        if self._status == -signal.SIGXCPU:
            return _Failed("timeout", detail)
        is_short = any(words in self._last_words for words in _OUT_OF_MEMORY)
        # Killed from outside: the system's own guard against running out of memory.
        if is_short or self._status == -signal.SIGKILL or 0 < memory_bytes < 1.25 * self._peak_bytes:
            return _Failed("memory", detail)
        return _Failed("corrupt", detail)

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


def _crashed(name: str) -> LoadError:
    return LoadError(
        f"{name} made its reader crash; it is damaged or hostile.",
        "corrupt",
        hint="Open it in its own program and save it anew, or leave it out.",
    )
