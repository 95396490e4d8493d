"""Masked tokens: some are hidden or exchanged, and the model says what stood there, seeing both sides.

Place in the data's way: a block -> transformers' own masking -> `MaskedObjective` for an encoder, which says
the hidden tokens only, and `DenoisingObjective` for an encoder-decoder, which writes the whole block anew.

15 % of the tokens are chosen; of these 80 % become the mask token, 10 % a random token, 10 % stay as they
are. Control tokens are never chosen. Drawn anew each time that a block is seen (Liu et al. 2019, "RoBERTa",
section 4.1).

Source: Devlin et al. 2019, "BERT", section 3.1 and appendix A.1. Denoising: Raffel et al. 2020, "Exploring
the Limits of Transfer Learning with a Unified Text-to-Text Transformer", section 3.3.1, "BERT-style".

Example:
    example = MaskedObjective(tokenizer).example(tokenizer("The cat sat.")["input_ids"], seed=7)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from transformers import DataCollatorForLanguageModeling

from .objective import Example, ObjectiveName

SHARE = 0.15
MASK_SHARE, RANDOM_SHARE = 0.8, 0.1


class Masking:
    """Hides tokens of blocks.

    Args:
        tokenizer: Of transformers, with a mask token.
        share: Share of the tokens that is chosen, above 0 and at most 1.

    Raises:
        ValueError: `share` is out of range, or the tokenizer has no mask token.
    """

    def __init__(self, tokenizer: Any, share: float = SHARE) -> None:
        if not 0 < share <= 1:
            raise ValueError(f"share must be above 0 and at most 1, not {share}.")
        self._special = torch.tensor(sorted(tokenizer.all_special_ids))
        self._collator = DataCollatorForLanguageModeling(
            tokenizer,
            mlm=True,
            mlm_probability=share,
            mask_replace_prob=MASK_SHARE,
            random_replace_prob=RANDOM_SHARE,
        )

    def mask(self, block: Sequence[int], seed: int) -> tuple[list[int], list[int]]:
        """Return the block with tokens hidden, and labels: the tokens that were chosen, else `IGNORED`.

        At least one token is chosen: with none there would be nothing to learn.

        Raises:
            ValueError: The block holds control tokens only.
        """
        tokens = torch.tensor([list(block)], dtype=torch.long)
        is_special = torch.isin(tokens, self._special)
        if bool(is_special.all()):
            raise ValueError("The block holds no token that could be masked.")
        self._collator.generator = torch.Generator().manual_seed(seed)
        while True:
            inputs, labels = self._collator.torch_mask_tokens(tokens.clone(), special_tokens_mask=is_special)
            if bool((labels >= 0).any()):
                return inputs[0].tolist(), labels[0].tolist()


class MaskedObjective:
    """Learns the tokens that were chosen.

    Args:
        tokenizer: Of transformers, with a mask token.
        share: Share of the tokens that is chosen.

    Raises:
        ValueError: `share` is out of range, or the tokenizer has no mask token.
    """

    name: ClassVar[ObjectiveName] = "masked"

    def __init__(self, tokenizer: Any, share: float = SHARE) -> None:
        self._masking = Masking(tokenizer, share)

    def example(self, block: Sequence[int], seed: int) -> Example:
        """Return the block with tokens hidden, labelled where they were; see `Objective.example`."""
        return Example(*self._masking.mask(block, seed))


class DenoisingObjective:
    """Learns the whole block from one with tokens hidden.

    Args:
        tokenizer: Of transformers, with a mask token, a padding token and an end token.
        share: Share of the tokens that is chosen.

    Raises:
        ValueError: `share` is out of range, or the tokenizer has no mask token.
    """

    name: ClassVar[ObjectiveName] = "denoising"

    def __init__(self, tokenizer: Any, share: float = SHARE) -> None:
        self._masking = Masking(tokenizer, share)
        self._start, self._end = int(tokenizer.pad_token_id), int(tokenizer.eos_token_id)

    def example(self, block: Sequence[int], seed: int) -> Example:
        """Return the block with tokens hidden, and the block itself as target; see `Objective.example`."""
        inputs, _ = self._masking.mask(block, seed)
        return Example([*inputs, self._end], [*block, self._end], [self._start, *block])
