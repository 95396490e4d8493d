"""Forks one ingesting process for every line read, so that a test can kill many without importing each time.

In: a line of JSON {"folder": ..., "sources": ...}. Out: "started PID", "added JSON" after each commit,
    "ended".
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.ingest import FileAdded, FileFailed
from localsmith.retrieval.library import Library
from localsmith.retrieval.loaders import load_document


class InProcessParser:
    """The real loaders without the process around them: its start would take most of the test's time."""

    def parse(self, path, name):
        return load_document(path, name)


def say(line: str) -> None:
    os.write(1, (line + "\n").encode())  # one write, unbuffered: what was said was said before the kill


def ingest(folder: Path, sources: Path) -> None:
    with Library(folder, HashingEmbedder(), RetrievalSettings(), parser=InProcessParser()) as library:
        for event in library.ingest(sorted(sources.iterdir())):
            if isinstance(event, FileAdded):
                d = event.document
                say("added " + json.dumps([d.name, d.id, d.content_sha256, d.num_chunks]))
            elif isinstance(event, FileFailed):
                say(f"failed {event.name}: {event.error}")


def main() -> None:
    import faiss  # noqa: F401 - loaded once for all children

    for line in sys.stdin:
        order = json.loads(line)
        pid = os.fork()
        if pid == 0:
            say(f"started {os.getpid()}")
            try:
                ingest(Path(order["folder"]), Path(order["sources"]))
                status = 0
            except BaseException as exc:
                say(f"failed {exc!r}")
                status = 1
            os._exit(status)
        os.waitpid(pid, 0)
        say("ended")


if __name__ == "__main__":
    main()
