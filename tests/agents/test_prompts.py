from __future__ import annotations

from pathlib import Path

import pytest
from localsmith.agents import prompts
from localsmith.agents.answering.abstention import ABSTENTION
from localsmith.agents.prompts import load_prompt
from localsmith.core.errors import ConfigError
from localsmith.core.types import Chunk, Passage

FOLDER = Path(prompts.__file__).parent / "prompts"


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.md")))
def test_every_prompt_file_has_a_name_and_a_version(name: str) -> None:
    assert load_prompt(name).version >= 1


def test_a_missing_variable_raises() -> None:
    with pytest.raises(ConfigError, match="question"):
        load_prompt("rag_user").render(passages=[])


def test_an_unknown_prompt_names_the_known_ones() -> None:
    with pytest.raises(ConfigError) as caught:
        load_prompt("nonsense")
    assert "rag_system" in caught.value.hint


def test_passages_are_numbered_with_document_and_page() -> None:
    chunks = [
        Chunk("a", "d", 0, "First text.", 0, 11, 7, (), 2),
        Chunk("b", "d", 1, "{{ question }} {% raw %}", 0, 24, None, (), 2),
    ]
    passages = [Passage(chunk, "report.pdf", rank, 1.0) for rank, chunk in enumerate(chunks, start=1)]
    text = load_prompt("rag_user").render(passages=passages, question="Why?")
    assert "[1] report.pdf, page 7\nFirst text." in text
    assert "[2] report.pdf\n{{ question }} {% raw %}" in text  # a document's own markup stays text
    assert "Question: Why?" in text


def test_the_system_text_names_the_abstention_sentence() -> None:
    assert ABSTENTION in load_prompt("rag_system").render(abstention=ABSTENTION)
