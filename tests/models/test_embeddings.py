"""The embedder: one contract for the real one and the fake, and what happens when its process dies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from localsmith.core.contracts import Embedder
from localsmith.core.errors import ModelLoadError, ModelNotReadyError
from localsmith.core.settings import load_settings
from localsmith.models.embedding.embedder import EmbedderProcess, load_embedder
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.embedding.folder import EmbeddingFolder

pytestmark = pytest.mark.real_model

TEXTS = [
    "A trace tree is recorded.",
    "Bananas are yellow.",
    "",
    "日本語のテキスト",
    "long words " * 400,
    "a\x00b",
]


@pytest.fixture(params=["real", "fake"])
def either(request: pytest.FixtureRequest) -> Embedder:
    if request.param == "fake":
        return HashingEmbedder()
    real: Embedder = request.getfixturevalue("embedder")
    return real


@pytest.fixture
def own(embedder_path: Path) -> Iterator[EmbedderProcess]:
    """An embedder that the test may kill."""
    with EmbedderProcess(embedder_path, "own", batch_size=4, device="cpu") as embedder:
        yield embedder


def test_rows_are_unit_vectors_in_the_order_of_the_texts(either: Embedder) -> None:
    vectors = either.encode(TEXTS)
    assert vectors.shape == (len(TEXTS), either.dimension) and vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    for text, vector in zip(TEXTS, vectors, strict=True):
        assert np.abs(either.encode([text])[0] - vector).max() < 1e-5
    assert either.encode([]).shape == (0, either.dimension)


def test_like_texts_are_nearer_than_unlike_ones(either: Embedder) -> None:
    a, b, c = either.encode(["the cat sat on the mat", "a cat sat on a mat", "quarterly tax revenue rose"])
    assert a @ b > a @ c


def test_token_spans_lie_in_the_text_in_order(either: Embedder) -> None:
    for text in TEXTS:
        spans = either.token_spans(text)
        assert all(0 <= start < end <= len(text) for start, end in spans)
        assert spans == sorted(spans)
    assert [TEXTS[0][slice(*span)] for span in either.token_spans(TEXTS[0])][:3] == ["A", "trace", "tree"]


def test_progress_reaches_the_whole(either: Embedder) -> None:
    seen: list[tuple[int, int]] = []
    either.encode(TEXTS, lambda done, total: seen.append((done, total)))
    assert seen[-1] == (len(TEXTS), len(TEXTS)) and seen == sorted(seen)


def test_name_and_sizes_tell_the_weights(either: Embedder) -> None:
    stem, _, digest = either.name.partition("@")
    assert stem and len(digest) == 12
    assert either.max_tokens > 0


def test_vectors_are_those_of_sentence_transformers(embedder: EmbedderProcess, embedder_path: Path) -> None:
    """Reference: sentence-transformers itself on the same folder; tolerance 1e-5 a component."""
    script = (
        "import json, sys; from sentence_transformers import SentenceTransformer\n"
        "model = SentenceTransformer(sys.argv[1], device='cpu', local_files_only=True)\n"
        "rows = model.encode(json.loads(sys.argv[2]), normalize_embeddings=True)\n"
        "print('ROWS' + json.dumps(rows.tolist()))"
    )
    texts = [text for text in TEXTS if "\x00" not in text]
    command = [sys.executable, "-c", script, str(embedder_path), json.dumps(texts)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    reference = np.array(json.loads(said.split("ROWS")[1]), dtype=np.float32)
    assert np.abs(embedder.encode(texts) - reference).max() < 1e-5


def test_another_make_of_folder_goes_through_sentence_transformers(
    embedder_path: Path, embedder: EmbedderProcess, tmp_path: Path
) -> None:
    folder = tmp_path / "lowered"  # do_lower_case is not what the quick path computes
    shutil.copytree(embedder_path, folder)
    (folder / "sentence_bert_config.json").write_text('{"max_seq_length": 256, "do_lower_case": true}')
    with EmbedderProcess(folder, "lowered", device="cpu") as other:
        rows = other.encode(["A Trace Tree"])
    assert np.abs(rows - embedder.encode(["a trace tree"])).max() < 1e-5


def test_the_parent_never_imports_torch(embedder_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path\n"
        "from localsmith.models.embedding.embedder import EmbedderProcess\n"
        "with EmbedderProcess(Path(sys.argv[1]), 'x', device='cpu') as e:\n"
        "    e.token_spans('a text'), e.max_tokens, e.encode(['a text'])\n"
        "assert not {'torch', 'sentence_transformers', 'transformers'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script, str(embedder_path)], check=True)


def test_start_returns_before_the_model_is_loaded(embedder_path: Path) -> None:
    embedder = EmbedderProcess(embedder_path, "x", device="cpu")
    began = time.monotonic()
    embedder.start()
    assert time.monotonic() - began < 0.5 and not embedder.is_ready
    embedder.encode(["x"])
    assert embedder.is_ready
    embedder.close()
    with pytest.raises(ModelNotReadyError):
        embedder.encode(["x"])


def test_a_killed_child_is_replaced_without_the_caller_noticing(own: EmbedderProcess) -> None:
    before = own.encode(TEXTS)
    child = _child_of(os.getpid())
    child.kill()
    assert np.abs(own.encode(TEXTS) - before).max() < 1e-6
    assert _child_of(os.getpid()).pid != child.pid


def test_a_question_waits_for_one_batch_not_for_the_ingest(own: EmbedderProcess) -> None:
    own.encode(["warm"])
    done: list[int] = []
    ingest = threading.Thread(
        target=own.encode, args=(["some words here " * 30] * 200, lambda d, _: done.append(d))
    )
    ingest.start()
    while not done:
        time.sleep(0.01)
    at_start = done[-1]
    own.encode(["question"])
    waited = done[-1] - at_start
    ingest.join()
    assert waited <= 3 * 4, f"{waited} texts of the ingest came first; a batch has 4"


def test_the_child_ends_when_its_parent_is_killed(embedder_path: Path) -> None:
    script = (
        "import sys, time; from pathlib import Path\n"
        "from localsmith.models.embedding.embedder import EmbedderProcess\n"
        "e = EmbedderProcess(Path(sys.argv[1]), 'x', device='cpu'); e.encode(['x'])\n"
        "print('ready', flush=True)\n"
        "time.sleep(60)"
    )
    command = [sys.executable, "-c", script, str(embedder_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        while "ready" not in parent.stdout.readline():
            assert parent.poll() is None
        child = _child_of(parent.pid)
        parent.send_signal(signal.SIGKILL)
    child.wait(timeout=10)


def test_a_damaged_folder_is_an_error_that_says_so(embedder_path: Path, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="not a folder"):
        load_embedder(load_settings(embedder={"name": str(tmp_path / "nowhere")}))
    folder = tmp_path / "damaged"
    shutil.copytree(embedder_path, folder)
    (folder / "model.safetensors").write_bytes(b"garbage")
    with load_embedder(load_settings(embedder={"name": str(folder)})) as embedder:
        with pytest.raises(ModelLoadError, match="can't be loaded"):
            embedder.encode(["x"])
    (folder / "modules.json").unlink()
    with pytest.raises(ModelLoadError, match="not a sentence-transformers folder"):
        EmbeddingFolder.read(folder)


def test_langchain_gets_the_same_vectors() -> None:
    from localsmith.models.embedding.langchain import LangChainEmbeddings

    fake = HashingEmbedder()
    adapter = LangChainEmbeddings(fake)
    assert adapter.embed_query("a text") == pytest.approx(fake.encode(["a text"])[0].tolist())
    assert len(adapter.embed_documents(["one", "two"])) == 2


def _child_of(pid: int) -> psutil.Process:
    children = psutil.Process(pid).children()
    return next(c for c in reversed(children) if c.is_running() and _is_worker(c))


def _is_worker(process: psutil.Process) -> bool:
    return process.status() != psutil.STATUS_ZOMBIE and any(
        "embedding.worker" in part for part in process.cmdline()
    )
