"""An encoder-decoder's use: one text becomes another, here a dialogue its summary.

Place in the data's way: a pre-trained encoder-decoder, texts and their summaries -> `train_summarizer` ->
`Summarizer.write`. Pairs of a translation or a question and its answer are learned in the same way.

Source: Raffel et al. 2020, "Exploring the Limits of Transfer Learning with a Unified Text-to-Text
Transformer", section 2.4.

Example:
    summarizer = train_summarizer(model, dialogues, summaries)
    summarizer.write(["#Person1#: Shall we meet at six? #Person2#: Yes."])
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ...core.errors import DatasetError
from ..pretrain import Pretrained
from .fitting import FitSettings, OnStep, fit, require_architecture

_TEXTS_AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Summarizer:
    """Writes summaries.

    Attributes:
        model: Of transformers.
        tokenizer: Its vocabulary.
        max_tokens: Most tokens of a text that are read; relative positions allow more than in pre-training.
        losses: Of each training step.
    """

    model: Any
    tokenizer: Any
    max_tokens: int
    losses: tuple[float, ...]

    def write(self, texts: Sequence[str], max_tokens: int = 64) -> list[str]:
        """Return a summary of each text, the likeliest token each time.

        Args:
            texts: The texts.
            max_tokens: Tokens of a summary at most.
        """
        import torch
        from transformers import GenerationConfig

        config = GenerationConfig(  # type: ignore[no-untyped-call]
            max_new_tokens=max_tokens,
            decoder_start_token_id=self.tokenizer.pad_token_id,
            eos_token_id=self.tokenizer.eos_token_id,
            pad_token_id=self.tokenizer.pad_token_id,
        )
        written: list[str] = []
        with torch.inference_mode():
            for start in range(0, len(texts), _TEXTS_AT_ONCE):
                part = list(texts[start : start + _TEXTS_AT_ONCE])
                batch = self.tokenizer(
                    part, truncation=True, max_length=self.max_tokens, padding=True, return_tensors="pt"
                ).to(self.model.device)
                rows = self.model.generate(
                    input_ids=batch["input_ids"],
                    attention_mask=batch["attention_mask"],
                    generation_config=config,
                )
                written += self.tokenizer.batch_decode(rows, skip_special_tokens=True)
        return [text.strip() for text in written]

    def loss(self, texts: Sequence[str], summaries: Sequence[str]) -> float:
        """Return the mean loss of the tokens of summaries that were not learned, in nats.

        Raises:
            DatasetError: There are no pairs.
        """
        import torch
        from transformers import DataCollatorForSeq2Seq

        rows = _encoded(self.tokenizer, texts, summaries, self.max_tokens)
        collate = DataCollatorForSeq2Seq(self.tokenizer, self.model)
        total, num_tokens = 0.0, 0
        with torch.inference_mode():
            for start in range(0, len(rows), _TEXTS_AT_ONCE):
                batch = collate(rows[start : start + _TEXTS_AT_ONCE]).to(self.model.device)
                num = int((batch["labels"] >= 0).sum())
                total += float(self.model(**batch).loss) * num
                num_tokens += num
        return total / num_tokens


def train_summarizer(
    encoder_decoder: Pretrained,
    texts: Sequence[str],
    summaries: Sequence[str],
    settings: FitSettings | None = None,
    max_tokens: int = 256,
    on_step: OnStep | None = None,
) -> Summarizer:
    """Fine-tune an encoder-decoder to write summaries; the model itself stays as it is.

    Args:
        encoder_decoder: A pre-trained encoder-decoder.
        texts: The texts.
        summaries: The summary of each.
        settings: How; None for the defaults.
        max_tokens: Most tokens of a text that are read; what is longer is cut.
        on_step: Told after every step.

    Raises:
        DatasetError: There are no pairs, or not as many summaries as texts.
        TrainingError: The model is no encoder-decoder, or the loss is no number any more.
    """
    import copy

    from transformers import DataCollatorForSeq2Seq, set_seed

    require_architecture(encoder_decoder, "encoder-decoder", "Summarization")
    settings = settings or FitSettings()
    set_seed(settings.seed)
    rows = _encoded(encoder_decoder.tokenizer, texts, summaries, max_tokens)
    model = copy.deepcopy(encoder_decoder.model)
    collate = DataCollatorForSeq2Seq(encoder_decoder.tokenizer, model)
    losses = fit(model, rows, collate, settings, on_step)
    return Summarizer(model, encoder_decoder.tokenizer, max_tokens, tuple(losses))


def _encoded(
    tokenizer: Any, texts: Sequence[str], summaries: Sequence[str], max_tokens: int
) -> list[dict[str, Any]]:
    if not texts or len(texts) != len(summaries):
        raise DatasetError(
            f"{len(texts)} texts with {len(summaries)} summaries can't be learned from.",
            hint="Give a summary for each text, at least one.",
        )
    inputs = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    labels = tokenizer(list(summaries), truncation=True, max_length=max_tokens)["input_ids"]
    return [
        {"input_ids": ids, "attention_mask": [1] * len(ids), "labels": target}
        for ids, target in zip(inputs, labels, strict=True)
    ]
