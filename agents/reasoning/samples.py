"""Several completions of one prompt, written side by side.

Place in the data's way: `cot.py` and `pal.py` ask for n samples; all are handed to the model at once with
different seeds, so that the prompt is read once and the steps of the model are shared. They come back in the
order in which they finish, so that a vote can end before the last one has.

Example:
    samples = sample_all(engine, messages, SamplingParams(temperature=0.7), num=5)
    for sample in samples:
        if enough(sample):
            samples.cancel()
"""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from ...core.contracts import Generation, LanguageModel
from ...core.errors import Overloaded
from ...core.types import Delta, FinishReason, Message, Prefill, Priority, SamplingParams, Usage

# So long a sample that found the model's queue full waits before it asks again, in seconds.
RETRY_S = 0.2
# So often people are told how far the samples are, in seconds.
TICK_S = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """One finished completion.

    Attributes:
        text: What the model wrote.
        usage: What it cost.
        finish_reason: Why it ended; "cancelled" for one that was stopped on the way.
        mean_logprob: Mean log-probability of its tokens, at most 0; None where the parameters ask for
            none.
        seed: The seed it was drawn with.
    """

    text: str
    usage: Usage
    finish_reason: FinishReason
    mean_logprob: float | None
    seed: int


@dataclass(frozen=True, slots=True)
class Live:
    """How far the samples are that still run.

    Attributes:
        prefill: How far the prompt has been read; None before the first word of it.
        text: What the one that is furthest has written; "" while the prompt is read.
    """

    prefill: Prefill | None
    text: str


class Samples:
    """The samples of one prompt in the making; iterate once. Leaving the loop early stops the rest."""

    def __init__(
        self,
        model: LanguageModel,
        messages: Sequence[Message],
        sampling: SamplingParams,
        num: int,
        cancel: threading.Event,
        priority: Priority,
        user: str,
    ) -> None:
        self._model = model
        self._messages = tuple(messages)
        self._sampling = sampling
        self._cancel_all = cancel
        self._priority: Priority = priority
        self._user = user
        self._seeds = deque(range(sampling.seed, sampling.seed + num))  # those not with the model yet
        self._running: dict[Future[Sample], tuple[int, Generation]] = {}
        self._parts: dict[int, list[Prefill | Delta]] = {}  # what has come of each that runs, by seed
        self._readers = ThreadPoolExecutor(num, thread_name_prefix="localsmith-sample")
        self._is_stopped = False

    def cancel(self) -> None:
        """Stop those that still run within one step; the loop then gets them with what they have.

        That way their tokens are counted. Those that the model hadn't taken yet don't come any more.
        """
        self._is_stopped = True
        self._seeds.clear()
        for _, generation in self._running.values():
            generation.cancel()

    def __iter__(self) -> Iterator[Sample]:
        """Yield the samples in the order in which they finish; raises as `live` does."""
        with contextlib.closing(self.live()) as parts:
            for part in parts:
                if isinstance(part, Sample):
                    yield part

    def live(self) -> Generator[Sample | Live, None, None]:
        """Yield the samples in the order in which they finish, and twice a second how far the others are.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
            GenerationError: The model failed in one of them; the others are stopped.
        """
        try:
            self._submit()
            while self._running or self._seeds:
                yield from self._finished()
                self._submit()
        finally:
            self.cancel()
            self._readers.shutdown()

    def _submit(self) -> None:
        """Hand over what the model takes; the rest stays in `_seeds`."""
        if self._cancel_all.is_set():
            self._seeds.clear()
        while self._seeds:
            try:
                generation = self._model.submit(
                    self._messages,
                    replace(self._sampling, seed=self._seeds[0]),
                    cancel=self._cancel_all,
                    priority=self._priority,
                    user=self._user,
                )
            except Overloaded:
                return
            seed = self._seeds.popleft()
            parts = self._parts[seed] = []
            self._running[self._readers.submit(_read, generation, seed, parts)] = seed, generation

    def _finished(self) -> Iterator[Sample | Live]:
        """Wait for the next to finish, or for the time to ask again or to tell how far they are."""
        if not self._running:
            self._cancel_all.wait(RETRY_S)
            return
        done, _ = wait(self._running, RETRY_S if self._seeds else TICK_S, return_when=FIRST_COMPLETED)
        if not done:
            yield self._live()
        for future in sorted(done, key=lambda future: self._running[future][0]):
            seed, _ = self._running.pop(future)
            del self._parts[seed]
            try:
                sample = future.result()
            except Overloaded:  # a server elsewhere says so only now
                if not self._is_stopped:
                    self._seeds.append(seed)
                    self._cancel_all.wait(RETRY_S)
                continue
            yield sample

    def _live(self) -> Live:
        furthest = max(self._parts.values(), key=len)
        parts = list(furthest)  # its reader goes on appending
        prefill = next((part for part in reversed(parts) if isinstance(part, Prefill)), None)
        return Live(prefill, "".join(part.text for part in parts if isinstance(part, Delta)))


def sample_all(
    model: LanguageModel,
    messages: Sequence[Message],
    sampling: SamplingParams,
    num: int,
    *,
    cancel: threading.Event | None = None,
    priority: Priority = "interactive",
    user: str = "",
) -> Samples:
    """Draw several completions of one prompt, all at once.

    Where the model's queue is full, what does not fit into it waits.

    Args:
        model: The chat model.
        messages: The prompt.
        sampling: How tokens are chosen; sample i has the seed `sampling.seed + i`.
        num: Samples, at least 1.
        cancel: Setting it stops them all; they come with what they have.
        priority: "interactive" goes before "batch".
        user: Whose request it is, for fair shares.

    Raises:
        ValueError: `num` is below 1.
    """
    if num < 1:
        raise ValueError(f"At least one sample has to be drawn, not {num}.")
    return Samples(model, messages, sampling, num, cancel or threading.Event(), priority, user)


def _read(generation: Generation, seed: int, parts: list[Prefill | Delta]) -> Sample:
    for part in generation:
        parts.append(part)
    deltas = [part for part in parts if isinstance(part, Delta)]
    logprobs = [token.logprob for delta in deltas for token in delta.logprobs]
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    text = "".join(delta.text for delta in deltas)
    return Sample(text, generation.usage, generation.finish_reason or "stop", mean, seed)
