"""One model in llama.cpp: its vocabulary, its context, its KV memory.

Place in the data's way: `Engine` owns one `LlamaRuntime` and calls `decode` from its own thread only.
Tokenizing and piece look-ups only read the vocabulary and may be called from any thread.

Example:
    runtime = LlamaRuntime(Path("model.gguf"), ModelSettings(n_ctx=4096), n_seq=4)
    row = runtime.batch.add(0, runtime.tokenize("Hello", parse_special=False), start=0, num_logits=1)
    runtime.decode()
    runtime.logits(row)
"""

from __future__ import annotations

import ctypes
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import psutil

from ...core.errors import GenerationError, ModelLoadError, ModelNotReadyError
from ...core.settings import ModelSettings
from ...core.types import SamplingParams
from .adapter import LoraAdapter
from .batch import LlamaBatch
from .devices import BYTES_PER_ELEMENT, choose_gpu_layers
from .library import AbortFlag, LogMessages, check_magic, default_threads, llama_api
from .sampler import CandidateChain, GrammarMatcher
from .tokens import token_text, tokenize

NO_KV_SLOT = 1
ABORTED = 2
# The KV cache may take this share of the memory that is free when the model is loaded.
_KV_SHARE = 0.15


class LlamaRuntime:
    """One GGUF model and one llama.cpp context.

    Args:
        path: The GGUF file.
        settings: Window, threads, batch, graphics cards, KV cache.
        n_seq: Sequences the KV cache can tell apart.
        adapter: A LoRA adapter that acts on the model; None for the bare model.
        on_progress: Called with the share loaded, 0 to 1.

    Raises:
        ModelLoadError: The file is missing, damaged, of an unknown architecture, memory does not suffice, or
            the adapter does not fit the model.
    """

    def __init__(
        self,
        path: Path,
        settings: ModelSettings,
        *,
        n_seq: int,
        adapter: LoraAdapter | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._api: Any = llama_api()
        self._closed = False
        self._vocab_lock = threading.Lock()  # no one may read the vocabulary while `close` frees it
        self._messages = LogMessages(self._api)
        check_magic(path)
        self._settings = settings
        self._model = self._load_model(path, on_progress)
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self.n_vocab: int = self._api.llama_vocab_n_tokens(self._vocab)
        self.n_ctx: int = min(settings.n_ctx, self._api.llama_model_n_ctx_train(self._model))
        self.n_seq = n_seq
        self.n_threads = settings.n_threads or default_threads()
        self.n_batch = min(settings.n_batch, self.n_ctx)
        self.num_cells = self._choose_cells()
        self._context = self._make_context(path)
        if adapter is not None:
            self._add(adapter)
        self.num_cells = int(self._api.llama_n_ctx(self._context))  # llama.cpp rounds up
        self._memory = self._api.llama_get_memory(self._context)
        self._abort_flag = AbortFlag(self._api, self._context)
        self._pieces: dict[int, bytes] = {}
        self._control: npt.NDArray[np.bool_] | None = None  # which tokens are control tokens, once asked for
        self.batch = LlamaBatch(self._api, self.n_batch)
        """The rows of the next `decode`."""
        self.can_share = not (
            self._api.llama_model_is_recurrent(self._model)
            or self._api.llama_model_is_hybrid(self._model)
            or self._api.llama_model_n_swa(self._model) > 0
        )
        """Whether sequences can share KV cells and be cut anywhere; recurrent and sliding windows can't."""
        template = self._api.llama_model_chat_template(self._model, None)
        self.template: str = template.decode("utf-8") if template else ""
        """The chat template of the GGUF, Jinja source; "" where it has none."""
        self.bos_token = int(self._api.llama_vocab_bos(self._vocab))
        self.bos_text = token_text(self._api, self._vocab, self.bos_token)
        self.eos_text = token_text(self._api, self._vocab, self._api.llama_vocab_eos(self._vocab))
        self.adds_bos = bool(self._api.llama_vocab_get_add_bos(self._vocab))
        """Whether the model expects a beginning-of-sequence token before every prompt."""

    # -- the vocabulary: safe from any thread

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of `text`, without added special tokens.

        Args:
            text: Any text.
            parse_special: Whether markup like `<|im_end|>` becomes its control token; False for all text that
                people, documents or tools wrote.

        Raises:
            ModelNotReadyError: The model has been closed.
        """
        with self._open_vocab() as vocab:
            return tokenize(self._api, vocab, text, parse_special=parse_special)

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; control tokens stand for none."""
        if (known := self._pieces.get(token)) is not None:
            return known
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                self._pieces[token] = buffer.raw[:count]
                return self._pieces[token]
            size = -count

    def is_end(self, token: int) -> bool:
        """Return whether the token ends a generation."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    # -- the context: from the engine's thread only

    def decode(self) -> int:
        """Run the model over the rows of `batch`.

        Returns:
            0 on success, `NO_KV_SLOT` where the KV cache has no room, `ABORTED` after `abort()`.

        Raises:
            GenerationError: llama.cpp failed.
        """
        code = int(self._api.llama_decode(self._context, self.batch.raw))
        if code < 0:
            raise GenerationError(
                f"The model failed while reading (llama_decode returned {code}): {self._messages.last}",
                hint="Try again; if it stays, pull the model anew or lower model.n_ctx.",
            )
        return code

    def logits(self, row: int) -> npt.NDArray[np.float32]:
        """Return `(n_vocab,)` the logits of a row that wanted them, valid until the next `decode`."""
        pointer = self._api.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self.n_vocab,))

    def share(self, source: int, target: int, start: int, end: int) -> None:
        """Mark the cells of `source` at positions `start` to `end` (exclusive) as held by `target` too."""
        self._api.llama_memory_seq_cp(self._memory, source, target, start, end)

    def forget(self, seq_id: int, start: int, end: int = -1) -> None:
        """Take a sequence's mark from its cells at `start` to `end` (exclusive; -1 for all behind)."""
        self._api.llama_memory_seq_rm(self._memory, seq_id, start, end)

    def save_sequence(self, path: Path, seq_id: int, tokens: Sequence[int]) -> int:
        """Write a sequence's KV cells to a file and return the bytes written; 0 where that failed.

        Args:
            path: The file.
            seq_id: The sequence.
            tokens: Its tokens, kept in the file.
        """
        array = (self._api.llama_token * len(tokens))(*tokens)
        args = (self._context, str(path).encode(), seq_id, array, len(tokens))
        return int(self._api.llama_state_seq_save_file(*args))

    def load_sequence(self, path: Path, seq_id: int, max_tokens: int) -> list[int]:
        """Read what `save_sequence` wrote into an empty sequence; returns its tokens, [] on failure."""
        array = (self._api.llama_token * max_tokens)()
        count = ctypes.c_size_t()
        args = (self._context, str(path).encode(), seq_id, array, max_tokens, ctypes.byref(count))
        return list(array[: count.value]) if self._api.llama_state_seq_load_file(*args) else []

    def abort(self) -> None:
        """Make a running `decode` return soon; safe from any thread."""
        self._abort_flag.set()

    def allow(self) -> None:
        """Undo `abort` before the next `decode`."""
        self._abort_flag.clear()

    # -- sampling.SamplerSource

    def chain(self, params: SamplingParams) -> CandidateChain:
        """Return the seeded draw of one completion."""
        return CandidateChain(self._api, params)

    def grammar(self, text: str) -> GrammarMatcher:
        """Return a GBNF grammar at its beginning.

        Raises:
            ValueError: It is not valid.
        """
        if self._control is None:
            is_control = (
                self._api.llama_vocab_is_control(self._vocab, token) and not self.is_end(token)
                for token in range(self.n_vocab)
            )
            self._control = np.fromiter(is_control, np.bool_, self.n_vocab)
        return GrammarMatcher(self._api, self._vocab, text, self._control)

    def close(self) -> None:
        """Free the context and the model."""
        with self._vocab_lock:
            if self._closed:
                return
            self._closed = True
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    @contextmanager
    def _open_vocab(self) -> Iterator[Any]:
        with self._vocab_lock:
            if self._closed:
                raise ModelNotReadyError("The model has been closed.", hint="Start Localsmith again.")
            yield self._vocab

    # -- loading

    def _load_model(self, path: Path, on_progress: Callable[[float], None] | None) -> Any:
        settings = self._settings
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = choose_gpu_layers(path, settings, settings.n_ctx)
        params.main_gpu = settings.main_gpu
        if settings.tensor_split:
            shares = (ctypes.c_float * self._api.llama_max_devices())(*settings.tensor_split)
            params.tensor_split = shares

        def report(share: float, _: Any) -> bool:
            if on_progress:
                on_progress(share)
            return True

        callback = self._api.llama_progress_callback(report)
        params.progress_callback = callback
        model = self._api.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise ModelLoadError(
                f"{path.name} can't be loaded: {self._messages.last}",
                hint="It may be damaged, or of an architecture this llama.cpp doesn't know; pull it again.",
            )
        return model

    def _add(self, adapter: LoraAdapter) -> None:
        try:
            loaded = adapter.load(self._api, self._model, self._messages)
            adapter.switch_on(self._api, self._context, loaded)
        except ModelLoadError:
            self.close()
            raise

    @property
    def max_idle_cells(self) -> int:
        """Cells that may hold what no running request uses; without flash attention each slows every step."""
        return self.num_cells // 2 if self._settings.flash_attention == "off" else self.num_cells

    def _choose_cells(self) -> int:
        """Return the cells of the KV cache: the setting, or two windows where memory allows, else one."""
        if self._settings.kv_cells:
            return max(self._settings.kv_cells, self.n_ctx)
        num_kv_heads = self._api.llama_model_n_head_kv(self._model)
        head_size = self._api.llama_model_n_embd(self._model) // self._api.llama_model_n_head(self._model)
        elements = 2 * self._api.llama_model_n_layer(self._model) * num_kv_heads * head_size
        two_windows = 2 * self.n_ctx * elements * BYTES_PER_ELEMENT[self._settings.kv_type]
        return 2 * self.n_ctx if two_windows < _KV_SHARE * psutil.virtual_memory().available else self.n_ctx

    def _make_context(self, path: Path) -> Any:
        settings, api = self._settings, self._api
        params = api.llama_context_default_params()
        params.n_ctx = self.num_cells
        params.n_batch = self.n_batch
        params.n_ubatch = self.n_batch
        params.n_seq_max = self.n_seq
        params.n_threads = self.n_threads
        params.n_threads_batch = self.n_threads
        params.kv_unified = True  # sequences share the cells, so one request may use the whole window
        params.no_perf = True
        params.flash_attn_type = {
            "auto": api.LLAMA_FLASH_ATTN_TYPE_AUTO,
            "on": api.LLAMA_FLASH_ATTN_TYPE_ENABLED,
            "off": api.LLAMA_FLASH_ATTN_TYPE_DISABLED,
        }[settings.flash_attention]
        kv_type = {"f16": api.GGML_TYPE_F16, "q8_0": api.GGML_TYPE_Q8_0, "q4_0": api.GGML_TYPE_Q4_0}
        params.type_k = params.type_v = kv_type[settings.kv_type]
        context = api.llama_init_from_model(self._model, params)
        if not context:
            api.llama_model_free(self._model)
            raise ModelLoadError(
                f"No memory for a window of {self.n_ctx} tokens with {path.name}: {self._messages.last}",
                hint="Lower model.n_ctx or model.kv_cells, or use a smaller model.",
            )
        return context
