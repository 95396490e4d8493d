"""The model reasons step by step before it answers; several chains of thought may vote.

Place in the data's way: a `Question` -> a prompt with worked examples, or with the bare instruction -> one
chain, shown as it is written, or several side by side whose answers vote -> an `Answer` that ends with a line
"The answer is X.".

Sources: Wei et al. 2022, "Chain-of-Thought Prompting Elicits Reasoning in Large Language Models" (examples);
Kojima et al. 2022, "Large Language Models are Zero-Shot Reasoners", section 3 (no examples; a second question
where the answer isn't stated); Wang et al. 2023, "Self-Consistency Improves Chain of Thought Reasoning in
Language Models" (votes).

Example:
    strategy = CotStrategy(engine, num_samples=8)
    print(strategy.invoke(Question("A pear costs 3 crowns and a ring 40. What do 5 pears and 2 rings cost?")))
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator
from dataclasses import replace

from ..core.contracts import LanguageModel
from ..core.errors import ContextOverflow, GenerationError
from ..core.settings import AnswerSettings
from ..core.types import Delta, Event, Message, Progress, Question, StepEnded, StopReason
from ..retrieval.budget import Fitted
from .prompts import load_prompt
from .reasoning.completion import as_text, fit_conversation, progress_of, sampling_of, write
from .reasoning.examples import ExampleSet, load_examples
from .reasoning.extraction import AnswerFormat, comparable, final_answer, stated_answer
from .reasoning.samples import Live, Sample, sample_all
from .reasoning.votes import Ballot
from .strategy import Run, Strategy

# Longest answer to the question what the answer is.
MAX_ANSWER_TOKENS = 48
ZERO_SHOT_FORMAT = "End with one line of the form: The answer is X."


class CotStrategy(Strategy):
    """Chain of thought, with self-consistency where more than one sample is drawn.

    The answer's text is the reasoning, and its last line "The answer is X.", which is added where the model
    has not written it. With several samples it is the reasoning of the first that came to the winning answer.

    Args:
        model: The chat model.
        answer: Longest completion, seed, and the temperature of a single chain; None for the defaults.
        num_samples: Chains; more than one vote, and the vote ends once the rest can't change it.
        examples: A set, the name of one that comes along, or None for none: zero-shot.
        temperature: Of the chains that vote; they have to differ.
        form: Kind of answer, where it is known.
        is_weighted: Whether chains that the model holds for likelier count more.

    Raises:
        ConfigError: There is no example set of this name.
        ValueError: `num_samples` is below 1.
    """

    def __init__(
        self,
        model: LanguageModel,
        answer: AnswerSettings | None = None,
        *,
        num_samples: int = 1,
        examples: ExampleSet | str | None = "cot",
        temperature: float = 0.7,
        form: AnswerFormat = "auto",
        is_weighted: bool = False,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"At least one sample has to be drawn, not {num_samples}.")
        self.model = model
        self.answer = answer or AnswerSettings()
        self.num_samples = num_samples
        self.examples = load_examples(examples) if isinstance(examples, str) else examples
        self.temperature = temperature
        self.form: AnswerFormat = form
        self.is_weighted = is_weighted

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands; see `Strategy.events`.

        Raises:
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
        """
        return _CotRun(self, question, cancel).events()


class _CotRun:
    """One question on its way to the answer."""

    def __init__(self, strategy: CotStrategy, question: Question, cancel: threading.Event | None) -> None:
        self._strategy = strategy
        self._model = strategy.model
        self._question = question
        self._run = Run(strategy.model.name, cancel)

    def events(self) -> Generator[Event, None, None]:
        fitted = self._fit()
        if self._strategy.num_samples == 1:
            text = yield from self._reason(fitted)
        else:
            text = yield from self._vote(fitted)
        reason: StopReason = "cancelled" if self._run.cancel.is_set() else "answered"
        yield self._run.final(text, reason, budget=fitted.report)

    def _fit(self) -> Fitted:
        examples = self._strategy.examples
        return fit_conversation(
            self._model,
            self._question,
            self._strategy.answer.max_tokens,
            system=load_prompt("cot_system").render(format=examples.format if examples else ZERO_SHOT_FORMAT),
            examples=examples.messages() if examples else (),
        )

    def _reason(self, fitted: Fitted) -> Generator[Event, None, str]:
        """Write one chain, shown as it comes, and see that it ends with its answer."""
        sampling = sampling_of(self._strategy.answer)
        written = yield from write(
            self._run, self._model, self._question, fitted.messages, sampling, stage="thinking"
        )
        if self._run.cancel.is_set():
            return written.text
        answer = stated_answer(written.text)
        if answer is None:
            answer = yield from self._ask_for_answer(fitted, written.text)
        closing = closing_line(written.text, answer)
        if closing:
            yield Delta(closing)
        return written.text + closing

    def _ask_for_answer(self, fitted: Fitted, reasoning: str) -> Generator[Event, None, str | None]:
        """Ask for the answer of a chain that doesn't state it; the chain is in the KV cache already."""
        asked = Message("user", load_prompt("cot_answer").render())
        messages = (*fitted.messages, Message("assistant", reasoning), asked)
        sampling = replace(sampling_of(self._strategy.answer), max_tokens=MAX_ANSWER_TOKENS)
        try:
            written = yield from write(
                self._run, self._model, self._question, messages, sampling, stage="thinking", is_shown=False
            )
        except ContextOverflow:  # the chain has filled the window; what it says has to do
            return final_answer(reasoning, self._strategy.form)
        return final_answer(written.text, self._strategy.form)

    def _vote(self, fitted: Fitted) -> Generator[Event, None, str]:
        """Draw several chains side by side until the vote is decided; return the winner's text."""
        strategy, begun = self._strategy, time.monotonic()
        sampling = replace(
            sampling_of(strategy.answer),
            temperature=strategy.temperature,
            num_logprobs=0 if strategy.is_weighted else None,
        )
        ballot = Ballot(strategy.num_samples, is_weighted=strategy.is_weighted)
        texts: dict[str, tuple[str, str]] = {}  # comparable answer -> the first chain that came to it
        yield Progress("thinking", 0, strategy.num_samples, "chains of thought side by side")
        samples = sample_all(
            self._model,
            fitted.messages,
            sampling,
            strategy.num_samples,
            cancel=self._run.cancel,
            priority=self._question.priority,
            user=self._question.user,
        )
        number = 0
        with contextlib.closing(samples.live()) as parts:
            for part in parts:
                if isinstance(part, Live):
                    yield progress_of(part, "thinking", number, strategy.num_samples)
                    continue
                number += 1
                answer = self._answer_of(part)
                yield self._noted(number, part, answer, begun, as_text(fitted.messages))
                if part.finish_reason == "cancelled":
                    continue
                key = comparable(answer, strategy.form) if answer else None
                ballot.add(key, part.mean_logprob)
                texts.setdefault(key or "", (part.text, answer or ""))
                yield Progress("voting", number, strategy.num_samples, ballot.summary)
                if ballot.is_decided:
                    samples.cancel()
        return (yield from self._winner(ballot, texts))

    def _answer_of(self, sample: Sample) -> str | None:
        """Return a chain's answer; in one cut off in the middle, only what it says is the answer counts."""
        if sample.finish_reason == "stop":
            return final_answer(sample.text, self._strategy.form)
        return stated_answer(sample.text)

    def _noted(self, number: int, sample: Sample, answer: str | None, begun: float, prompt: str) -> StepEnded:
        summary = f"Chain {number}: {answer or 'no answer'}"
        if sample.finish_reason == "cancelled":
            summary = f"Chain {number}: stopped on the way"
        return self._run.step("sample", summary, begun, sample.usage, prompt=prompt, output=sample.text)

    def _winner(self, ballot: Ballot, texts: dict[str, tuple[str, str]]) -> Generator[Event, None, str]:
        """Note the vote, and show the chain that stands for it."""
        yield self._run.step("vote", ballot.summary, time.monotonic())
        votes = ballot.votes
        key = votes[0].answer if votes else ""
        reasoning, answer = texts.get(key, ("", ""))
        text = reasoning + closing_line(reasoning, answer or None)
        if not text and not self._run.cancel.is_set():
            raise GenerationError("No chain of thought has a word.", hint="Ask again in other words.")
        if text:
            yield Delta(text)
        return text


def closing_line(text: str, answer: str | None) -> str:
    """Return what to append for the last line to say the answer; "" where it does, or there is none."""
    last = text.rstrip().rpartition("\n")[2]
    if answer is None or stated_answer(last) is not None:
        return ""
    return f"\n\nThe answer is {answer}."
