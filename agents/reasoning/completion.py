"""One completion on its way to the person: read, written, noted as a step.

Place in the data's way: a strategy has a prompt that fits -> `write` submits it, tells how far the model is,
shows the text where it is the answer, and notes the step -> the strategy goes on with what was written.

Example:
    written = yield from write(run, model, question, messages, sampling, stage="thinking")
"""

from __future__ import annotations

import time
from collections.abc import Generator, Sequence
from dataclasses import dataclass

from ...core.contracts import LanguageModel
from ...core.errors import GenerationError
from ...core.settings import AnswerSettings
from ...core.types import (
    Delta,
    Event,
    FinishReason,
    Message,
    Prefill,
    Progress,
    Question,
    SamplingParams,
    Stage,
    StepKind,
)
from ...retrieval.budget import Fitted, fit
from ..strategy import Run
from .samples import Live


@dataclass(frozen=True, slots=True)
class Written:
    """What the model wrote.

    Attributes:
        text: The text.
        finish_reason: Why it ended.
    """

    text: str
    finish_reason: FinishReason


def fit_conversation(
    model: LanguageModel,
    question: Question,
    reserve_tokens: int,
    *,
    system: str,
    user: str = "",
    examples: Sequence[Message] = (),
) -> Fitted:
    """Make the prompt: system text, examples, as much of the history as fits, the question.

    Args:
        model: Counts the tokens.
        question: The question with its history.
        reserve_tokens: Tokens kept free for what the model will write.
        system: System text.
        user: The last message; "" for the question as it is.
        examples: Turns in pairs of user and assistant.

    Raises:
        ContextOverflow: System text and question alone do not fit into the window.
    """
    return fit(
        model,
        system=system,
        question=question.text,
        render=lambda _: user or question.text,
        history=question.history,
        examples=examples,
        reserve_tokens=reserve_tokens,
    )


def write(
    run: Run,
    model: LanguageModel,
    question: Question,
    messages: Sequence[Message],
    sampling: SamplingParams,
    *,
    stage: Stage = "answering",
    kind: StepKind = "generate",
    is_shown: bool = True,
) -> Generator[Event, None, Written]:
    """Let the model write one completion.

    Args:
        run: The run's notebook, which gets the step.
        model: The chat model.
        question: Says whose it is and how urgent.
        messages: The prompt.
        sampling: How tokens are chosen.
        stage: What people are told the model is doing.
        kind: Kind of the step.
        is_shown: Whether the text is part of the answer; else its newest line is told as progress.

    Yields:
        `Progress`, `Delta`s where `is_shown`, and the step.

    Returns:
        What was written.

    Raises:
        ContextOverflow: Prompt plus `max_tokens` exceed the window.
        Overloaded: The model's queue is full.
        GenerationError: The model failed, or ended without a word where words were to be shown.
    """
    begun = time.monotonic()
    yield Progress("reading", 0)
    generation = model.submit(
        messages, sampling, cancel=run.cancel, priority=question.priority, user=question.user
    )
    texts: list[str] = []
    try:
        for part in generation:
            if isinstance(part, Prefill):
                eta_s = (part.total - part.done) / model.prompt_tokens_per_s
                yield Progress("reading", part.done, part.total, eta_s=eta_s)
            elif part.text:
                if not texts:
                    yield Progress(stage, detail=model.name)
                texts.append(part.text)
                if is_shown:
                    yield Delta(part.text)
                elif "\n" in part.text:
                    yield Progress(stage, detail=_newest_line("".join(texts)))
    finally:
        generation.cancel()
    written = Written("".join(texts), generation.finish_reason or "stop")
    summary = f"Ended by {written.finish_reason}"
    yield run.step(kind, summary, begun, generation.usage, prompt=as_text(messages), output=written.text)
    if is_shown and not written.text.strip() and not run.cancel.is_set():
        raise GenerationError("The model ended without a word.", hint="Ask again in other words.")
    return written


def progress_of(live: Live, stage: Stage, done: int, total: int) -> Progress:
    """Return how far samples are that are written side by side.

    Args:
        live: What has come of those that run.
        stage: What people are told the model is doing.
        done: Samples that have finished.
        total: Samples in all.
    """
    if not live.text and live.prefill is not None:
        return Progress("reading", live.prefill.done, live.prefill.total)
    return Progress(stage, done, total, _newest_line(live.text))


def sampling_of(answer: AnswerSettings) -> SamplingParams:
    """Return the sampling parameters that the settings ask for."""
    return SamplingParams(max_tokens=answer.max_tokens, temperature=answer.temperature, seed=answer.seed)


def as_text(messages: Sequence[Message]) -> str:
    """Return a prompt as a trace shows it."""
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _newest_line(text: str) -> str:
    """Return the last line that is whole."""
    return next((line.strip() for line in reversed(text.split("\n")[:-1]) if line.strip()), "")
