"""How sure a model was of what it wrote, by the probabilities of its own tokens.

Place in the data's way: stands in a model's place for one run. What is written is the same; beside it, the
mean log-probability of every completion is kept. It costs no further tokens, which makes it the cheapest sign
that an answer may be wrong (Malinin and Gales 2021, "Uncertainty Estimation in Autoregressive Structured
Prediction", section 3, length-normalised).

Example:
    model = ConfidenceModel(engine)
    answer = PalStrategy(model, sandbox).invoke(question)
    model.mean_logprob      # of the least sure completion
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import replace
from typing import Any

from ...core.contracts import Generation, LanguageModel
from ...core.types import Delta, FinishReason, Message, Prefill, Priority, SamplingParams, Usage


class ConfidenceModel:
    """A chat model that keeps how sure it was.

    Args:
        model: The model that writes.
    """

    def __init__(self, model: LanguageModel) -> None:
        self._model = model
        self._means: list[float] = []

    @property
    def mean_logprob(self) -> float | None:
        """Mean log-probability of the least sure completion, at most 0; None where the model tells none."""
        return min(self._means, default=None)

    @property
    def name(self) -> str:
        """The model's name."""
        return self._model.name

    @property
    def n_ctx(self) -> int:
        """The model's context window, in tokens."""
        return self._model.n_ctx

    @property
    def prompt_tokens_per_s(self) -> float:
        """The model's speed of reading."""
        return self._model.prompt_tokens_per_s

    def count_prompt(self, messages: Sequence[Message]) -> int:
        """Return the tokens of the rendered prompt."""
        return self._model.count_prompt(messages)

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text."""
        return self._model.count_text(text)

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many leading prompt tokens are in the model's cache now."""
        return self._model.cached_prefix_tokens(messages)

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
    ) -> Generation:
        """Queue a completion, asking for log-probabilities; see `LanguageModel.submit` for what it raises."""
        wanted = sampling or SamplingParams()
        if wanted.num_logprobs is None:
            wanted = replace(wanted, num_logprobs=0)
        generation = self._model.submit(
            messages,
            wanted,
            deadline_s=deadline_s,
            cancel=cancel,
            tools=tools,
            priority=priority,
            user=user,
        )
        return _Observed(generation, self._means)


class _Observed:
    """A generation whose log-probabilities are added up as they pass."""

    def __init__(self, generation: Generation, means: list[float]) -> None:
        self._generation = generation
        self._means = means
        self._sum, self._count = 0.0, 0

    @property
    def usage(self) -> Usage:
        return self._generation.usage

    @property
    def finish_reason(self) -> FinishReason | None:
        return self._generation.finish_reason

    def __iter__(self) -> Iterator[Prefill | Delta]:
        try:
            for part in self._generation:
                self._note(part)
                yield part
        finally:
            self._close()

    async def __aiter__(self) -> AsyncIterator[Prefill | Delta]:
        try:
            async for part in self._generation:
                self._note(part)
                yield part
        finally:
            self._close()

    def cancel(self) -> None:
        self._generation.cancel()

    def _note(self, part: Prefill | Delta) -> None:
        if isinstance(part, Delta):
            self._sum += sum(token.logprob for token in part.logprobs)
            self._count += len(part.logprobs)

    def _close(self) -> None:
        if self._count:
            self._means.append(self._sum / self._count)
