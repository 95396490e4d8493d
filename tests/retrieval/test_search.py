"""Search finds what it should: exact vectors, safe words, fair fusion, an index that follows the store."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval import chunk_rows, lexical, vector_index
from localsmith.retrieval.library import Library
from localsmith.retrieval.search import DENSE_WEIGHT, LEXICAL_WEIGHT, RRF_K, fuse

PARAGRAPHS = [
    "The quick brown fox jumps over the lazy dog near the river bank.",
    "Interest rates were raised by the central bank in September.",
    "Le café de l'hôtel était fermé à cause de la grève.",
    "東京都の人口は約一千四百万人です。",
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "हिन्दी भाषा देवनागरी लिपि में लिखी जाती है।",
    "Ошибка: файл не найден на диске.",
    "def near(a, b): return abs(a - b) < 1e-9  # NEAR(a b)",
]


@pytest.fixture
def shelf(library: Library) -> Library:
    for number, paragraph in enumerate(PARAGRAPHS):
        library.add(paragraph.encode(), name=f"p{number}.txt")
    return library


def found_by_words(library: Library, query: str) -> list[str]:
    passages = [p for p in library.search(query, k=20) if p.lexical_rank is not None]
    return [p.chunk.text for p in sorted(passages, key=lambda p: p.lexical_rank)]


# --- fusion


def test_fusion_gives_the_scores_of_the_paper() -> None:
    fused = dict(fuse([["a", "b"], ["b", "c"]], weights=[1.0, 1.0]))
    # Cormack et al. 2009: sum over rankings of 1 / (k + rank).
    assert fused["a"] == pytest.approx(1 / (RRF_K + 1))
    assert fused["b"] == pytest.approx(1 / (RRF_K + 2) + 1 / (RRF_K + 1))
    assert fused["c"] == pytest.approx(1 / (RRF_K + 2))


@given(st.lists(st.lists(st.integers(0, 30), unique=True, max_size=20), min_size=1, max_size=3))
def test_fusion_keeps_every_item_once_and_never_puts_a_worse_one_first(rankings: list[list[int]]) -> None:
    fused = [item for item, _ in fuse(rankings, [1.0] * len(rankings))]
    assert sorted(fused) == sorted({item for ranking in rankings for item in ranking})
    place = {item: i for i, item in enumerate(fused)}
    for a in fused:
        for b in fused:
            if a != b and all(_beats(ranking, a, b) for ranking in rankings):
                assert place[a] < place[b]


def _beats(ranking: list[int], a: int, b: int) -> bool:
    return a in ranking and (b not in ranking or ranking.index(a) < ranking.index(b))


def test_the_best_by_meaning_alone_is_among_the_first_five() -> None:
    by_meaning, by_words = ["m", *range(100, 150)], list(range(50))
    fused = [item for item, _ in fuse([by_meaning, by_words], [DENSE_WEIGHT, LEXICAL_WEIGHT])]
    assert fused.index("m") < 5


# --- words


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(query=st.text(st.characters(), max_size=60))
def test_no_question_is_ever_syntax(shelf: Library, query: str) -> None:
    library = shelf
    with library._store.read() as db:
        lexical.rank(db, 1, query, 10)
        lexical.rank(db, 1, f'"{query}" AND NEAR({query}, 3) OR text:{query}* ^', 10)


@pytest.mark.parametrize(
    "query", ['"', "a AND", "NOT", "NEAR(a b, 2)", "text:fox", "^fox", "fo*", "a\0b", "", "?!"]
)
def test_search_syntax_is_read_as_words(shelf: Library, query: str) -> None:
    assert isinstance(shelf.search(query), list)


@pytest.mark.parametrize(
    ("query", "number"),
    [
        ("What did the foxes jump over?", 0),
        ("cafe hotel greve", 2),
        ("CAFÉ", 2),
        ("東京", 3),
        ("人口", 3),
        ("約", 3),
        ("ช่องว่าง", 4),
        ("देवनागरी", 5),
        ("ФАЙЛ", 6),
        ("ｆｏｘ", 0),
        ("NEAR", 7),
    ],
)
def test_words_are_found_in_every_script(shelf: Library, query: str, number: int) -> None:
    assert PARAGRAPHS[number] in found_by_words(shelf, query)


def test_stop_words_do_not_decide_unless_there_is_nothing_else(shelf: Library) -> None:
    assert found_by_words(shelf, "What was raised by the bank?")[0] == PARAGRAPHS[1]
    assert PARAGRAPHS[5] not in found_by_words(shelf, "is it in the bank")
    assert found_by_words(shelf, "over the") != []


def test_file_name_title_and_headings_are_searched_with_the_text(library: Library) -> None:
    text = b"# Holidays\n\n## Sick leave\n\nTell the office by nine.\n\n" + b"Filler words. " * 300
    library.add(text, "handbook.md")
    library.add(b"Some other text about nothing much.", "notes.txt")
    assert len(found_by_words(library, "handbook")) > 2
    assert set(found_by_words(library, "handbook")) == set(found_by_words(library, "holidays"))
    best = library.search("sick leave", k=1)[0]
    assert "Sick leave" in (*best.chunk.headings, best.chunk.text)


# --- vectors


def brute_force(library: Library, query: str, k: int) -> list[tuple[int, float]]:
    vector = HashingEmbedder().encode([query])[0]
    with library._store.read() as db:
        rows = db.execute(vector_index._VECTORS, (1, HashingEmbedder().name)).fetchall()
    scored = [(row[0], float(np.frombuffer(row[1], dtype="<f4") @ vector)) for row in rows]
    return sorted(scored, key=lambda pair: -pair[1])[:k]


def test_similarities_are_those_of_numpy(shelf: Library) -> None:
    query = "the bank raised rates"
    expected = brute_force(shelf, query, 20)
    passages = shelf.search(query, k=20)
    by_similarity = sorted((p.similarity for p in passages), reverse=True)
    assert by_similarity == pytest.approx([similarity for _, similarity in expected], abs=1e-6)
    first = min(passages, key=lambda p: p.dense_rank)
    assert int(first.chunk.id.split(".")[1]) == expected[0][0]


def test_ranks_are_consecutive_and_scores_fall(shelf: Library) -> None:
    passages = shelf.search("bank", k=5)
    assert [p.rank for p in passages] == [1, 2, 3, 4, 5]
    assert [p.score for p in passages] == sorted((p.score for p in passages), reverse=True)
    with pytest.raises(ValueError, match="k must"):
        shelf.search("bank", k=0)


def test_only_the_documents_asked_for_are_searched(shelf: Library) -> None:
    wanted = [document.id for document in shelf.documents()[1:3]]
    found = shelf.search("fox dog river bank café", k=10, document_ids=wanted)
    assert {p.chunk.document_id for p in found} == set(wanted)
    assert shelf.search("fox", document_ids=["nothing"]) == []


# --- the index follows the store


def held(library: Library) -> set[int]:
    import faiss

    return set(faiss.vector_to_array(library._search._indexes[1]._index.id_map).tolist())


def test_the_index_follows_every_change_without_a_rebuild(shelf: Library, monkeypatch) -> None:
    shelf.search("warm")
    monkeypatch.setattr(vector_index.VectorIndex, "_rebuild", None)
    documents = shelf.documents()
    shelf.remove(documents[0].id)
    shelf.remove(documents[3].id)
    shelf.restore(documents[3].id)
    shelf.add(b"A new one.", "new.txt")
    list(shelf.reindex())
    shelf.search("x")
    with shelf._store.read() as db:
        searchable = set(chunk_rows.ids_of(db, [document.id for document in shelf.documents()]))
    assert held(shelf) == searchable
    assert len(searchable) == len(PARAGRAPHS)


def test_another_library_on_the_same_folder_sees_changes_at_its_next_search(open_library) -> None:
    one, other = open_library(), open_library()
    trees = one.add(b"A trace tree.", "a.txt")
    assert [p.chunk.document_id for p in other.search("trace")] == [trees.id]
    bananas = other.add(b"A banana.", "b.txt")
    other.remove(trees.id)
    assert [p.chunk.document_id for p in one.search("trace")] == [bananas.id]


@pytest.fixture
def snapshot(open_library, monkeypatch, tmp_path: Path) -> Path:
    """A library with a snapshot on disk, and one document added since."""
    monkeypatch.setattr(vector_index.VectorIndex.save, "__defaults__", (1,))
    with open_library() as library:
        for number, paragraph in enumerate(PARAGRAPHS):
            library.add(paragraph.encode(), name=f"p{number}.txt")
        library.search("warm")
    path = tmp_path / "library" / "index" / "1.faiss"
    assert path.exists()
    with open_library() as library:
        library.add(b"Added after the snapshot.", "late.txt")
    return path


def test_a_snapshot_saves_the_rebuild_and_is_brought_up_to_date(
    open_library, snapshot: Path, monkeypatch
) -> None:
    monkeypatch.setattr(vector_index.VectorIndex, "_rebuild", None)
    library = open_library()
    assert library.search("Added after the snapshot.", k=20)[0].document_name == "late.txt"
    assert len(held(library)) == len(PARAGRAPHS) + 1


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "no header", "other model"])
def test_a_damaged_or_foreign_snapshot_is_rebuilt(open_library, snapshot: Path, damage: str) -> None:
    data = snapshot.read_bytes()
    header = json.loads(data.partition(b"\n")[0])
    changed = {"other model": {"embedder": "m"}}.get(damage, {})
    snapshot.write_bytes(
        {
            "cut": data[: len(data) // 2],
            "flipped": data[:-9] + bytes([data[-9] ^ 1]) + data[-8:],
            "empty": b"",
            "no header": b"\n" + data.partition(b"\n")[2],
        }.get(damage, json.dumps(header | changed).encode() + b"\n" + data.partition(b"\n")[2])
    )
    library = open_library()
    assert library.search("Added after the snapshot.", k=20)[0].document_name == "late.txt"
    assert len(held(library)) == len(PARAGRAPHS) + 1


def test_a_store_put_back_from_a_backup_is_not_searched_with_a_newer_index(
    open_library, tmp_path: Path, monkeypatch
) -> None:
    monkeypatch.setattr(vector_index.VectorIndex.save, "__defaults__", (1,))
    path = tmp_path / "library" / "library.sqlite3"
    with open_library() as library:
        library.add(b"Kept in the backup.", "kept.txt")
    backup = path.read_bytes()
    with open_library() as library:
        library.add(b"Forgotten by the backup.", "forgotten.txt")
        library.search("warm")
    path.write_bytes(backup)
    with open_library() as library:
        library.add(b"Added after the backup.", "after.txt")
        names = {p.document_name for p in library.search("backup", k=20) if p.dense_rank}
        assert names == {"kept.txt", "after.txt"}
        # Its chunk has the number that the forgotten one had: the vector must be its own.
        (after,) = [p for p in library.search("Added after the backup.") if p.document_name == "after.txt"]
        assert after.similarity == pytest.approx(1, abs=1e-5)
        assert len(held(library)) == 2


def test_threads_search_while_others_add(open_library) -> None:
    library = open_library()
    library.add(b"A trace tree.", "first.txt")
    failures: list[Exception] = []
    stop = threading.Event()

    def search() -> None:
        while not stop.is_set():
            try:
                assert any(p.document_name == "first.txt" for p in library.search("trace tree", k=100))
            except Exception as exc:
                failures.append(exc)
                return

    threads = [threading.Thread(target=search) for _ in range(3)]
    for thread in threads:
        thread.start()
    for number in range(25):
        library.add(f"Document number {number}.".encode(), f"{number}.txt")
    stop.set()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(library.search("document", k=100)) == 26


# --- the real model


@pytest.mark.real_model
def test_real_questions_find_their_paragraphs(embedder, shared_data: Path, tmp_path: Path, parser) -> None:
    """40 questions of SQuAD over 12 articles; the published figure comes from `localsmith evaluate rag`."""
    articles = [json.loads(line) for line in (shared_data / "squad" / "articles.jsonl").open()][:12]
    questions = [json.loads(line) for line in (shared_data / "squad" / "questions.jsonl").open()]
    questions = [question for question in questions if question["article"] < len(articles)][-40:]
    with Library(tmp_path / "l", embedder, RetrievalSettings(), parser=parser) as library:
        for article in articles:
            library.add("\n\n".join(article["paragraphs"]).encode(), f"{article['title']}.txt")
        hits = 0
        for question in questions:
            passages = library.search(question["question"], k=5)
            title = articles[question["article"]]["title"]
            hits += any(
                p.document_name == f"{title}.txt" and any(a in p.chunk.text for a in question["answers"])
                for p in passages
            )
    assert hits / len(questions) >= 0.93
