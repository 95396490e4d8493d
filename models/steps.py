"""One step of the engine: compute the plan's rows, sample, hand the text over.

Place in the data's way: `Engine`'s thread calls `run` with the scheduler's plan; what ends in the step comes
back with its reason.

Example:
    for request, reason in stepper.run(scheduler.plan()): ...
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from ..core.errors import GenerationError, LocalsmithError
from ..core.types import Delta, FinishReason, Prefill
from .counters import Counters
from .llama.runtime import ABORTED, NO_KV_SLOT, LlamaRuntime
from .prefix_cache import PrefixCache
from .reading_speed import ReadingSpeed
from .request import Request
from .sampling import Sampled
from .scheduler import Scheduler, Work

Ended = tuple[Request, FinishReason | LocalsmithError]


class Stepper:
    """Runs plans on the model.

    Args:
        runtime: The model.
        cache: Sequences and cells.
        scheduler: Told what was learnt: times, accepted drafts, requests without room.
        counters: Statistics.
        reading_speed: Told what steps took in which prompts were read and nothing was written.
        charge: Called with (user, seconds) for each request's share of a step.
    """

    def __init__(
        self,
        runtime: LlamaRuntime,
        cache: PrefixCache,
        scheduler: Scheduler,
        counters: Counters,
        reading_speed: ReadingSpeed,
        charge: Callable[[str, float], None],
    ) -> None:
        self._runtime = runtime
        self._cache = cache
        self._scheduler = scheduler
        self._counters = counters
        self._reading_speed = reading_speed
        self._charge = charge

    def run(self, works: list[Work]) -> list[Ended]:
        """Compute a step.

        Args:
            works: The plan; every request in it runs.

        Returns:
            The requests that ended in this step, with the reason or the error.
        """
        num_rows = sum(len(work.tokens) for work in works)
        if not self._cache.make_room(num_rows) and self._scheduler.put_back_youngest():
            return []
        first_rows = self._fill(works)
        began = time.perf_counter()
        try:
            code = self._runtime.decode()
        except GenerationError as exc:
            return [(work.request, exc) for work in works]
        seconds = time.perf_counter() - began
        self._counters.step(seconds)
        if code == ABORTED:
            self._undo(works)
            return []
        if code == NO_KV_SLOT:
            self._undo(works)
            return self._without_room(works)
        self._learn(works, seconds)
        ended = []
        for work, row in zip(works, first_rows, strict=True):
            if (reason := self._finish_work(work, row, seconds)) is not None:
                ended.append((work.request, reason))
        return ended

    def _fill(self, works: list[Work]) -> list[int]:
        batch = self._runtime.batch
        batch.clear()
        rows = []
        for work in works:
            num_logits = 1 + work.num_drafts if work.wants_logits else 0
            rows.append(batch.add(work.request.seq_id, work.tokens, work.request.num_held, num_logits))
        return rows

    def _undo(self, works: list[Work]) -> None:
        for work in works:
            self._runtime.forget(work.request.seq_id, work.request.num_held)

    def _without_room(self, works: list[Work]) -> list[Ended]:
        """Evict everything cached, then put requests back, one a step; the last one left fails."""
        if self._cache.evict_all():
            return []
        if self._scheduler.put_back_youngest():
            return []
        error = GenerationError("The KV cache is full.", hint="Raise model.kv_cells or shorten the prompt.")
        return [(work.request, error) for work in works]

    def _learn(self, works: list[Work], seconds: float) -> None:
        num_rows = sum(len(work.tokens) for work in works)
        num_decoding = sum(len(work.tokens) for work in works if work.is_decoding)
        self._scheduler.pacer.observe(num_decoding, num_rows - num_decoding, seconds)
        if num_decoding == 0:
            self._reading_speed.observe(num_rows, seconds)
        for work in works:
            self._charge(work.request.user, seconds * len(work.tokens) / num_rows)

    # -- one request's part of the step

    def _finish_work(self, work: Work, row: int, seconds: float) -> FinishReason | LocalsmithError | None:
        request = work.request
        generation = request.generation
        usage = generation.usage
        if work.is_decoding:
            generation.update(replace(usage, decode_s=usage.decode_s + seconds))
        else:
            generation.update(replace(usage, prefill_s=usage.prefill_s + seconds))
        if not work.wants_logits:
            self._hold(request, work.tokens)
            self.report_prefill(request)
            return None
        if not work.is_decoding and request.num_completed == 0:
            generation.put(Prefill(len(generation.prompt), len(generation.prompt), usage.cached_tokens))
        began = time.perf_counter()
        try:
            return self._sample(work, row)
        except ValueError as exc:
            return GenerationError(str(exc), hint="Loosen the grammar or the schema.")
        finally:
            self._counters.sampling_s += time.perf_counter() - began

    def _sample(self, work: Work, row: int) -> FinishReason | None:
        """Sample behind the last token, and behind each draft as long as the sampler agrees with it."""
        request = work.request
        assert request.sampler is not None
        given = work.tokens[: len(work.tokens) - work.num_drafts]
        drafts = work.tokens[len(given) :]
        num_accepted = 0
        while True:
            sampled = request.sampler.sample(self._runtime.logits(row + num_accepted))
            reason = self._deliver(request, sampled)
            is_draft = num_accepted < len(drafts) and sampled.token == drafts[num_accepted]
            if reason is not None or not is_draft:
                break
            num_accepted += 1
        self._hold(request, [*given, *drafts[:num_accepted]])
        if drafts:
            if num_accepted < len(drafts):
                self._runtime.forget(request.seq_id, request.num_held)
            self._scheduler.learn(request, len(drafts), num_accepted)
            self._counters.draft_tokens += len(drafts)
            self._counters.accepted_draft_tokens += num_accepted
        return reason

    def _hold(self, request: Request, tokens: list[int]) -> None:
        self._cache.extend(request.seq_id, tokens)
        request.num_held += len(tokens)

    def report_prefill(self, request: Request) -> None:
        """Tell the reader how much of the prompt is read; nothing once the completion has begun."""
        if request.num_completed:
            return
        generation = request.generation
        cached = generation.usage.cached_tokens
        generation.put(Prefill(request.num_held, len(generation.prompt), cached))

    def _deliver(self, request: Request, sampled: Sampled) -> FinishReason | None:
        if self._runtime.is_end(sampled.token):
            return "stop"
        generation = request.generation
        request.tokens.append(sampled.token)
        request.num_completed += 1
        self._counters.completion_tokens += 1
        usage = replace(generation.usage, completion_tokens=request.num_completed)
        if request.num_completed == 1:
            usage = replace(usage, time_to_first_token_s=time.perf_counter() - generation.submitted_at)
        generation.update(usage)
        text = request.stream.push(self._runtime.piece(sampled.token))
        if sampled.logprob is not None:
            request.logprobs.append(sampled.logprob)
        if text or request.logprobs:
            generation.put(Delta(text, tuple(request.logprobs)))
            request.logprobs.clear()
        if request.stream.is_stopped:
            return "stop"
        return "length" if request.num_remaining <= 0 else None
