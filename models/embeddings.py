"""The embedding model, in a process of its own that stays warm.

Place in the data's way: chunks and questions -> `EmbedderProcess.encode` -> vectors for the index. torch is
only ever imported in the child (`embedder_worker`), so the chat is interactive long before the model is there;
token offsets, dimension and window are answered here from the folder's small files, without waiting.

Example:
    >>> with load_embedder(settings) as embedder:  # doctest: +SKIP
    ...     embedder.encode(["What is a trace tree?"]).shape
    (1, 384)
"""

from __future__ import annotations

import functools
import hashlib
import os
import select
import subprocess
import sys
import tempfile
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, cast

import numpy as np
import numpy.typing as npt
import structlog

from ..core.contracts import OnProgress
from ..core.errors import ModelError, ModelLoadError, ModelNotReadyError
from ..core.settings import Settings
from .embedder_worker import read_exactly, read_frame, write_frame
from .embedding_folder import EmbeddingFolder
from .installed import installed_model, sha256_of

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = structlog.get_logger(__name__)

_NAME_HASH_CHARS = 12
_STDERR_TAIL_BYTES = 600
_CLOSE_WAIT_S = 2.0


def load_embedder(settings: Settings) -> EmbedderProcess:
    """Return the embedder that the settings name; its process starts with `start` or the first `encode`.

    Raises:
        ModelNotFoundError: `embedder.name` is not installed.
        ModelLoadError: Its files are damaged, or the folder is not a sentence-transformers folder.
    """
    name = settings.embedder.name
    if os.sep in name or name.startswith(("~", ".")):
        folder = Path(name).expanduser().resolve()
        identity = f"{folder.name}@{_hash_of_weights(folder)[:_NAME_HASH_CHARS]}"
    else:
        model = installed_model(settings, name).verify()
        if model.kind != "embedding":
            raise ModelLoadError(f"{name} is a chat model, not an embedding model.", "Set embedder.name.")
        folder, identity = model.path, f"{name}@{model.sha256[:_NAME_HASH_CHARS]}"
    return EmbedderProcess(
        folder, identity, batch_size=settings.embedder.batch_size, device=settings.embedder.device
    )


class EmbedderProcess:
    """An `Embedder` whose model lives in a child process.

    Any number of threads may encode at once: their batches take turns, so that a question waits for one batch
    of an ingest, never for the whole of it.
    """

    def __init__(self, folder: Path, name: str, batch_size: int = 32, device: str = "auto") -> None:
        """Read the folder's small files; start nothing.

        Args:
            folder: A sentence-transformers folder.
            name: Identity of the model and its weights.
            batch_size: Texts computed in one step.
            device: "auto" or a torch device.

        Raises:
            ModelLoadError: It is not a sentence-transformers folder.
        """
        self._facts = EmbeddingFolder.read(folder)
        self._name = name
        self._batch_size = batch_size
        self._device = device
        self._turns = _Turns()
        self._starting = threading.Lock()
        self._child: _Child | None = None
        self._closed = False

    @property
    def name(self) -> str:
        """Identity of the model and its weights."""
        return self._name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._facts.dimension

    @functools.cached_property
    def max_tokens(self) -> int:
        """Tokens of one text that the model reads, special tokens not counted."""
        special = self._tokenizer.num_special_tokens_to_add(False)
        return self._facts.max_seq_length - special

    @property
    def is_ready(self) -> bool:
        """Whether `encode` would begin at once."""
        child = self._child
        return child is not None and child.is_ready

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the (start_char, end_char) of every token of `text`, special tokens left out."""
        offsets = self._tokenizer.encode(text, add_special_tokens=False).offsets
        return [(start, end) for start, end in offsets if end > start]

    def start(self) -> None:
        """Start loading the model in the background; return at once.

        Raises:
            ModelNotReadyError: The embedder has been closed.
            ModelError: No process can be started.
        """
        self._running_child()

    def encode(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32, each row L2-normalised.

        Args:
            texts: What to embed; longer texts than `max_tokens` are read up to there.
            on_progress: Called after each batch with (done, total) texts; what it raises stops the work.

        Raises:
            ModelLoadError: The model can't be loaded.
            ModelError: The process died, and died again after a restart.
            ModelNotReadyError: The embedder has been closed.
        """
        vectors = np.zeros((len(texts), self.dimension), dtype=np.float32)
        # Texts of like length share a batch, so that little padding is computed.
        order = sorted(range(len(texts)), key=lambda i: len(texts[i]), reverse=True)
        for first in range(0, len(order), self._batch_size):
            chosen = order[first : first + self._batch_size]
            with self._turns.take():
                vectors[chosen] = self._encode_batch([texts[i] for i in chosen])
            if on_progress is not None:
                on_progress(min(first + self._batch_size, len(order)), len(order))
        return vectors

    def close(self) -> None:
        """End the child process; later calls of `encode` raise `ModelNotReadyError`."""
        with self._starting:
            self._closed = True
            if self._child is not None:
                self._child.close()
                self._child = None

    def __enter__(self) -> EmbedderProcess:
        """Start loading."""
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Close."""
        self.close()

    @functools.cached_property
    def _tokenizer(self) -> Tokenizer:
        return self._facts.load_tokenizer()

    def _encode_batch(self, texts: list[str]) -> npt.NDArray[np.float32]:
        try:
            return self._running_child().encode(texts)
        except _ChildDied as first:
            if self._closed:
                raise ModelNotReadyError("The embedder has been closed.") from first
            logger.warning("embedder_restarted", cause=str(first))
            self._discard_child()
        try:
            return self._running_child().encode(texts)
        except _ChildDied as second:
            self._discard_child()
            raise ModelError(
                f"The embedding process ended twice: {second}.",
                "Memory may be short: lower embedder.batch_size or close other programs.",
            ) from second

    def _running_child(self) -> _Child:
        with self._starting:
            if self._closed:
                raise ModelNotReadyError("The embedder has been closed.")
            if self._child is None:
                self._child = _Child(self._facts.path, self._device)
            return self._child

    def _discard_child(self) -> None:
        with self._starting:
            if self._child is not None:
                self._child.close()
                self._child = None


class _ChildDied(Exception):
    """The child process ended without an answer."""


class _Child:
    """One run of `embedder_worker`; `encode` is called by one thread at a time."""

    def __init__(self, folder: Path, device: str) -> None:
        self._stderr = tempfile.TemporaryFile()
        # -P: the working directory must not shadow installed packages.
        command = [sys.executable, "-P", "-m", "localsmith.models.embedder_worker"]
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
        if self._has_greeted or self._process.poll() is not None:
            return self._has_greeted and self._process.poll() is None
        readable, _, _ = select.select([self._replies], [], [], 0)
        return bool(readable)

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        if self._is_waiting:
            self._process.kill()
            raise _ChildDied("the last batch was interrupted")
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
            raise _ChildDied(self._last_words()) from exc
        return np.frombuffer(data, dtype="<f4").reshape(shape)

    def close(self) -> None:
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


class _Turns:
    """A lock that threads get in the order in which they asked for it; `threading.Lock` may starve one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._waiting: deque[threading.Event] = deque()

    @contextmanager
    def take(self) -> Iterator[None]:
        mine = threading.Event()
        with self._lock:
            self._waiting.append(mine)
            if self._waiting[0] is mine:
                mine.set()
        mine.wait()
        try:
            yield
        finally:
            with self._lock:
                self._waiting.popleft()
                if self._waiting:
                    self._waiting[0].set()


def _hash_of_weights(folder: Path) -> str:
    hashes = [sha256_of(file) for file in EmbeddingFolder.read(folder).weight_files]
    return hashes[0] if len(hashes) == 1 else hashlib.sha256("".join(hashes).encode()).hexdigest()
