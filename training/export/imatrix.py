"""Measures which input columns of each matrix matter most, so that quantizing keeps those more exactly.

Place in the data's way: the 16-bit file and some text of the kind that the model will read -> a forward pass
with llama.cpp -> a file in llama.cpp's own form -> `models.llama.quantize`.

llama.cpp calls back for each step of its graph; for a product of matrices the mean square of each column of
the input is kept. The library's Python binding has no type for a step, so its C struct is declared here and
checked against the size and a name that the library tells.

Source: llama.cpp tools/imatrix/imatrix.cpp, `IMatrixCollector::collect_imatrix`.

Example:
    compute_imatrix(Path("model-F16.gguf"), texts, Path("model.imatrix.gguf"))
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import ExportError, ModelLoadError
from ...core.whole_file import whole_file
from ...models.llama.batch import LlamaBatch
from ...models.llama.library import LogMessages, check_magic, default_threads, ggml_library, llama_api
from ...models.llama.own_thread import OwnThread
from .layout import Array

CHUNK_TOKENS = 512  # as llama.cpp's own tool
_MIN_ROWS = 16  # products with fewer rows are not the prompt's
_OBJECT_BYTES = 32  # ggml_object, which ggml_tensor_overhead() counts too
_F32 = 0  # ggml_type


class _Tensor(ctypes.Structure):
    """The beginning of ggml_tensor, ggml.h."""


_Tensor._fields_ = [
    ("type", ctypes.c_int),
    ("buffer", ctypes.c_void_p),
    ("ne", ctypes.c_int64 * 4),
    ("nb", ctypes.c_size_t * 4),
    ("op", ctypes.c_int),
    ("op_params", ctypes.c_int32 * 16),
    ("flags", ctypes.c_int32),
    ("src", ctypes.POINTER(_Tensor) * 10),
    ("view_src", ctypes.c_void_p),
    ("view_offs", ctypes.c_size_t),
    ("data", ctypes.c_void_p),
    ("name", ctypes.c_char * 64),
    ("extra", ctypes.c_void_p),
    ("padding", ctypes.c_char * 8),
]


class _Collector:
    """Sums the squares of what goes into each matrix."""

    def __init__(self, ggml: Any) -> None:
        self.sums: dict[str, Array] = {}
        self.counts: dict[str, int] = {}
        self.error = ""
        self._ggml = ggml
        self._is_product: dict[int, bool] = {}  # by the operation's number

    def __call__(self, address: int, is_question: bool, _: Any) -> bool:
        """Answer llama.cpp: whether this step's input is wanted; then take it."""
        try:
            tensor = ctypes.cast(address, ctypes.POINTER(_Tensor)).contents
            if is_question:
                return self._is_wanted(tensor)
            self._take(tensor)
        except Exception as exc:  # noqa: BLE001 - nothing may be thrown through C
            self.error = self.error or repr(exc)
            return False
        return True

    def _is_wanted(self, tensor: _Tensor) -> bool:
        if (known := self._is_product.get(tensor.op)) is None:
            known = self._is_product[tensor.op] = self._ggml.ggml_op_name(tensor.op) == b"MUL_MAT"
        if not known:
            return False
        weights, inputs = tensor.src[0].contents, tensor.src[1].contents
        is_block = weights.name.startswith(b"blk.") and weights.name.endswith(b".weight")
        return bool(is_block and inputs.type == _F32 and inputs.ne[1] >= _MIN_ROWS)

    def _take(self, tensor: _Tensor) -> None:
        name, inputs = tensor.src[0].contents.name.decode(), tensor.src[1].contents
        num_columns, num_rows = int(inputs.ne[0]), int(inputs.ne[1] * inputs.ne[2] * inputs.ne[3])
        rows = np.empty((num_rows, num_columns), np.float32)
        if any(inputs.nb[i + 1] != inputs.nb[i] * inputs.ne[i] for i in range(3)):
            raise ValueError(f"the input of {name} is not contiguous")
        self._ggml.ggml_backend_tensor_get(
            ctypes.addressof(inputs), rows.ctypes.data_as(ctypes.c_void_p), 0, rows.nbytes
        )
        squares = np.einsum("rc,rc->c", rows, rows)
        self.sums[name] = self.sums.get(name, np.float32(0)) + squares
        self.counts[name] = self.counts.get(name, 0) + num_rows


def compute_imatrix(
    model: Path,
    texts: Sequence[str],
    target: Path,
    *,
    max_chunks: int = 100,
    num_threads: int = 0,
    on_progress: Callable[[float], None] | None = None,
) -> int:
    """Write the importance matrix of a model.

    Args:
        model: A GGUF file, best in 16 bits a weight.
        texts: What the model is to read, as it will be served: with its chat template where it has one.
        target: The file; replaced when the new one is whole.
        max_chunks: Most chunks of `CHUNK_TOKENS` tokens that are read.
        num_threads: Threads; 0 for one a physical core.
        on_progress: Called with the share read, 0 to 1.

    Returns:
        How many chunks were read.

    Raises:
        ExportError: The text is shorter than one chunk, or llama.cpp is not the one this was written for.
        ModelLoadError: The model can't be loaded.
        StorageError: The disk is full or broken; nothing is left behind.
    """
    api, ggml = llama_api(), _ggml()
    collector = _Collector(ggml)
    with (
        closing(OwnThread()) as thread,
        _opened(api, model, collector, num_threads or default_threads()) as (vocab, context),
    ):
        chunks = _chunks(api, vocab, texts)[:max_chunks]
        if not chunks:
            raise ExportError(
                f"The text is shorter than {CHUNK_TOKENS} tokens, too short for an importance matrix.",
                "Give more text, or quantize without one.",
            )
        batch = LlamaBatch(api, CHUNK_TOKENS)
        for i, chunk in enumerate(chunks):
            api.llama_memory_clear(api.llama_get_memory(context), True)
            batch.clear()
            # All rows are asked for: the last block drops those that nobody asks for.
            batch.add(0, chunk, start=0, num_logits=len(chunk))
            code = thread.run(lambda: api.llama_decode(context, batch.raw))
            if code != 0 or collector.error:
                raise ExportError(f"The model failed while reading: {collector.error or f'code {code}'}.")
            if on_progress:
                on_progress((i + 1) / len(chunks))
    _write(collector, target, len(chunks))
    return len(chunks)


def _ggml() -> Any:
    """Return ggml's library with the calls that are needed, once the struct here proves to be its own."""
    ggml = ggml_library()
    ggml.ggml_tensor_overhead.restype = ctypes.c_size_t
    ggml.ggml_op_name.argtypes = [ctypes.c_int]
    ggml.ggml_op_name.restype = ctypes.c_char_p
    ggml.ggml_backend_tensor_get.argtypes = [
        ctypes.c_void_p,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
    ]
    ggml.ggml_backend_tensor_get.restype = None
    if ggml.ggml_tensor_overhead() - _OBJECT_BYTES != ctypes.sizeof(_Tensor):
        raise ExportError(
            "This version of llama.cpp has another tensor layout; an importance matrix can't be computed.",
            "Quantize without one, or install the version of llama-cpp-python that constraints.txt names.",
        )
    return ggml


@contextmanager
def _opened(api: Any, path: Path, collector: _Collector, num_threads: int) -> Iterator[tuple[Any, Any]]:
    check_magic(path)
    messages = LogMessages(api)
    model_params = api.llama_model_default_params()
    model_params.n_gpu_layers = 0
    model = api.llama_model_load_from_file(str(path).encode(), model_params)
    if not model:
        raise ModelLoadError(f"{path.name} can't be loaded: {messages.last}", hint="It may be damaged.")
    params = api.llama_context_default_params()
    params.n_ctx = params.n_batch = params.n_ubatch = CHUNK_TOKENS
    params.n_threads = params.n_threads_batch = num_threads
    callback = api.ggml_backend_sched_eval_callback(collector)
    params.cb_eval = callback
    context = api.llama_init_from_model(model, params)
    try:
        if not context:
            raise ModelLoadError(f"No memory to read with {path.name}: {messages.last}")
        yield api.llama_model_get_vocab(model), context
    finally:
        if context:
            api.llama_free(context)
        api.llama_model_free(model)


def _chunks(api: Any, vocab: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return whole chunks of the texts' tokens, one text after the other."""
    tokens: list[int] = []
    for text in texts:
        raw = text.encode("utf-8", errors="replace")
        buffer = (api.llama_token * (len(raw) + 8))()
        count = api.llama_tokenize(vocab, raw, len(raw), buffer, len(buffer), True, True)
        tokens += buffer[: max(0, count)]
    whole = len(tokens) // CHUNK_TOKENS * CHUNK_TOKENS
    return [tokens[start : start + CHUNK_TOKENS] for start in range(0, whole, CHUNK_TOKENS)]


def _write(collector: _Collector, target: Path, num_chunks: int) -> None:
    from gguf import GGUFValueType, GGUFWriter

    with whole_file(target) as partial:
        writer = GGUFWriter(partial, "")
        try:
            writer.add_string("general.type", "imatrix")
            writer.add_key_value("imatrix.datasets", ["text"], GGUFValueType.ARRAY, GGUFValueType.STRING)
            writer.add_uint32("imatrix.chunk_count", num_chunks)
            writer.add_uint32("imatrix.chunk_size", CHUNK_TOKENS)
            for name, sums in sorted(collector.sums.items()):
                writer.add_tensor(f"{name}.in_sum2", sums.reshape(1, -1))
                writer.add_tensor(f"{name}.counts", np.full((1, 1), collector.counts[name], np.float32))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
