"""Two processes on one library: both write, each document is there exactly once, both see all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library

NURSERY = Path(__file__).with_name("ingest_nursery.py")


def test_two_processes_ingesting_the_same_files_add_each_exactly_once(tmp_path: Path) -> None:
    sources = tmp_path / "sources"
    sources.mkdir()
    for number in range(10):
        (sources / f"{number}.txt").write_text(f"unique{number}word " + "and more words. " * (200 * number))
    order = json.dumps({"folder": str(tmp_path / "library"), "sources": str(sources)}) + "\n"
    processes = [
        subprocess.Popen(
            [sys.executable, str(NURSERY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for process in processes:
        process.stdin.write(order)
        process.stdin.flush()
    said = [process.communicate(timeout=60)[0].splitlines() for process in processes]
    added = [line.split('"')[1] for lines in said for line in lines if line.startswith("added")]
    failed = [line for lines in said for line in lines if line.startswith("failed")]
    assert failed == []
    assert sorted(added) == [f"{number}.txt" for number in range(10)]
    with Library(tmp_path / "library", HashingEmbedder(), RetrievalSettings()) as library:
        assert sorted(document.name for document in library.documents()) == sorted(added)
        assert library.verify() == []
        for number in range(10):
            passages = library.search(f"unique{number}word")
            assert any(p.lexical_rank == 1 and p.document_name == f"{number}.txt" for p in passages)
