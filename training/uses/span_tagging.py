"""An encoder's second use: which spans of a text are of a kind, as names are in named entity recognition.

Place in the data's way: a pre-trained encoder and texts with marked spans -> `train_tagger` ->
`SpanTagger.tag`. Each token is said to begin a span, to be inside of one, or outside.

Source: Devlin et al. 2019, "BERT", section 5.3; tags: Ramshaw and Marcus 1995, "Text Chunking using
Transformation-Based Learning", as B-KIND, I-KIND and O. Figure: Tjong Kim Sang and De Meulder 2003 (CoNLL),
section 2.3, F1 of exact spans.

Example:
    tagger = train_tagger(encoder, [TaggedText("Ada lives in Rome.", ((0, 3, "PERSON"), (13, 17, "PLACE")))])
    tagger.tag("Ben lives in Oslo.")
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from ...core.errors import DatasetError
from ..batches import IGNORED
from ..pretrain import Pretrained
from .classification import with_body
from .fitting import FitSettings, OnStep, fit, require_architecture

TextSpan: TypeAlias = tuple[int, int, str]
"""First character of a span, the one behind its last, and its kind."""
_OUTSIDE = "O"


@dataclass(frozen=True, slots=True)
class TaggedText:
    """A text with its spans marked.

    Attributes:
        text: The text.
        spans: They do not overlap.
    """

    text: str
    spans: tuple[TextSpan, ...]


@dataclass(frozen=True, slots=True)
class SpanTagger:
    """Finds spans in texts.

    Attributes:
        tags: "O", and "B-KIND" and "I-KIND" of each kind.
        model: Of transformers.
        tokenizer: Its vocabulary.
        losses: Of each training step.
    """

    tags: tuple[str, ...]
    model: Any
    tokenizer: Any
    losses: tuple[float, ...]

    def tag(self, text: str) -> list[TextSpan]:
        """Return the spans of a text in order; what is longer than the encoder reads has none at its end."""
        import torch

        ids, offsets = _tokens(self.tokenizer, self.model, text)
        with torch.inference_mode():
            logits = self.model(input_ids=torch.tensor([ids], device=self.model.device)).logits[0]
        tags = [self.tags[int(i)] for i in logits.argmax(-1)]
        return _joined(text, offsets, tags)

    def f1(self, rows: Sequence[TaggedText]) -> float:
        """Return F1 of the spans that are found exactly, with their kind, over all rows; 0 to 1."""
        found = {(i, *span) for i, row in enumerate(rows) for span in self.tag(row.text)}
        right = {(i, *span) for i, row in enumerate(rows) for span in row.spans}
        return 2 * len(found & right) / max(1, len(found) + len(right))


def train_tagger(
    encoder: Pretrained,
    rows: Sequence[TaggedText],
    settings: FitSettings | None = None,
    on_step: OnStep | None = None,
) -> SpanTagger:
    """Fine-tune an encoder to find spans; the encoder itself stays as it is.

    Args:
        encoder: A pre-trained encoder.
        rows: What is learned; of longer texts than the encoder reads the beginning is taken.
        settings: How; None for the defaults.
        on_step: Told after every step.

    Raises:
        DatasetError: No row has a span.
        TrainingError: The model is no encoder, or the loss is no number any more.
    """
    from transformers import DataCollatorForTokenClassification, ModernBertForTokenClassification, set_seed

    require_architecture(encoder, "encoder", "Span tagging")
    kinds = sorted({kind for row in rows for _, _, kind in row.spans})
    if not kinds:
        raise DatasetError("No row has a span to learn.", hint="Mark some.")
    tags = (_OUTSIDE, *(f"{part}-{kind}" for kind in kinds for part in "BI"))
    settings = settings or FitSettings()
    set_seed(settings.seed)
    model = with_body(ModernBertForTokenClassification, encoder, len(tags))
    encoded = [_labelled(encoder.tokenizer, model, row, tags) for row in rows]
    collate = DataCollatorForTokenClassification(encoder.tokenizer)
    losses = fit(model, encoded, collate, settings, on_step)
    return SpanTagger(tags, model, encoder.tokenizer, tuple(losses))


def _tokens(tokenizer: Any, model: Any, text: str) -> tuple[list[int], list[tuple[int, int]]]:
    """Return a text's tokens and their characters, blanks before a word not counted."""
    encoded = tokenizer(
        text,
        truncation=True,
        max_length=model.config.max_position_embeddings,
        return_offsets_mapping=True,
    )
    offsets = []
    for start, end in encoded["offset_mapping"]:
        piece = text[start:end]
        offsets.append((start + len(piece) - len(piece.lstrip()), end))
    return list(encoded["input_ids"]), offsets


def _labelled(tokenizer: Any, model: Any, row: TaggedText, tags: tuple[str, ...]) -> dict[str, Any]:
    ids, offsets = _tokens(tokenizer, model, row.text)
    labels = []
    for start, end in offsets:
        inside = next((span for span in row.spans if span[0] <= start < span[1]), None)
        if start >= end:  # control tokens and blanks
            labels.append(IGNORED)
        elif inside is None:
            labels.append(tags.index(_OUTSIDE))
        else:
            labels.append(tags.index(f"{'B' if start == inside[0] else 'I'}-{inside[2]}"))
    return {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": labels}


def _joined(text: str, offsets: Sequence[tuple[int, int]], tags: Sequence[str]) -> list[TextSpan]:
    """Return the spans that tags say; an I without its B begins one too."""
    spans: list[TextSpan] = []
    open_kind = ""
    for (start, end), tag in zip(offsets, tags, strict=True):
        if start >= end:
            continue
        part, _, kind = tag.partition("-")
        if part == "I" and kind == open_kind:
            spans[-1] = (spans[-1][0], end, kind)
        elif part != _OUTSIDE:
            spans.append((start, end, kind))
        open_kind = kind
    return [(start, start + len(text[start:end].rstrip()), kind) for start, end, kind in spans]
