"""The parent's end of the embedder's child process: one start, batches through pipes, an orderly end.

Place in the data's way: `embeddings.EmbedderProcess` -> `EmbedderChild` -> frames -> `embedder_worker`.
Vectors travel as raw float32, never pickled.

Example:
    >>> EmbedderChild(folder, "cpu").encode(["a text"]).shape  # doctest: +SKIP
    (1, 384)
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import structlog

from ...core.errors import ModelError, ModelLoadError
from .worker import read_exactly, read_frame, write_frame

logger = structlog.get_logger(__name__)

_STDERR_TAIL_BYTES = 600
_CLOSE_WAIT_S = 2.0


class ChildDied(Exception):
    """The child process ended without an answer."""


class EmbedderChild:
    """One run of `embedder_worker`; `encode` is called by one thread at a time."""

    def __init__(self, folder: Path, device: str) -> None:
        """Start the process; return before it has loaded anything.

        Raises:
            ModelError: No process can be started.
        """
        self._stderr = tempfile.TemporaryFile()
        # -P: the working directory must not shadow installed packages.
        command = [sys.executable, "-P", "-m", "localsmith.models.embedding.worker"]
        environment = os.environ | {"HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "true"}
        try:
            self._process = subprocess.Popen(
                [*command, str(folder), device, str(os.getpid())],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._stderr,
                env=environment,
            )
        except OSError as exc:
            raise ModelError(f"The embedding process can't be started: {exc.strerror}.") from exc
        self._requests = cast(BinaryIO, self._process.stdin)
        self._replies = cast(BinaryIO, self._process.stdout)
        self._has_greeted = False
        self._is_waiting = False  # stays true where an exception such as Ctrl-C left a reply unread

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        if self._has_greeted or self._process.poll() is not None:
            return self._has_greeted and self._process.poll() is None
        readable, _, _ = select.select([self._replies], [], [], 0)
        return bool(readable)

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32 of one batch; waits until the model is loaded.

        Raises:
            ChildDied: The process ended, or its last answer was never read.
            ModelLoadError: The model can't be loaded.
            ModelError: The model failed on these texts.
        """
        if self._is_waiting:
            self._process.kill()
            raise ChildDied("the last batch was interrupted")
        try:
            self._await_greeting()
            self._is_waiting = True
            write_frame(self._requests, texts)
            reply = read_frame(self._replies)
            if "error" in reply:
                self._is_waiting = False
                raise ModelError(f"The embedding model failed: {reply['error']}.")
            shape = (int(reply["rows"]), int(reply["dimension"]))
            data = read_exactly(self._replies, shape[0] * shape[1] * 4)
            self._is_waiting = False
        except (EOFError, OSError, ValueError) as exc:  # ValueError: a stream that `close` closed meanwhile
            raise ChildDied(self._last_words()) from exc
        return np.frombuffer(data, dtype="<f4").reshape(shape)

    def close(self) -> None:
        """End the process: by closing its input, then by force."""
        self._requests_closed()
        try:
            self._process.wait(_CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._replies.close()
        self._stderr.close()

    def _requests_closed(self) -> None:
        try:
            self._requests.close()
        except OSError:  # the child is gone and left a request unread
            logger.debug("embedder_pipe_broken")

    def _await_greeting(self) -> None:
        if self._has_greeted:
            return
        began = time.monotonic()
        greeting: dict[str, Any] = read_frame(self._replies)
        if "error" in greeting:
            raise ModelLoadError(
                f"The embedding model can't be loaded: {greeting['error']}.",
                "Fetch it again with `localsmith models pull`, or set embedder.name.",
            )
        self._has_greeted = True
        logger.info("embedder_ready", waited_s=round(time.monotonic() - began, 2))

    def _last_words(self) -> str:
        try:
            code = self._process.wait(_CLOSE_WAIT_S)
        except subprocess.TimeoutExpired:
            return "it closed its output but did not end"
        if self._stderr.closed:
            return f"exit code {code}"
        size = self._stderr.seek(0, os.SEEK_END)
        self._stderr.seek(max(0, size - _STDERR_TAIL_BYTES))
        tail = self._stderr.read().decode(errors="replace").strip()
        return f"exit code {code}" + (f", last words: {tail}" if tail else "")
