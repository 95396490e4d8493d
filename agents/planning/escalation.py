"""A calculation answered by one program, and by more only where that one is in doubt.

Place in the data's way: the planner's way for quantities. The first program's answer is taken where the
program ran, uses the numbers stated, prints a plausible value, and the model was sure of what it wrote.
Else further attempts are made one at a time, programs and a chain of thought in turn, until two agree
(samples only as long as they disagree: Aggarwal et al. 2023, "Let's Sample Step by Step:
Adaptive-Consistency", section 3; programs and chains of thought together, since they err in different ways:
Zhao et al. 2023, "Automatic Model Selection with Large Language Models for Reasoning", section 1). Where no
two agree, the first attempt that has an answer is taken. Thresholds in docs/decisions/0012-planner.md.

Example:
    answer = yield from escalate(parts, question, run)
"""

from __future__ import annotations

import time
from collections.abc import Generator, Iterator, Sequence
from dataclasses import dataclass, replace

from ...core.types import Answer, Event, Question, Step
from ...retrieval.words import numbers
from ..reasoning.extraction import comparable, final_answer, number_of
from ..reasoning.votes import Vote, in_words, tally
from ..registry import StrategyParts, build_strategy
from ..strategy import Run
from .confidence import ConfidenceModel
from .following import follow, joined

# Mean log-probability of the program's tokens below which it is in doubt.
MIN_MEAN_LOGPROB = -0.08
# Attempts after the first, in order.
FURTHER = ("pal", "cot", "pal")
# Of programs after the first. Source: Gao et al. 2023, "PAL: Program-aided Language Models", section 5.1.
SAMPLE_TEMPERATURE = 0.7
ENOUGH_VOTES = 2


@dataclass(frozen=True, slots=True)
class Attempt:
    """One way that was tried.

    Attributes:
        answer: What it came to.
        value: The answer in the form in which answers are compared; None where it has none.
    """

    answer: Answer
    value: str | None


def escalate(parts: StrategyParts, question: Question, run: Run) -> Generator[Event, None, Answer]:
    """Answer by one program; where it is in doubt, by as many attempts as it takes for two to agree.

    Args:
        parts: What strategies are built from.
        question: The question.
        run: The notebook of the run.

    Yields:
        Every attempt's events without its text, and the steps "plan" and "vote" between them.

    Returns:
        The answer, with the steps of the whole run.
    """
    model = ConfidenceModel(parts.model)
    first = yield from _attempt("pal", replace(parts, model=model), question, run)
    attempts = [first]
    begun = time.monotonic()
    doubts = tuple(doubts_of(question.text, first, model.mean_logprob))
    if not doubts or run.cancel.is_set():
        return joined(first.answer, run)
    yield run.step(
        "plan", f"The program is in doubt: {'; '.join(doubts)}. A second attempt checks it.", begun
    )
    for number, name in enumerate(FURTHER, start=1):
        chosen_parts = _sampled(parts, number) if name == "pal" else parts
        attempts.append((yield from _attempt(name, chosen_parts, question, run)))
        if run.cancel.is_set():
            return joined(replace(_chosen(attempts), stop_reason="cancelled"), run)
        votes = tally([attempt.value for attempt in attempts])
        if votes and votes[0].count >= ENOUGH_VOTES:
            break
    begun = time.monotonic()
    yield run.step("vote", in_words(votes, len(attempts)), begun)
    return replace(joined(_chosen(attempts, votes), run), trace_id=run.trace_id)


def doubts_of(question: str, attempt: Attempt, mean_logprob: float | None) -> Iterator[str]:
    """Say what speaks against a first attempt; nothing where it can be taken.

    Args:
        question: The question.
        attempt: The attempt by one program.
        mean_logprob: How sure the model was of its words; None where it doesn't tell.

    Yields:
        Reasons, in words for people.
    """
    if attempt.value is None:
        yield "it came to no answer"
        return
    program = next((step.prompt for step in _all_steps(attempt.answer.steps, reverse=True)), "")
    if unused := numbers(question) - numbers(program):
        yield f"it does not use {', '.join(sorted(unused))}"
    value = number_of(attempt.value)
    if value is not None and value.startswith("-"):
        yield f"{value} is below zero"
    if value is not None and "how many" in question.lower() and not value.lstrip("-").isdigit():
        yield f"{value} is no whole number"
    if mean_logprob is not None and mean_logprob < MIN_MEAN_LOGPROB:
        yield "the model was not sure of it"


def _attempt(
    name: str, parts: StrategyParts, question: Question, run: Run
) -> Generator[Event, None, Attempt]:
    strategy = build_strategy(name, parts)
    answer = yield from follow(strategy, question, run, shows_text=False)
    stated = final_answer(answer.text) if answer.stop_reason == "answered" else None
    return Attempt(answer, None if stated is None else comparable(stated))


def _sampled(parts: StrategyParts, number: int) -> StrategyParts:
    """Return the parts for another program: sampled, since greedy decoding would repeat the first."""
    settings = parts.answer
    return replace(
        parts,
        answer=settings.model_copy(
            update={"temperature": SAMPLE_TEMPERATURE, "seed": settings.seed + number}
        ),
    )


def _chosen(attempts: Sequence[Attempt], votes: Sequence[Vote] = ()) -> Answer:
    """Return the first answer with the most votes; without votes the first with a value, else the first."""
    winner = votes[0].answer if votes else None
    for attempt in attempts:
        if attempt.value is not None and winner in (None, attempt.value):
            return attempt.answer
    return attempts[0].answer


def _all_steps(steps: Sequence[Step], *, reverse: bool = False) -> Iterator[Step]:
    """Yield the steps of kind "program", inner ones included; the last first where `reverse`."""
    for step in reversed(steps) if reverse else steps:
        yield from _all_steps(step.steps, reverse=reverse)
        if step.kind == "program":
            yield step
