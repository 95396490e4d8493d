"""Tells by its fields what a record asks and what the right answer is.

Place in the data's way: a `Record` -> the first form that fits, or the template that the source names ->
`TrainingRow`s. What fits no form is a bad line; nothing is guessed from the file's name.

Example:
    >>> record = Record({"question": "2 + 2?", "answer": 4}, "sums.jsonl:1", 0)
    >>> rows_of(record, Shape())[0].completion
    '4'
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.types import Message
from .records import Record
from .rows import TrainingRow, content_hash, messages_from_json
from .task_template import TaskTemplate, load_template

# The fields that call for a template that comes with Localsmith; the first whose fields are all there.
_TEMPLATED: tuple[tuple[frozenset[str], str], ...] = (
    (frozenset({"question", "answer", "context"}), "question_answering"),
    (frozenset({"question", "answers", "context"}), "question_answering"),
    (frozenset({"dialogue", "summary"}), "summarization"),
    (frozenset({"document", "summary"}), "summarization"),
    (frozenset({"article", "summary"}), "summarization"),
    (frozenset({"text", "summary"}), "summarization"),
    (frozenset({"dialogue", "summary1"}), "summarization"),
    (frozenset({"text", "label"}), "classification"),
    (frozenset({"text", "entities"}), "named_entity_recognition"),
    (frozenset({"text", "translation"}), "translation"),
)
# Fields that are a prompt and its completion as they stand; a list of texts is several right completions.
_PAIRS = (
    ("prompt", "completion", ""),
    ("prompt", "response", ""),
    ("question", "answer", "question_answering"),
    ("question", "answers", "question_answering"),
)
KNOWN_FORMS = (
    "messages; prompt and completion; instruction, input and output; question and answer; "
    "dialogue and summary; text and label; text and entities; text and translation"
)


@dataclass(frozen=True, slots=True)
class Shape:
    """How a source's records are turned into rows.

    Attributes:
        task: The rows' task; "" for what the form or the template says.
        template: The template; None to tell by the fields.
        wording: "one" for a wording a record, chosen by seed and content; "all" for a row in each; or a name.
        fields: The record's field by the name that a form or template looks for.
        constants: Variables that are the same for every record, as `labels`.
        seed: Seed of the choice of wordings.
    """

    task: str = ""
    template: TaskTemplate | None = None
    wording: str = "one"
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)
    seed: int = 7


def rows_of(record: Record, shape: Shape) -> list[TrainingRow]:
    """Return what is to be learned from a record.

    Raises:
        ValueError: It fits no form, or a field is missing, empty or of the wrong type.
        DatasetError: The template can't be filled with it.
    """
    fields = dict(record.fields)
    for name, column in shape.fields.items():
        if column not in record.fields:
            raise ValueError(f"it has no field {column!r}")
        fields[name] = record.fields[column]
    template = shape.template or template_for(fields)
    rows = _templated(template, fields, shape) if template else _plain(fields)
    group = content_hash(fields) if len(rows) > 1 else ""
    return [_checked(row, record.source, shape.task or row.task, group) for row in rows]


def template_for(fields: Mapping[str, Any]) -> TaskTemplate | None:
    """Return the template that these fields call for; None where they are prompt and completion already."""
    if "messages" in fields or "instruction" in fields or "prompt" in fields:
        return None
    name = next((name for needed, name in _TEMPLATED if needed <= fields.keys()), None)
    return load_template(name) if name else None


def _templated(template: TaskTemplate, fields: Mapping[str, Any], shape: Shape) -> list[TrainingRow]:
    names = [shape.wording]
    if shape.wording == "one":
        names = [template.choose(fields, shape.seed)]
    elif shape.wording == "all":
        names = [wording.name for wording in template.wordings]
    variables = {**shape.constants, **fields}
    return [template.row(variables, name) for name in names]


def _plain(fields: Mapping[str, Any]) -> list[TrainingRow]:
    """Return the rows of the forms that need no template."""
    if "messages" in fields:
        return [_conversation(fields["messages"])]
    if "instruction" in fields:
        return _instruction(fields)
    for prompt, completion, task in _PAIRS:
        if prompt in fields and completion in fields:
            answers = fields[completion]
            if isinstance(answers, list) and answers and all(isinstance(text, str) for text in answers):
                row = _row(_text(fields, prompt), answers[0], task)
                return [dataclasses.replace(row, reference=tuple(answers[1:]))]
            return [_row(_text(fields, prompt), _text(fields, completion), task)]
    raise ValueError(f"its fields {sorted(fields)[:12]} are of no known form; known are: {KNOWN_FORMS}")


def _conversation(raw: Any) -> TrainingRow:
    """Return the conversation up to its last answer; what a person wrote after it can't be learned."""
    messages = messages_from_json(raw)
    answered = [place for place, message in enumerate(messages, 1) if message.role == "assistant"]
    if not answered:
        raise ValueError("no message is the assistant's")
    return TrainingRow(messages[: answered[-1]], task="chat")


def _instruction(fields: Mapping[str, Any]) -> list[TrainingRow]:
    """Return a row for each input of an instruction; `instances` is how self-instruct has them."""
    instruction = _text(fields, "instruction")
    instances = fields.get("instances", [fields])
    if not isinstance(instances, list) or not instances:
        raise ValueError("instances is a list of objects, at least one")
    rows = []
    for instance in instances:
        if not isinstance(instance, Mapping):
            raise ValueError("an instance is an object with input and output")
        given = _text(instance, "input") if "input" in instance else ""
        prompt = f"{instruction}\n\n{given}" if given.strip() else instruction
        rows.append(_row(prompt, _text(instance, "output"), "instruction"))
    return rows


def _row(prompt: str, completion: str, task: str) -> TrainingRow:
    return TrainingRow((Message("user", prompt), Message("assistant", completion)), task)


def _text(fields: Mapping[str, Any], name: str) -> str:
    value = fields.get(name)
    if isinstance(value, str):
        return value
    if isinstance(value, int | float):
        return json.dumps(value, allow_nan=False)
    raise ValueError(f"{name} is missing" if value is None else f"{name} is {type(value).__name__}, not text")


def _checked(row: TrainingRow, source: str, task: str, group: str) -> TrainingRow:
    if not row.completion.strip():
        raise ValueError("the completion is empty")
    if not any(message.content.strip() for message in row.prompt):
        raise ValueError("the prompt is empty")
    return dataclasses.replace(row, source=source, task=task, group=group)
