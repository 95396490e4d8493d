"""A person's recipe as a file: which sources, how they are filtered, how their tasks are mixed.

Place in the data's way: `--recipe FILE` and `--data FILE:TEMPLATE` -> named sources and a raw recipe, over
which the command's options go -> `Recipe` and `Source`s -> `prepare`.

Example:
    >>> parse_source("tickets.jsonl:classification")
    NamedSource(file='tickets.jsonl', template='classification', task='', wording='', fields={}, constants={})
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from ...core.errors import DatasetError
from .recipe import faults_of
from .sources import FileSource
from .task_template import load_template

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FEEDBACK = "feedback"
"""What is named instead of a file for what people said in the chat."""


@dataclass(frozen=True, slots=True)
class NamedSource:
    """A source as a person names it; see `sources.FileSource` for what the settings do.

    Attributes:
        file: The file, or "feedback".
        template: Name of a template that comes with Localsmith, or path of a person's own; "" to tell by the
            fields.
        task: The rows' task; "" for what the form or the template says.
        wording: "one", "all" or a wording's name; "" for the command's.
        fields: The file's field by the name that a form or template looks for.
        constants: Variables that are the same for every row.
    """

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}

    file: str
    template: str = ""
    task: str = ""
    wording: str = ""
    fields: Mapping[str, str] = field(default_factory=dict)
    constants: Mapping[str, Any] = field(default_factory=dict)

    def opened(self, template: str = "", wording: str = "one") -> FileSource:
        """Return the file as a source.

        Args:
            template: Template of a source that names none.
            wording: Wording of a source that names none.

        Raises:
            DatasetError: There is no such template.
        """
        name = self.template or template
        path = Path(name)
        loaded = load_template(path if path.suffix == ".toml" else name) if name else None
        return FileSource(
            Path(self.file), self.task, loaded, self.wording or wording, self.fields, self.constants
        )


@dataclass(frozen=True, slots=True)
class RecipeFile:
    """What a recipe file says.

    Attributes:
        sources: Its sources, with paths made from the file's folder.
        recipe: All the rest, for `recipe_from_json`.
    """

    sources: tuple[NamedSource, ...]
    recipe: Mapping[str, Any]


def read_recipe_file(path: Path) -> RecipeFile:
    """Read a TOML file of sources and settings.

    Raises:
        DatasetError: It can't be read, is no TOML, or a source is not described as one.
    """
    try:
        raw = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise DatasetError(f"{path} can't be read: {exc.strerror or exc}.", "Check the path.") from exc
    except ValueError as exc:  # no UTF-8 or no TOML
        raise DatasetError(f"{path} is not valid TOML: {exc}.") from exc
    try:
        sources = _adapter().validate_python(raw.pop("sources", []))
    except ValueError as exc:
        raise DatasetError(
            f"{path}: the sources are not valid: {faults_of(exc, NamedSource)}.",
            hint="docs/reference/training-data.md describes the form.",
        ) from exc
    return RecipeFile(tuple(_from_folder(source, path.parent) for source in sources), raw)


def parse_source(words: str) -> NamedSource:
    """Return the source that `FILE`, `FILE:TEMPLATE` or `feedback` names."""
    file, colon, template = words.rpartition(":")
    if not colon or not file or Path(words).exists():
        return NamedSource(words)
    return NamedSource(file, template)


def _from_folder(source: NamedSource, folder: Path) -> NamedSource:
    if source.file == FEEDBACK:
        return source
    template = source.template
    if template.endswith(".toml"):
        template = str(folder / template)
    return dataclasses.replace(source, file=str(folder / source.file), template=template)


@cache
def _adapter() -> TypeAdapter[list[NamedSource]]:
    from pydantic import TypeAdapter

    return TypeAdapter(list[NamedSource])
