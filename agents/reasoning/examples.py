"""Examples that show the model what to do, as versioned files; which of them go into a prompt.

Place in the data's way: a TOML file -> `ExampleSet` -> `few_shot.py`, `cot.py` and `pal.py` put its examples
in front of the question as turns of a conversation. A set that has grown beyond what a prompt should carry
becomes a training set with `to_training_jsonl`.

Example:
    >>> examples = load_examples("cot")
    >>> examples.name, examples.messages()[0].role
    ('cot', 'user')
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ...core.errors import ConfigError
from ...core.types import Message
from ...models.grammar.constraint import regex_grammar
from ..prompts import Prompt

FOLDER = Path(__file__).parents[1] / "example_sets"
# Beyond so many, every question pays for reading what training would teach once.
MAX_PROMPT_EXAMPLES = 6
# Nearness counts more than variety: with six examples at most, each has to be of use.
RELEVANCE_WEIGHT = 0.7


@dataclass(frozen=True, slots=True)
class Example:
    """A question and the answer that the model should give to it."""

    question: str
    answer: str


@dataclass(frozen=True, slots=True)
class ExampleSet:
    """Examples of one task, all with answers of one form.

    Attributes:
        name: Name of the set.
        version: Counts up with every change; kept with every evaluation.
        format: What the model is told about the form of an answer.
        examples: The examples, those that matter most first.
        template: Jinja template of a question's turn, which has `question`.
        pattern: Regular expression that every answer matches from beginning to end; few-shot completions are
            kept to it. "" for none.
    """

    name: str
    version: int
    format: str
    examples: tuple[Example, ...]
    template: str = "{{ question }}"
    pattern: str = ""

    @property
    def advice(self) -> str:
        """What people are told about a set too large for prompts; "" where it is none."""
        num = len(self.examples)
        if num <= MAX_PROMPT_EXAMPLES:
            return ""
        return (
            f"With {num} examples, fine-tuning is the better tool: every question pays for reading the "
            "examples, training reads them once. ExampleSet.to_training_jsonl makes a training set of them."
        )

    def render(self, question: str) -> str:
        """Return the turn that asks a question.

        Raises:
            ConfigError: The template uses something other than `question`.
        """
        return Prompt(self.name, self.version, self.template).render(question=question)

    def messages(self) -> tuple[Message, ...]:
        """Return the examples as turns of user and assistant."""
        return tuple(
            message
            for example in self.examples
            for message in (
                Message("user", self.render(example.question)),
                Message("assistant", example.answer),
            )
        )

    def grammar(self) -> str:
        """Return the grammar of `pattern`, "" where there is none."""
        return regex_grammar(self.pattern) if self.pattern else ""

    def take(self, indices: Iterable[int]) -> ExampleSet:
        """Return the set with only these examples, in this order."""
        return replace(self, examples=tuple(self.examples[index] for index in indices))

    def to_training_jsonl(self, path: Path, system: str = "") -> int:
        """Write the examples as a training set: a JSON object with "messages" a line.

        Args:
            path: The file, replaced where it exists.
            system: System text in front of each; "" for none.

        Returns:
            How many lines were written.
        """
        opening = [{"role": "system", "content": system}] if system else []
        lines = []
        for example in self.examples:
            asked = {"role": "user", "content": self.render(example.question)}
            said = {"role": "assistant", "content": example.answer}
            lines.append(json.dumps({"messages": [*opening, asked, said]}, ensure_ascii=False))
        path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
        return len(lines)


def load_examples(source: str | Path) -> ExampleSet:
    """Read an example set.

    Args:
        source: Name of a set that comes with Localsmith, or the path of a TOML file with `name`, `version`,
            `format`, optionally `template` and `pattern`, and `[[examples]]` of `question` and `answer`.

    Raises:
        ConfigError: There is no such set, or the file is not one; what is wrong with it is said.
    """
    path = FOLDER / f"{source}.toml" if isinstance(source, str) else source
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        known = ", ".join(sorted(file.stem for file in FOLDER.glob("*.toml")))
        raise ConfigError(
            f"There is no example set {str(source)!r}.", hint=f"Those that come along are: {known}."
        ) from exc
    except ValueError as exc:
        raise ConfigError(f"{path.name} is no TOML file: {exc}.") from exc
    try:
        return _checked(_example_set(fields))
    except (TypeError, ValueError, KeyError) as exc:
        raise ConfigError(
            f"{path.name} is no example set: {exc}.",
            hint="It needs name, version, format and [[examples]] with question and answer.",
        ) from exc


def most_relevant(
    query: npt.NDArray[np.float32],
    vectors: npt.NDArray[np.float32],
    num: int,
    relevance_weight: float = RELEVANCE_WEIGHT,
) -> list[int]:
    """Choose examples that are near the question and unlike each other: maximal marginal relevance.

    The next one is that with the largest `w * sim(example, question) - (1 - w) * max sim(example, chosen)`.

    Args:
        query: The question's vector, (d_embed,) float32, L2-normalised.
        vectors: The examples' vectors, (n_examples, d_embed) float32, each row L2-normalised.
        num: Examples wanted.
        relevance_weight: The w: 0 for diversity alone, 1 for similarity alone.

    Returns:
        Indices of at most `num` examples, in the order in which they were chosen.

    Source: Carbonell & Goldstein 1998, "The Use of MMR, Diversity-Based Reranking for Reordering Documents
    and Producing Summaries", section 2.
    """
    near = vectors @ query  # (n_examples,)
    repeated = np.zeros_like(near)
    chosen: list[int] = []
    while len(chosen) < min(num, len(near)):
        marginal = relevance_weight * near - (1 - relevance_weight) * repeated
        marginal[chosen] = -np.inf
        newest = int(marginal.argmax())
        alike = vectors @ vectors[newest]
        repeated = np.maximum(repeated, alike) if chosen else alike
        chosen.append(newest)
    return chosen


def _example_set(fields: dict[str, object]) -> ExampleSet:
    known = {"name", "version", "format", "examples", "template", "pattern"}
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"{unknown[0]!r} is not known")
    listed = fields["examples"]
    if not isinstance(listed, list):
        raise TypeError("examples is no list of tables")
    examples = []
    for number, entry in enumerate(listed, start=1):
        if not isinstance(entry, dict) or set(entry) != {"question", "answer"}:
            raise ValueError(f"example {number} has not just a question and an answer")
        examples.append(Example(_text(entry, "question").strip(), _text(entry, "answer").strip()))
    version = fields["version"]
    if not isinstance(version, int):
        raise TypeError("version is no whole number")
    return ExampleSet(
        name=_text(fields, "name"),
        version=version,
        format=_text(fields, "format").strip(),
        examples=tuple(examples),
        template=_text(fields, "template") if "template" in fields else "{{ question }}",
        pattern=_text(fields, "pattern") if "pattern" in fields else "",
    )


def _text(fields: dict[str, object], name: str) -> str:
    value = fields[name]
    if not isinstance(value, str) or (not value.strip() and name != "pattern"):
        raise TypeError(f"{name} is no text")
    return value


def _checked(examples: ExampleSet) -> ExampleSet:
    """Return the set; an answer that the set's own pattern forbids would teach the wrong form."""
    examples.grammar()
    if examples.pattern:
        for number, answer in enumerate((example.answer for example in examples.examples), start=1):
            if not re.fullmatch(examples.pattern, answer):
                raise ValueError(f"answer {number} does not match {examples.pattern!r}")
    examples.messages()
    return examples
