"""Localsmith's embedder where LangChain expects one of its own.

Place in the data's way: any LangChain vector store or retriever -> `LangChainEmbeddings` -> `Embedder`.
Import this module only where LangChain is used; it is not free.

Example:
    >>> LangChainEmbeddings(embedder).embed_query("a question")  # doctest: +SKIP
"""

from __future__ import annotations

from langchain_core.embeddings import Embeddings

from ...core.contracts import Embedder


class LangChainEmbeddings(Embeddings):
    """LangChain's `Embeddings` over any `Embedder`."""

    def __init__(self, embedder: Embedder) -> None:
        """Wrap `embedder`; closing it stays the caller's business."""
        self._embedder = embedder

    def embed_documents(self, texts: list[str]) -> list[list[float]]:
        """Return one L2-normalised vector a text."""
        return [[float(value) for value in row] for row in self._embedder.encode(texts)]

    def embed_query(self, text: str) -> list[float]:
        """Return the L2-normalised vector of a question."""
        return self.embed_documents([text])[0]
