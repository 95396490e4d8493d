"""What a person does with a library: add, list, remove, undo, replace, re-index, keep apart."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from localsmith.core.errors import EmbedderMismatchError, IndexNotFoundError, LoadError
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.ingest import FileAdded, FileDuplicate, IngestDone
from localsmith.retrieval.library import Library

TREES = b"A trace tree is a tree of recorded traces."
BANANAS = b"Bananas are berries. They grow in bunches."


def texts(library: Library, query: str, collection: str = "default") -> list[str]:
    return [passage.chunk.text for passage in library.search(query, collection)]


def test_what_was_added_is_found_after_closing_and_opening(open_library) -> None:
    with open_library() as library:
        added = library.add(TREES, name="trees.txt")
        library.add(BANANAS, name="bananas.txt")
    library = open_library()
    best = library.search("What is a trace tree?")[0]
    assert best.chunk.text == TREES.decode()
    assert (best.rank, best.dense_rank, best.lexical_rank) == (1, 1, 1)
    assert best.document_name == "trees.txt"
    assert library.document(added.id) == added == library.documents()[0]
    assert library.document_path(added.id).read_bytes() == TREES
    assert library.verify() == []


def test_opening_and_listing_is_instant_and_loads_neither_faiss_nor_torch(tmp_path: Path) -> None:
    code = """
        import sys, time
        from pathlib import Path
        from localsmith.core.settings import RetrievalSettings
        from localsmith.retrieval.library import Library

        class Untouchable:
            def __getattr__(self, name):
                raise AssertionError(f"the embedder was asked for {name}")

        started_at = time.perf_counter()
        library = Library(Path(sys.argv[1]), Untouchable(), RetrievalSettings())
        assert library.documents() == [] and library.search("anything") == []
        assert time.perf_counter() - started_at < 1, "slow"
        heavy = {"faiss", "torch", "sentence_transformers", "transformers"} & set(sys.modules)
        assert not heavy, heavy
    """
    command = [sys.executable, "-c", textwrap.dedent(code), str(tmp_path / "library")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr


def test_paths_bytes_and_streams_go_in_under_harmless_names(library: Library, tmp_path: Path) -> None:
    path = tmp_path / "on disk.txt"
    path.write_bytes(TREES)
    assert library.add(path).name == "on disk.txt"
    assert library.add(io.BytesIO(BANANAS), name="../../etc/pass\x00wd\u202e.txt").name == "passwd.txt"
    assert {p.name for p in (tmp_path / "library" / "files").iterdir()} == {
        document.content_sha256 for document in library.documents()
    }


def test_content_without_a_name_is_a_mistake_of_the_caller(library: Library) -> None:
    with pytest.raises(ValueError, match="name"):
        library.add(TREES)


def test_the_same_content_is_added_once_whatever_its_name(library: Library, parser) -> None:
    first = library.add(TREES, name="a.txt")
    again = library.add(TREES, name="b.txt")
    assert again == first
    assert parser.names == ["a.txt"], "a duplicate was parsed again"
    assert library.collections()[0].num_documents == 1


def test_a_removed_document_is_not_found_and_comes_back_with_undo(library: Library) -> None:
    trees = library.add(TREES, name="trees.txt")
    library.add(BANANAS, name="bananas.txt")
    library.search("warm")
    library.remove(trees.id)
    assert texts(library, "trace tree") == [BANANAS.decode()]
    assert [removed.document for removed in library.removed_documents()] == [trees]
    assert library.document(trees.id) == trees
    assert library.restore(trees.id) == trees
    assert texts(library, "trace tree")[0] == TREES.decode()
    assert library.removed_documents() == []
    assert library.verify() == []


def test_adding_a_removed_file_again_restores_it_without_parsing(library: Library, parser) -> None:
    first = library.add(TREES, name="a.txt")
    library.remove(first.id)
    events = list(library.ingest([("renamed.txt", TREES)]))
    added = next(event for event in events if isinstance(event, FileAdded))
    assert (added.document.id, added.is_restored, added.document.name) == (first.id, True, "renamed.txt")
    assert parser.names == ["a.txt"]
    assert texts(library, "trace tree") == [TREES.decode()]


def test_removed_documents_are_gone_after_the_undo_time(open_library) -> None:
    with open_library() as library:
        document = library.add(TREES, name="trees.txt")
        kept = library.add(BANANAS, name="bananas.txt")
        original = library.document_path(document.id)
        library.remove(document.id)
    with open_library() as library:
        assert original.exists(), "purged within the undo time"
    with open_library(undo_days=0) as library:
        assert not original.exists()
        with pytest.raises(IndexNotFoundError):
            library.restore(document.id)
        assert library.documents() == [kept]
        assert library.verify() == []


def test_a_new_version_stands_beside_the_old_one_unless_it_replaces_it(library: Library) -> None:
    old = library.add(b"Version one says seven days.", name="rules.txt")
    beside = library.add(b"Version two says eight days.", name="rules.txt")
    assert [document.id for document in library.documents()] == [old.id, beside.id]
    new = library.add(b"Version three says nine days.", name="rules.txt", replace=True)
    assert library.documents() == [new]
    assert {removed.document.id for removed in library.removed_documents()} == {old.id, beside.id}
    back = library.add(b"Version one says seven days.", name="rules.txt", replace=True)
    assert library.documents() == [back]
    assert back.id == old.id


def test_collections_are_searched_apart_and_hold_the_same_file_apart(library: Library) -> None:
    library.create_collection("fruit")
    library.add(TREES, name="trees.txt")
    library.add(BANANAS, name="bananas.txt", collection="fruit")
    library.add(TREES, name="trees.txt", collection="fruit")
    assert texts(library, "tree") == [TREES.decode()]
    assert sorted(texts(library, "tree", "fruit")) == sorted([TREES.decode(), BANANAS.decode()])
    assert [(info.name, info.num_documents) for info in library.collections()] == [
        ("default", 1),
        ("fruit", 2),
    ]


def test_a_deleted_collection_comes_back_with_undo_even_if_its_name_was_taken(open_library) -> None:
    with open_library() as library:
        library.create_collection("papers")
        library.add(TREES, name="trees.txt", collection="papers")
        gone = library.delete_collection("papers")
        with pytest.raises(IndexNotFoundError):
            library.search("tree", "papers")
        library.create_collection("papers")
        assert [info.id for info in library.removed_collections()] == [gone.id]
        assert library.restore_collection(gone.id).name == "papers 2"
        assert texts(library, "tree", "papers 2") == [TREES.decode()]
        library.delete_collection("papers 2")
    with open_library(undo_days=0) as library:
        assert library.removed_collections() == []
        assert library.verify() == []


@pytest.mark.parametrize("name", ["", "   ", "a\nb", "x" * 81, "default", "Default", "\u202eevil"])
def test_collection_names_that_would_confuse_are_refused(library: Library, name: str) -> None:
    with pytest.raises(ValueError, match=r"name|collection"):
        library.create_collection(name)


def test_a_collection_is_renamed_with_its_documents(library: Library) -> None:
    library.create_collection("papers")
    library.add(TREES, name="trees.txt", collection="papers")
    assert library.rename_collection("papers", "Papers").name == "Papers"
    assert texts(library, "tree", "Papers") == [TREES.decode()]
    for change in (
        lambda: library.rename_collection("default", "x"),
        lambda: library.delete_collection("default"),
    ):
        with pytest.raises(ValueError, match="always there"):
            change()


def test_unknown_names_and_ids_are_told(library: Library) -> None:
    for call in (
        lambda: library.search("x", "nowhere"),
        lambda: library.documents("nowhere"),
        lambda: library.ingest([], "nowhere"),
        lambda: library.document("nothing"),
        lambda: library.remove("nothing"),
        lambda: library.restore_collection(99),
    ):
        with pytest.raises(IndexNotFoundError):
            call()


def test_another_embedding_model_is_refused_until_the_collection_is_reindexed(open_library) -> None:
    with open_library(HashingEmbedder(64)) as library:
        trees = library.add(TREES, name="trees.txt")
        library.add(BANANAS, name="bananas.txt")
    library = open_library(HashingEmbedder(32))
    for call in (
        lambda: library.search("tree"),
        lambda: library.add(b"x", "x.txt"),
        lambda: library.ingest([]),
    ):
        with pytest.raises(EmbedderMismatchError) as raised:
            call()
        assert "hashing-64" in str(raised.value)
        assert "Re-index" in raised.value.hint
    steps = library.reindex()
    added = next(event for event in steps if isinstance(event, FileAdded))
    steps.close()  # cut short after the first document
    assert added.document.id == trees.id
    assert library.collections()[0].num_stale == 1
    ranks = {p.document_name: p.dense_rank for p in library.search("bananas trace")}
    assert ranks == {"trees.txt": 1, "bananas.txt": None}, "the waiting document is found by its words"
    *_, done = library.reindex(only_stale=True)
    assert isinstance(done, IngestDone)
    assert (done.num_added, done.num_failed) == (1, 0)
    assert library.collections()[0].num_stale == 0
    assert library.collections()[0].embedder == HashingEmbedder(32).name
    assert {p.dense_rank for p in library.search("bananas trace")} == {1, 2}
    assert library.verify() == []


def test_a_document_removed_under_another_model_is_added_afresh(open_library) -> None:
    with open_library(HashingEmbedder(64)) as library:
        library.remove(library.add(TREES, name="trees.txt").id)
    library = open_library(HashingEmbedder(32))
    library.add(TREES, name="trees.txt")
    assert library.search("tree")[0].dense_rank == 1
    assert library.verify() == []


def test_reindexing_reads_the_stored_originals_and_keeps_ids_and_names(library: Library, parser) -> None:
    before = [library.add(TREES, name="trees.txt"), library.add(BANANAS, name="bananas.txt")]
    chunks_before = {p.chunk.id for p in library.search("tree")}
    *events, done = library.reindex()
    assert (done.num_added, done.num_failed) == (2, 0)
    assert [document.id for document in library.documents()] == [document.id for document in before]
    assert parser.names == ["trees.txt", "bananas.txt"] * 2
    assert chunks_before.isdisjoint(p.chunk.id for p in library.search("tree")), (
        "an id names one text for ever"
    )
    assert library.verify() == []


def test_a_missing_original_fails_alone_and_its_document_stays_searchable(library: Library) -> None:
    trees = library.add(TREES, name="trees.txt")
    library.add(BANANAS, name="bananas.txt")
    library.document_path(trees.id).unlink()
    *_, done = library.reindex()
    assert (done.num_added, done.num_failed) == (1, 1)
    assert texts(library, "trace tree")[0] == TREES.decode()
    assert "missing" in library.verify()[0]


def test_files_over_the_limit_are_refused_before_they_are_copied(open_library, tmp_path: Path) -> None:
    library = open_library(max_file_bytes=100)
    for source in (b"x" * 101, io.BytesIO(b"x" * 5_000_000)):
        with pytest.raises(LoadError) as raised:
            library.add(source, name="big.txt")
        assert raised.value.reason == "too_large"
    assert [
        p for p in (tmp_path / "library" / "staging").rglob("*") if p.suffix != ".lock" and p.is_file()
    ] == []


@pytest.mark.parametrize("kind", ["missing", "folder", "pipe", "nul"])
def test_what_is_not_a_readable_file_is_refused_with_a_reason(
    library: Library, tmp_path: Path, kind: str
) -> None:
    path = tmp_path / "thing"
    if kind == "folder":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    elif kind == "nul":
        path = "a\0b"
    with pytest.raises(LoadError) as raised:
        library.add(path)
    assert raised.value.reason == "unreadable"


def test_a_duplicate_within_one_batch_is_told_as_such(library: Library) -> None:
    events = list(library.ingest([("a.txt", TREES), ("b.txt", TREES)]))
    assert sum(isinstance(event, FileAdded) for event in events) == 1
    assert sum(isinstance(event, FileDuplicate) for event in events) == 1
    assert len(library.documents()) == 1
