"""The seams between the folders, as Protocols: any object with these methods fits.

Place in the data's way: `retrieval` asks for an `Embedder` and a `PromptCounter` without importing the
engine, strategies ask for a `Retriever` without knowing FAISS, and tests hand in small fakes that pass the
same contract tests.
"""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .errors import LocalsmithError
from .types import (
    Delta,
    EngineStats,
    FinishReason,
    Message,
    Passage,
    Prefill,
    Priority,
    ProgramResult,
    SamplingParams,
    Usage,
)

OnProgress = Callable[[int, int], None]
"""Called with (done, total) units."""


class Embedder(Protocol):
    """Turns texts into vectors and knows how long a text it can read."""

    @property
    def name(self) -> str:
        """Identity of the model and its weights, for example "all-minilm-l6-v2@53aa51172d14"."""
        ...

    @property
    def dimension(self) -> int:
        """Length of a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Tokens of one text that the model reads, special tokens not counted."""
        ...

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return the (start_char, end_char) of every token of `text`, special tokens left out."""
        ...

    def encode(self, texts: Sequence[str], on_progress: OnProgress | None = None) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32, each row L2-normalised."""
        ...


class PromptCounter(Protocol):
    """Counts tokens as the chat model will see them."""

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        ...

    def count_prompt(self, messages: Sequence[Message]) -> int:
        """Return the tokens of the rendered chat template, generation prompt included."""
        ...

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text."""
        ...


class Generation(Protocol):
    """One completion in the making; iterate it once, from one thread or one event loop."""

    @property
    def usage(self) -> Usage:
        """Counts and times so far; final once the iteration has ended."""
        ...

    @property
    def finish_reason(self) -> FinishReason | None:
        """Why it ended; None while it runs."""
        ...

    def __iter__(self) -> Iterator[Prefill | Delta]:
        """Yield `Prefill` while the prompt is read, then the text as it comes.

        Raises:
            GenerationError: The model failed.
        """
        ...

    def __aiter__(self) -> AsyncIterator[Prefill | Delta]:
        """Yield the same without blocking the event loop."""
        ...

    def cancel(self) -> None:
        """Stop within one step; the iteration then ends with `finish_reason` "cancelled"."""
        ...


class LanguageModel(PromptCounter, Protocol):
    """A chat model: the local engine, or any LangChain chat model behind an adapter."""

    @property
    def name(self) -> str:
        """Name for people and logs."""
        ...

    @property
    def prompt_tokens_per_s(self) -> float:
        """Measured speed of reading a prompt; infinity where reading costs no time worth counting."""
        ...

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
        """Queue a completion.

        Args:
            messages: The conversation, rendered with the model's chat template.
            sampling: How to choose tokens; None for the defaults.
            deadline_s: Seconds from now after which the completion ends with what it has; None for none.
            cancel: Setting this event cancels, like `Generation.cancel`.
            tools: JSON schemas of tools for the chat template, in OpenAI's form.
            priority: "interactive" goes before "batch".
            user: Whose request it is, for fair shares; "" where there is but one user.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window; both numbers are in the error.
            Overloaded: The queue is full.
            ModelNotReadyError: The model has been closed.
        """
        ...

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many leading prompt tokens of `messages` are in the KV cache now."""
        ...


class ServedModel(LanguageModel, Protocol):
    """What the HTTP server needs beyond a chat model."""

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary; `logit_bias` names tokens below it."""
        ...

    def submit_text(
        self,
        prompt: str,
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        priority: Priority = "interactive",
        user: str = "",
    ) -> Generation:
        """Queue the continuation of a raw text, in which control tokens count as such; see `submit`."""
        ...

    def stats(self) -> EngineStats:
        """Return what the engine does now and has done so far."""
        ...


class Retriever(Protocol):
    """Finds passages."""

    def search(
        self, query: str, collection: str, k: int = 8, document_ids: Sequence[str] = ()
    ) -> list[Passage]:
        """Return up to `k` passages, best first, ranks from 1.

        Raises:
            IndexNotFoundError: `collection` does not exist.
        """
        ...


class Sandbox(Protocol):
    """Runs the model's Python where it can do no harm."""

    @property
    def name(self) -> str:
        """Which kind it is, for people: "wasm", "bubblewrap"."""
        ...

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        """Run a program from nothing: no state of earlier runs, no files, no network.

        Args:
            program: Python source; what it prints is its result.
            timeout_s: Limit on wall time; None for the sandbox's own.

        Returns:
            What it printed, or what stopped it. A program's failure is no exception.

        Raises:
            SandboxError: The sandbox itself can't run here; cause and next step are in it.
        """
        ...


class PartState(Protocol):
    """How far a part that takes seconds to load is; `localsmith.loading.LoadingState` is one."""

    @property
    def name(self) -> str:
        """The part, "model" or "embedder"."""
        ...

    @property
    def state(self) -> str:
        """One of "idle", "loading", "ready" and "failed"."""
        ...

    @property
    def progress(self) -> float | None:
        """Share done, 0 to 1; None where unknown."""
        ...

    @property
    def detail(self) -> str:
        """A few words for people, or ""."""
        ...

    @property
    def error(self) -> LocalsmithError | None:
        """Why it failed; None where it did not."""
        ...
