"""Texts to blocks of one length: all tokens in one row, cut where a block is full.

Place in the data's way: texts in tokens -> `pack` -> blocks -> the objective. No padding, so that every
computed token is learned from; what does not fill a last block is left out.

Between two texts stands what an architecture knows as an end: a decoder's end token, an encoder's
separator, a blank line for an encoder-decoder. An encoder's block begins with `[CLS]` and ends with
`[SEP]`, as it will read texts later.

Source: Liu et al. 2019, "RoBERTa", section 4.2, FULL-SENTENCES.

Example:
    blocks = pack(texts, tokenizer, "decoder", max_tokens=128)
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any

import numpy as np
import numpy.typing as npt

from ...core.errors import DatasetError
from .config import Architecture
from .vocabulary import encode_plain


def pack(
    texts: Sequence[str], tokenizer: Any, architecture: Architecture, max_tokens: int, what: str = "text"
) -> npt.NDArray[np.int32]:
    """Return the texts as blocks.

    Args:
        texts: The texts.
        tokenizer: As `train_tokenizer` returned it.
        architecture: Decides what stands between texts and around blocks.
        max_tokens: Tokens of a block.
        what: How the texts are called in an error.

    Returns:
        `(n_blocks, max_tokens)` int32, at least one block.

    Raises:
        DatasetError: The texts do not fill one block.
    """
    between = {
        "decoder": [tokenizer.eos_token_id],
        "encoder": [tokenizer.sep_token_id],
        "encoder-decoder": encode_plain(tokenizer, ["\n\n"])[0],
    }[architecture]
    encoded = encode_plain(tokenizer, texts)
    stream = np.fromiter(chain.from_iterable([*tokens, *between] for tokens in encoded), dtype=np.int32)
    frame = 2 if architecture == "encoder" else 0
    size = max_tokens - frame
    num_blocks = len(stream) // size
    if not num_blocks:
        raise DatasetError(
            f"The {what} has {len(stream)} tokens, which do not fill one block of {max_tokens}.",
            hint="Give more text, hold out more or less of it (--held-out), or lower --max-tokens.",
        )
    blocks = stream[: num_blocks * size].reshape(num_blocks, size)
    if frame:
        cls, sep = (
            np.full((num_blocks, 1), token, np.int32)
            for token in (tokenizer.cls_token_id, tokenizer.sep_token_id)
        )
        blocks = np.hstack([cls, blocks, sep])
    return np.ascontiguousarray(blocks)
