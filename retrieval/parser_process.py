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

import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import structlog

from ..core.errors import LoadError
from ..core.types import Box
from .loaded import LoadedDocument
from .parser_child import ReaderChild, ReaderFailed
from .parser_wire import (
    DOCUMENT,
    FAILURE,
    PICTURE,
    READY,
    WireError,
    decode_document,
    decode_failure,
)

log = structlog.get_logger(__name__)

_START_TIMEOUT_S = 60.0
_MAX_PICTURE_BYTES = 100_000_000


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
        self._child: ReaderChild | None = None

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
            except ReaderFailed as exc:
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

    def _running(self) -> ReaderChild:
        if self._child is None or self._child.has_ended:
            self._stop()
            self._child = ReaderChild(self._memory_bytes, self._timeout_s)
            kind, _ = self._child.receive(_START_TIMEOUT_S, self._memory_bytes, 0)
            if kind != READY:
                raise ReaderFailed("corrupt", "no greeting")
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


def _crashed(name: str) -> LoadError:
    return LoadError(
        f"{name} made its reader crash; it is damaged or hostile.",
        "corrupt",
        hint="Open it in its own program and save it anew, or leave it out.",
    )
