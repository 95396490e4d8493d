"""An embedder without a model: words hashed into vectors. For tests of what happens around the embedding.

Place in the data's way: stands wherever an `Embedder` stands and passes the same contract tests as the real
one.

Example:
    >>> HashingEmbedder().encode(["trace trees", "trace"]).shape
    (2, 64)
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ...core.contracts import OnProgress

_TOKEN = re.compile(r"\w+|[^\w\s]")


class HashingEmbedder:
    """An `Embedder`: texts that share words have similar vectors, the same text always the same vector."""

    def __init__(self, dimension: int = 64, max_tokens: int = 254) -> None:
        """Set the sizes.

        Args:
            dimension: Length of a vector, 2 or more.
            max_tokens: Words of a text that count.
        """
        if dimension < 2:
            raise ValueError(f"dimension must be 2 or more, not {dimension}")
        self._dimension = dimension
        self._max_tokens = max_tokens

    @property
    def name(self) -> str:
        """Identity, with the dimension in it."""
        return f"hashing-{self._dimension}@{hashlib.sha256(b'blake2b').hexdigest()[:12]}"

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        return self._dimension

    @property
    def max_tokens(self) -> int:
        """Words of a text that count."""
        return self._max_tokens

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the (start_char, end_char) of every word and punctuation mark."""
        return [match.span() for match in _TOKEN.finditer(text)]

    def encode(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32, each row L2-normalised."""
        vectors = np.zeros((len(texts), self._dimension), dtype=np.float32)
        for i, text in enumerate(texts):
            vectors[i] = self._encode_text(text)
            if on_progress is not None:
                on_progress(i + 1, len(texts))
        return vectors

    def _encode_text(self, text: str) -> npt.NDArray[np.float32]:
        vector = np.zeros(self._dimension, dtype=np.float32)
        vector[0] = 1e-3  # a text without words has a direction too
        for start, end in self.token_spans(text)[: self._max_tokens]:
            digest = hashlib.blake2b(text[start:end].lower().encode(), digest_size=8).digest()
            sign = 1.0 if digest[7] & 1 else -1.0
            vector[int.from_bytes(digest[:6], "little") % self._dimension] += sign
        norm = np.linalg.norm(vector)
        return vector / norm if norm > 0 else np.eye(1, self._dimension, dtype=np.float32)[0]
