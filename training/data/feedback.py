"""Turns what people said about answers in the chat into rows.

Place in the data's way: thumbs and corrections in the conversation store -> rows whose completion a person
approved of or wrote -> the same filters and splits as any other data.

Example:
    rows, left_out = feedback_rows(ConversationStore(settings.conversations_file).feedback.all())
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from ...core.feedback import Feedback
from ...core.types import Message
from .records import text_fault
from .rows import TrainingRow

TASK = "chat"
# Citations point to passages that the row's prompt does not hold; to learn them would be to learn to invent.
_MARKERS = re.compile(r" ?\[\d{1,3}\]")
DISLIKED = "thumbs down without a correction: what would have been right is not known"


def feedback_rows(feedback: Iterable[Feedback], task: str = TASK) -> tuple[list[TrainingRow], Counter[str]]:
    """Return (rows in the order given, how many were left out by reason).

    A correction is learned whatever the thumb says; an answer where it got a thumbs up and was not corrected.
    `[n]` markers are taken out of answers that were made from passages.

    Args:
        feedback: As `FeedbackStore.all` returns it.
        task: The rows' task.
    """
    rows: list[TrainingRow] = []
    left_out: Counter[str] = Counter()
    for item in feedback:
        right = item.correction or (item.answer.text if item.rating > 0 else "")
        messages = (*item.history, Message("user", item.question), Message("assistant", right))
        if item.answer.passages:
            messages = tuple(_without_markers(message) for message in messages)
        fault = next((fault for message in messages if (fault := text_fault(message.content))), "")
        if not item.correction and item.rating <= 0:
            left_out[DISLIKED] += 1
        elif not messages[-1].content.strip() or not item.question.strip():
            left_out["question or answer is empty"] += 1
        elif fault:
            left_out[fault] += 1
        else:
            rows.append(TrainingRow(messages, task, source=f"feedback {item.answer_id}"))
    return rows, left_out


def _without_markers(message: Message) -> Message:
    if message.role != "assistant":
        return message
    return Message("assistant", _MARKERS.sub("", message.content))
