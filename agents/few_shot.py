"""The model follows a few worked examples.

Place in the data's way: `ExampleSet` -> the examples nearest to the question, as far as the budget goes ->
one completion of the form they show -> an `Answer`.

Source: in-context learning as in Brown et al. 2020, "Language Models are Few-Shot Learners", section 2.

Example:
    strategy = FewShotStrategy(engine, load_examples(Path("tickets.toml")), embedder=lambda: embedder)
    print(strategy.invoke(Question("The page stays white after I log in.")))
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator
from dataclasses import replace
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

from ..core.contracts import Embedder, LanguageModel
from ..core.settings import AnswerSettings
from ..core.types import Event, Message, Progress, Question, StopReason
from .prompts import load_prompt
from .reasoning.completion import fit_conversation, sampling_of, write
from .reasoning.examples import MAX_PROMPT_EXAMPLES, ExampleSet, load_examples, most_relevant
from .strategy import Run, Strategy

_log = structlog.get_logger(__name__)

# Reading more examples than this takes a small model on a processor longer than a person waits.
MAX_EXAMPLE_TOKENS = 1000


class FewShotStrategy(Strategy):
    """One completion after a few examples.

    Args:
        model: The chat model.
        examples: The examples; None for the set "few_shot", which answers questions of any kind in one line.
        answer: Longest completion, temperature and seed; None for the defaults.
        embedder: Returns the embedder by which examples are chosen, once there are more than go in; None for
            taking the first.
        max_examples: Most examples in a prompt.
        max_example_tokens: Most tokens that they may take.

    Raises:
        ValueError: `max_examples` is below 1.
    """

    def __init__(
        self,
        model: LanguageModel,
        examples: ExampleSet | None = None,
        answer: AnswerSettings | None = None,
        *,
        embedder: Callable[[], Embedder] | None = None,
        max_examples: int = MAX_PROMPT_EXAMPLES,
        max_example_tokens: int = MAX_EXAMPLE_TOKENS,
    ) -> None:
        if max_examples < 1:
            raise ValueError(f"At least one example has to go in, not {max_examples}.")
        self.model = model
        self.examples = examples or load_examples("few_shot")
        self.answer = answer or AnswerSettings()
        self.embedder = embedder
        self.max_examples = max_examples
        self.max_example_tokens = max_example_tokens
        self._vectors: dict[str, npt.NDArray[np.float32]] = {}  # of the examples, by the embedder's name
        if self.examples.advice:
            _log.warning("many_examples", name=self.examples.name, advice=self.examples.advice)

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands; see `Strategy.events`.

        Raises:
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
        """
        run = Run(self.model.name, cancel)
        begun = time.monotonic()
        chosen = yield from self._choose(question.text)
        fitted = fit_conversation(
            self.model,
            question,
            self.answer.max_tokens,
            system=load_prompt("few_shot_system").render(format=self.examples.format),
            user=self.examples.render(question.text),
            examples=chosen.messages(),
        )
        part = next(part for part in fitted.report.parts if part.name == "examples")
        summary = (
            f"{part.num_items} of {len(self.examples.examples)} examples from {self.examples.name} "
            f"v{self.examples.version}, {part.used_tokens} tokens."
        )
        yield run.step("budget", f"{summary} {self.examples.advice}".strip(), begun)
        sampling = replace(sampling_of(self.answer), grammar=self.examples.grammar())
        written = yield from write(run, self.model, question, fitted.messages, sampling)
        reason: StopReason = "cancelled" if run.cancel.is_set() else "answered"
        yield run.final(written.text, reason, budget=fitted.report)

    def _choose(self, question: str) -> Generator[Event, None, ExampleSet]:
        """Return the examples for a question, the best first, within number and budget."""
        num_all = len(self.examples.examples)
        first = self.examples.take(range(min(self.max_examples, num_all)))
        if self.embedder is None or self._num_fit(first) == num_all:
            return first.take(range(self._num_fit(first)))
        yield Progress("searching", detail=f"the examples nearest to the question, of {num_all}")
        embedder = self.embedder()
        if embedder.name not in self._vectors:
            asked = [example.question for example in self.examples.examples]
            self._vectors[embedder.name] = embedder.encode(asked)
        query = embedder.encode([question])[0]
        order = most_relevant(query, self._vectors[embedder.name], self.max_examples)
        chosen = self.examples.take(order)
        return chosen.take(range(self._num_fit(chosen)))

    def _num_fit(self, examples: ExampleSet) -> int:
        """Return how many of the first examples the token budget holds, as rendered."""
        messages = examples.messages()
        bare = (Message("user", ""),)
        limit = self.model.count_prompt(bare) + self.max_example_tokens
        num = 0
        while num < len(examples.examples):
            if self.model.count_prompt((*messages[: 2 * num + 2], *bare)) > limit:
                break
            num += 1
        return num
