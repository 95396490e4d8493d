"""The uses of pre-trained models: what each learns from a few rows, and what it refuses."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import DatasetError, ExportError, TrainingError
from localsmith.training.export.from_scratch import export_decoder, write_decoder
from localsmith.training.export.token_models import GgufTokenModel
from localsmith.training.pretrain import Pretrained, load_pretrained
from localsmith.training.pretraining.config import Architecture
from localsmith.training.pretraining.vocabulary import encode_plain
from localsmith.training.runs.run_folder import open_run
from localsmith.training.uses.classification import train_classifier
from localsmith.training.uses.fitting import FitSettings
from localsmith.training.uses.generation import continue_text
from localsmith.training.uses.span_tagging import TaggedText, _joined, train_tagger
from localsmith.training.uses.summarization import train_summarizer

from .conftest import TEXT

COLOURS = ("red", "green", "blue", "black", "white", "brown")
THINGS = ("apple", "house", "river", "stone")
ALL = [(thing, colour) for thing in THINGS for colour in COLOURS]
# Each thing and each colour is learned, in other pairs than those that are asked.
PAIRS = [pair for j in (0, 1) for i, pair in enumerate(ALL) if (i + i // len(COLOURS)) % 2 == j]
HALF = len(PAIRS) // 2
FAST = FitSettings(num_steps=50, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def pretrained(runs_of: Callable[[Architecture], Path]) -> Callable[[Architecture], Pretrained]:
    return lambda architecture: load_pretrained(open_run(runs_of(architecture), "run"))


def test_an_encoder_tells_the_class_of_texts(pretrained: Callable[[Architecture], Pretrained]) -> None:
    squad = TEXT.parents[2] / "squad"
    questions = [json.loads(line) for line in (squad / "questions.jsonl").read_text().splitlines()]
    articles = [json.loads(line) for line in (squad / "articles.jsonl").read_text().splitlines()]
    asked = [row["question"][-30:] for row in questions]
    said = [text[:30] for row in articles for text in row["paragraphs"]]
    texts = [text for pair in zip(asked, said, strict=False) for text in pair][:260]
    labels = ["question", "statement"] * (len(texts) // 2)
    encoder = pretrained("encoder")
    before = {name: values.clone() for name, values in encoder.model.state_dict().items()}
    settings = FitSettings(num_steps=90, batch_size=8, learning_rate=1e-3)
    classifier = train_classifier(encoder, texts[:200], labels[:200], settings)
    assert classifier.labels == ("question", "statement")
    assert classifier.accuracy(texts[200:], labels[200:]) > 0.85
    assert classifier.losses[-1] < classifier.losses[0] / 2
    assert all(bool((values == before[name]).all()) for name, values in encoder.model.state_dict().items())


def test_an_encoder_finds_spans(pretrained: Callable[[Architecture], Pretrained]) -> None:
    rows = []
    for thing, colour in PAIRS:
        text = f"I saw the {colour} {thing} there."
        start = text.index(colour)
        rows.append(TaggedText(text, ((start, start + len(colour), "COLOUR"),)))
    tagger = train_tagger(pretrained("encoder"), rows[:HALF], FAST)
    assert tagger.tags == ("O", "B-COLOUR", "I-COLOUR")
    assert tagger.f1(rows[HALF:]) > 0.8
    text = rows[HALF].text
    assert [text[start:end] for start, end, _ in tagger.tag(text)] == [PAIRS[HALF][1]]


def test_tags_are_joined_into_spans_without_the_blanks_around() -> None:
    text = "Ada Lovelace met Babbage"
    offsets = [(0, 0), (0, 3), (4, 12), (13, 16), (17, 24), (0, 0)]
    tags = ["B-X", "B-NAME", "I-NAME", "O", "I-NAME", "O"]
    assert _joined(text, offsets, tags) == [(0, 12, "NAME"), (17, 24, "NAME")]


def test_a_decoder_goes_on_with_a_text(pretrained: Callable[[Architecture], Pretrained]) -> None:
    decoder = pretrained("decoder")
    first = continue_text(decoder, "Norwich City", max_tokens=12)
    assert first and continue_text(decoder, "Norwich City", max_tokens=12) == first
    drawn = {continue_text(decoder, "Norwich", 12, temperature=1.0, seed=seed) for seed in (1, 2, 3)}
    assert len(drawn) == 3
    assert continue_text(decoder, "Norwich", 12, temperature=1.0, seed=1) in drawn
    assert continue_text(decoder, "Norwich City " * 50, max_tokens=8)
    with pytest.raises(ValueError, match="from 1 to 31"):
        continue_text(decoder, "Norwich", max_tokens=32)


def test_an_encoder_decoder_learns_to_rewrite(pretrained: Callable[[Architecture], Pretrained]) -> None:
    texts = [f"There was a {thing}, and it was {colour}." for thing, colour in PAIRS]
    targets = [f"{thing} it is" for thing, _ in PAIRS]
    settings = FitSettings(num_steps=60, batch_size=8, learning_rate=5e-3)
    summarizer = train_summarizer(pretrained("encoder-decoder"), texts[:HALF], targets[:HALF], settings)
    assert summarizer.loss(texts[HALF:], targets[HALF:]) < math.log(512) / 3
    written = summarizer.write(texts[HALF:], max_tokens=12)
    assert all(text.endswith("it is") for text in written)


def test_what_does_not_fit_is_refused(pretrained: Callable[[Architecture], Pretrained]) -> None:
    encoder, decoder = pretrained("encoder"), pretrained("decoder")
    with pytest.raises(TrainingError, match="needs a model of the architecture encoder, not decoder"):
        train_classifier(decoder, ["a", "b"], ["x", "y"])
    with pytest.raises(TrainingError, match="architecture decoder, not encoder"):
        continue_text(encoder, "a")
    with pytest.raises(DatasetError, match="1 classes"):
        train_classifier(encoder, ["a", "b"], ["x", "x"])
    with pytest.raises(DatasetError, match="No row has a span"):
        train_tagger(encoder, [TaggedText("a", ())])
    with pytest.raises(DatasetError, match="0 texts"):
        train_summarizer(pretrained("encoder-decoder"), [], [])


def test_a_decoder_is_exported_and_the_engine_reads_the_same_tokens_and_says_the_same(
    pretrained: Callable[[Architecture], Pretrained], tmp_path: Path
) -> None:
    decoder = pretrained("decoder")
    texts = [TEXT.read_text(encoding="utf-8")[start : start + 60] for start in (0, 900, 2000)]
    made = export_decoder(decoder.model, decoder.tokenizer, tmp_path, "F16", texts, name="norwich", run="run")
    assert [path.name for path in tmp_path.glob("*.gguf")] == ["norwich-F16.gguf"]
    assert made.verification.is_within_limits
    with GgufTokenModel(made.model.path, 512) as engine:
        for text in (*texts, "naïve — 日本語 🙂\n\n  tabs\tand 123 numbers, it's"):
            assert engine.tokenize(text) == encode_plain(decoder.tokenizer, [text])[0]


def test_only_a_decoder_can_be_written(
    pretrained: Callable[[Architecture], Pretrained], tmp_path: Path
) -> None:
    encoder: Any = pretrained("encoder")
    with pytest.raises(ExportError, match="class modernbert can't be served"):
        write_decoder(encoder.model, encoder.tokenizer, tmp_path / "x.gguf", "x")
    assert list(tmp_path.iterdir()) == []
