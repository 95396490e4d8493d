"""The answer of a ReAct run while it is written, and its citations checked when it is there.

Place in the data's way: the model's turn, from "Answer: " on -> what the person sees, piece by piece -> the
`Answer`'s text and citations. Where tools found passages this is what `rag.py` does with its answers; where
they found none, a `[1]` is part of the answer and stays.

Example:
    >>> answer = AnswerText((), "What is 6*7?")
    >>> answer.feed("42 "), answer.close()
    ('42', '')
"""

from __future__ import annotations

from collections.abc import Sequence

from ...core.types import Passage
from ...retrieval.citations import Checked, check
from ...retrieval.corrections import Corrections
from ..answering.abstention import AnswerStream


class AnswerText:
    """An answer in the making.

    Attributes:
        text: What was shown so far.
    """

    def __init__(self, passages: Sequence[Passage], question: str) -> None:
        """Start with nothing.

        Args:
            passages: What the answer can cite, number n being `passages[n - 1]`.
            question: Its words choose between sentences that support a claim equally well.
        """
        self._passages = passages
        self._question = question
        self._stream = AnswerStream(len(passages), Corrections(passages, question)) if passages else None
        self._fed = ""
        self._held = ""
        self.text = ""

    @property
    def is_abstention(self) -> bool:
        """Whether it says that the documents don't answer the question."""
        return self._stream is not None and self._stream.is_abstention

    def feed(self, written: str) -> str:
        """Take all that the model wrote of the answer so far; return what can be shown now."""
        new, self._fed = written[len(self._fed) :], written
        if self._stream is not None:
            shown = self._stream.feed(new)
        else:
            whole = self._held + (new if self.text or self._held else new.lstrip())
            shown = whole.rstrip()
            self._held = whole[len(shown) :]
        self.text += shown
        return shown

    def close(self) -> str:
        """Return what was held back; white space at the end is dropped."""
        shown = self._stream.close() if self._stream is not None else ""
        self.text += shown
        return shown

    def checked(self) -> Checked:
        """Return the answer with its citations; only where passages were found can it have some."""
        if self._stream is None or self._stream.is_abstention:
            return Checked(self.text, ())
        return check(self.text, self._passages, self._question, self._stream.corrected)
