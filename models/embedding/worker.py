"""The embedder's child process: holds torch and the model, answers batches of texts with vectors.

Place in the data's way: started by `embedder.EmbedderProcess` as
`python -m localsmith.models.embedding.worker FOLDER DEVICE PARENT_PID`; reads requests from standard input
and writes replies to what was standard output, which nothing else may write to. It ends with its parent.

Frames, both ways: four bytes little-endian length, then that many bytes of UTF-8 JSON. A request is a list of
texts. A reply is {"rows", "dimension"} followed by the rows as raw float32, or {"error"}; the first reply is
{"ready", "dimension"} or {"error"}.

Example:
    >>> write_frame(stream, ["a text"])  # doctest: +SKIP
"""

from __future__ import annotations

import json
import os
import signal
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO, Protocol

import numpy as np
import numpy.typing as npt

_LENGTH = struct.Struct("<I")
_PARENT_CHECK_S = 2.0


class _Encoder(Protocol):
    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]: ...


def write_frame(stream: BinaryIO, value: Any, payload: bytes = b"") -> None:
    """Write a JSON value as one frame, then raw bytes that the value announces."""
    body = json.dumps(value).encode()
    stream.write(_LENGTH.pack(len(body)) + body + payload)
    stream.flush()


def read_frame(stream: BinaryIO) -> Any:
    """Return the JSON value of the next frame.

    Raises:
        EOFError: The other side closed the stream.
    """
    (length,) = _LENGTH.unpack(read_exactly(stream, _LENGTH.size))
    return json.loads(read_exactly(stream, length))


def read_exactly(stream: BinaryIO, size_bytes: int) -> bytes:
    """Return so many bytes.

    Raises:
        EOFError: The stream ended before.
    """
    data = stream.read(size_bytes)
    if data is None or len(data) < size_bytes:
        raise EOFError(f"{size_bytes} bytes expected, {len(data or b'')} came")
    return data


class _SentenceTransformersEncoder:
    """Any sentence-transformers folder, by the library itself."""

    def __init__(self, folder: Path, device: str) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder), device=device, local_files_only=True)

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        vectors = self._model.encode(
            texts,
            batch_size=len(texts),
            normalize_embeddings=True,
            show_progress_bar=False,
            convert_to_numpy=True,
        )
        return np.asarray(vectors, dtype=np.float32)


def load_encoder(folder: Path, device: str) -> _Encoder:
    """Return the quickest encoder that computes exactly what the folder asks for.

    Args:
        folder: A sentence-transformers folder.
        device: "auto" or a torch device.
    """
    from .bert import BertEncoder, can_encode
    from .folder import EmbeddingFolder

    facts = EmbeddingFolder.read(folder)
    import torch

    torch.set_num_threads(_num_cores())
    device = _best_device() if device == "auto" else device
    return BertEncoder(facts, device) if can_encode(facts) else _SentenceTransformersEncoder(folder, device)


def serve(folder: Path, device: str, requests: BinaryIO, replies: BinaryIO) -> None:
    """Load the model, then answer requests until the parent closes the stream."""
    try:
        encoder = load_encoder(folder, device)
        dimension = encoder.encode(["warm up"]).shape[1]
    except Exception as exc:  # noqa: BLE001 - whatever it is, the parent translates it
        write_frame(replies, {"error": f"{type(exc).__name__}: {exc}"})
        return
    write_frame(replies, {"ready": True, "dimension": dimension})
    while True:
        try:
            texts = read_frame(requests)
        except EOFError:
            return
        _answer(encoder, texts, replies)


def _answer(encoder: _Encoder, texts: list[str], replies: BinaryIO) -> None:
    try:
        vectors = np.ascontiguousarray(encoder.encode(texts), dtype="<f4")
    except Exception as exc:  # noqa: BLE001 - one bad batch must not end the process; the parent translates it
        write_frame(replies, {"error": f"{type(exc).__name__}: {exc}"})
        return
    write_frame(replies, {"rows": vectors.shape[0], "dimension": vectors.shape[1]}, vectors.tobytes())


def _best_device() -> str:
    import torch

    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def _num_cores() -> int:
    """Physical cores that this process may use; two threads on one core slow each other's matrix units."""
    import psutil

    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(allowed, psutil.cpu_count(logical=False) or allowed))


def _end_with_parent(parent_pid: int) -> None:
    """End this process when the parent is gone, even where another child holds its end of the pipe open."""
    while os.getppid() == parent_pid:
        time.sleep(_PARENT_CHECK_S)
    os._exit(0)


def main(arguments: Sequence[str]) -> None:
    """Serve on the process's standard streams."""
    folder, device, parent_pid = arguments
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to handle
    replies = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # a library that prints must not break the frames
    threading.Thread(target=_end_with_parent, args=(int(parent_pid),), daemon=True).start()
    serve(Path(folder), device, sys.stdin.buffer, replies)


if __name__ == "__main__":
    main(sys.argv[1:])
