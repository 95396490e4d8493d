"""A vocabulary of each architecture, learned from a small real text."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from localsmith.training.pretraining.vocabulary import train_tokenizer

TEXT = Path(__file__).parents[2] / "data" / "documents" / "more" / "norwich-city.txt"


@pytest.fixture(scope="session")
def tokenizers() -> dict[str, Any]:
    text = TEXT.read_text(encoding="utf-8")
    return {
        name: train_tokenizer([text], name, 600)  # type: ignore[arg-type]
        for name in ("encoder", "encoder-decoder")
    }
