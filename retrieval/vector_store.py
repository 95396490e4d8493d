"""A library collection as a LangChain vector store: for chains written for any of LangChain's stores.

Place in the data's way: beside `Library.search`, which Localsmith's own strategies call. Another store
(Qdrant, pgvector, Milvus) takes the embedded one's place the other way round: see
docs/decisions/0004-library.md.

Example:
    store = LocalsmithVectorStore(library, "papers")
    store.as_retriever(search_kwargs={"k": 4}).invoke("What is a trace tree?")
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

from langchain_core.documents import Document as LangChainDocument
from langchain_core.embeddings import Embeddings
from langchain_core.vectorstores import VectorStore

from ..core.types import DEFAULT_COLLECTION, Passage
from .library import Library


class LocalsmithVectorStore(VectorStore):
    """Searches and fills one collection of a `Library`.

    A text added here is a document of the library like any other: cut, embedded, listed and restorable. Of
    its metadata the library keeps the name only, and says so where more is given.
    """

    def __init__(self, library: Library, collection: str = DEFAULT_COLLECTION) -> None:
        """Stand in front of a collection; the library stays the caller's to close."""
        self._library = library
        self._collection = collection

    def similarity_search(self, query: str, k: int = 4, **kwargs: Any) -> list[LangChainDocument]:
        """Return the `k` best passages by meaning and words.

        Args:
            query: Any text.
            k: Passages wanted.
            kwargs: `document_ids`: only these documents.

        Raises:
            IndexNotFoundError: The collection does not exist.
            EmbedderMismatchError: It was embedded with another model.
        """
        return [document for document, _ in self.similarity_search_with_score(query, k, **kwargs)]

    def similarity_search_with_score(
        self, query: str, k: int = 4, *, document_ids: Sequence[str] = ()
    ) -> list[tuple[LangChainDocument, float]]:
        """Return passages with their fused scores; higher is better, comparable within one result only."""
        passages = self._library.search(query, self._collection, k, document_ids)
        return [(_to_langchain(passage), passage.score) for passage in passages]

    def add_texts(
        self, texts: Iterable[str], metadatas: list[dict[str, Any]] | None = None, **kwargs: Any
    ) -> list[str]:
        """Add each text as a document and return the documents' ids.

        Args:
            texts: The texts.
            metadatas: For each text nothing, or `{"source": its name}`.
            kwargs: None is known.

        Raises:
            ValueError: There is metadata that a library can't keep, or an unknown argument.
            LoadError: A text is empty.
        """
        if kwargs:
            raise ValueError(f"Unknown arguments {sorted(kwargs)}; the library gives the ids.")
        added = []
        for number, text in enumerate(texts):
            metadata = metadatas[number] if metadatas else {}
            if set(metadata) - {"source"}:
                raise ValueError(
                    f"A library keeps the name ('source') of a text only, not {sorted(metadata)}."
                )
            name = str(metadata.get("source", f"text {number + 1}.txt"))
            added.append(self._library.add(text.encode("utf-8", "replace"), name, self._collection).id)
        return added

    def delete(self, ids: list[str] | None = None, **kwargs: Any) -> bool:
        """Remove documents by the ids that `add_texts` returned; the library can restore them.

        Raises:
            ValueError: No ids are given: emptying a collection is never the default.
            IndexNotFoundError: An id is unknown.
        """
        if ids is None:
            raise ValueError("ids are needed; to delete all, delete the collection.")
        for document_id in ids:
            self._library.remove(document_id)
        return True

    @classmethod
    def from_texts(
        cls,
        texts: list[str],
        embedding: Embeddings,
        metadatas: list[dict[str, Any]] | None = None,
        **kwargs: Any,
    ) -> LocalsmithVectorStore:
        """Refuse: a library comes with its own embedding model, in a folder that must be named.

        Raises:
            TypeError: Always, with what to do instead.
        """
        raise TypeError("Use LocalsmithVectorStore(library, collection) and add_texts.")

    def _select_relevance_score_fn(self) -> Callable[[float], float]:
        # LangChain asks for 0 to 1: the fused score's place between nothing and first in both rankings.
        from .search import DENSE_WEIGHT, LEXICAL_WEIGHT, RRF_K

        best = (DENSE_WEIGHT + LEXICAL_WEIGHT) / (RRF_K + 1)
        return lambda score: score / best


def _to_langchain(passage: Passage) -> LangChainDocument:
    chunk = passage.chunk
    metadata = {
        "source": passage.document_name,
        "document_id": chunk.document_id,
        "page": chunk.page,
        "start_char": chunk.start_char,
        "end_char": chunk.end_char,
        "headings": list(chunk.headings),
        "similarity": passage.similarity,
    }
    return LangChainDocument(id=chunk.id, page_content=chunk.text, metadata=metadata)
