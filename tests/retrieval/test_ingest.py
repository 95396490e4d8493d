"""Batches of files: progress, failures that stop nothing, cancelling, and names from anywhere."""

from __future__ import annotations

import threading
import time
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import LoadError, ModelError, StorageError
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.ingest import (
    EMBED_GROUP,
    FileAdded,
    FileDuplicate,
    FileEmbedding,
    FileFailed,
    FileParsed,
    FileStarted,
    IngestDone,
)
from localsmith.retrieval.library import Library
from localsmith.retrieval.sources import MAX_NAME_CHARS, display_name


def text(seed: int, num_words: int = 40) -> bytes:
    rng = np.random.default_rng(seed)
    return " ".join(f"w{n}" for n in rng.integers(0, 5000, num_words)).encode()


def test_each_file_tells_how_it_goes_and_the_batch_tells_how_far_it_is(library: Library) -> None:
    events = list(library.ingest([("a.txt", text(1)), ("b.txt", text(2, 40_000)), ("a2.txt", text(1))]))
    by_file = {
        name: [e for e in events if getattr(e, "name", "") == name] for name in ("a.txt", "b.txt", "a2.txt")
    }
    assert [type(e) for e in by_file["a.txt"]] == [
        FileStarted,
        FileParsed,
        FileEmbedding,
        FileEmbedding,
        FileAdded,
    ]
    embedding = [e for e in by_file["b.txt"] if isinstance(e, FileEmbedding)]
    total = by_file["b.txt"][-1].document.num_chunks
    assert [(e.done, e.total) for e in embedding] == [
        *((done, total) for done in range(0, total, EMBED_GROUP)),
        (total, total),
    ]
    assert total > 2 * EMBED_GROUP
    assert isinstance(by_file["a2.txt"][-1], FileDuplicate)
    done = events[-1]
    assert isinstance(done, IngestDone)
    assert (done.num_added, done.num_duplicates, done.num_failed) == (2, 1, 0)
    counts = [e.overall.done for e in events]
    assert counts == sorted(counts)
    assert counts[-1] == 3
    assert all(e.overall.total == 3 for e in events)
    etas = [e.overall.eta_s for e in embedding[1:]]
    assert all(eta is not None and eta >= 0 for eta in etas)
    assert done.overall.eta_s == 0


def test_one_bad_file_never_stops_the_rest(library: Library, tmp_path: Path) -> None:
    sources = [("empty.txt", b""), ("a.txt", text(1)), tmp_path / "missing.pdf", ("cut.pdf", b"%PDF-1.7\n"),
               ("b.txt", text(2))]  # fmt: skip
    events = list(library.ingest(sources))
    failed = {e.name: e.error for e in events if isinstance(e, FileFailed)}
    assert set(failed) == {"empty.txt", "missing.pdf", "cut.pdf"}
    assert all(isinstance(error, LoadError) and error.reason for error in failed.values())
    assert [document.name for document in library.documents()] == ["a.txt", "b.txt"]
    assert events[-1].num_failed == 3


def test_the_next_file_is_parsed_while_the_current_one_is_embedded(tmp_path: Path, parser) -> None:
    second_is_parsed = threading.Event()

    class WatchedParser:
        def parse(self, path, name):
            if name == "b.txt":
                second_is_parsed.set()
            return parser.parse(path, name)

    class PatientEmbedder(HashingEmbedder):
        def encode(self, texts, on_progress=None):
            assert second_is_parsed.wait(10), "the second file waited for the first one's embedding"
            return super().encode(texts, on_progress)

    with Library(tmp_path / "l", PatientEmbedder(), RetrievalSettings(), parser=WatchedParser()) as library:
        *_, done = library.ingest([("a.txt", text(1)), ("b.txt", text(2))])
    assert done.num_added == 2


def test_closing_the_iterator_cancels_and_keeps_what_was_added(library: Library, tmp_path: Path) -> None:
    events = library.ingest([("a.txt", text(1)), ("b.txt", text(2, 40_000)), ("c.txt", text(3))])
    for event in events:
        if isinstance(event, FileEmbedding) and event.name == "b.txt" and event.done:
            break
    events.close()
    assert [document.name for document in library.documents()] == ["a.txt"]
    deadline = time.monotonic() + 10
    while copies := [p for p in (tmp_path / "library" / "staging").glob("*/*") if p.is_file()]:
        assert time.monotonic() < deadline, copies
        time.sleep(0.01)
    assert len(list((tmp_path / "library" / "files").iterdir())) == 1
    assert library.verify() == []
    *_, done = library.ingest([("a.txt", text(1)), ("b.txt", text(2, 40_000)), ("c.txt", text(3))])
    assert (done.num_added, done.num_duplicates) == (2, 1)


def test_a_broken_embedding_model_stops_the_batch_and_keeps_what_was_added(tmp_path: Path, parser) -> None:
    class Failing(HashingEmbedder):
        def encode(self, texts, on_progress=None):
            if any("w4242w" in t for t in texts):
                raise ModelError("The embedding model has died.")
            return super().encode(texts, on_progress)

    with Library(tmp_path / "l", Failing(), RetrievalSettings(), parser=parser) as library:
        with pytest.raises(ModelError, match="died"):
            list(library.ingest([("a.txt", text(1)), ("b.txt", b"w4242w"), ("c.txt", text(3))]))
        assert [document.name for document in library.documents()] == ["a.txt"]
        assert library.verify() == []


def test_a_mistake_in_our_own_code_is_not_swallowed(tmp_path: Path) -> None:
    class Broken:
        def parse(self, path, name):
            raise ZeroDivisionError

    with Library(tmp_path / "l", HashingEmbedder(), RetrievalSettings(), parser=Broken()) as library:
        with pytest.raises(ZeroDivisionError):
            list(library.ingest([("a.txt", text(1))]))
        assert not [p for p in (tmp_path / "l" / "staging").glob("*/*") if p.is_file()]


def test_a_disk_error_of_one_file_is_told_and_the_rest_goes_on(library: Library, monkeypatch) -> None:
    keep = library._originals.keep
    monkeypatch.setattr(
        library._originals, "keep", lambda staged: _full() if staged.size_bytes > 100 else keep(staged)
    )
    events = list(library.ingest([("big.txt", text(1)), ("small.txt", b"small")]))
    failed = [e for e in events if isinstance(e, FileFailed)]
    assert [type(e.error) for e in failed] == [StorageError]
    assert [document.name for document in library.documents()] == ["small.txt"]
    assert library.verify() == []


def _full() -> None:
    raise StorageError("The disk is full.")


def test_an_empty_batch_ends_at_once(library: Library) -> None:
    (done,) = library.ingest([])
    assert (done.num_added, done.overall.total) == (0, 0)


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("/abs/olute.txt", "olute.txt"),
        ("C:\\Users\\me\\plan.pdf", "plan.pdf"),
        ("folder/", "folder"),
        ("a\x00b\x1b[31m.txt", "ab[31m.txt"),
        ("evil\u202efdp.exe", "evilfdp.exe"),
        ("two\nlines\t.txt", "two lines .txt"),
        ("..", "document"),
        ("", "document"),
        (" . ", "document"),
        ("\ud800.txt", ".txt"),
        ("Zu\u0308rich.txt", "Zürich.txt"),
        ("東京 報告.pdf", "東京 報告.pdf"),
        ("x" * 300 + ".pdf", "x" * (MAX_NAME_CHARS - 5) + "….pdf"),
    ],
)
def test_file_names_are_made_harmless(raw: str, shown: str) -> None:
    assert display_name(raw) == shown


@given(st.text(st.characters(), max_size=400))
def test_no_name_breaks_out_or_hides_anything(raw: str) -> None:
    shown = display_name(raw)
    assert 1 <= len(shown) <= MAX_NAME_CHARS
    assert not set(shown) & set("/\\\0\n\r\t\u202e\u200b")
    assert shown.strip(". ") != ""
    assert all(unicodedata.category(char) not in ("Cc", "Cf", "Cs") for char in shown)
    assert display_name(shown) == shown
