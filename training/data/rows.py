"""One thing for a model to learn: a prompt and its completion, as messages.

Place in the data's way: importers and templates make rows -> filter, mix and split choose among them -> a
version keeps them -> a trainer renders them with the model's own chat template.

Example:
    >>> row = TrainingRow((Message("user", "2 + 2?"), Message("assistant", "4")), task="arithmetic")
    >>> row.completion, len(row.id)
    ('4', 16)
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast, get_args

from ...core.errors import DatasetError
from ...core.types import Message, Role

ROLES: frozenset[str] = frozenset(get_args(Role))
HASH_CHARS = 16


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """A conversation whose last message is to be learned.

    Attributes:
        messages: The turns; the last is the assistant's, the completion; those before are the prompt.
        task: What kind of work it is, for mixing and per-task figures, as "summarization"; "" for none.
        source: Where it came from, for people: file and line, or the id of a feedback.
        reference: Further right completions, for evaluation only.
        group: Rows of one group are forms of one record, as the same example in several wordings: they are
            never on two sides of a split, nor duplicates of each other. "" where the row stands alone.
        spans: (message, start, end) of what is the row's own where a template wrote the rest; duplicates
            are told by it alone. Empty where all is its own.
    """

    messages: tuple[Message, ...]
    task: str = ""
    source: str = ""
    reference: tuple[str, ...] = ()
    group: str = ""
    spans: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        """Refuse a row that no trainer could use.

        Raises:
            ValueError: There is no prompt, or the last message is not the assistant's.
        """
        if len(self.messages) < 2 or self.messages[-1].role != "assistant":
            raise ValueError(
                "messages must be a prompt followed by the assistant's completion, not the roles "
                f"{[message.role for message in self.messages]}"
            )

    @property
    def id(self) -> str:
        """The row's identity: the hash of its task and messages."""
        return content_hash({"task": self.task, "messages": [[m.role, m.content] for m in self.messages]})

    @property
    def prompt(self) -> tuple[Message, ...]:
        """What the model is given."""
        return self.messages[:-1]

    @property
    def completion(self) -> str:
        """What the model is to answer."""
        return self.messages[-1].content

    @property
    def text(self) -> str:
        """Everything that is said in it, a message a paragraph."""
        return "\n\n".join(message.content for message in self.messages)

    @property
    def own_prompt(self) -> str:
        """What is this row's own of the prompt, without a template's or a system message's words."""
        return self._own(range(len(self.messages) - 1))

    @property
    def own_completion(self) -> str:
        """What is this row's own of the completion, without a template's words."""
        return self._own(range(len(self.messages) - 1, len(self.messages)))

    def _own(self, places: range) -> str:
        found = [self.messages[i].content[start:end] for i, start, end in self.spans if i in places]
        whole = [self.messages[i].content for i in places if self.messages[i].role != "system"]
        return "\n\n".join(found or whole)


def spans_of(
    messages: Sequence[Message], asked: Iterable[str], answered: Iterable[str]
) -> tuple[tuple[int, int, int], ...]:
    """Return where values stand, each at its first place in a message; see `TrainingRow.spans`.

    Args:
        messages: A row's.
        asked: Values to look for in the prompt.
        answered: Values to look for in the completion.
    """
    last = len(messages) - 1
    wanted = [(i, value) for value in asked for i in range(last)] + [(last, value) for value in answered]
    found = ((i, messages[i].content.find(value), len(value)) for i, value in wanted if value)
    return tuple(sorted({(i, start, start + length) for i, start, length in found if start >= 0}))


def canonical_json(value: Any) -> bytes:
    """Return the one UTF-8 form of a JSON value that hashes are taken of: sorted keys, no spaces.

    Raises:
        DatasetError: The value is not JSON, or a text holds half a surrogate pair.
    """
    try:
        text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        return text.encode("utf-8")
    except (TypeError, ValueError) as exc:
        raise DatasetError(f"A value can't be kept as JSON: {exc}.") from exc


def content_hash(value: Any) -> str:
    """Return the first 16 hex characters of the SHA-256 of a JSON value's canonical form."""
    return hashlib.sha256(canonical_json(value)).hexdigest()[:HASH_CHARS]


def row_to_json(row: TrainingRow) -> dict[str, Any]:
    """Return what `row_from_json` makes the row from again."""
    return {
        "messages": [{"role": message.role, "content": message.content} for message in row.messages],
        "task": row.task,
        "source": row.source,
        "reference": list(row.reference),
        "group": row.group,
        "spans": [list(span) for span in row.spans],
    }


def row_from_json(raw: Any) -> TrainingRow:
    """Return the row that a JSON value describes; all but the messages may be missing.

    Raises:
        ValueError: It does not describe a row; the message says why.
    """
    if not isinstance(raw, Mapping):
        raise ValueError(f"a row is an object, not {type(raw).__name__}")
    reference = raw.get("reference", [])
    if not isinstance(reference, list) or not all(isinstance(text, str) for text in reference):
        raise ValueError("reference is a list of texts")
    messages = messages_from_json(raw.get("messages"))
    return TrainingRow(
        messages=messages,
        task=_text(raw, "task"),
        source=_text(raw, "source"),
        reference=tuple(reference),
        group=_text(raw, "group"),
        spans=_spans(raw.get("spans", []), messages),
    )


def messages_from_json(raw: Any) -> tuple[Message, ...]:
    """Return the messages of an OpenAI-style list of objects with role and content.

    Raises:
        ValueError: It is not such a list; the message says why.
    """
    if not isinstance(raw, list):
        raise ValueError(f"messages is a list, not {type(raw).__name__}")
    messages = []
    for number, item in enumerate(raw, 1):
        if not isinstance(item, Mapping):
            raise ValueError(f"message {number} is an object, not {type(item).__name__}")
        role, content = item.get("role"), item.get("content")
        if not isinstance(role, str) or role not in ROLES:
            raise ValueError(
                f"message {number} has the role {_shown(role)}, which is none of {sorted(ROLES)}"
            )
        messages.append(Message(cast(Role, role), _content(content, number)))
    return tuple(messages)


def _content(raw: Any, number: int) -> str:
    """Return a message's text; OpenAI's form also has a list of parts, of which only texts can be learned."""
    if isinstance(raw, str):
        return raw
    if isinstance(raw, list):
        texts = [part.get("text") for part in raw if isinstance(part, Mapping) and part.get("type") == "text"]
        if raw and len(texts) == len(raw) and all(isinstance(text, str) for text in texts):
            return "".join(cast(list[str], texts))
    raise ValueError(f"message {number} has a content that is not text")


def _spans(raw: Any, messages: Sequence[Message]) -> tuple[tuple[int, int, int], ...]:
    if not isinstance(raw, list):
        raise ValueError("spans is a list")
    for span in raw:
        if not (isinstance(span, list) and len(span) == 3 and all(type(number) is int for number in span)):
            raise ValueError("a span is three whole numbers")
        i, start, end = span
        if not (0 <= i < len(messages) and 0 <= start < end <= len(messages[i].content)):
            raise ValueError(f"the span {span} is not inside a message")
    return tuple((i, start, end) for i, start, end in raw)


def _shown(value: Any) -> str:
    return repr(value) if len(repr(value)) <= 40 else f"{repr(value)[:40]}…"


def _text(raw: Mapping[str, Any], name: str) -> str:
    value = raw.get(name, "")
    if not isinstance(value, str):
        raise ValueError(f"{name} is a text, not {type(value).__name__}")
    return value
