"""LangChain code uses a library as it uses any vector store."""

from __future__ import annotations

import pytest
from localsmith.core.errors import IndexNotFoundError
from localsmith.retrieval.library import Library
from localsmith.retrieval.vector_store import LocalsmithVectorStore


@pytest.fixture
def store(library: Library) -> LocalsmithVectorStore:
    return LocalsmithVectorStore(library)


def test_texts_go_in_and_come_out_through_a_retriever(store: LocalsmithVectorStore, library: Library) -> None:
    ids = store.add_texts(["A trace tree.", "A banana."], [{"source": "trees.txt"}, {}])
    assert [document.id for document in library.documents()] == ids
    (best,) = store.as_retriever(search_kwargs={"k": 1}).invoke("banana")
    assert (best.page_content, best.metadata["source"]) == ("A banana.", "text 2.txt")
    assert best.metadata["document_id"] == ids[1]


def test_scores_fall_and_relevance_lies_between_0_and_1(store: LocalsmithVectorStore) -> None:
    store.add_texts(["A trace tree.", "A banana.", "Another banana tree."])
    scores = [score for _, score in store.similarity_search_with_score("banana", k=3)]
    assert scores == sorted(scores, reverse=True)
    relevance = [score for _, score in store.similarity_search_with_relevance_scores("banana", k=3)]
    assert all(0 < score <= 1 for score in relevance)


def test_documents_can_be_chosen_and_deleted(store: LocalsmithVectorStore, library: Library) -> None:
    first, second = store.add_texts(["A trace tree.", "A banana."])
    assert {d.metadata["document_id"] for d in store.similarity_search("tree", document_ids=[second])} == {
        second
    }
    assert store.delete([first])
    assert [document.id for document in library.documents()] == [second]
    library.restore(first)
    with pytest.raises(ValueError, match="ids"):
        store.delete()


def test_what_a_library_can_not_do_is_refused(store: LocalsmithVectorStore, library: Library) -> None:
    with pytest.raises(ValueError, match="author"):
        store.add_texts(["x"], [{"author": "me"}])
    with pytest.raises(ValueError, match="ids"):
        store.add_texts(["x"], ids=["mine"])
    with pytest.raises(TypeError, match="add_texts"):
        LocalsmithVectorStore.from_texts(["x"], None)
    with pytest.raises(IndexNotFoundError):
        LocalsmithVectorStore(library, "nowhere").similarity_search("x")
    assert library.documents() == []
