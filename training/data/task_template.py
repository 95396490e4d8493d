r"""A task's prompts as a file, in several wordings; the same text is used to train and to serve.

Place in the data's way: a labelled record's fields -> a wording, chosen by seed and content -> prompt and
completion, a `TrainingRow`. Whoever serves the trained model calls the same `TaskTemplate.prompt`.

Example:
    >>> template = load_template("summarization")
    >>> template.prompt({"text": "It rains."})[0].content
    'Summarize the following text.\n\nIt rains.'
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2
import jinja2.meta
from jinja2.sandbox import ImmutableSandboxedEnvironment

from ...core.errors import DatasetError
from ...core.types import Message
from .rows import TrainingRow, content_hash, spans_of

TEMPLATES = Path(__file__).parent / "templates"
# What the expressions of a template can raise on values of the wrong kind.
_RENDER_ERRORS = (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError)


@dataclass(frozen=True, slots=True)
class Wording:
    """One way to ask for the task.

    Attributes:
        name: Unique in its file.
        prompt: Jinja text of the user's message.
        completion: Jinja text of the assistant's message.
        system: Jinja text of the system message; "" for none.
    """

    name: str
    prompt: str
    completion: str
    system: str = ""


@dataclass(frozen=True, slots=True)
class TaskTemplate:
    """The wordings of one task and the fields they are filled with.

    Attributes:
        task: The task's name.
        version: Counts up with every change of the words.
        fields: (variable, field names under which it is also looked for, in order) pairs.
        target: The variable to be learned. A list of texts is several right ones, the first to be learned.
        wordings: At least one; the first is used where none is named.
        references: Fields that hold further right completions.
        one_of: The variable that lists what the target may be; "" for anything.
    """

    task: str
    version: int
    fields: tuple[tuple[str, tuple[str, ...]], ...]
    target: str
    wordings: tuple[Wording, ...]
    references: tuple[str, ...] = ()
    one_of: str = ""

    @property
    def constants(self) -> frozenset[str]:
        """Variables that no field gives, so that the source has to, as a classification's `labels`."""
        texts = [text for w in self.wordings for text in (w.system, w.prompt, w.completion)]
        used = {name for text in texts for name in jinja2.meta.find_undeclared_variables(_parsed(text))}
        return frozenset(used | ({self.one_of} - {""})) - {name for name, _ in self.fields}

    def prompt(self, fields: Mapping[str, Any], wording: str = "") -> tuple[Message, ...]:
        """Return the messages that ask for the task, in training and in serving alike.

        Args:
            fields: JSON values by variable or by one of its other names.
            wording: Name of the wording; "" for the first.

        Raises:
            DatasetError: A variable is missing or is no text.
            ValueError: There is no such wording.
        """
        chosen, variables = self._wording(wording), self._variables(fields)
        system = [Message("system", self._render(chosen.system, variables))] if chosen.system else []
        return (*system, Message("user", self._render(chosen.prompt, variables)))

    def row(self, fields: Mapping[str, Any], wording: str = "", source: str = "") -> TrainingRow:
        """Return the prompt with the completion that the fields give.

        Raises:
            DatasetError: A variable is missing or is no text, or the target is not one of those allowed.
            ValueError: There is no such wording.
        """
        variables = self._variables(fields)
        target = variables.get(self.target)
        alternatives: list[str] = []
        if isinstance(target, list) and target and all(isinstance(text, str) for text in target):
            variables[self.target], *alternatives = target
        self._check_allowed(variables)
        completion = self._render(self._wording(wording).completion, variables)
        further = [fields[name] for name in self.references if isinstance(fields.get(name), str)]
        messages = (*self.prompt(variables, wording), Message("assistant", completion))
        own = {name: str(variables[name]).strip() for name, _ in self.fields if name in variables}
        answered = own.pop(self.target, "")
        return TrainingRow(
            messages,
            self.task,
            source,
            reference=(*alternatives, *further),
            spans=spans_of(messages, own.values(), [answered]),
        )

    def _check_allowed(self, variables: Mapping[str, Any]) -> None:
        if self.one_of not in variables or self.target not in variables:
            return  # where one is missing, rendering says so
        allowed, value = variables[self.one_of], variables[self.target]
        if not isinstance(allowed, list | tuple):
            raise DatasetError(f"{self.one_of} is {type(allowed).__name__}, not a list.")
        if str(value) not in map(str, allowed):
            raise DatasetError(f"{self.target} {str(value)[:80]!r} is none of {self.one_of}.")

    def choose(self, fields: Mapping[str, Any], seed: int) -> str:
        """Return the name of the wording for these fields: the same for the same seed, evenly spread."""
        return self.wordings[int(content_hash([seed, fields]), 16) % len(self.wordings)].name

    def _wording(self, name: str) -> Wording:
        found = [wording for wording in self.wordings if name in ("", wording.name)]
        if not found:
            known = ", ".join(wording.name for wording in self.wordings)
            raise ValueError(f"{self.task} has no wording {name!r}; it has: {known}")
        return found[0]

    def _variables(self, fields: Mapping[str, Any]) -> dict[str, Any]:
        variables = dict(fields)
        for variable, others in self.fields:
            name = next((name for name in (variable, *others) if name in fields), None)
            if name is not None:
                variables[variable] = fields[name]
        return variables

    def _render(self, text: str, variables: Mapping[str, Any]) -> str:
        try:
            return _compiled(text).render(variables).strip()
        except _RENDER_ERRORS as exc:
            looked_for = "; ".join(" or ".join((name, *others)) for name, others in self.fields)
            constants = ", ".join(sorted(self.constants))
            raise DatasetError(
                f"The template {self.task} can't be filled: {exc}.",
                hint=f"Its fields are: {looked_for}."
                + (f" Constants that the source has to give: {constants}." if constants else ""),
            ) from exc


def load_template(name: str | Path) -> TaskTemplate:
    """Read a template that comes with Localsmith, by the task's name, or a person's own file, by its path.

    Raises:
        DatasetError: There is no such template, or the file is not one.
    """
    path = name if isinstance(name, Path) else TEMPLATES / f"{name}.toml"
    try:
        template = _template(tomllib.loads(path.read_text(encoding="utf-8")))
        for wording in template.wordings:
            for text in (wording.system, wording.prompt, wording.completion):
                _compiled(text)
    except FileNotFoundError as exc:
        raise DatasetError(
            f"There is no template {name}.", hint=f"Localsmith brings: {', '.join(template_names())}."
        ) from exc
    except OSError as exc:
        raise DatasetError(f"{path} can't be read: {exc.strerror}.") from exc
    except (ValueError, KeyError, TypeError, AttributeError, jinja2.TemplateError) as exc:
        raise DatasetError(
            f"{path} is not a task template: {exc!r}.",
            hint="docs/reference/training-data.md describes the form.",
        ) from exc
    return template


def template_names() -> list[str]:
    """Return the tasks whose templates come with Localsmith."""
    return sorted(path.stem for path in TEMPLATES.glob("*.toml"))


def _template(raw: dict[str, Any]) -> TaskTemplate:
    wordings = tuple(Wording(**wording) for wording in raw["wordings"])
    names = {wording.name for wording in wordings}
    if not wordings or len(names) != len(wordings) or names & {"", "one", "all"}:
        raise ValueError("its wordings need names, each once, none of them 'one' or 'all'")
    return TaskTemplate(
        task=raw["task"],
        version=int(raw["version"]),
        fields=tuple((name, tuple(others)) for name, others in raw["fields"].items()),
        target=raw["target"]["field"],
        wordings=wordings,
        references=tuple(raw["target"].get("references", ())),
        one_of=raw["target"].get("one_of", ""),
    )


def _written(value: Any) -> Any:
    """Let only texts and numbers into a prompt: the Python form of anything else would be learned."""
    if isinstance(value, bool):
        return json.dumps(value)
    if isinstance(value, str | int | float | jinja2.Undefined):
        return value
    raise TypeError(f"{type(value).__name__} is neither text nor number")


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


_ENVIRONMENT = ImmutableSandboxedEnvironment(
    undefined=jinja2.StrictUndefined,
    finalize=_written,
    autoescape=False,  # noqa: S701 - prompts are not HTML
    trim_blocks=True,
    lstrip_blocks=True,
)
_ENVIRONMENT.filters["json"] = _json


@cache
def _compiled(text: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(text)


@cache
def _parsed(text: str) -> jinja2.nodes.Template:
    return _ENVIRONMENT.parse(text)
