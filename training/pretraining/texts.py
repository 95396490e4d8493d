"""The texts of a run's files, and which part of them is held out.

Place in the data's way: files that a person named -> `read_texts` -> `split_texts` by the seed -> the
vocabulary and the blocks. A .txt or .md file is one text; of a JSON Lines or CSV file each row is one.

Example:
    train, held_out = split_texts(read_texts(config.files, ("text",)), share=0.05, seed=7)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...core.errors import DatasetError
from ..data.records import BadLine, read_records, text_fault
from .config import TextFile, text_file

_WHOLE = (".txt", ".md")
_SHOWN_FIELDS = 8


def read_texts(files: Sequence[TextFile], fields: Sequence[str]) -> list[str]:
    """Return the texts of files, each once, without blank ones.

    Args:
        files: The files; their contents must be what they were when the run was planned.
        fields: Fields of a row that hold text or lists of texts; those that a row has are joined.

    Raises:
        DatasetError: A file can't be read, has changed, holds no text in these fields, or none holds text.
    """
    texts: list[str] = []
    for file in files:
        path = Path(file.path)
        if text_file(path).sha256 != file.sha256:
            raise DatasetError(
                f"{path} is not what it was when this run was planned.",
                hint="Put the old content back, or start a new run.",
            )
        texts += [_whole_text(path)] if path.suffix.lower() in _WHOLE else _row_texts(path, fields)
    kept = [text for text in dict.fromkeys(texts) if text.strip()]
    if not kept:
        raise DatasetError("The files hold no text.", hint="Give files with text to learn from.")
    return kept


def split_texts(texts: Sequence[str], share: float, seed: int) -> tuple[list[str], list[str]]:
    """Return the texts to train on and those held out.

    They are shuffled; texts from the end are held out until they have `share` of all characters. The one text
    on the border is cut at a line's end, or where it has none there, anywhere.

    Args:
        texts: All texts.
        share: Share of the characters to hold out, above 0 and below 1.
        seed: Decides the order.
    """
    order = np.random.default_rng(seed).permutation(len(texts))
    room = round(sum(len(text) for text in texts) * (1 - share))
    train: list[str] = []
    held_out: list[str] = []
    for text in (texts[int(i)] for i in order):
        cut = len(text) if len(text) <= room else (text.rfind("\n", 0, room) + 1 or room)
        train += [text[:cut]] if cut else []
        held_out += [text[cut:]] if cut < len(text) else []
        room = room - cut if cut == len(text) else 0
    return train, held_out


def _whole_text(path: Path) -> str:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as exc:
        raise DatasetError(
            f"{path} is not UTF-8: {exc.reason} at byte {exc.start + 1}.", hint="Save it as UTF-8."
        ) from exc
    except OSError as exc:
        raise DatasetError(f"{path} can't be read: {exc.strerror or exc}.", "Check who may read it.") from exc
    if fault := text_fault(text):
        raise DatasetError(f"{path} can't be learned from: {fault}.", hint="Is it a text file?")
    return text


def _row_texts(path: Path, fields: Sequence[str]) -> list[str]:
    found: list[str] = []
    seen: set[str] = set()
    num_bad = 0
    for item in read_records(path):
        if isinstance(item, BadLine):
            num_bad += 1
            continue
        seen |= item.fields.keys()
        if text := _text_of(item.fields, fields):
            found.append(text)
    if not found and (seen or num_bad):
        there = ", ".join(sorted(seen)[:_SHOWN_FIELDS]) or f"none: {num_bad} lines can't be read"
        raise DatasetError(
            f"No row of {path.name} has text in {' or '.join(fields)}; its fields are {there}.",
            hint="Name the fields that hold the text: --field NAME.",
        )
    return found


def _text_of(row: Mapping[str, Any], fields: Sequence[str]) -> str:
    parts: list[str] = []
    for name in fields:
        value = row.get(name)
        values = value if isinstance(value, list) else [value]
        parts += [part for part in values if isinstance(part, str)]
    return "\n\n".join(part for part in parts if part.strip())
