"""Prompts as files: each with a name and a version, rendered strictly.

Place in the data's way: a strategy loads its prompts once and renders them with what a run has; a variable
that is missing raises instead of leaving a hole in front of the model.

Example:
    >>> load_prompt("rag_user").render(passages=[], question="Who won?").splitlines()[-1]
    'Question: Who won?'
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import jinja2

from ..core.errors import ConfigError

_FOLDER = Path(__file__).parent / "prompts"
_FENCE = "---\n"
_ENVIRONMENT = jinja2.Environment(
    undefined=jinja2.StrictUndefined, autoescape=False, trim_blocks=True, lstrip_blocks=True
)


@dataclass(frozen=True, slots=True)
class Prompt:
    """A prompt file.

    Attributes:
        name: File name without its ending.
        version: Counts up with every change of the words; kept with every evaluation.
        text: The template.
    """

    name: str
    version: int
    text: str

    def render(self, **variables: Any) -> str:
        """Fill in the variables.

        Raises:
            ConfigError: The template uses a variable that is not given.
        """
        try:
            return _compiled(self.text).render(**variables).strip()
        except jinja2.UndefinedError as exc:
            raise ConfigError(f"Prompt {self.name} v{self.version}: {exc}.") from exc


@cache
def load_prompt(name: str) -> Prompt:
    """Read the prompt `agents/prompts/<name>.md`.

    Args:
        name: File name without its ending.

    Raises:
        ConfigError: There is no such file, or its header does not give name and version.
    """
    path = _FOLDER / f"{name}.md"
    try:
        _, header, text = path.read_text(encoding="utf-8").split(_FENCE, maxsplit=2)
        fields = dict(line.split(": ", maxsplit=1) for line in header.strip().splitlines())
        prompt = Prompt(fields["name"], int(fields["version"]), text.strip())
    except FileNotFoundError as exc:
        known = ", ".join(sorted(file.stem for file in _FOLDER.glob("*.md")))
        raise ConfigError(f"There is no prompt {name!r}.", hint=f"The prompts are: {known}.") from exc
    except (ValueError, KeyError) as exc:
        raise ConfigError(
            f"The header of prompt {name!r} is not complete.",
            hint="A prompt file starts with name and version between two lines of three dashes.",
        ) from exc
    if prompt.name != name:
        raise ConfigError(f"The prompt file {name!r} names itself {prompt.name!r}.")
    return prompt


@cache
def _compiled(text: str) -> jinja2.Template:
    return _ENVIRONMENT.from_string(text)
