"""The engine: one local model, one thread that touches it, a queue of requests.

Place in the data's way: strategies and the chat model call `submit` and read the returned generation. Today
one request runs at a time; the contract (`core.contracts.LanguageModel`) already is that of a concurrent
engine.

Example:
    engine = Engine(Path("model.gguf"), name="qwen2.5-coder-0.5b", settings=load_settings().model)
    for event in engine.submit([Message("user", "Name a prime.")]):
        ...
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from ..core.errors import ContextOverflow, GenerationError, LocalsmithError, ModelNotReadyError, Overloaded
from ..core.settings import ModelSettings
from ..core.types import Delta, FinishReason, Message, Prefill, SamplingParams
from .chat_template import ChatTemplate
from .generation import EngineGeneration
from .llama import ABORTED, NO_KV_SLOT, LlamaRuntime
from .prefix_cache import PrefixCache
from .text_stream import TextStream

log = structlog.get_logger(__name__)

N_SEQ = 4


class Engine:
    """Runs one GGUF model; fulfils `core.contracts.LanguageModel`.

    Args:
        path: The GGUF file, verified by the catalog.
        name: Name of the model for people and logs.
        settings: Window, threads, batch, queue.
        prompt_tokens_per_s: Measured speed of reading, for time budgets; infinity where not measured yet.
        on_progress: Called with the share of the model loaded, 0 to 1.

    Raises:
        ModelLoadError: The model can't be loaded.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        settings: ModelSettings,
        prompt_tokens_per_s: float = float("inf"),
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._name = name
        self.prompt_tokens_per_s = prompt_tokens_per_s
        self._runtime = LlamaRuntime(
            path,
            n_ctx=settings.n_ctx,
            n_batch=settings.n_batch,
            n_threads=settings.n_threads,
            n_gpu_layers=settings.n_gpu_layers,
            n_seq=N_SEQ,
            on_progress=on_progress,
        )
        self._template = ChatTemplate(self._runtime)
        self._cache = PrefixCache(N_SEQ)
        self._requests: queue.Queue[EngineGeneration | None] = queue.Queue(maxsize=settings.max_queue)
        self._seq_id = 0
        self._held: list[int] = []  # tokens whose KV cells the running sequence holds
        self._running: EngineGeneration | None = None
        self._lock = threading.Lock()  # guards _running against a cancel from another thread
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="localsmith-engine", daemon=True)
        self._thread.start()

    # -- core.contracts.LanguageModel

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._name

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        return self._runtime.n_ctx

    @property
    def n_threads(self) -> int:
        """CPU threads that the model runs on."""
        return self._runtime.n_threads

    def count_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return the tokens of the rendered chat template, generation prompt included."""
        return len(self._template.tokens(messages, tools))

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text."""
        return len(self._runtime.tokenize(text, parse_special=False))

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many leading prompt tokens of `messages` are in the KV cache now."""
        return self._cache.longest_prefix(self._template.tokens(messages))

    def submit(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        tools: Sequence[dict[str, Any]] = (),
    ) -> EngineGeneration:
        """Queue a completion; see `core.contracts.LanguageModel.submit`.

        Args:
            messages: The conversation.
            sampling: How to choose tokens; None for the defaults.
            deadline_s: Seconds from now after which the completion ends with what it has; None for none.
            cancel: Setting this event cancels.
            tools: JSON schemas of tools for the chat template, in OpenAI's form.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
            Overloaded: The queue is full.
            ModelNotReadyError: The engine has been closed.
        """
        sampling = sampling or SamplingParams()
        prompt = self._template.tokens(messages, tools)
        if len(prompt) + sampling.max_tokens > self.n_ctx:
            raise ContextOverflow(len(prompt), sampling.max_tokens, self.n_ctx)
        if self._closed:
            raise ModelNotReadyError(f"{self._name} has been closed.", hint="Start Localsmith again.")
        generation = EngineGeneration(
            prompt, sampling, deadline_s=deadline_s, cancel=cancel, on_cancel=self._on_cancel
        )
        try:
            self._requests.put_nowait(generation)
        except queue.Full as exc:
            raise Overloaded(
                f"{self._requests.maxsize} requests are waiting already.", hint="Try again in a moment."
            ) from exc
        return generation

    def close(self) -> None:
        """Cancel what runs, end the thread and free the model; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if (running := self._running) is not None:
            running.cancel()
        self._drain()
        self._requests.put(None)
        self._thread.join()
        self._runtime.close()

    def _drain(self) -> None:
        """End the waiting requests, so that no reader waits for ever."""
        while True:
            try:
                generation = self._requests.get_nowait()
            except queue.Empty:
                return
            if generation is not None:
                generation.finish("cancelled")

    # -- the engine's thread

    def _serve(self) -> None:
        while (generation := self._requests.get()) is not None:
            if self._closed:
                generation.finish("cancelled")
                continue
            with self._lock:
                self._running = generation
                self._runtime.allow()
            timer = self._deadline_timer(generation)
            try:
                reason = self._run(generation)
                generation.finish(reason)
            except LocalsmithError as exc:
                generation.fail(exc)
            except Exception as exc:  # noqa: BLE001 - the thread must outlive any request
                log.exception("generation failed", model=self._name)
                generation.fail(GenerationError(f"The model failed: {exc}", hint="Try again."))
            finally:
                with self._lock:
                    self._running = None
                if timer:
                    timer.cancel()

    def _run(self, generation: EngineGeneration) -> FinishReason:
        if (cause := generation.stop_cause) is not None:
            return cause
        sampler = self._make_sampler(generation.sampling)
        lease = self._cache.lease(generation.prompt)
        self._seq_id = lease.seq_id
        self._held = list(generation.prompt[: lease.num_cached])
        try:
            self._runtime.forget(lease.seq_id, lease.num_cached)
            return self._prefill(generation, lease.num_cached) or self._decode(generation, sampler)
        finally:
            self._cache.store(self._seq_id, self._held)
            sampler.close()

    def _prefill(self, generation: EngineGeneration, num_cached: int) -> FinishReason | None:
        prompt = generation.prompt
        generation.update(replace(generation.usage, cached_tokens=num_cached))
        generation.put(Prefill(num_cached, len(prompt), num_cached))
        while len(self._held) < len(prompt):
            start = len(self._held)
            part = prompt[start : start + self._runtime.n_batch]
            began = time.perf_counter()
            is_whole = self._step(part, wants_logits=start + len(part) == len(prompt))
            spent = time.perf_counter() - began
            generation.update(replace(generation.usage, prefill_s=generation.usage.prefill_s + spent))
            if (cause := generation.stop_cause) is not None or not is_whole:
                return cause or "deadline"  # the deadline's timer may abort a moment before the clock says so
            generation.put(Prefill(len(self._held), len(prompt), num_cached))
        return None

    def _decode(self, generation: EngineGeneration, sampler: Any) -> FinishReason:
        stream = TextStream(generation.sampling.stop)
        reason: FinishReason = "length"
        for count in range(1, generation.sampling.max_tokens + 1):
            began = time.perf_counter()
            token = sampler.sample()
            if self._runtime.is_end(token):
                reason = "stop"
                break
            text = stream.push(self._runtime.piece(token))
            self._count_token(generation, count)
            if text:
                generation.put(Delta(text))
            if stream.is_stopped:
                return "stop"
            if count == generation.sampling.max_tokens:
                break
            is_whole = self._step((token,), wants_logits=True)
            spent = time.perf_counter() - began
            generation.update(replace(generation.usage, decode_s=generation.usage.decode_s + spent))
            if (cause := generation.stop_cause) is not None or not is_whole:
                reason = cause or "deadline"
                break
        if rest := stream.finish():
            generation.put(Delta(rest))
        return reason

    def _step(self, tokens: Sequence[int], *, wants_logits: bool) -> bool:
        """Decode tokens behind those held; False where the step was aborted."""
        while True:
            code = self._runtime.decode(
                tokens, seq_id=self._seq_id, start=len(self._held), wants_logits=wants_logits
            )
            if code == NO_KV_SLOT and (evicted := self._cache.evict(keep=self._seq_id)) is not None:
                self._runtime.forget(evicted, 0)
                continue
            break
        if code == NO_KV_SLOT:
            raise GenerationError("The KV cache is full.", hint="Raise model.n_ctx or shorten the prompt.")
        if code == ABORTED:
            self._runtime.forget(self._seq_id, len(self._held))
            return False
        self._held += tokens
        return True

    def _count_token(self, generation: EngineGeneration, count: int) -> None:
        usage = replace(generation.usage, completion_tokens=count)
        if count == 1:
            usage = replace(usage, time_to_first_token_s=time.perf_counter() - generation.submitted_at)
        generation.update(usage)

    def _make_sampler(self, sampling: SamplingParams) -> Any:
        try:
            return self._runtime.sampler(sampling)
        except ValueError as exc:
            raise GenerationError(str(exc)) from exc

    def _deadline_timer(self, generation: EngineGeneration) -> threading.Timer | None:
        if generation.deadline_at is None:
            return None
        left = max(0.0, generation.deadline_at - time.perf_counter())
        timer = threading.Timer(left, self._on_cancel, args=(generation,))
        timer.daemon = True
        timer.start()
        return timer

    def _on_cancel(self, generation: EngineGeneration) -> None:
        with self._lock:
            if self._running is generation:
                self._runtime.abort()
