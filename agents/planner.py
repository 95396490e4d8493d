"""The planner: picks the way to answer a question, and takes a dearer one only where a cheap one is in doubt.

Place in the data's way: question and what search finds for it -> `routing.route`, which decides by rules most
often; else one word of the model, held to the choices by a grammar -> the strategy chosen, whose events are
passed on. Calculations go through `escalation.escalate`. What was chosen and why is the run's first step.
Thresholds, and why this is the default, in docs/decisions/0012-planner.md.

Example:
    for event in PlannerStrategy(parts).events(Question("How many apples are left?")):
        if isinstance(event, StepEnded) and event.step.kind == "plan":
            print(event.step.summary)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator

import structlog

from ..core.errors import SandboxError
from ..core.types import (
    Delta,
    Event,
    Final,
    Message,
    Passage,
    Progress,
    Question,
    SamplingParams,
    Usage,
)
from ..models.grammar.constraint import choice_grammar
from .planning.escalation import escalate
from .planning.following import follow, joined
from .planning.routing import Plan, route
from .prompts import load_prompt
from .registry import StrategyParts, build_strategy, strategy_info
from .strategy import Run, Strategy

# Passages looked at to see what the documents say of a question; the strategy chosen searches for itself.
NUM_LOOKED_AT = 3
# What is asked for stands at a question's ends; the choice need not read all of a long one.
MAX_QUESTION_CHARS = 1200
MAX_CHOICE_TOKENS = 6

# The word the model chooses, what it stands for, and the reason told.
CHOICES = {
    "fact": Plan("direct", "The model takes it for a question it can answer at once."),
    "steps": Plan("cot", "The model takes it for a question that needs steps of thought."),
    "program": Plan("pal", "The model takes it for something to be calculated."),
}
TOOL = Plan("react", "The model takes it for a question that a tool answers.")
_log = structlog.get_logger(__name__)


class PlannerStrategy(Strategy):
    """Picks and combines the other strategies.

    Args:
        parts: What they are built from.
    """

    def __init__(self, parts: StrategyParts) -> None:
        self._parts = parts
        self._built: dict[str, Strategy] = {}

    def events(
        self, question: Question, *, cancel: threading.Event | None = None
    ) -> Generator[Event, None, None]:
        """Choose, then run what was chosen.

        Args:
            question: The question with its history and collection.
            cancel: Setting it ends the run with what is there; closing the generator stops the model, too.

        Yields:
            A `StepEnded` of kind "plan", then the events of what was chosen.

        Raises:
            IndexNotFoundError: The collection does not exist.
            ContextOverflow: The question does not fit into the window.
            GenerationError: The model failed.
        """
        run = Run(self._parts.model.name, cancel)
        yield Progress("planning")
        plan = yield from self._plan(question, run)
        if run.cancel.is_set():
            yield run.final("", "cancelled")
            return
        if plan.strategy == "pal":
            is_done = yield from self._calculate(question, run)
            if is_done:
                return
            plan = CHOICES["steps"]
        answer = yield from follow(self._strategy(plan.strategy), question, run)
        yield Final(joined(answer, run))

    def _plan(self, question: Question, run: Run) -> Generator[Event, None, Plan]:
        begun = time.monotonic()
        usage: Usage | None = None
        passages = self._look(question)
        plan = route(question, passages, has_own_tools=self._parts.has_own_tools)
        if plan is None:
            plan, usage = self._ask_model(question, run)
        title = strategy_info(plan.strategy).title
        yield run.step("plan", f"{title}: {plan.reason}", begun, usage, output=plan.strategy)
        return plan

    def _look(self, question: Question) -> list[Passage]:
        if question.collection is None:
            return []
        search = self._parts.retriever.search
        return search(question.text, question.collection, NUM_LOOKED_AT, question.document_ids)

    def _ask_model(self, question: Question, run: Run) -> tuple[Plan, Usage]:
        tools = self._parts.tools() if self._parts.has_own_tools else ()
        choices = CHOICES | ({"tool": TOOL} if tools else {})
        system = load_prompt("planner_system").render(tools=tools)
        user = load_prompt("planner_user").render(question=_ends(question.text))
        generation = self._parts.model.submit(
            (Message("system", system), Message("user", user)),
            SamplingParams(max_tokens=MAX_CHOICE_TOKENS, grammar=choice_grammar(list(choices))),
            cancel=run.cancel,
            priority=question.priority,
            user=question.user,
        )
        try:
            word = "".join(part.text for part in generation if isinstance(part, Delta)).strip()
        finally:
            generation.cancel()
        # A server elsewhere may not keep to grammars.
        return choices.get(word, CHOICES["steps"]), generation.usage

    def _calculate(self, question: Question, run: Run) -> Generator[Event, None, bool]:
        """Answer by programs; return False where none can run here."""
        begun = time.monotonic()
        try:
            self._parts.sandbox()
        except SandboxError as exc:
            _log.warning("no_sandbox", error=str(exc))
            yield run.step(
                "plan", f"No program can run here, so the model thinks in steps: {exc}", begun, is_error=True
            )
            return False
        answer = yield from escalate(self._parts, question, run)
        if answer.text and answer.stop_reason == "answered":
            yield Delta(answer.text)
        yield Final(answer)
        return True

    def _strategy(self, name: str) -> Strategy:
        if name not in self._built:
            self._built[name] = build_strategy(name, self._parts)
        return self._built[name]


def _ends(text: str) -> str:
    """Return a long text's beginning and end."""
    if len(text) <= MAX_QUESTION_CHARS:
        return text
    half = MAX_QUESTION_CHARS // 2
    return f"{text[:half]} … {text[-half:]}"
