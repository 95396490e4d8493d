"""Questions and articles from JSON Lines files, each row checked.

Place in the data's way: two files -> typed rows -> `evaluation.rag`. The fields are those of SQuAD-like sets:
a question names its article and paragraph by index; an article has a title and paragraphs, or one text.

Example:
    questions = load_questions(Path("questions.jsonl"), articles=load_articles(Path("articles.jsonl")))
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..core.errors import EvaluationError
from .json_lines import bad_field, json_rows, text_field, texts_field, typed_field

PARAGRAPH_SEPARATOR = "\n\n"


@dataclass(frozen=True, slots=True)
class Article:
    """One document of the corpus.

    Attributes:
        file_name: Name under which it is added to a library; unique in the corpus.
        paragraphs: Its paragraphs, white space made single spaces.
    """

    file_name: str
    paragraphs: tuple[str, ...]

    @property
    def text(self) -> str:
        """The whole document."""
        return PARAGRAPH_SEPARATOR.join(self.paragraphs)

    def span(self, paragraph: int) -> tuple[int, int]:
        """Return (start_char, end_char) of a paragraph in `text`."""
        before = self.paragraphs[:paragraph]
        start = sum(len(text) + len(PARAGRAPH_SEPARATOR) for text in before)
        return start, start + len(self.paragraphs[paragraph])


@dataclass(frozen=True, slots=True)
class GoldQuestion:
    """A question with its answers and where they stand.

    Attributes:
        id: Identifier, unique in the file.
        article: Index of the article, from 0.
        paragraph: Index of the paragraph in the article, from 0.
        question: The question.
        answers: Accepted answers, at least one.
    """

    id: str
    article: int
    paragraph: int
    question: str
    answers: tuple[str, ...]


def load_articles(path: Path) -> list[Article]:
    """Read the corpus.

    Raises:
        EvaluationError: A row is not as it must be; line and field are named.
    """
    articles: list[Article] = []
    taken: set[str] = set()
    for line, row in json_rows(path):
        title = typed_field(path, line, row, "title", str)
        is_passage = "text" in row and "paragraphs" not in row
        paragraphs = (
            (text_field(path, line, row, "text"),)
            if is_passage
            else texts_field(path, line, row, "paragraphs")
        )
        name = _file_name(title, len(articles), taken)
        articles.append(Article(name, tuple(" ".join(text.split()) for text in paragraphs)))
    if not articles:
        raise EvaluationError(f"{path} has no rows.")
    return articles


def load_questions(path: Path, articles: Sequence[Article], limit: int | None = None) -> list[GoldQuestion]:
    """Read the questions and check that each names a paragraph of the corpus.

    Args:
        path: The file.
        articles: The corpus.
        limit: Only the first so many; None for all.

    Raises:
        EvaluationError: A row is not as it must be; line and field are named.
    """
    questions: list[GoldQuestion] = []
    ids: set[str] = set()
    for line, row in json_rows(path):
        if limit is not None and len(questions) >= limit:
            break
        question = _question(path, line, row)
        if question.id in ids:
            raise bad_field(path, line, "id", f"{question.id!r} is taken by a line above")
        if not 0 <= question.article < len(articles):
            raise bad_field(path, line, "article", f"must be from 0 to {len(articles) - 1}")
        if not 0 <= question.paragraph < len(articles[question.article].paragraphs):
            raise bad_field(path, line, "paragraph", f"article {question.article} has no such paragraph")
        ids.add(question.id)
        questions.append(question)
    if not questions:
        raise EvaluationError(f"{path} has no rows.")
    return questions


def _question(path: Path, line: int, row: dict[str, Any]) -> GoldQuestion:
    return GoldQuestion(
        typed_field(path, line, row, "id", str),
        typed_field(path, line, row, "article", int),
        typed_field(path, line, row, "paragraph", int),
        text_field(path, line, row, "question"),
        texts_field(path, line, row, "answers"),
    )


def _file_name(title: str, index: int, taken: set[str]) -> str:
    stem = "".join(char if char.isalnum() or char in "-_. " else "_" for char in title).strip(". ")[:80]
    stem = stem or "article"
    name = f"{stem}.txt" if stem.casefold() not in taken else f"{stem}_{index}.txt"
    taken.add(name.removesuffix(".txt").casefold())
    return name
