"""The text of a document, put together from what is stored: every passage stands where it says."""

from __future__ import annotations

from pathlib import Path

import pytest
from localsmith.core.errors import IndexNotFoundError
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library


def test_passages_stand_in_the_text_where_they_say_though_chunks_overlap(tmp_path: Path) -> None:
    paragraphs = [
        f"Paragraph {number} tells of the tea of the year {1900 + number}. " * 8 for number in range(40)
    ]
    settings = RetrievalSettings(chunk_tokens=64, chunk_overlap_tokens=16)
    with Library(tmp_path, HashingEmbedder(), settings) as library:
        document = library.add("\n\n".join(paragraphs).encode(), name="years.md")
        text = library.text(document.id)
        found = library.search("tea of the year", k=100)
        assert len(found) > 40
        for passage in found:
            chunk = passage.chunk
            assert text[chunk.start_char : chunk.end_char] == chunk.text
        assert all(paragraph.strip() in text for paragraph in paragraphs)


def test_what_was_removed_or_its_collection_deleted_has_no_text(tmp_path: Path) -> None:
    with Library(tmp_path, HashingEmbedder(), RetrievalSettings()) as library:
        library.create_collection("old")
        one = library.add(b"Tea is a drink.", name="one.md")
        two = library.add(b"Coffee is another.", name="two.md", collection="old")
        library.remove(one.id)
        library.delete_collection("old")
        for document_id in (one.id, two.id, "nobody"):
            with pytest.raises(IndexNotFoundError):
                library.text(document_id)
        library.restore(one.id)
        assert library.text(one.id) == "Tea is a drink."
