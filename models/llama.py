"""llama.cpp behind one small class; the only file that imports `llama_cpp`.

Place in the data's way: `Engine` owns one `LlamaRuntime` and calls `decode` and `sample` from its own thread.
Tokenizing and piece look-ups only read the vocabulary and may be called from any thread.

Example:
    runtime = LlamaRuntime(Path("model.gguf"), n_ctx=4096)
    tokens = runtime.tokenize("Hello", parse_special=False)
    runtime.decode(tokens, seq_id=0, start=0)
"""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil
import structlog

from ..core.errors import GenerationError, ModelLoadError, ModelNotReadyError
from ..core.types import SamplingParams

log = structlog.get_logger(__name__)

NO_KV_SLOT = 1
ABORTED = 2
PENALTY_WINDOW_TOKENS = 64


class LlamaRuntime:
    """One GGUF model and one llama.cpp context.

    Args:
        path: The GGUF file.
        n_ctx: Cells of the KV cache, shared by all sequences; the model's own window is the upper bound.
        n_batch: Most prompt tokens in one `decode`.
        n_threads: CPU threads; 0 for one a physical core.
        n_gpu_layers: Layers on the GPU; -1 for all. Without effect in a CPU build.
        n_seq: Sequences the KV cache can hold.
        on_progress: Called with the share loaded, 0 to 1.

    Raises:
        ModelLoadError: The file is missing, damaged, of an unknown architecture, or memory does not suffice.
    """

    def __init__(
        self,
        path: Path,
        *,
        n_ctx: int,
        n_batch: int = 256,
        n_threads: int = 0,
        n_gpu_layers: int = -1,
        n_seq: int = 4,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._api: Any = _import_llama_cpp()
        self._closed = False
        self._vocab_lock = threading.Lock()  # no one may read the vocabulary while `close` frees it
        self._messages: list[str] = []
        self._keep_log_messages()
        _check_magic(path)
        self._model = self._load_model(path, n_gpu_layers, on_progress)
        self._vocab = self._api.llama_model_get_vocab(self._model)
        self.n_vocab: int = self._api.llama_vocab_n_tokens(self._vocab)
        self.n_ctx: int = min(n_ctx, self._api.llama_model_n_ctx_train(self._model))
        self.n_batch = min(n_batch, self.n_ctx)
        self.n_seq = n_seq
        self.n_threads = n_threads or default_threads()
        self._context = self._make_context(path)
        self._memory = self._api.llama_get_memory(self._context)
        self._batch = self._api.llama_batch_init(self.n_batch, 0, 1)
        self._abort_flag = self._install_abort_flag()
        template = self._api.llama_model_chat_template(self._model, None)
        self.template: str = template.decode("utf-8") if template else ""
        """The chat template of the GGUF, Jinja source; "" where it has none."""
        self.bos_token = int(self._api.llama_vocab_bos(self._vocab))
        self.bos_text = self._special_text(self.bos_token)
        self.eos_text = self._special_text(self._api.llama_vocab_eos(self._vocab))
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
        raw = text.encode("utf-8", errors="replace")
        size = len(raw) + 8
        while True:
            buffer = (self._api.llama_token * size)()
            with self._open_vocab() as vocab:
                count = self._api.llama_tokenize(vocab, raw, len(raw), buffer, size, False, parse_special)
            if count >= 0:
                return list(buffer[:count])
            size = -count

    def piece(self, token: int) -> bytes:
        """Return the bytes that a token stands for; control tokens stand for none."""
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._api.llama_token_to_piece(self._vocab, token, buffer, size, 0, False)
            if count >= 0:
                return buffer.raw[:count]
            size = -count

    def is_end(self, token: int) -> bool:
        """Return whether the token ends a generation."""
        return bool(self._api.llama_vocab_is_eog(self._vocab, token))

    # -- the context: from the engine's thread only

    def decode(self, tokens: Sequence[int], *, seq_id: int, start: int, wants_logits: bool) -> int:
        """Run the model over `tokens` at positions `start`, `start + 1`, … of a sequence.

        Args:
            tokens: At most `n_batch` tokens.
            seq_id: The sequence.
            start: Position of the first token.
            wants_logits: Whether the logits of the last token are needed for sampling.

        Returns:
            0 on success, `NO_KV_SLOT` where the KV cache has no room, `ABORTED` after `abort()`.

        Raises:
            GenerationError: llama.cpp failed.
        """
        batch = self._batch
        batch.n_tokens = len(tokens)
        for i, token in enumerate(tokens):
            batch.token[i] = token
            batch.pos[i] = start + i
            batch.n_seq_id[i] = 1
            batch.seq_id[i][0] = seq_id
            batch.logits[i] = False
        batch.logits[len(tokens) - 1] = wants_logits
        code = int(self._api.llama_decode(self._context, batch))
        if code < 0:
            raise GenerationError(
                f"The model failed while reading (llama_decode returned {code}): {self._last_message()}",
                hint="Try again; if it stays, pull the model anew or lower model.n_ctx.",
            )
        return code

    def forget(self, seq_id: int, start: int) -> None:
        """Drop a sequence's KV cells from position `start` on."""
        self._api.llama_memory_seq_rm(self._memory, seq_id, start, -1)

    def abort(self) -> None:
        """Make a running `decode` return soon; safe from any thread."""
        self._abort_flag[0] = b"\x01"

    def allow(self) -> None:
        """Undo `abort` before the next request."""
        self._abort_flag[0] = b"\x00"

    def sampler(self, params: SamplingParams) -> LlamaSampler:
        """Return a sampler chain for one generation; close it after use.

        Raises:
            ValueError: The grammar is not valid GBNF.
        """
        return LlamaSampler(self._api, self._context, self._vocab, self.n_vocab, params)

    def close(self) -> None:
        """Free the context and the model."""
        with self._vocab_lock:
            if self._closed:
                return
            self._closed = True
        self._api.llama_batch_free(self._batch)
        self._api.llama_free(self._context)
        self._api.llama_model_free(self._model)

    @contextmanager
    def _open_vocab(self) -> Iterator[Any]:
        with self._vocab_lock:
            if self._closed:
                raise ModelNotReadyError("The model has been closed.", hint="Start Localsmith again.")
            yield self._vocab

    # -- loading

    def _load_model(self, path: Path, n_gpu_layers: int, on_progress: Callable[[float], None] | None) -> Any:
        params = self._api.llama_model_default_params()
        params.n_gpu_layers = 999 if n_gpu_layers < 0 else n_gpu_layers

        def report(share: float, _: Any) -> bool:
            if on_progress:
                on_progress(share)
            return True

        callback = self._api.llama_progress_callback(report)
        params.progress_callback = callback
        model = self._api.llama_model_load_from_file(str(path).encode(), params)
        if not model:
            raise ModelLoadError(
                f"{path.name} can't be loaded: {self._last_message()}",
                hint="It may be damaged, or of an architecture this llama.cpp doesn't know; pull it again.",
            )
        return model

    def _make_context(self, path: Path) -> Any:
        params = self._api.llama_context_default_params()
        params.n_ctx = self.n_ctx
        params.n_batch = self.n_batch
        params.n_ubatch = self.n_batch
        params.n_seq_max = self.n_seq
        params.n_threads = self.n_threads
        params.n_threads_batch = self.n_threads
        params.kv_unified = True  # sequences share the cells, so one request may use the whole window
        params.no_perf = True
        context = self._api.llama_init_from_model(self._model, params)
        if not context:
            self._api.llama_model_free(self._model)
            raise ModelLoadError(
                f"No memory for a window of {self.n_ctx} tokens with {path.name}: {self._last_message()}",
                hint="Lower model.n_ctx, or use a smaller model.",
            )
        return context

    def _install_abort_flag(self) -> Any:
        # llama.cpp asks before every node of the graph whether to abort. A Python callback would take the
        # interpreter lock each time, so strlen answers: 0 (go on) for an empty string, 1 (abort) otherwise.
        flag = ctypes.create_string_buffer(2)
        callback = ctypes.cast(ctypes.CDLL(None).strlen, self._api.ggml_abort_callback)
        self._api.llama_set_abort_callback(self._context, callback, ctypes.cast(flag, ctypes.c_void_p))
        self._abort_callback = callback
        return flag

    def _keep_log_messages(self) -> None:
        messages = self._messages

        def keep(level: int, text: bytes, _: Any) -> None:
            line = text.decode("utf-8", errors="replace").strip()
            if level in (3, 4) and line:  # warnings and errors
                messages.append(line)
                del messages[:-20]
                log.debug("llama.cpp", text=line)

        self._log_callback = self._api.llama_log_callback(keep)
        _KEPT_CALLBACKS.append(self._log_callback)
        self._api.llama_log_set(self._log_callback, ctypes.c_void_p(0))

    def _last_message(self) -> str:
        return self._messages[-1] if self._messages else "llama.cpp gave no reason"

    def _special_text(self, token: int) -> str:
        if token < 0:
            return ""
        raw = self._api.llama_vocab_get_text(self._vocab, token)
        return raw.decode("utf-8", errors="replace") if raw else ""


class LlamaSampler:
    """The chain that turns logits into a token: grammar, penalties, top-k, top-p, min-p, temperature."""

    def __init__(self, api: Any, context: Any, vocab: Any, n_vocab: int, params: SamplingParams) -> None:
        self._api = api
        self._context = context
        self._chain = api.llama_sampler_chain_init(api.llama_sampler_chain_default_params())
        if params.grammar:
            grammar = api.llama_sampler_init_grammar(vocab, params.grammar.encode(), b"root")
            if not grammar:
                self.close()
                raise ValueError(f"The grammar is not valid GBNF: {params.grammar[:200]!r}")
            self._add(grammar)
        if params.repeat_penalty != 1.0:
            self._add(
                api.llama_sampler_init_penalties(
                    n_vocab, PENALTY_WINDOW_TOKENS, params.repeat_penalty, 0.0, 0.0
                )
            )
        if params.temperature <= 0:
            self._add(api.llama_sampler_init_greedy())
            return
        if params.top_k > 0:
            self._add(api.llama_sampler_init_top_k(params.top_k))
        if params.top_p < 1:
            self._add(api.llama_sampler_init_top_p(params.top_p, 1))
        if params.min_p > 0:
            self._add(api.llama_sampler_init_min_p(params.min_p, 1))
        self._add(api.llama_sampler_init_temp(params.temperature))
        self._add(api.llama_sampler_init_dist(params.seed & 0xFFFFFFFF))

    def sample(self) -> int:
        """Return the next token from the logits of the last decode."""
        return int(self._api.llama_sampler_sample(self._chain, self._context, -1))

    def close(self) -> None:
        """Free the chain."""
        if self._chain:
            self._api.llama_sampler_free(self._chain)
            self._chain = None

    def _add(self, sampler: Any) -> None:
        self._api.llama_sampler_chain_add(self._chain, sampler)


# llama.cpp keeps the pointer of the last callback for the life of the process.
_KEPT_CALLBACKS: list[Any] = []


def default_threads() -> int:
    """Return the physical cores this process may use; more threads than these slow llama.cpp down."""
    physical = psutil.cpu_count(logical=False) or 1
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else physical
    return min(physical, allowed)


def _import_llama_cpp() -> Any:
    # OpenMP's threads by default spin while they wait for each other. When anything else wants a core (the
    # embedder, the browser), each then burns the time slice that the other needs: see docs/experiments.md.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    import llama_cpp

    return llama_cpp


def _check_magic(path: Path) -> None:
    try:
        with path.open("rb") as file:
            magic = file.read(4)
    except OSError as exc:
        raise ModelLoadError(f"{path} can't be read: {exc.strerror}.", hint="Pull the model again.") from exc
    if magic != b"GGUF":
        raise ModelLoadError(
            f"{path.name} is not a GGUF file (it starts with {magic!r}).", hint="Pull the model again."
        )
