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

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace

from ..core.contracts import Generation, LanguageModel
from ..core.errors import Overloaded
from ..core.types import Delta, FinishReason, Message, Priority, SamplingParams, Usage

# So long a sample that found the model's queue full waits before it asks again, in seconds.
RETRY_S = 0.2


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
        """Yield the samples in the order in which they finish.

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
            self._running[self._readers.submit(_read, generation, seed)] = seed, generation

    def _finished(self) -> Iterator[Sample]:
        """Wait for the next to finish, or for the time to ask again."""
        timeout = RETRY_S if self._seeds else None
        if not self._running:
            self._cancel_all.wait(timeout)
            return
        done, _ = wait(self._running, timeout, return_when=FIRST_COMPLETED)
        for future in sorted(done, key=lambda future: self._running[future][0]):
            seed, _ = self._running.pop(future)
            try:
                sample = future.result()
            except Overloaded:  # a server elsewhere says so only now
                if not self._is_stopped:
                    self._seeds.append(seed)
                    self._cancel_all.wait(RETRY_S)
                continue
            yield sample


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


def _read(generation: Generation, seed: int) -> Sample:
    texts: list[str] = []
    logprobs: list[float] = []
    for part in generation:
        if isinstance(part, Delta):
            texts.append(part.text)
            logprobs += [token.logprob for token in part.logprobs]
    mean = sum(logprobs) / len(logprobs) if logprobs else None
    return Sample("".join(texts), generation.usage, generation.finish_reason or "stop", mean, seed)
