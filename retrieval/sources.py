r"""What a person hands in: a path or a name with content, made into a job with a harmless name.

Place in the data's way: `Library.ingest` turns every source into a `Job`; `ingest.py` takes it from there. A
person's file name is shown and offered for download, never used as a path by the library.

Example:
    >>> display_name("../../etc/passwd")
    'passwd'
    >>> display_name("C:\\Users\\me\\plan.pdf")
    'plan.pdf'
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import BinaryIO, TypeAlias

from ..core.errors import LoadError

Source: TypeAlias = str | Path | tuple[str, bytes | BinaryIO]
"""A file's path, or its name and its content."""

MAX_NAME_CHARS = 120


@dataclass(frozen=True, slots=True)
class Job:
    """One file to be added or read again.

    Attributes:
        name: For people, already made harmless.
        open: Opens its content.
        size_bytes: Its size; None where it is not known yet.
        document_id: The document to be read again; "" for a new one.
    """

    name: str
    open: Callable[[], AbstractContextManager[BinaryIO]]
    size_bytes: int | None
    document_id: str = ""


def job_of(source: Source) -> Job:
    """Return the job for a source; nothing is read before the job is opened."""
    if isinstance(source, (str, Path)):
        return path_job(Path(source), Path(source).name)
    name, content = source
    if isinstance(content, bytes):
        return Job(display_name(name), partial(BytesIO, content), len(content))
    return Job(display_name(name), lambda: nullcontext(content), None)


def path_job(path: Path, name: str) -> Job:
    """Return the job for a file that is to be shown under this name."""
    try:
        size_bytes = os.stat(path).st_size
    except (OSError, ValueError):  # opening it will say why
        size_bytes = None
    return Job(display_name(name), partial(open_file, path), size_bytes)


def open_file(path: Path) -> AbstractContextManager[BinaryIO]:
    """Open a regular file for reading.

    Raises:
        LoadError: It is missing, a folder, a device, or may not be read.
    """
    try:
        if path.is_dir():
            raise LoadError(f"{path.name} is a folder.", "unreadable", hint="Add the files in it.")
        if path.exists() and not path.is_file():  # reading a pipe or a device may never end
            raise LoadError(f"{path.name} is not a regular file.", "unreadable")
        return path.open("rb")
    except FileNotFoundError as exc:
        raise LoadError(f"There is no file {path}.", "unreadable", hint="Check the path.") from exc
    except (OSError, ValueError) as exc:
        raise LoadError(
            f"{path.name} can't be opened: {exc}.", "unreadable", hint="Check its permissions."
        ) from exc


_UNSHOWABLE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}


def display_name(raw: str) -> str:
    """Return a file name that is harmless to show and to offer as a download name.

    Directories of Unix and Windows, control characters, invisible and direction-changing ones go; a long name
    keeps its ending. It is never used as a path by the library.
    """
    last = re.split(r"[/\\]", raw.rstrip("/\\"))[-1]
    shown = "".join(
        " " if char.isspace() else char
        for char in last
        if char.isspace() or unicodedata.category(char) not in _UNSHOWABLE
    )
    shown = " ".join(unicodedata.normalize("NFC", shown).split())
    if shown.strip(". ") == "":
        return "document"
    if len(shown) > MAX_NAME_CHARS:
        stem, dot, ending = shown.rpartition(".")
        ending = dot + ending if stem and len(ending) <= 10 else ""
        shown = shown[: MAX_NAME_CHARS - len(ending) - 1] + "…" + ending
    return shown
