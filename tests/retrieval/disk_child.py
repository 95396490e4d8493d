"""Fills a small disk with documents until the library refuses, then makes room and goes on. Prints one JSON
line.

Arguments: the folder, and how its size is limited: "tmpfs" (a small file system is mounted there, in this
process's own mount namespace) or "rlimit" (no file may grow beyond a limit; works for everyone).
"""

from __future__ import annotations

import json
import resource
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
from localsmith.core.errors import StorageError
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library
from localsmith.retrieval.loaders import load_document

LIMIT_BYTES = 3_000_000


class InProcessParser:
    def parse(self, path, name):
        return load_document(path, name)


def open_library(folder: Path) -> Library:
    return Library(folder / "library", HashingEmbedder(), RetrievalSettings(), parser=InProcessParser())


def document(number: int) -> bytes:
    words = np.random.default_rng(number).integers(0, 10**6, 8_000)
    return f"unique{number}word {' '.join(f'w{word}' for word in words)}".encode()


def fill(library: Library) -> tuple[list[str], StorageError]:
    added = []
    for number in range(500):
        try:
            added.append(library.add(document(number), f"{number}.txt").id)
        except StorageError as exc:
            return added, exc
    raise AssertionError("the disk was never full")


def main(folder: Path, limit: str) -> None:
    filler = folder / "filler"
    if limit == "tmpfs":
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(folder)], check=True)
        filler.write_bytes(b"x" * 1_500_000)
    else:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT_BYTES, hard))
    library = open_library(folder)
    added, error = fill(library)
    result = {
        "num_added": len(added),
        "message": str(error),
        "hint": error.hint,
        "kept": [d.id for d in library.documents()] == added,
        "num_originals": len(list((folder / "library" / "files").iterdir())),
        "num_staged": len([p for p in (folder / "library" / "staging").glob("*/*") if p.is_file()]),
        "problems": library.verify(),
        "found": all(
            any(p.chunk.document_id == i and p.lexical_rank == 1 for p in library.search(f"unique{n}word"))
            for n, i in enumerate(added)
        ),
    }
    library.close()
    result["kept_after_opening"] = [d.id for d in open_library(folder).documents()] == added
    if limit == "tmpfs":
        filler.unlink()
    else:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    with open_library(folder) as library:
        library.add(document(len(added)), "late.txt")
        result["num_after_making_room"] = len(library.documents())
        result["problems"] += library.verify()
    sys.stdout.write(json.dumps(result) + "\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
