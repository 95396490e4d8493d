"""A request on its way through the engine: its tokens, what of them is computed, its sampler.

Place in the data's way: `Engine.submit` makes one around the generation that the caller reads; it waits in
the `WaitingQueue`, then joins the batch until it ends.

Example:
    request = Request(generation)
    request.num_left        # tokens to compute before the next one can be sampled
"""

from __future__ import annotations

from ..core.types import TokenLogprob
from .generation import EngineGeneration
from .sampling import Sampler
from .text_stream import TextStream

NO_SEQUENCE = -1


class Request:
    """One completion in the batch, or waiting for it.

    Attributes:
        generation: What the caller reads.
        tokens: Prompt and completion so far.
        num_held: How many of `tokens` have KV cells, from the first.
        num_to_read: How many were left to compute when it joined the batch.
        seq_id: Its sequence; `NO_SEQUENCE` while it waits.
        num_completed: Completion tokens so far.
        arrival: Its place in the order of arrival.
        sampler: Chooses its tokens; None until it first runs.
        stream: Turns bytes into text to show.
        logprobs: Log-probabilities not handed over yet.
    """

    __slots__ = (
        "__weakref__",
        "arrival",
        "generation",
        "logprobs",
        "num_completed",
        "num_held",
        "num_to_read",
        "sampler",
        "seq_id",
        "stream",
        "tokens",
    )

    def __init__(self, generation: EngineGeneration) -> None:
        self.generation = generation
        self.tokens: list[int] = list(generation.prompt)
        self.num_held = 0
        self.num_to_read = len(self.tokens)
        self.seq_id = NO_SEQUENCE
        self.num_completed = 0
        self.arrival = 0
        self.sampler: Sampler | None = None
        self.stream = TextStream(generation.sampling.stop)
        self.logprobs: list[TokenLogprob] = []

    @property
    def user(self) -> str:
        """Whose request it is."""
        return self.generation.user

    @property
    def is_batch(self) -> bool:
        """Whether it gives way to interactive ones."""
        return self.generation.priority == "batch"

    @property
    def num_left(self) -> int:
        """Tokens to compute before the next one can be sampled; at least 1."""
        return len(self.tokens) - self.num_held

    @property
    def is_decoding(self) -> bool:
        """Whether only the token sampled last is left to compute."""
        return self.num_completed > 0 and self.num_left == 1

    @property
    def num_remaining(self) -> int:
        """Completion tokens that may still come."""
        return self.generation.sampling.max_tokens - self.num_completed
