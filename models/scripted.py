"""A chat model that says what it was told to say, for tests of everything around the model's words.

Place in the data's way: stands where the `Engine` stands, behind `core.contracts.LanguageModel`, and obeys
the same contract tests: exact overflow errors, prefill before text, cancellation, deadlines, usage. It
renders ChatML and counts words and marks as tokens.

Example:
    >>> model = ScriptedModel(["Paris [1]."])
    >>> generation = model.submit([Message("user", "Where?")])
    >>> "".join(part.text for part in generation if isinstance(part, Delta))
    'Paris [1].'
"""

from __future__ import annotations

import asyncio
import math
import re
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any

from ..core.errors import ContextOverflow, GenerationError
from ..core.types import (
    Delta,
    EngineStats,
    FinishReason,
    Message,
    Prefill,
    Priority,
    SamplingParams,
    Usage,
)
from .radix_tree import shared_prefix

Script = Sequence[str | Exception] | Callable[[Sequence[Message]], str]

# At most four letters or one mark, with the white space before it: near what BPE makes of real text.
_TOKEN = re.compile(r"\s*(?:\w{1,4}|[^\w\s])|\s+$")
_PREFILL_STEP_TOKENS = 256
_N_VOCAB = 1000


class ScriptedModel:
    """A `LanguageModel` with given replies.

    Attributes:
        prompts: The messages of every `submit`, in order.
        samplings: The sampling parameters of every `submit`.
    """

    def __init__(
        self,
        replies: Script,
        *,
        n_ctx: int = 4096,
        prompt_tokens_per_s: float = math.inf,
        token_delay_s: float = 0.0,
        name: str = "scripted",
    ) -> None:
        """Keep the script.

        Args:
            replies: One reply a `submit`, an exception being raised in its place; or a function of the
                messages.
            n_ctx: The context window, in tokens.
            prompt_tokens_per_s: The speed it claims; prefill itself takes no time.
            token_delay_s: Pause before each completion token.
            name: Name for people.
        """
        self._replies: Callable[[Sequence[Message]], str | Exception]
        self._replies = replies if callable(replies) else _in_order(replies)
        self._n_ctx = n_ctx
        self._prompt_tokens_per_s = prompt_tokens_per_s
        self._token_delay_s = token_delay_s
        self._name = name
        self._cached_prompt: list[str] = []
        self.prompts: list[tuple[Message, ...]] = []
        self.samplings: list[SamplingParams] = []

    @property
    def name(self) -> str:
        """Name for people and logs."""
        return self._name

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        return self._n_ctx

    @property
    def n_vocab(self) -> int:
        """Number of tokens that `logit_bias` may name."""
        return _N_VOCAB

    @property
    def prompt_tokens_per_s(self) -> float:
        """The speed it was told to claim."""
        return self._prompt_tokens_per_s

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text."""
        return len(_tokens(text))

    def count_prompt(self, messages: Sequence[Message]) -> int:
        """Return the tokens of the messages as ChatML, generation prompt included."""
        return len(_tokens(_render(messages)))

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many leading tokens the last prompt shares with this one."""
        return shared_prefix(self._cached_prompt, _tokens(_render(messages)))

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
    ) -> ScriptedGeneration:
        """Start the next reply of the script; `tools`, `priority` and `user` change nothing in it.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
        """
        return self._start(messages, _tokens(_render(messages)), sampling, deadline_s, cancel)

    def submit_text(
        self,
        prompt: str,
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        priority: Priority = "interactive",
        user: str = "",
    ) -> ScriptedGeneration:
        """Start the next reply of the script as the continuation of a raw text.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
        """
        return self._start([Message("user", prompt)], _tokens(prompt), sampling, deadline_s, cancel)

    def stats(self) -> EngineStats:
        """Return how many requests there were; nothing else is counted."""
        return EngineStats(finished=(("stop", len(self.prompts)),))

    def _start(
        self,
        messages: Sequence[Message],
        tokens: list[str],
        sampling: SamplingParams | None,
        deadline_s: float | None,
        cancel: threading.Event | None,
    ) -> ScriptedGeneration:
        sampling = sampling or SamplingParams()
        if len(tokens) + sampling.max_tokens > self._n_ctx:
            raise ContextOverflow(len(tokens), sampling.max_tokens, self._n_ctx)
        self.prompts.append(tuple(messages))
        self.samplings.append(sampling)
        cached = max(0, min(shared_prefix(self._cached_prompt, tokens), len(tokens) - 1))
        self._cached_prompt = tokens
        deadline = math.inf if deadline_s is None else time.monotonic() + deadline_s
        return ScriptedGeneration(
            self._replies(messages),
            sampling,
            Prefill(cached, len(tokens), cached),
            self._token_delay_s,
            deadline,
            cancel,
        )


class ScriptedGeneration:
    """One reply, a token at a time."""

    def __init__(
        self,
        reply: str | Exception,
        sampling: SamplingParams,
        start: Prefill,
        token_delay_s: float,
        deadline: float,
        cancel: threading.Event | None,
    ) -> None:
        """Keep what to say and when to stop; `deadline` counts on the monotonic clock."""
        self._reply = reply
        self._sampling = sampling
        self._start = start
        self._token_delay_s = token_delay_s
        self._deadline = deadline
        self._cancels = [threading.Event()] + ([cancel] if cancel else [])
        self._usage = Usage(prompt_tokens=start.total, cached_tokens=start.cached)
        self._finish_reason: FinishReason | None = None

    @property
    def usage(self) -> Usage:
        """Counts and times so far."""
        return self._usage

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""
        return self._finish_reason

    def cancel(self) -> None:
        """Stop before the next token, which nobody may ask for any more."""
        self._cancels[0].set()
        self._finish_reason = self._finish_reason or "cancelled"

    def __iter__(self) -> Iterator[Prefill | Delta]:
        """Yield the prefill in steps, then the reply's tokens.

        Raises:
            GenerationError: The script has an exception in this place, or has ended.
        """
        begun = time.monotonic()
        total = self._start.total
        for done in [*range(self._start.done, total, _PREFILL_STEP_TOKENS), total]:
            if self._is_over():
                return
            yield Prefill(done, total, self._start.cached)
        if isinstance(self._reply, Exception):
            raise self._reply
        read = time.monotonic()
        for count, token in enumerate(self._pieces(), start=1):
            if count > self._sampling.max_tokens:
                self._finish_reason = "length"
                return
            if self._token_delay_s:
                time.sleep(self._token_delay_s)
            if self._is_over():
                return
            now = time.monotonic()
            first = self._usage.time_to_first_token_s or now - begun
            self._usage = Usage(total, self._start.cached, count, first, read - begun, now - read)
            yield Delta(token)
        self._finish_reason = "stop"

    async def __aiter__(self) -> AsyncIterator[Prefill | Delta]:
        """Yield the same without blocking the event loop."""
        parts = iter(self)
        while (part := await asyncio.to_thread(next, parts, None)) is not None:
            yield part

    def _pieces(self) -> list[str]:
        text = str(self._reply)
        for stop in self._sampling.stop:
            text = text.split(stop)[0]
        return _tokens(text)

    def _is_over(self) -> bool:
        if any(event.is_set() for event in self._cancels):
            self._finish_reason = "cancelled"
        elif time.monotonic() > self._deadline:
            self._finish_reason = "deadline"
        return self._finish_reason is not None


def _in_order(replies: Sequence[str | Exception]) -> Callable[[Sequence[Message]], str | Exception]:
    left = iter(replies)
    return lambda messages: next(left, GenerationError("The script has no reply left."))


def _render(messages: Sequence[Message]) -> str:
    turns = [f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages]
    return "".join(turns) + "<|im_start|>assistant\n"


def _tokens(text: str) -> list[str]:
    return _TOKEN.findall(text)
