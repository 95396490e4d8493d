"""An encoder's first use: which of some classes a text belongs to.

Place in the data's way: a pre-trained encoder, texts and their classes -> `train_classifier` ->
`TextClassifier.predict`. A linear layer over the mean of the tokens is added, then all weights are trained.

Source: Devlin et al. 2019, "BERT", section 4.1. The mean stands in place of `[CLS]`, which so small a
model does not learn to fill.

Example:
    classifier = train_classifier(encoder, texts, labels)
    classifier.predict(["Where is my parcel?"])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import DatasetError
from ..pretrain import Pretrained
from .fitting import FitSettings, OnStep, fit, require_architecture

_TEXTS_AT_ONCE = 32


@dataclass(frozen=True, slots=True)
class TextClassifier:
    """Tells the class of texts.

    Attributes:
        labels: The classes.
        model: Of transformers.
        tokenizer: Its vocabulary.
        losses: Of each training step.
    """

    labels: tuple[str, ...]
    model: Any
    tokenizer: Any
    losses: tuple[float, ...]

    def predict(self, texts: Sequence[str]) -> list[str]:
        """Return the likeliest class of each text; of a long one the beginning decides."""
        import torch

        found: list[str] = []
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                batch = _encoded(self.tokenizer, self.model, texts[start : start + _TEXTS_AT_ONCE])
                padded = self.tokenizer.pad(batch, return_tensors="pt").to(self.model.device)
                found += [self.labels[int(i)] for i in self.model(**padded).logits.argmax(-1)]
        return found

    def accuracy(self, texts: Sequence[str], labels: Sequence[str]) -> float:
        """Return the share of texts whose class is told right, 0 to 1."""
        pairs = list(zip(self.predict(texts), labels, strict=True))
        return sum(told == right for told, right in pairs) / len(pairs)


def train_classifier(
    encoder: Pretrained,
    texts: Sequence[str],
    labels: Sequence[str],
    settings: FitSettings | None = None,
    on_step: OnStep | None = None,
) -> TextClassifier:
    """Fine-tune an encoder to tell classes; the encoder itself stays as it is.

    Args:
        encoder: A pre-trained encoder.
        texts: The texts; of longer ones than the encoder reads the beginning is taken.
        labels: The class of each.
        settings: How; None for the defaults.
        on_step: Told after every step.

    Raises:
        DatasetError: There are fewer than two classes, or not as many labels as texts.
        TrainingError: The model is no encoder, or the loss is no number any more.
    """
    from transformers import DataCollatorWithPadding, ModernBertForSequenceClassification, set_seed

    require_architecture(encoder, "encoder", "Classification")
    classes = tuple(sorted(set(labels)))
    if len(texts) != len(labels) or len(classes) < 2:
        raise DatasetError(
            f"{len(texts)} texts with {len(labels)} labels of {len(classes)} classes can't be learned from.",
            hint="Give a label for each text, and texts of at least two classes.",
        )
    settings = settings or FitSettings()
    set_seed(settings.seed)
    model = with_body(ModernBertForSequenceClassification, encoder, len(classes))
    rows = [
        {**row, "labels": classes.index(label)}
        for row, label in zip(_encoded(encoder.tokenizer, model, texts), labels, strict=True)
    ]
    losses = fit(model, rows, DataCollatorWithPadding(encoder.tokenizer), settings, on_step)
    return TextClassifier(classes, model, encoder.tokenizer, tuple(losses))


def with_body(kind: Any, encoder: Pretrained, num_labels: int) -> Any:
    """Return a model of transformers with the encoder's weights and a new layer on top.

    Args:
        kind: `ModernBertForSequenceClassification` or `ModernBertForTokenClassification`.
        encoder: A pre-trained encoder.
        num_labels: Outputs of the new layer.
    """
    config = type(encoder.model.config)(**{**encoder.model.config.to_dict(), "num_labels": num_labels})
    model = kind(config)
    model.model.load_state_dict(encoder.model.model.state_dict())
    model.head.load_state_dict(encoder.model.head.state_dict())
    return model


def _encoded(tokenizer: Any, model: Any, texts: Sequence[str]) -> list[dict[str, Any]]:
    longest = model.config.max_position_embeddings
    encoded = tokenizer(list(texts), truncation=True, max_length=longest)
    return [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in encoded["input_ids"]]
