"""The one sentence by which the model says that the documents don't answer the question.

Place in the data's way: named in the system prompt, recognised in the completion, given by the strategy
itself where search finds nothing. `AnswerStream` decides what of a completion may be shown while it comes.

Example:
    >>> stream = AnswerStream(num_passages=2)
    >>> [stream.feed("Paris "), stream.feed("[1"), stream.feed("][7]."), stream.close()]
    ['Paris', '', ' [1].', '']
"""

from __future__ import annotations

from ...retrieval.markers import Correct, MarkerStream, strip_markers

ABSTENTION = "The documents don't answer this."


class AnswerStream:
    """A completion as the person sees it: no numbers without a passage, no half of the abstention sentence.

    Attributes:
        text: What was shown so far.
        is_abstention: Whether the model abstained; what it wrote after that sentence is not shown.
    """

    def __init__(self, num_passages: int, correct: Correct | None = None) -> None:
        """Start an empty stream.

        Args:
            num_passages: Passages that the model read.
            correct: Says which number to show behind a claim; None to leave them.
        """
        self._markers = MarkerStream(num_passages, correct)
        self._raw = ""
        self._held = ""
        self.text = ""
        self.is_abstention = False

    @property
    def has_begun(self) -> bool:
        """Whether the model wrote anything."""
        return bool(self._raw)

    @property
    def removed(self) -> tuple[int, ...]:
        """Numbers that named no passage and were taken out."""
        return self._markers.removed

    @property
    def corrected(self) -> tuple[bool, ...]:
        """For every number shown, in order, whether it stands in place of what the model wrote."""
        return self._markers.corrected

    def feed(self, text: str) -> str:
        """Take what the model wrote and return what can be shown now."""
        self._raw += text
        self._held += text
        self.is_abstention = self.is_abstention or is_abstention(self._raw)
        if self.is_abstention or may_become_abstention(self._raw):
            return ""
        held, self._held = self._held, ""
        return self._show(self._markers.feed(held))

    def close(self) -> str:
        """Return the rest: the abstention sentence, or what was held back."""
        if self.is_abstention:
            return self._show(ABSTENTION)
        return self._show(self._markers.feed(self._held) + self._markers.close())

    def _show(self, text: str) -> str:
        self.text += text
        return text


def is_abstention(text: str) -> bool:
    """Tell whether a completion begins with the sentence, up to case, apostrophe and final mark."""
    return _plain(text).startswith(_plain(ABSTENTION))


def may_become_abstention(text: str) -> bool:
    """Tell whether a completion could still go on to be the abstention sentence."""
    return _plain(ABSTENTION).startswith(_plain(text))


def _plain(text: str) -> str:
    return strip_markers(text).replace("’", "'").strip(" \t\n\"'*.").casefold()
