"""The engine: one local model, one thread that touches it, many requests at once.

Place in the data's way: strategies, the chat model and the HTTP server call `submit` and read the returned
generation. Every step computes the next token of all that write and a piece of what is read; prompts share
what they have in common through the KV cache.

Example:
    engine = Engine(Path("model.gguf"), name="qwen2.5-coder-0.5b", settings=load_settings().model)
    for event in engine.submit([Message("user", "Name a prime.")]):
        ...
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import structlog

from ..core.errors import ContextOverflow, GenerationError, LocalsmithError, ModelNotReadyError
from ..core.settings import ModelSettings
from ..core.types import Delta, EngineStats, FinishReason, Message, Priority, SamplingParams
from .chat.template import ChatTemplate
from .counters import Counters
from .generation import EngineGeneration
from .llama.adapter import LoraAdapter
from .llama.runtime import LlamaRuntime
from .prefix_cache import PrefixCache
from .reading_speed import ReadingSpeed
from .request import Request
from .sampling import Sampler
from .saved_prefixes import MIN_SAVED_TOKENS, SavedPrefixes
from .scheduler import Scheduler
from .steps import Stepper
from .waiting import WaitingQueue

log = structlog.get_logger(__name__)

# Sequences beyond those that run; each holds one cached prefix.
CACHED_SEQUENCES = 24
# So long nothing runs or waits before prefixes are written to disk.
SAVE_AFTER_S = 20.0


class Engine:
    """Runs one GGUF model; fulfils `core.contracts.ServedModel`.

    Args:
        path: The GGUF file, verified by the catalog.
        name: Name of the model for people and logs.
        settings: Window, threads, batch, queue, KV cache, graphics cards.
        prompt_tokens_per_s: Measured speed of reading, for time budgets; infinity where not measured yet. It
            is corrected by what is seen of reading since.
        adapter: A LoRA adapter beside the model; None for the bare model.
        saved_prefixes: Where prefixes outlive the engine; None to keep none.
        on_progress: Called with the share of the model loaded, 0 to 1.

    Raises:
        ModelLoadError: The model can't be loaded, or the adapter doesn't fit it.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str,
        settings: ModelSettings,
        prompt_tokens_per_s: float = float("inf"),
        adapter: LoraAdapter | None = None,
        saved_prefixes: SavedPrefixes | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> None:
        self._name = name
        self._reading_speed = ReadingSpeed(prompt_tokens_per_s)
        num_seqs = settings.max_running + CACHED_SEQUENCES
        self._runtime = LlamaRuntime(path, settings, n_seq=num_seqs, adapter=adapter, on_progress=on_progress)
        self._saved_prefixes = saved_prefixes if self._runtime.can_share else None
        self._has_unsaved = False
        self._template = ChatTemplate(self._runtime)
        self._counters = Counters()
        self._waiting = WaitingQueue(settings.max_queue)
        self._cache = PrefixCache(
            self._runtime, self._runtime.num_cells, num_seqs, self._runtime.max_idle_cells
        )
        self._scheduler = Scheduler(
            self._cache,
            self._waiting,
            num_cells=self._runtime.num_cells,
            n_batch=self._runtime.n_batch,
            max_running=settings.max_running,
            draft_tokens=settings.draft_tokens if self._runtime.can_share else 0,
        )
        self._stepper = Stepper(
            self._runtime,
            self._cache,
            self._scheduler,
            self._counters,
            self._reading_speed,
            self._waiting.charge,
        )
        self._computing: list[EngineGeneration] = []  # those in the step that runs now
        self._changed = threading.Condition()  # a request has come or was cancelled, or the engine closes
        self._is_draining = False
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="localsmith-engine", daemon=True)
        self._thread.start()

    # -- core.contracts.ServedModel

    @property
    def name(self) -> str:
        """Name of the model."""
        return self._name

    @property
    def prompt_tokens_per_s(self) -> float:
        """Speed of reading as measured and as seen since, in tokens a second; infinity where not measured."""
        return self._reading_speed.tokens_per_s

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        return self._runtime.n_ctx

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary."""
        return self._runtime.n_vocab

    @property
    def end_tokens(self) -> tuple[int, ...]:
        """The tokens that end a completion; a bias on them makes it go on."""
        return tuple(token for token in range(self.n_vocab) if self._runtime.is_end(token))

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
        priority: Priority = "interactive",
        user: str = "",
    ) -> EngineGeneration:
        """Queue a completion; see `core.contracts.LanguageModel.submit`.

        Several samples of one prompt are several calls with different seeds: the first reads the prompt, the
        others wait for it and share what it has read.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
            Overloaded: The queue is full.
            ModelNotReadyError: The engine has been closed.
            ValueError: `logit_bias` names a token that the vocabulary doesn't have.
        """
        prompt = self._template.tokens(messages, tools)
        return self._submit(prompt, sampling, deadline_s, cancel, priority, user)

    def submit_text(
        self,
        prompt: str,
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        priority: Priority = "interactive",
        user: str = "",
    ) -> EngineGeneration:
        """Queue the continuation of a raw text, in which control tokens count as such; see `submit`."""
        tokens = self._runtime.tokenize(prompt, parse_special=True)
        if self._runtime.adds_bos or not tokens:
            tokens.insert(0, max(0, self._runtime.bos_token))
        return self._submit(tokens, sampling, deadline_s, cancel, priority, user)

    def stats(self) -> EngineStats:
        """Return what the engine does now and has done so far."""
        counters = self._counters
        return EngineStats(
            num_running=len(self._scheduler.running),
            num_waiting=len(self._waiting),
            kv_cells=self._runtime.num_cells,
            kv_cells_used=self._cache.cells_used,
            sequences=self._runtime.n_seq,
            sequences_used=self._cache.sequences_used,
            prompt_tokens=counters.prompt_tokens,
            cached_tokens=counters.cached_tokens,
            completion_tokens=counters.completion_tokens,
            draft_tokens=counters.draft_tokens,
            accepted_draft_tokens=counters.accepted_draft_tokens,
            finished=tuple(sorted(counters.finished.items())),
            num_steps=counters.num_steps,
            decode_s=counters.decode_s,
            sampling_s=counters.sampling_s,
            busy_s=counters.busy_s,
        )

    def drain(self) -> None:
        """Refuse what is new, let what runs and waits end, then close; `close` cuts it short."""
        with self._changed:
            self._is_draining = True
            self._changed.notify()
        self._thread.join()
        self.close()

    def close(self) -> None:
        """Cancel what runs, end the thread and free the model; a second call does nothing."""
        with self._changed:
            if self._closed:
                return
            self._closed = True
            self._runtime.abort()
            self._changed.notify()
        self._thread.join()
        self._runtime.close()

    def _submit(
        self,
        prompt: Sequence[int],
        sampling: SamplingParams | None,
        deadline_s: float | None,
        cancel: threading.Event | None,
        priority: Priority,
        user: str,
    ) -> EngineGeneration:
        sampling = sampling or SamplingParams()
        if len(prompt) + sampling.max_tokens > self.n_ctx:
            raise ContextOverflow(len(prompt), sampling.max_tokens, self.n_ctx)
        if any(not 0 <= token < self.n_vocab for token, _ in sampling.logit_bias):
            raise ValueError(f"logit_bias names a token outside 0 to {self.n_vocab - 1}.")
        generation = EngineGeneration(
            prompt,
            sampling,
            deadline_s=deadline_s,
            cancel=cancel,
            priority=priority,
            user=user,
            on_cancel=self._on_cancel,
        )
        with self._changed:
            if self._closed or self._is_draining:
                raise ModelNotReadyError(f"{self._name} has been closed.", hint="Start Localsmith again.")
            self._waiting.push(Request(generation))
            self._changed.notify()
        return generation

    def _on_cancel(self, generation: EngineGeneration) -> None:
        with self._changed:
            # A step is short where others write; where it works for this one alone, it need not be finished.
            if self._computing == [generation]:
                self._runtime.abort()
            self._changed.notify()

    # -- the engine's thread

    def _serve(self) -> None:
        while True:
            if not self._wait_for_work():
                self._save_prefixes()
                continue
            if self._closed or not self._has_requests():
                break
            began = time.perf_counter()
            try:
                self._turn()
            except Exception as exc:  # noqa: BLE001 - the thread must outlive any request
                log.exception("the step failed", model=self._name)
                error = GenerationError(f"The model failed: {exc}", hint="Try again.")
                for request in list(self._scheduler.running):
                    self._end(request, error)
            self._counters.busy_s += time.perf_counter() - began
        for request in [*self._scheduler.running, *self._waiting.take_all()]:
            self._end(request, "cancelled")
        self._save_prefixes()

    def _wait_for_work(self) -> bool:
        """Wait for a request or for the end; False where nothing came while there is something to save."""
        with self._changed:
            while not (self._closed or self._is_draining or self._has_requests()):
                if not self._changed.wait(SAVE_AFTER_S if self._has_unsaved else None):
                    return False
        return True

    def _has_requests(self) -> bool:
        return bool(self._scheduler.running or len(self._waiting))

    def _turn(self) -> None:
        """End what is to be ended, let in what waits, compute one step."""
        for request in self._waiting.take_stopped():
            self._end(request, request.generation.stop_cause or "cancelled")
        for request in list(self._scheduler.running):
            if (cause := request.generation.stop_cause) is not None:
                self._end(request, cause)
        if len(self._waiting):
            self._restore_prefixes()
            for request in self._scheduler.admit():
                self._welcome(request)
        works = self._scheduler.plan()
        if not works:
            return
        with self._changed:
            self._computing = [work.request.generation for work in works]
            if self._closed or self._computing[0].stop_cause == "cancelled":
                return
            self._runtime.allow()
        try:
            ended = self._stepper.run(works)
        finally:
            with self._changed:
                self._computing = []
        for request, reason in ended:
            self._end(request, reason)

    def _save_prefixes(self) -> None:
        if self._has_unsaved and self._saved_prefixes is not None:
            self._has_unsaved = False
            self._runtime.allow()
            self._saved_prefixes.write(self._cache, self._runtime)

    def _restore_prefixes(self) -> None:
        if self._saved_prefixes is not None and not self._scheduler.running:
            for request in self._waiting.in_order({}):
                self._saved_prefixes.restore(request.tokens, self._cache, self._runtime)

    def _welcome(self, request: Request) -> None:
        """Prepare a request that has just joined the batch."""
        if request.sampler is None:
            try:
                request.sampler = Sampler(request.generation.sampling, self._runtime)
            except ValueError as exc:
                self._end(request, GenerationError(str(exc)))
                return
            generation = request.generation
            generation.update(replace(generation.usage, cached_tokens=request.num_held))
            self._counters.prompt_tokens += len(generation.prompt)
            self._counters.cached_tokens += request.num_held
            self._has_unsaved = self._has_unsaved or request.num_held >= MIN_SAVED_TOKENS
            self._stepper.report_prefill(request)

    def _end(self, request: Request, reason: FinishReason | LocalsmithError) -> None:
        """Free what a request holds and tell its reader."""
        if request in self._scheduler.running:
            self._scheduler.leave(request, is_kept=not isinstance(reason, GenerationError))
        if request.sampler is not None:
            request.sampler.close()
        generation = request.generation
        if isinstance(reason, LocalsmithError):
            self._counters.finished["failed"] += 1
            generation.fail(reason)
            return
        rest = "" if request.stream.is_stopped else request.stream.finish()
        if rest or request.logprobs:
            generation.put(Delta(rest, tuple(request.logprobs)))
        self._counters.finished[reason] += 1
        generation.finish(reason)
