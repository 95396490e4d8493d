"""The model writes a program, the sandbox runs it, and what it returns is the answer.

Place in the data's way: a `Question` -> a prompt with worked programs -> a program -> the sandbox -> its
result as an `Answer`; an error goes back to the model a few times. Several programs may vote. The model puts
the question into code, Python does the calculating.

Source: Gao et al. 2023, "PAL: Program-aided Language Models", section 3 (programs) and section 5.1 (majority
of several).

Example:
    strategy = PalStrategy(engine, choose_sandbox(settings.sandbox, home), num_samples=5)
    print(strategy.invoke(Question("What is 12.5 % of 34,567?")))
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Generator, Sequence
from dataclasses import replace

from ..core.contracts import LanguageModel, Sandbox
from ..core.errors import ContextOverflow
from ..core.settings import AnswerSettings
from ..core.types import Delta, Event, Message, Progress, Question, StepEnded, StopReason
from ..retrieval.budget import Fitted
from .prompts import load_prompt
from .reasoning.completion import as_text, fit_conversation, progress_of, sampling_of, write
from .reasoning.examples import ExampleSet, load_examples
from .reasoning.extraction import comparable
from .reasoning.program import Outcome, outcome, program_in, runnable
from .reasoning.samples import Live, Sample, Samples, sample_all
from .reasoning.votes import Ballot
from .strategy import Run, Strategy

# The line that ends a program; the one that begins it follows no line break.
STOP = "\n```"
NO_PROGRAM = "There is no Python block with a function solution()."
FAILED = "No program that was written came to a result."


class PalStrategy(Strategy):
    """Program-aided: one program with repairs, or several that vote.

    Args:
        model: The chat model.
        sandbox: Runs the programs.
        answer: Longest program, seed, and the temperature of a single program; None for the defaults.
        num_samples: Programs; more than one vote, and the vote ends once the rest can't change it.
        max_repairs: Times that an error goes back to the model; with several programs, only if all failed.
        examples: A set, or the name of one that comes along.
        temperature: Of the programs that vote; they have to differ.

    Raises:
        ConfigError: There is no example set of this name.
        ValueError: `num_samples` is below 1, or `max_repairs` below 0.
    """

    def __init__(
        self,
        model: LanguageModel,
        sandbox: Sandbox,
        answer: AnswerSettings | None = None,
        *,
        num_samples: int = 1,
        max_repairs: int = 2,
        examples: ExampleSet | str = "pal",
        temperature: float = 0.7,
    ) -> None:
        if num_samples < 1:
            raise ValueError(f"At least one program has to be written, not {num_samples}.")
        if max_repairs < 0:
            raise ValueError(f"There can't be {max_repairs} repairs.")
        self.model = model
        self.sandbox = sandbox
        self.answer = answer or AnswerSettings()
        self.num_samples = num_samples
        self.max_repairs = max_repairs
        self.examples = load_examples(examples) if isinstance(examples, str) else examples
        self.temperature = temperature

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Run, telling where it stands; see `Strategy.events`.

        Raises:
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
            SandboxError: The sandbox can't run here.
        """
        return _PalRun(self, question, cancel).events()


class _PalRun:
    """One question on its way to the answer."""

    def __init__(self, strategy: PalStrategy, question: Question, cancel: threading.Event | None) -> None:
        self._strategy = strategy
        self._model = strategy.model
        self._question = question
        self._run = Run(strategy.model.name, cancel)
        self._sampling = replace(sampling_of(strategy.answer), stop=(STOP,))

    def events(self) -> Generator[Event, None, None]:
        fitted = self._fit()
        if self._strategy.num_samples == 1:
            answer = yield from self._repaired(fitted.messages, self._strategy.max_repairs + 1)
        else:
            answer = yield from self._voted(fitted.messages)
        reason: StopReason = "answered" if answer else "step_limit"
        if self._run.cancel.is_set():
            reason = "cancelled"
        text = f"The answer is {answer}." if answer else "" if reason == "cancelled" else FAILED
        if text:
            yield Delta(text)
        yield self._run.final(text, reason, budget=fitted.report)

    def _fit(self) -> Fitted:
        examples = self._strategy.examples
        return fit_conversation(
            self._model,
            self._question,
            self._strategy.answer.max_tokens,
            system=load_prompt("pal_system").render(format=examples.format),
            user=examples.render(self._question.text),
            examples=examples.messages(),
        )

    def _repaired(self, messages: Sequence[Message], max_attempts: int) -> Generator[Event, None, str]:
        """Write a program and run it; show the model its error until one has a result, or "" in the end."""
        messages = tuple(messages)
        for _ in range(max_attempts):
            try:
                written = yield from write(
                    self._run,
                    self._model,
                    self._question,
                    messages,
                    self._sampling,
                    stage="programming",
                    is_shown=False,
                )
            except ContextOverflow:
                if not self._run.steps:
                    raise
                return ""  # the attempts so far have filled the window
            if self._run.cancel.is_set():
                return ""
            done = yield from self._run_program(written.text)
            if done.answer or self._run.cancel.is_set():
                return done.answer
            messages = (*messages, *_correction(written.text, done.error))
        return ""

    def _voted(self, messages: tuple[Message, ...]) -> Generator[Event, None, str]:
        """Write several programs side by side, run each as it comes, and let their results vote."""
        num, number, begun = self._strategy.num_samples, 0, time.monotonic()
        ballot = Ballot(num)
        shown: dict[str, str] = {}  # comparable answer -> as the first program gave it
        failed: list[tuple[str, str]] = []  # replies and what went wrong
        yield Progress("programming", 0, num, "programs side by side")
        samples = self._samples(messages)
        with contextlib.closing(samples.live()) as parts:
            for part in parts:
                if isinstance(part, Live):
                    yield progress_of(part, "programming", number, num)
                    continue
                number += 1
                yield self._noted(number, part, begun, messages)
                if part.finish_reason == "cancelled" or self._run.cancel.is_set():
                    continue
                done = yield from self._run_program(part.text)
                ballot.add(comparable(done.answer) if done.answer else None)
                if done.answer:
                    shown.setdefault(comparable(done.answer), done.answer)
                else:
                    failed.append((part.text, done.error))
                yield Progress("voting", number, num, ballot.summary)
                if ballot.is_decided:
                    samples.cancel()
        yield self._run.step("vote", ballot.summary, time.monotonic())
        if ballot.votes:
            return shown[ballot.votes[0].answer]
        if not failed or self._run.cancel.is_set():
            return ""
        messages = (*messages, *_correction(*failed[0]))
        return (yield from self._repaired(messages, self._strategy.max_repairs))

    def _samples(self, messages: tuple[Message, ...]) -> Samples:
        return sample_all(
            self._model,
            messages,
            replace(self._sampling, temperature=self._strategy.temperature),
            self._strategy.num_samples,
            cancel=self._run.cancel,
            priority=self._question.priority,
            user=self._question.user,
        )

    def _noted(self, number: int, sample: Sample, begun: float, messages: tuple[Message, ...]) -> StepEnded:
        how = "stopped on the way" if sample.finish_reason == "cancelled" else "written"
        return self._run.step(
            "sample",
            f"Program {number}: {how}",
            begun,
            sample.usage,
            prompt=as_text(messages),
            output=sample.text,
        )

    def _run_program(self, reply: str) -> Generator[Event, None, Outcome]:
        """Run the program of a reply and note it."""
        begun = time.monotonic()
        program = program_in(reply)
        if program is None:
            yield self._run.step("program", NO_PROGRAM, begun, prompt=reply, is_error=True)
            return Outcome(error=NO_PROGRAM)
        yield Progress("running", detail=self._strategy.sandbox.name)
        result = self._strategy.sandbox.run(runnable(program))
        done = outcome(result)
        summary = f"Returned {done.answer}" if done.answer else done.error.splitlines()[-1]
        yield self._run.step(
            "program",
            summary,
            begun,
            prompt=program,
            output=done.answer or f"{result.stdout}\n{done.error}".strip(),
            is_error=not done.answer,
        )
        return done


def _correction(reply: str, error: str) -> tuple[Message, Message]:
    """Return the turns that show the model what came of its program."""
    program = program_in(reply)
    said = reply if program is None else f"```python\n{program}{STOP}"
    return Message("assistant", said), Message("user", load_prompt("pal_repair").render(error=error))
