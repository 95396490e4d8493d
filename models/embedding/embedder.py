"""The embedding model, in a process of its own that stays warm.

Place in the data's way: chunks and questions -> `EmbedderProcess.encode` -> vectors for the index. torch is
only ever imported in the child (`embedder_worker`), so the chat is interactive before the model is loaded;
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
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import structlog

from ...core.contracts import OnProgress
from ...core.errors import ModelError, ModelLoadError, ModelNotReadyError
from ...core.settings import Settings
from ..catalog.installed import installed_model, sha256_of
from .child import ChildDied, EmbedderChild
from .folder import EmbeddingFolder

if TYPE_CHECKING:
    from tokenizers import Tokenizer

logger = structlog.get_logger(__name__)

_NAME_HASH_CHARS = 12


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
        self._child: EmbedderChild | None = None
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
        except ChildDied as first:
            if self._closed:
                raise ModelNotReadyError("The embedder has been closed.") from first
            logger.warning("embedder_restarted", cause=str(first))
            self._discard_child()
        try:
            return self._running_child().encode(texts)
        except ChildDied as second:
            self._discard_child()
            raise ModelError(
                f"The embedding process ended twice: {second}.",
                "Memory may be short: lower embedder.batch_size or close other programs.",
            ) from second

    def _running_child(self) -> EmbedderChild:
        with self._starting:
            if self._closed:
                raise ModelNotReadyError("The embedder has been closed.")
            if self._child is None:
                self._child = EmbedderChild(self._facts.path, self._device)
            return self._child

    def _discard_child(self) -> None:
        with self._starting:
            if self._child is not None:
                self._child.close()
                self._child = None


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
