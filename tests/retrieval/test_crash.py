"""A library survives its process: SIGKILL at random moments, again and again in the same folder."""

from __future__ import annotations

import hashlib
import json
import os
import queue
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library

NUM_FILES = 30
NUM_KILLS = 25
SEED = 20_251


class Nursery:
    """Starts ingesting processes and tells what they have said."""

    def __init__(self) -> None:
        script = Path(__file__).with_name("ingest_nursery.py")
        self._process = subprocess.Popen(
            [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        self._lines: queue.Queue[str] = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self) -> None:
        for line in self._process.stdout:
            self._lines.put(line.rstrip("\n"))

    def ingest(
        self, folder: Path, sources: Path, kill_after_s: float | None
    ) -> tuple[list[list], bool, float]:
        """Run one ingest and return (acknowledged documents, whether it was killed, seconds it ran)."""
        self._process.stdin.write(json.dumps({"folder": str(folder), "sources": str(sources)}) + "\n")
        said = [self._lines.get(timeout=60)]
        started_at, pid = time.monotonic(), int(said[0].removeprefix("started "))
        killed = False
        if kill_after_s is not None:
            time.sleep(kill_after_s)
            if not self._has_ended(said):
                os.kill(pid, signal.SIGKILL)
                killed = True
        while said[-1] != "ended":
            said.append(self._lines.get(timeout=60))
        failures = [line for line in said if line.startswith("failed")]
        assert not failures, failures
        added = [json.loads(line.removeprefix("added ")) for line in said if line.startswith("added ")]
        return added, killed, time.monotonic() - started_at

    def _has_ended(self, said: list[str]) -> bool:
        while not self._lines.empty():
            said.append(self._lines.get())
        return said[-1] == "ended"

    def close(self) -> None:
        self._process.stdin.close()
        self._process.wait(timeout=20)


@pytest.fixture
def nursery():
    nursery = Nursery()
    yield nursery
    nursery.close()


@pytest.fixture
def sources(tmp_path: Path) -> Path:
    """30 files of very different length, each with a word that no other has."""
    folder = tmp_path / "sources"
    folder.mkdir()
    rng = random.Random(SEED)
    words = ["".join(rng.choices("abcdefghijklmnoprstuv", k=rng.randint(3, 9))) for _ in range(2000)]
    for number in range(NUM_FILES):
        length = int(10 ** rng.uniform(1.3, 4.3))
        sentences = [" ".join(rng.choices(words, k=12)) + "." for _ in range(max(1, length // 12))]
        body = "\n\n".join(" ".join(sentences[i : i + 6]) for i in range(0, len(sentences), 6))
        (folder / f"file{number:02}.txt").write_text(f"unique{number}word begins.\n\n{body}")
    return folder


def test_a_killed_ingest_leaves_no_half_document(nursery: Nursery, sources: Path, tmp_path: Path) -> None:
    whole, _, duration_s = nursery.ingest(tmp_path / "reference", sources, None)
    expected = {name: (sha256, num_chunks) for name, _, sha256, num_chunks in whole}
    assert len(expected) == NUM_FILES
    rng = random.Random(SEED)
    moments = [(i + rng.random()) / NUM_KILLS for i in range(NUM_KILLS)]  # spread over the whole run
    rng.shuffle(moments)
    acknowledged: dict[str, str] = {}
    folder, num_libraries = tmp_path / "library0", 1
    while moments:
        remaining = max(0.2, 1 - len(acknowledged) / NUM_FILES)
        added, killed, _ = nursery.ingest(folder, sources, moments[-1] * duration_s * remaining)
        acknowledged |= {name: document_id for name, document_id, *_ in added}
        names = _check(folder, sources, acknowledged, expected)
        # The one whose commit was through but whose message was not.
        assert len(names - set(acknowledged)) <= 1
        acknowledged |= dict.fromkeys(names - set(acknowledged), "")
        if killed:
            moments.pop()
        else:
            moments[-1] *= 0.8  # it was done before; the machine is faster now than in the reference run
        if len(acknowledged) == NUM_FILES:
            folder, acknowledged = tmp_path / f"library{num_libraries}", {}
            num_libraries += 1
    added, _, _ = nursery.ingest(folder, sources, None)
    acknowledged |= {name: document_id for name, document_id, *_ in added}
    assert _check(folder, sources, acknowledged, expected) == set(expected)
    assert sorted(path.name for path in (folder / "files").iterdir()) == sorted(
        s for s, _ in expected.values()
    )


def _check(
    folder: Path, sources: Path, acknowledged: dict[str, str], expected: dict[str, tuple[str, int]]
) -> set[str]:
    """Open the library as the next process would, and look at every document in it."""
    with Library(folder, HashingEmbedder(), RetrievalSettings()) as library:
        assert library.verify() == []
        documents = {document.name: document for document in library.documents()}
        assert set(acknowledged) <= set(documents), "an acknowledged document is lost"
        for name, document in documents.items():
            assert acknowledged.get(name) in (None, "", document.id)
            assert (document.content_sha256, document.num_chunks) == expected[name]
            stored = library.document_path(document.id).read_bytes()
            assert hashlib.sha256(stored).hexdigest() == document.content_sha256
        for name in random.Random(len(documents)).sample(sorted(documents), min(5, len(documents))):
            _check_search(library, documents[name], expected[name][1])
        # Killed between making its lock and its folder, a process leaves the lock, which goes once it is old.
        copies = [path for path in (folder / "staging").glob("*") if path.suffix != ".lock"]
        assert not copies, "a killed process left its copies behind"
        return set(documents)


def _check_search(library: Library, document, num_chunks: int) -> None:
    passages = library.search(f"unique{int(document.name[4:6])}word")
    worded = [passage.chunk for passage in passages if passage.lexical_rank is not None]
    assert [(chunk.document_id, chunk.position) for chunk in worded] == [(document.id, 0)]
    found = library.search("anything", k=num_chunks + 1, document_ids=[document.id])
    assert len(found) == num_chunks
    assert all(passage.dense_rank is not None for passage in found), "a vector is missing"


@pytest.mark.parametrize(("age_s", "is_left"), [(100_000.0, False), (0.0, True)], ids=["old", "new"])
def test_a_lock_without_a_folder_goes_once_it_is_old(tmp_path: Path, age_s: float, is_left: bool) -> None:
    """A new one may belong to a process that is about to make the folder."""
    Library(tmp_path, HashingEmbedder(), RetrievalSettings()).close()
    lock = tmp_path / "staging" / "0123.lock"
    lock.parent.mkdir(exist_ok=True)
    lock.touch()
    os.utime(lock, (time.time() - age_s,) * 2)
    with Library(tmp_path, HashingEmbedder(), RetrievalSettings()):
        assert lock.exists() == is_left
