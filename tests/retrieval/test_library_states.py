"""Whatever is done in whatever order, a library behaves like a dict of documents."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, initialize, invariant, rule
from localsmith.core.settings import RetrievalSettings
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.retrieval.library import Library
from localsmith.retrieval.loaders import load_document

CONTENTS = [f"unique{n}word " + "filler words here. " * (60 * (n % 3)) for n in range(6)]


class InProcessParser:
    def parse(self, path, name):
        return load_document(path, name)


class LibraryStates(RuleBasedStateMachine):
    """The model: id -> content of the searchable and of the removed documents."""

    ids = Bundle("ids")

    @initialize()
    def start(self) -> None:
        self.folder = Path(tempfile.mkdtemp())
        self.dimension = 64
        self.library = self._open()
        self.present: dict[str, int] = {}
        self.removed: dict[str, int] = {}
        self.names: dict[str, str] = {}

    def _open(self) -> Library:
        embedder = HashingEmbedder(self.dimension)
        return Library(self.folder, embedder, RetrievalSettings(), parser=InProcessParser())

    @rule(
        target=ids, content=st.integers(0, 5), name=st.sampled_from(["a.txt", "b.txt"]), replace=st.booleans()
    )
    def add(self, content: int, name: str, replace: bool) -> str:
        document = self.library.add(CONTENTS[content].encode(), name, replace=replace)
        if content in self.present.values():
            assert self.present[document.id] == content
            return document.id
        if replace:
            for other in [i for i in self.present if self.names[i] == name]:
                self.removed[other] = self.present.pop(other)
        if content in self.removed.values():
            assert self.removed.pop(document.id) == content
        self.present[document.id], self.names[document.id] = content, name
        return document.id

    @rule(document_id=ids)
    def remove(self, document_id: str) -> None:
        self.library.remove(document_id)
        if document_id in self.present:
            self.removed[document_id] = self.present.pop(document_id)

    @rule(document_id=ids)
    def restore(self, document_id: str) -> None:
        self.library.restore(document_id)
        if document_id in self.removed:
            self.present[document_id] = self.removed.pop(document_id)

    @rule(document_id=consumes(ids))
    def forget(self, document_id: str) -> None:
        """Drop an id from the bundle, so that others get their turn."""

    @rule()
    def reindex(self) -> None:
        *_, done = self.library.reindex()
        assert (done.num_added, done.num_failed) == (len(self.present), 0)

    @rule()
    def reopen(self) -> None:
        self.library.close()
        self.library = self._open()

    @rule()
    def write_from_another_process(self) -> None:
        with self._open() as other:
            for document in other.documents()[:1]:
                other.remove(document.id)
                self.removed[document.id] = self.present.pop(document.id)

    @invariant()
    def the_library_agrees_with_the_model(self) -> None:
        documents = {document.id: document.name for document in self.library.documents()}
        assert documents == {i: self.names[i] for i in self.present}
        assert {r.document.id for r in self.library.removed_documents()} == set(self.removed)
        assert self.library.verify() == []
        passages = self.library.search("filler words", k=100)
        assert {p.chunk.document_id for p in passages if p.dense_rank} == set(self.present)
        for content in range(len(CONTENTS)):
            worded = [
                p.chunk.document_id for p in self.library.search(f"unique{content}word") if p.lexical_rank
            ]
            assert worded == [i for i, c in self.present.items() if c == content]

    def teardown(self) -> None:
        if hasattr(self, "library"):
            self.library.close()
            shutil.rmtree(self.folder)


LibraryStates.TestCase.settings = settings(
    max_examples=12, stateful_step_count=15, deadline=None, suppress_health_check=list(HealthCheck)
)
test_any_order_of_changes_leaves_library_and_model_in_step = LibraryStates.TestCase
