"""An embedder with a clock, so that its time can be told from the framework's.

Place in the data's way: evaluation and benchmarks put it between the library and the real embedder.

Example:
    embedder = TimedEmbedder(load_embedder(settings))
    embedder.seconds
"""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..core.contracts import Embedder, OnProgress


class TimedEmbedder:
    """Passes everything on to another embedder.

    Attributes:
        seconds: Time spent in `encode` so far.
    """

    def __init__(self, embedder: Embedder) -> None:
        """Wrap `embedder`."""
        self._embedder = embedder
        self.seconds = 0.0

    @property
    def name(self) -> str:
        """Identity of the wrapped model, so that libraries are shared with it."""
        return self._embedder.name

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._embedder.dimension

    @property
    def max_tokens(self) -> int:
        """Tokens of one text that the model reads."""
        return self._embedder.max_tokens

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the span of every token."""
        return self._embedder.token_spans(text)

    def encode(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32, and count the time."""
        begun = time.perf_counter()
        try:
            return self._embedder.encode(texts, on_progress)
        finally:
            self.seconds += time.perf_counter() - begun
