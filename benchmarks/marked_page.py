"""The part of a docs page that is made of results, between two marks; the rest is written by hand.

Place in the data's way: a benchmark's results as a table in Markdown -> here -> its page in docs/benchmarks.

Example:
    MarkedPage(Path("docs/benchmarks/peft.md"), "methods", "python -m benchmarks.peft --page").write(table)
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class MarkedPage:
    """A page and its marks.

    Attributes:
        path: The page.
        name: What is between the marks, one word.
        command: What makes it.
    """

    path: Path
    name: str
    command: str

    @property
    def begin(self) -> str:
        """The mark before it."""
        return f"<!-- {self.name}: begin, made by `{self.command}` -->"

    @property
    def end(self) -> str:
        """The mark behind it."""
        return f"<!-- {self.name}: end -->"

    def around(self) -> tuple[str, str]:
        """Return what stands before and behind the marks.

        Raises:
            ValueError: The page has no marks.
        """
        text = self.path.read_text(encoding="utf-8")
        if self.begin not in text or self.end not in text:
            raise ValueError(f"{self.path} has no marks for the {self.name}.")
        return text.partition(self.begin)[0], text.partition(self.end)[2]

    def write(self, text: str) -> None:
        """Put a text between the marks.

        Raises:
            ValueError: The page has no marks.
        """
        before, after = self.around()
        self.path.write_text(f"{before}{self.begin}\n\n{text}\n{self.end}{after}", encoding="utf-8")
