"""One ReAct run: the two nodes of its graph, a turn of the model and the execution of a call.

Place in the data's way: `ReactStrategy` makes one for each `events` and each `resume`; `ReactGraph` calls
`think` and `act` in turn and keeps what they return. The transcript only ever grows at its end, so that the
engine finds all earlier turns in its prefix cache.

Source:
    Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models", ICLR 2023, section 2.

Example:
    run = ReactRun(parts, run_id, cancel)
    graph = ReactGraph(saver, run_id, run.think, run.act)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from dataclasses import replace

from ...core.errors import OutputParseError
from ...core.types import (
    Answer,
    Delta,
    Event,
    FinishReason,
    Message,
    Prefill,
    Progress,
    SamplingParams,
    StopReason,
    Usage,
)
from ..prompts import load_prompt
from ..strategy import Run
from .actions import (
    STOP,
    THOUGHT,
    Call,
    Turn,
    answer_grammar,
    answer_start,
    parse_turn,
    thought_of,
)
from .answer import AnswerText
from .execution import Execution, Outcome
from .loops import ENDED_AT, NOTE, TOLD_AT, times_seen
from .observations import fitted
from .parts import ReactParts
from .trajectory import Exchange, Trajectory

MAX_OBSERVATION_TOKENS = 700
"""Longest observation; small models lose the thread in longer ones, and reading them takes long."""
MIN_OBSERVATION_TOKENS = 40
_CUT_NOTE = (
    "Your turn was too long and was cut: nothing was called. Write a shorter thought and a shorter call."
)
_LIMITS: dict[str, StopReason] = {
    "steps": "step_limit",
    "tokens": "step_limit",
    "window": "step_limit",
    "time": "time_limit",
    "repeats": "answered",
}


class Stopped(Exception):  # noqa: N818 - not an error: the run was cancelled, and can be resumed
    """Ends the graph within a node when the person stops the run."""


class ReactRun:
    """A run at work, in this process."""

    def __init__(self, parts: ReactParts, begun: Trajectory, cancel: threading.Event) -> None:
        """Take up a run.

        Args:
            parts: What the strategy is made of.
            begun: The run as far as it has come.
            cancel: Set when the run is to end.
        """
        self._parts = parts
        self._cancel = cancel
        self._earlier_s = begun.elapsed_s
        self.notebook = Run(parts.model.name, cancel)
        self.notebook.trace_id = begun.run_id
        self.notebook.steps = list(begun.steps)
        self.execution = Execution(parts, begun.run_id, cancel)
        self.shown = ""

    # -- a turn of the model

    def think(self, trajectory: Trajectory) -> Generator[Event, None, Trajectory]:
        """Let the model take a turn; where a limit is reached, it has to answer in it."""
        trajectory = self._limited(trajectory)
        if trajectory.limit:
            return (yield from self._answer_now(trajectory))
        num_done = len(trajectory.exchanges)
        yield Progress("thinking", num_done, self._parts.limits.max_steps, f"step {num_done + 1}")
        spent = self.notebook.usage.completion_tokens
        sampling = self._sampling(
            self._parts.grammar,
            max(1, min(self._parts.turn_tokens, self._parts.limits.thinking_tokens - spent)),
        )
        left_s = self._parts.limits.thinking_s - self._elapsed_s
        answer = AnswerText(trajectory.passages, trajectory.question.text)
        begun = time.monotonic()
        text, usage, reason = yield from self._write(
            trajectory, trajectory.messages, sampling, max(left_s, 0.01), answer
        )
        try:
            turn = parse_turn(text)
        except OutputParseError:
            turn = Turn(thought_of(text))
        is_cut = turn.call is None and turn.answer is None
        yield self.notebook.step(
            "generate",
            turn.thought or "Answered" if not is_cut else f"The turn was cut: {turn.thought}"[:200],
            begun,
            usage,
            prompt=_new_in(trajectory),
            output=text,
            is_error=is_cut,
        )
        if turn.answer is not None:
            yield from self._close(answer)
            ended: StopReason = "time_limit" if reason == "deadline" else "answered"
            return (yield from self._conclude(trajectory, answer, ended))
        said = text.strip() if turn.call is not None else f"{THOUGHT}{turn.thought}"
        exchange = Exchange(said, call=turn.call) if turn.call else Exchange(said, _CUT_NOTE)
        return self._saved(replace(trajectory, exchanges=(*trajectory.exchanges, exchange)))

    def _write(
        self,
        trajectory: Trajectory,
        messages: tuple[Message, ...],
        sampling: SamplingParams,
        deadline_s: float,
        answer: AnswerText,
    ) -> Generator[Event, None, tuple[str, Usage, FinishReason | None]]:
        """Generate a turn; show the answer, where it is one, while it is written."""
        question = trajectory.question
        generation = self._parts.model.submit(
            messages,
            sampling,
            deadline_s=deadline_s,
            cancel=self._cancel,
            priority=question.priority,
            user=question.user,
        )
        text = ""
        try:
            for part in generation:
                if isinstance(part, Prefill):
                    yield Progress("reading", part.done, part.total, f"{part.cached} tokens known already")
                    continue
                text += part.text
                start = answer_start(text)
                if start is not None and (shown := answer.feed(text[start:])):
                    if not self.shown:
                        yield Progress("answering", detail=self._parts.model.name)
                    yield self._delta(shown)
        finally:
            generation.cancel()
        if self._cancel.is_set():
            raise Stopped
        return text, generation.usage, generation.finish_reason

    def _sampling(self, grammar: str, max_tokens: int) -> SamplingParams:
        settings = self._parts.answer
        return SamplingParams(
            max_tokens=max_tokens,
            temperature=settings.temperature,
            seed=settings.seed,
            grammar=grammar,
            stop=STOP,
        )

    # -- the execution of a call

    def act(self, trajectory: Trajectory) -> Generator[Event, None, Trajectory]:
        """Execute the call that waits, where it needs a person's word after that only."""
        call = trajectory.pending
        assert call is not None  # the graph comes here for nothing else
        if self._cancel.is_set():
            raise Stopped
        number = len(trajectory.exchanges)
        yield Progress("running", number, self._parts.limits.max_steps, f"{call.tool} {call.arguments}"[:120])
        begun = time.monotonic()
        outcome = self.execution.outcome(trajectory, call, self._parts.limits.thinking_s - self._elapsed_s)
        if self._cancel.is_set() and not outcome.is_certain:
            raise Stopped
        yield self.notebook.step(
            "tool",
            f"{call.tool}: {_first_line(outcome.text)}",
            begun,
            prompt=outcome.arguments,
            output=outcome.text,
            is_error=outcome.is_error,
        )
        trajectory = self._heard(trajectory, call, outcome)
        self._parts.checkpoints.note(trajectory.run_id, len(trajectory.exchanges))
        return self._saved(trajectory)

    def _heard(self, trajectory: Trajectory, call: Call, outcome: Outcome) -> Trajectory:
        """Return the run with the observation in its transcript, as much of it as fits."""
        passages = list(trajectory.passages)
        numbers = {passage.chunk.id: number for number, passage in enumerate(passages, start=1)}
        found = []
        for passage in outcome.passages:
            if passage.chunk.id not in numbers:
                passages.append(passage)
                numbers[passage.chunk.id] = len(passages)
            found.append((numbers[passage.chunk.id], passage))
        model = self._parts.model
        used = model.count_prompt(trajectory.messages) + self._parts.reserve_tokens
        allowed = min(MAX_OBSERVATION_TOKENS, max(MIN_OBSERVATION_TOKENS, model.n_ctx - used))
        heard = fitted(
            call.tool,
            outcome.observed,
            found,
            lambda text: model.count_text(text) <= allowed,
            is_error=outcome.is_error,
        )
        times = times_seen(trajectory.exchanges[:-1], call, outcome.text)
        heard = f"{heard}\n{NOTE}" if times >= TOLD_AT else heard
        trajectory = replace(trajectory.with_heard(heard, outcome.text), passages=tuple(passages))
        return replace(trajectory, limit="repeats") if times >= ENDED_AT else trajectory

    # -- the end

    def _limited(self, trajectory: Trajectory) -> Trajectory:
        """Return the run with the limit it has reached, if any."""
        limits, model = self._parts.limits, self._parts.model
        if trajectory.limit:
            return trajectory
        if self._elapsed_s >= limits.thinking_s:
            return replace(trajectory, limit="time")
        if len(trajectory.exchanges) >= limits.max_steps:
            return replace(trajectory, limit="steps")
        if self.notebook.usage.completion_tokens >= limits.thinking_tokens:
            return replace(trajectory, limit="tokens")
        used = model.count_prompt(trajectory.messages) + self._parts.reserve_tokens
        if trajectory.exchanges and used > model.n_ctx:
            return replace(trajectory, limit="window")
        return trajectory

    def _answer_now(self, trajectory: Trajectory) -> Generator[Event, None, Trajectory]:
        """Have the model answer with what was found; where it can't, say what was found."""
        yield Progress("answering", detail="with what was found")
        answer = AnswerText(trajectory.passages, trajectory.question.text)
        limits, model = self._parts.limits, self._parts.model
        left_s = limits.max_seconds - self._elapsed_s
        note = load_prompt("react_now").render()
        *before, last = trajectory.messages
        messages = (*before, Message(last.role, f"{last.content}\n\n{note}"))
        room = model.n_ctx - model.count_prompt(messages)
        left_tokens = limits.max_tokens - self.notebook.usage.completion_tokens
        max_tokens = min(self._parts.answer.max_tokens, room, max(left_tokens, limits.answer_tokens))
        if left_s > 0 and max_tokens > 0:
            begun = time.monotonic()
            text, usage, _ = yield from self._write(
                trajectory, messages, self._sampling(answer_grammar(), max_tokens), left_s, answer
            )
            yield self.notebook.step(
                "generate",
                f"Had to answer: {trajectory.limit}",
                begun,
                usage,
                prompt=messages[-1].content,
                output=text,
            )
            yield from self._close(answer)
        if not answer.text:
            yield self._delta(answer.feed(_found(trajectory)))
            yield from self._close(answer)
        return (yield from self._conclude(trajectory, answer, _LIMITS[trajectory.limit]))

    def _close(self, answer: AnswerText) -> Generator[Event, None, None]:
        if rest := answer.close():
            yield self._delta(rest)

    def _conclude(
        self, trajectory: Trajectory, answer: AnswerText, reason: StopReason
    ) -> Generator[Event, None, Trajectory]:
        """Check the citations and return the run with its answer."""
        if not trajectory.passages:
            return self._answered(trajectory, self.notebook.final(answer.text, reason).answer)
        yield Progress("checking")
        begun = time.monotonic()
        checked = answer.checked()
        yield self.notebook.step(
            "check", " ".join(checked.notes) or "Every citation is supported by its passage.", begun
        )
        if attached := checked.text[len(answer.text) :]:
            yield self._delta(attached)
        reason = "abstained" if answer.is_abstention else reason
        final = self.notebook.final(checked.text, reason, checked.citations, trajectory.passages)
        return self._answered(trajectory, final.answer)

    def _answered(self, trajectory: Trajectory, answer: Answer) -> Trajectory:
        trajectory = self._saved(trajectory)
        return replace(trajectory, answer=replace(answer, duration_s=trajectory.elapsed_s))

    def _saved(self, trajectory: Trajectory) -> Trajectory:
        steps = tuple(self.notebook.steps)
        return replace(trajectory, steps=steps, elapsed_s=self._elapsed_s)

    @property
    def _elapsed_s(self) -> float:
        return self._earlier_s + self.notebook.elapsed_s

    def _delta(self, text: str) -> Delta:
        self.shown += text
        return Delta(text)


def _new_in(trajectory: Trajectory) -> str:
    """Return what the model reads in this turn and has not read before."""
    messages = trajectory.messages if not trajectory.exchanges else trajectory.messages[-1:]
    return "\n\n".join(f"{message.role}: {message.content}" for message in messages)


def _first_line(text: str) -> str:
    line = next(iter(text.strip().splitlines()), "nothing")
    return line if len(line) <= 120 else f"{line[:119]}…"


def _found(trajectory: Trajectory) -> str:
    """Return in words what the calls brought, for a run that ends before the model could say it."""
    lines = [
        f"- {exchange.call.tool} {exchange.call.arguments}: {_first_line(exchange.outcome)}"
        for exchange in trajectory.exchanges
        if exchange.call is not None and exchange.outcome
    ]
    return "\n".join(["No answer was found within the limits. What was found:", *(lines or ["- nothing"])])
