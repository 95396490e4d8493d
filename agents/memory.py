"""What a question remembers: the turns that fit, a summary of the older ones, and facts of the person.

Place in the data's way: a `Question` with its whole history -> `Memory.remembered` -> the same question
with a history that fits its share of the window -> a strategy -> its answer -> `Memory.learn`, which works
behind everyone who waits. No question waits for a summary or a fact: what is not ready is left out, and the
step says so. `agents/remembering.py` wraps a strategy in all of it. Reasons: docs/how-to/memory.md.

Example:
    memory = Memory(model, MemoryStore(settings.memory_path), embedder, settings.memory)
    answer = strategy.invoke(memory.remembered(question))
    memory.learn(question, answer)
"""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from ..core.contracts import Embedder, LanguageModel
from ..core.memory_rows import normalised
from ..core.memory_store import Fact, MemoryStore, Origin, Summary
from ..core.settings import MemorySettings
from ..core.types import Answer, Message, Question
from .prompts import load_prompt
from .recall.background import Background
from .recall.commands import MemoryCommand, command_of
from .recall.fact_index import FactIndex
from .recall.facts import notice
from .recall.summary import covers, extend
from .recall.window import Window, fit_window

# Noticed facts stop here, so that years of chatting don't make every question slower; those that a person
# asks for or writes are always kept.
MAX_NOTICED_FACTS = 500
# Of the history's share of the window: the summary may take a fourth; and when turns are summarised, so many
# that the rest fills half, for each summary moves the window's beginning and with it the prefix in the KV
# cache.
SUMMARY_SHARE = 0.25
KEPT_SHARE = 0.5
MAX_SUMMARY_TOKENS = 256
NOTED = "Noted."


@dataclass(frozen=True, slots=True)
class Recalled:
    """A question with what is remembered.

    Attributes:
        question: The question; its history fits the share of the window.
        facts: The facts in it, the nearest to the question first.
        summary: The summary in it, or None.
        num_left_out: Messages that are neither in the history nor covered by the summary.
        line: What was done, in one line for people; "" where nothing was.
    """

    question: Question
    facts: tuple[Fact, ...] = ()
    summary: Summary | None = None
    num_left_out: int = 0
    line: str = ""


class Memory:
    """The memory of all people and conversations of one data folder."""

    def __init__(
        self,
        model: LanguageModel,
        store: MemoryStore,
        embedder: Embedder | None = None,
        settings: MemorySettings | None = None,
    ) -> None:
        """Keep the parts; nothing runs yet.

        Args:
            model: Counts tokens, writes summaries and notices facts.
            store: Where summaries and facts are kept.
            embedder: Finds the facts that matter to a question; None for finding them by their words.
            settings: Shares and limits; None for the defaults.
        """
        self.store = store
        self._model = model
        self._settings = settings or MemorySettings()
        self._index = FactIndex(store, embedder)
        self._background = Background("memory")
        self._stop = threading.Event()

    # -- before an answer

    def remembered(self, question: Question) -> Question:
        """Return the question with the history that goes into the prompt; see `recall`."""
        return self.recall(question).question

    def recall(self, question: Question) -> Recalled:
        """Fit the history into its share of the window, and add what is remembered.

        Args:
            question: The question with its whole history.

        Returns:
            The question whose history is: a pair of messages with the running summary, the newest turns word
            for word, and a pair with the facts that the question may turn on. Only roles that every chat
            template knows are used. The pair of facts stands last: it differs from question to question, and
            what stands before it stays in the KV cache.

        Raises:
            StorageError: The store can't be read.
        """
        if not self._is_on(question.user):
            window = fit_window(self._model, question.history, self._limit_tokens)
            line = _line(window.num_left_out, None, ())
            recalled = replace(question, history=window.messages)
            return Recalled(recalled, num_left_out=window.num_left_out, line=line)
        summary = self._summary(question)
        facts = tuple(self._index.relevant(question.text, question.user, self._settings.max_facts))
        window, facts = self._window(question, summary, facts)
        if window.num_left_out:
            self._summarise(question, question.history)
        line = _line(window.num_left_out, summary, facts)
        return Recalled(replace(question, history=window.messages), facts, summary, window.num_left_out, line)

    def obey(self, question: Question) -> str | None:
        """Do what "remember that …" or "forget that …" says, at once.

        Args:
            question: The question as asked.

        Returns:
            What was done, in words for the person; None where the message is no command or asks something,
            too, and therefore wants an answer.

        Raises:
            StorageError: The disk failed.
        """
        command = command_of(question.text)
        if command is None or not command.is_whole:
            return None
        if not self._is_on(question.user):
            return "Memory is switched off, so nothing was changed. You can switch it on on the Memory page."
        if command.verb == "remember":
            return self._remember(command, question)
        return self._forget(command, question.user)

    # -- after an answer

    def learn(self, question: Question, answer: Answer | None = None) -> None:
        """Notice facts in the person's message and bring the summary up to date, both in the background.

        Args:
            question: The question as asked, with its whole history.
            answer: The answer to it, which belongs to the history from now on; nothing is learnt from it.
        """
        if not self._is_on(question.user):
            return
        key = f"facts {question.user} {question.conversation_id} {question.turn_id} {question.text}"
        self._background.submit(key, lambda: self._learn_facts(question))
        turns = (Message("user", question.text), Message("assistant", answer.text if answer else ""))
        history = (*question.history, *turns) if answer and answer.text else question.history
        self._background.submit(
            f"window {question.conversation_id}", lambda: self._summarise_if_full(question, history)
        )

    def wait(self, timeout_s: float) -> bool:
        """Wait until what was learnt is stored; return whether it is."""
        return self._background.wait(timeout_s)

    def close(self) -> None:
        """Stop what runs in the background; the store stays open, for whoever opened it."""
        self._stop.set()
        self._background.close()

    # -- the window

    @property
    def _limit_tokens(self) -> int:
        return int(self._model.n_ctx * self._settings.history_share)

    def _is_on(self, user: str) -> bool:
        return self._settings.is_on and self.store.is_on(user)

    def _summary(self, question: Question) -> Summary | None:
        if not question.conversation_id:
            return None
        summary = self.store.summary(question.conversation_id)
        return summary if covers(summary, question.history) else None

    def _window(
        self, question: Question, summary: Summary | None, facts: tuple[Fact, ...]
    ) -> tuple[Window, tuple[Fact, ...]]:
        """Fit the turns that the summary does not cover; give up facts, one by one, that leave no room."""
        recent = question.history[summary.num_messages :] if summary else question.history
        first = _pair(load_prompt("summary_shown").render(summary=summary.text)) if summary else ()
        while facts:
            last = _pair(_facts_text(facts))
            window = fit_window(self._model, recent, self._limit_tokens, first=first, last=last)
            if window.messages[-2:] == last:
                return window, facts
            facts = facts[:-1]
        return fit_window(self._model, recent, self._limit_tokens, first=first), ()

    # -- summaries

    def _summarise_if_full(self, question: Question, history: Sequence[Message]) -> None:
        asked = replace(question, history=tuple(history))
        if self._window(asked, self._summary(asked), ())[0].num_left_out:
            self._summarise(asked, history)

    def _summarise(self, question: Question, history: Sequence[Message]) -> None:
        if question.conversation_id:
            asked = replace(question, history=tuple(history))
            self._background.submit(f"summary {question.conversation_id}", lambda: self._extend(asked))

    def _extend(self, question: Question) -> None:
        """Summarise step by step, each stored, until the other turns fill no more than `KEPT_SHARE`."""
        kept = fit_window(self._model, question.history, int(self._limit_tokens * KEPT_SHARE))
        to_cover = question.history[: kept.num_left_out]
        summary = self._summary(question)
        while not self._stop.is_set() and (summary is None or summary.num_messages < len(to_cover)):
            summary = extend(
                self._model,
                summary,
                to_cover,
                conversation_id=question.conversation_id,
                max_tokens=max(1, min(MAX_SUMMARY_TOKENS, int(self._limit_tokens * SUMMARY_SHARE))),
                user=question.user,
                cancel=self._stop,
            )
            if summary is None:
                return
            self.store.save_summary(summary)

    # -- facts

    def _learn_facts(self, question: Question) -> None:
        command = command_of(question.text)
        if command is not None:
            if command.verb == "remember" and not command.is_whole:
                self._remember(command, question)
            return
        if len(self.store.facts(question.user)) < MAX_NOTICED_FACTS:
            noticed = notice(self._model, question.text, user=question.user, cancel=self._stop)
            for text in noticed.facts:
                if not self._is_known(text, question):
                    self._add(text, "noticed", question)
        self._index.embed(question.user)

    def _is_known(self, text: str, question: Question) -> bool:
        """Tell whether a fact is remembered, or was forgotten since it was said here.

        An answer that is made anew brings back nothing that the person has forgotten.
        """
        if self._index.same(text, question.user) is not None:
            return True
        return any(
            fact.conversation_id == question.conversation_id and normalised(fact.text) == normalised(text)
            for fact in self.store.forgotten_facts(question.user)
        )

    def _remember(self, command: MemoryCommand, question: Question) -> str:
        known = self._index.same(command.text, question.user)
        if known is not None:
            return f"I remember that already: “{known.text}”"
        fact = self._add(command.text, "asked", question)
        return f"I will remember: “{fact.text}” You can change it on the Memory page."

    def _add(self, text: str, origin: Origin, question: Question) -> Fact:
        return self.store.add_fact(text, question.user, origin, question.conversation_id, question.turn_id)

    def _forget(self, command: MemoryCommand, user: str) -> str | None:
        is_all = command.verb == "forget_all"
        facts = self.store.facts(user) if is_all else self._index.about(command.text, user)
        for fact in facts:
            self.store.forget_fact(fact.id)
        if not facts:
            return "There is nothing like that in my memory." if command.is_plain else None
        texts = " ".join(f"“{fact.text}”" for fact in facts[:5])
        more = f" and {len(facts) - 5} more" if len(facts) > 5 else ""
        return f"Forgotten: {texts}{more} You can undo it on the Memory page."


def _pair(text: str) -> tuple[Message, Message]:
    """Return what is remembered as a turn: the two roles that every chat template knows, in their order."""
    return Message("user", text), Message("assistant", NOTED)


def _facts_text(facts: Sequence[Fact]) -> str:
    dated = [
        {"text": fact.text, "day": time.strftime("%Y-%m-%d", time.localtime(fact.updated_at))}
        for fact in facts
    ]
    return load_prompt("facts_shown").render(facts=dated)


def _line(num_left_out: int, summary: Summary | None, facts: Sequence[Fact]) -> str:
    said = []
    if summary is not None:
        said.append(f"A summary stands for the first {summary.num_messages} messages.")
    if num_left_out:
        said.append(f"{num_left_out} older messages were left out.")
    if facts:
        said.append("Remembered of you: " + " ".join(f"“{fact.text}”" for fact in facts))
    return " ".join(said)
