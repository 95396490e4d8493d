"""Who writes completions for an evaluation: the trainer's model, or the engine with the exported file.

Place in the data's way: prompts -> a `Writer` -> texts -> `evaluation.overlap`. Both are greedy, so that a
difference between them comes from the export and from nothing else.

Example:
    texts = EngineWriter(engine, max_tokens=128).write([row.prompt for row in rows])
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeAlias

from ..core.contracts import Generation, LanguageModel
from ..core.types import Delta, Message, SamplingParams
from ..models.chat.template import ChatTemplate
from .greedy import continue_greedily
from .vocabularies import TrainingVocabulary, end_tokens

OnWritten: TypeAlias = Callable[[int, int], None]
"""Called with (completions written, completions in all)."""


class Writer(Protocol):
    """Writes a completion for each prompt."""

    def write(self, prompts: Sequence[Sequence[Message]], on_written: OnWritten | None = None) -> list[str]:
        """Return the completions, in the prompts' order."""
        ...


class EngineWriter:
    """The engine's model, several prompts side by side.

    Args:
        model: The model.
        max_tokens: Longest completion.
        at_once: Prompts that are worked on at the same time.
    """

    def __init__(self, model: LanguageModel, max_tokens: int, at_once: int = 8) -> None:
        self._model = model
        self._sampling = SamplingParams(max_tokens=max_tokens, temperature=0.0)
        self._at_once = at_once

    def write(self, prompts: Sequence[Sequence[Message]], on_written: OnWritten | None = None) -> list[str]:
        """Return the completions; see `Writer.write`.

        Raises:
            ContextOverflow: A prompt does not fit into the window.
            GenerationError: The model failed.
        """
        texts: list[str] = []
        for start in range(0, len(prompts), self._at_once):
            part = prompts[start : start + self._at_once]
            with contextlib.ExitStack() as running:
                generations = []
                for prompt in part:
                    generation = self._model.submit(list(prompt), self._sampling)
                    running.callback(generation.cancel)
                    generations.append(generation)
                texts += [_text(generation) for generation in generations]
            if on_written:
                on_written(len(texts), len(prompts))
        return texts


class TrainerWriter:
    """A model of transformers, with the parts that a method added.

    Args:
        model: The model.
        vocabulary: Its tokens and template.
        max_tokens: Longest completion.
        batch_size: Prompts that are computed at once.
    """

    def __init__(
        self, model: Any, vocabulary: TrainingVocabulary, max_tokens: int, batch_size: int = 8
    ) -> None:
        self._model = model
        self._vocabulary = vocabulary
        self._template = ChatTemplate(vocabulary)
        self._max_tokens = max_tokens
        self._batch_size = batch_size

    def write(self, prompts: Sequence[Sequence[Message]], on_written: OnWritten | None = None) -> list[str]:
        """Return the completions; see `Writer.write`."""
        encoded = [self._template.tokens(list(prompt)) for prompt in prompts]
        by_length = sorted(range(len(encoded)), key=lambda i: len(encoded[i]))
        texts = [""] * len(prompts)
        ends = end_tokens(self._vocabulary)
        with _answering(self._model):
            for start in range(0, len(by_length), self._batch_size):
                batch = by_length[start : start + self._batch_size]
                prompts_at_once = [encoded[i] for i in batch]
                completions = continue_greedily(self._model, prompts_at_once, ends, self._max_tokens)
                for i, tokens in zip(batch, completions, strict=True):
                    texts[i] = self._vocabulary.text(self._until_end(tokens))
                if on_written:
                    on_written(min(start + self._batch_size, len(prompts)), len(prompts))
        return texts

    def _until_end(self, tokens: list[int]) -> list[int]:
        number = next((i for i, token in enumerate(tokens) if self._vocabulary.is_end(token)), len(tokens))
        return tokens[:number]


def _text(generation: Generation) -> str:
    return "".join(part.text for part in generation if isinstance(part, Delta))


@contextlib.contextmanager
def _answering(model: Any) -> Iterator[None]:
    """Let a model answer: no dropout, keys and values kept; as it was afterwards."""
    was_training, used_cache = model.training, model.config.use_cache
    model.eval()
    model.config.use_cache = True
    try:
        yield
    finally:
        model.train(was_training)
        model.config.use_cache = used_cache
