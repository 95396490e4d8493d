"""A few held-out rows with what base and trained model wrote, for people to judge by.

Place in the data's way: `Comparison` lets both write and keeps the first texts -> `samples.json` in the run's
folder -> the page shows them side by side.

Example:
    for sample in load_samples(run.path):
        sample.before, sample.after, sample.reference
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..core.types import Message
from ..core.whole_file import whole_file
from .data.rows import TrainingRow
from .writers import OnWritten, Writer

SAMPLES_FILE = "samples.json"
NUM_SAMPLES = 5


@dataclass(frozen=True, slots=True)
class Sample:
    """One held-out row, written by both models.

    Attributes:
        prompt: What both were given: the messages' texts.
        reference: What would have been right.
        before: The base's completion.
        after: The trained model's.
    """

    prompt: str
    reference: str
    before: str
    after: str


class KeptWriter:
    """Writes by another writer and keeps the texts.

    Args:
        writer: Who writes.
    """

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.texts: tuple[str, ...] = ()
        """The completions of the last call."""

    def write(self, prompts: Sequence[Sequence[Message]], on_written: OnWritten | None = None) -> list[str]:
        """Return the completions; see `Writer.write`."""
        texts = self._writer.write(prompts, on_written)
        self.texts = tuple(texts)
        return texts


def samples_of(rows: Sequence[TrainingRow], before: Sequence[str], after: Sequence[str]) -> list[Sample]:
    """Return what both models have written of the first rows."""
    return [
        Sample("\n\n".join(message.content for message in row.prompt), row.completion, old, new)
        for row, old, new in zip(rows[:NUM_SAMPLES], before, after, strict=False)
    ]


def save_samples(folder: Path, samples: Sequence[Sample]) -> None:
    """Keep the samples in a run's folder.

    Raises:
        StorageError: The disk failed.
    """
    with whole_file(folder / SAMPLES_FILE) as partial:
        content = [dataclasses.asdict(sample) for sample in samples]
        partial.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")


def load_samples(folder: Path) -> list[Sample]:
    """Return the samples of a run; none where it kept none."""
    try:
        return [Sample(**sample) for sample in json.loads((folder / SAMPLES_FILE).read_text("utf-8"))]
    except (OSError, ValueError, TypeError):
        return []
