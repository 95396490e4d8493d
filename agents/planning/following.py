"""One strategy run inside another: its events passed on, its steps noted as the outer run's own.

Place in the data's way: the planner chooses, `follow` runs what was chosen. Times are those of the outer run,
so that a trace shows one line of time.

Example:
    answer = yield from follow(strategy, question, run)
    yield Final(joined(answer, run))
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace

from ...core.types import Answer, Delta, Event, Final, Question, Step, StepEnded
from ..strategy import Run, Strategy


def follow(
    strategy: Strategy, question: Question, run: Run, *, shows_text: bool = True
) -> Generator[Event, None, Answer]:
    """Run a strategy as a part of another's run.

    Args:
        strategy: What answers.
        question: The question.
        run: The outer run's notebook; its cancel ends the inner run, too.
        shows_text: Whether the person sees the text as it comes; False where it may not be the answer.

    Yields:
        The inner run's events but the last.

    Returns:
        The inner run's answer.
    """
    offset_s = run.elapsed_s
    for event in strategy.events(question, cancel=run.cancel):
        if isinstance(event, Final):
            return event.answer
        if isinstance(event, StepEnded):
            step = later(event.step, offset_s)
            run.steps.append(step)
            yield StepEnded(step)
        elif shows_text or not isinstance(event, Delta):
            yield event
    raise AssertionError("a run ends with Final")


def joined(answer: Answer, run: Run) -> Answer:
    """Return the inner answer with the steps, usage and time of the whole outer run.

    The trace is the inner one's: by it a run that waits for a person is resumed.
    """
    return replace(answer, steps=tuple(run.steps), usage=run.usage, duration_s=run.elapsed_s)


def later(step: Step, offset_s: float) -> Step:
    """Return the step as it stands in a run that began `offset_s` earlier."""
    inner = tuple(later(part, offset_s) for part in step.steps)
    return replace(step, begun_s=step.begun_s + offset_s, steps=inner)
