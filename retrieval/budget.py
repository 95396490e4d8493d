"""What goes into the prompt: token-exact, within the window and within the time to the first token.

Place in the data's way: ranked passages, history and examples -> `fit` -> the messages that the model reads,
and a report of what was left out and why. Every count is of a really rendered prompt, by the model's own
tokenizer and chat template; nothing is estimated.

What is given up first, and what last: passages beyond the best `MIN_PASSAGES`, from the lowest rank; the
oldest turns of the history; examples, the last first; then passages down to the best one, cut at sentence
edges. System text and question are never cut. Reasons: docs/decisions/0006-budget-and-citations.md.

Example:
    fitted = fit(model, system="Be brief.", question="Who?", render=lambda passages: ..., passages=passages,
                 reserve_tokens=400, time_limit_tokens=900)
    model.submit(fitted.messages)
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..core.contracts import PromptCounter
from ..core.errors import ContextOverflow
from ..core.types import BudgetPart, BudgetReport, Message, Passage
from .redundancy import drop_redundant
from .shorten import growing_excerpts

Render = Callable[[Sequence[Passage]], str]
"""Makes the last user message of the passages; with none, of the question alone."""

# Passages that are worth more than old turns: the rewritten question already carries what the turns meant.
MIN_PASSAGES = 3
# Room smaller than this holds no sentence that helps; not worth the tokenizer calls to fill it.
MIN_EXCERPT_TOKENS = 24


@dataclass(frozen=True, slots=True)
class Fitted:
    """A prompt that fits.

    Attributes:
        messages: The conversation to submit.
        passages: The passages in it, as shortened; passage n of the prompt is `passages[n - 1]`.
        report: How the window was spent.
    """

    messages: tuple[Message, ...]
    passages: tuple[Passage, ...]
    report: BudgetReport


@dataclass(frozen=True, slots=True)
class _Choice:
    """One selection of what could go in."""

    examples: tuple[Message, ...] = ()
    turns: tuple[tuple[Message, ...], ...] = ()
    passages: tuple[Passage, ...] = ()

    @property
    def history(self) -> tuple[Message, ...]:
        return tuple(message for turn in self.turns for message in turn)


class _Prompt:
    """Renders and counts choices, each once."""

    def __init__(self, counter: PromptCounter, system: str, render: Render) -> None:
        self.counter = counter
        self._system = (Message("system", system),) if system else ()
        self._render = render
        self._counts: dict[_Choice, int] = {}

    def messages(self, choice: _Choice) -> tuple[Message, ...]:
        question = Message("user", self._render(choice.passages))
        return (*self._system, *choice.examples, *choice.history, question)

    def count(self, choice: _Choice) -> int:
        if choice not in self._counts:
            self._counts[choice] = self.counter.count_prompt(self.messages(choice))
        return self._counts[choice]

    def count_system(self) -> int:
        return self.counter.count_prompt((*self._system, Message("user", "")))

    def largest(self, choices: Sequence[_Choice], limit: int) -> int | None:
        """Return the index of the first choice within `limit`; choices are ordered from large to small."""
        index = bisect_left(choices, True, key=lambda choice: self.count(choice) <= limit)
        return index if index < len(choices) else None


def fit(
    counter: PromptCounter,
    *,
    system: str,
    question: str,
    render: Render,
    passages: Sequence[Passage] = (),
    history: Sequence[Message] = (),
    examples: Sequence[Message] = (),
    reserve_tokens: int,
    time_limit_tokens: int | None = None,
) -> Fitted:
    """Choose what goes into the prompt.

    Args:
        counter: Counts tokens as the model will see them.
        system: System text; "" for none.
        question: The question, by which the sentences of a shortened passage are chosen.
        render: Makes the last user message, question included, of the chosen passages.
        passages: Candidates, best first.
        history: Earlier turns, oldest first.
        examples: Turns that show the model what to do, in pairs of user and assistant.
        reserve_tokens: Tokens kept free for the completion.
        time_limit_tokens: Longest prompt that the model reads in time, what is in its KV cache included; None
            for no limit. The best passage goes in even if it exceeds this.

    Returns:
        Messages of at most `counter.n_ctx - reserve_tokens` tokens.

    Raises:
        ContextOverflow: System text and question alone do not fit into the window.
    """
    prompt = _Prompt(counter, system, render)
    window = counter.n_ctx - reserve_tokens
    if prompt.count(_Choice()) > window:
        raise ContextOverflow(prompt.count(_Choice()), reserve_tokens, counter.n_ctx)
    limit = window if time_limit_tokens is None else min(window, time_limit_tokens)
    kept = drop_redundant(passages)
    turns = _turns(history)
    whole = _Choice(tuple(examples), _newest_turns(counter, turns, limit), tuple(kept))
    choice = _choose(prompt, whole, question, limit, window)
    report = _report(prompt, choice, limit, window, reserve_tokens)
    asked = _Asked(tuple(examples), tuple(turns), tuple(passages), tuple(kept))
    return Fitted(prompt.messages(choice), choice.passages, _with_cuts(report, prompt, choice, asked))


def _choose(prompt: _Prompt, whole: _Choice, question: str, limit: int, window: int) -> _Choice:
    """Give up as little as possible, then fill the room that giving up a whole item has left."""
    choices = _sacrifices(whole)
    index = prompt.largest(choices, limit)
    if index == 0:
        return whole
    choice = _Choice() if index is None else choices[index]
    choice = _fill(prompt, choice, whole.passages, question, limit)
    if choice.passages or not whole.passages:
        return choice
    # The floor: an answer from one passage, late, is worth more than no answer in time.
    best = whole.passages[0]
    excerpts = [_Choice(passages=(excerpt,)) for excerpt in growing_excerpts(best, question)[::-1]]
    index = prompt.largest(excerpts, window)
    return _Choice() if index is None else excerpts[index]


def _sacrifices(whole: _Choice) -> list[_Choice]:
    """Return what is left after each thing given up, from the whole to the question alone."""
    num = len(whole.passages)
    few = whole.passages[:MIN_PASSAGES]
    choices = [replace(whole, passages=whole.passages[:m]) for m in range(num, len(few), -1)]
    choices += [_Choice(whole.examples, whole.turns[t:], few) for t in range(len(whole.turns) + 1)]
    for end in range(len(whole.examples) - 2, -2, -2):
        choices.append(_Choice(whole.examples[: max(0, end)], (), few))
    choices += [_Choice(passages=few[:m]) for m in range(len(few) - 1, -1, -1)]
    return choices


def _fill(
    prompt: _Prompt, choice: _Choice, passages: tuple[Passage, ...], question: str, limit: int
) -> _Choice:
    """Add the next passages while they fit, then what fits of the one after."""
    more = [replace(choice, passages=passages[:m]) for m in range(len(passages), len(choice.passages), -1)]
    index = prompt.largest(more, limit)
    if index is not None:
        choice = more[index]
    if len(choice.passages) == len(passages) or limit - prompt.count(choice) < MIN_EXCERPT_TOKENS:
        return choice
    excerpts = growing_excerpts(passages[len(choice.passages)], question)[::-1]
    parts = [replace(choice, passages=(*choice.passages, excerpt)) for excerpt in excerpts]
    index = prompt.largest(parts, limit)
    return choice if index is None else parts[index]


def _turns(history: Sequence[Message]) -> list[tuple[Message, ...]]:
    """Group the history: a user's message and all that follows it up to the next."""
    turns: list[list[Message]] = []
    for message in history:
        if message.role == "user" or not turns:
            turns.append([])
        turns[-1].append(message)
    return [tuple(turn) for turn in turns]


def _newest_turns(
    counter: PromptCounter, turns: Sequence[tuple[Message, ...]], limit: int
) -> tuple[tuple[Message, ...], ...]:
    """Leave out turns that can't fit by their text alone, so that a long history is never rendered."""
    num_tokens = 0
    for index in range(len(turns) - 1, -1, -1):
        num_tokens += sum(counter.count_text(message.content) for message in turns[index])
        if num_tokens > limit:
            return tuple(turns[index + 1 :])
    return tuple(turns)


def _report(prompt: _Prompt, choice: _Choice, limit: int, window: int, reserve_tokens: int) -> BudgetReport:
    """Count the parts as what each adds to the rendered prompt, so that they add up exactly."""
    num_examples = len(choice.examples) // 2
    base, bare = prompt.count_system(), prompt.count(_Choice())
    read = prompt.count(_Choice(passages=choice.passages))
    remembered = prompt.count(replace(choice, examples=()))
    total = prompt.count(choice)
    parts = (
        BudgetPart("system", base, 1),
        BudgetPart("examples", total - remembered, num_examples),
        BudgetPart("history", remembered - read, len(choice.turns)),
        BudgetPart("passages", read - bare, len(choice.passages)),
        BudgetPart("question", bare - base, 1),
    )
    return BudgetReport(
        n_ctx=prompt.counter.n_ctx,
        prompt_limit_tokens=limit,
        limited_by="window" if limit == window else "time",
        prompt_tokens=total,
        reserved_tokens=reserve_tokens,
        parts=parts,
    )


@dataclass(frozen=True, slots=True)
class _Asked:
    """What was to go in, before anything was cut."""

    examples: tuple[Message, ...]
    turns: tuple[tuple[Message, ...], ...]
    passages: tuple[Passage, ...]
    kept: tuple[Passage, ...]


def _with_cuts(report: BudgetReport, prompt: _Prompt, choice: _Choice, asked: _Asked) -> BudgetReport:
    """Say of each part what stayed out and why."""

    def count(texts: Sequence[str]) -> int:
        return sum(prompt.counter.count_text(text) for text in texts)

    cut_examples = asked.examples[len(choice.examples) :]
    cut_turns = asked.turns[: len(asked.turns) - len(choice.turns)]
    inside = {passage.chunk.id: passage.chunk.text for passage in choice.passages}
    cut_passages = [p.chunk.text for p in asked.passages if inside.get(p.chunk.id) != p.chunk.text]
    shortened = [
        inside[p.chunk.id] for p in asked.passages if inside.get(p.chunk.id, p.chunk.text) != p.chunk.text
    ]
    by_limit = choice.passages != asked.kept
    cuts = {
        "examples": (
            (len(cut_examples) + 1) // 2,
            count([m.content for m in cut_examples]),
            report.limited_by,
        ),
        "history": (
            len(cut_turns),
            count([m.content for turn in cut_turns for m in turn]),
            report.limited_by,
        ),
        "passages": (
            len(cut_passages),
            max(0, count(cut_passages) - count(shortened)),
            report.limited_by if by_limit else "redundant",
        ),
    }
    parts = []
    for part in report.parts:
        num_cut, cut_tokens, reason = cuts.get(part.name, (0, 0, ""))
        parts.append(
            replace(part, num_cut=num_cut, cut_tokens=cut_tokens, reason=reason) if num_cut else part
        )
    return replace(report, parts=tuple(parts))
