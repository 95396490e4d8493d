"""A vocabulary of the texts' own: byte-level pairs, learned from them, with an architecture's control tokens.

Place in the data's way: the texts to train on -> `train_tokenizer` -> a tokenizer of transformers, saved with
the model. Every text can be written in it, since it begins with the 256 bytes.

Source: Sennrich et al. 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2; over
bytes: Radford et al. 2019, "Language Models are Unsupervised Multitask Learners", section 2.2.

Example:
    tokenizer = train_tokenizer(texts, "decoder", size=4096)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .config import Architecture

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

NUM_SENTINELS = 100
_NAMED: dict[Architecture, dict[str, str]] = {
    "encoder": {"pad_token": "[PAD]", "cls_token": "[CLS]", "sep_token": "[SEP]", "mask_token": "[MASK]"},
    "decoder": {"pad_token": "<|pad|>", "bos_token": "<|endoftext|>", "eos_token": "<|endoftext|>"},
    "encoder-decoder": {"pad_token": "<pad>", "eos_token": "</s>", "mask_token": "<mask>"},
}
_TURNS = ["<|im_start|>", "<|im_end|>"]
"""ChatML's marks, so that a decoder can be tuned to chat later on."""


def train_tokenizer(texts: Sequence[str], architecture: Architecture, size: int) -> PreTrainedTokenizerFast:
    """Learn a vocabulary.

    Args:
        texts: What it is learned from.
        architecture: Decides the control tokens, and what a text is put into: `[CLS] text [SEP]` for an
            encoder, `text </s>` for an encoder-decoder, nothing for a decoder.
        size: Tokens at most, control tokens included; fewer where the texts have no more pairs.
    """
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import PreTrainedTokenizerFast

    named = _NAMED[architecture]
    first = list(dict.fromkeys([*named.values(), *(_TURNS if architecture == "decoder" else [])]))
    # Counted down, so that the first sentinel is the highest token.
    last = [f"<extra_id_{i}>" for i in reversed(range(NUM_SENTINELS))]
    last = last if architecture == "encoder-decoder" else []
    tokenizer: Any = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    trainer = BpeTrainer(
        vocab_size=size - len(last),
        special_tokens=first,
        initial_alphabet=sorted(ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    tokenizer.add_special_tokens(last)
    _frame(tokenizer, architecture)
    return PreTrainedTokenizerFast(  # type: ignore[no-untyped-call]
        tokenizer_object=tokenizer, **named, extra_special_tokens=[*first, *last], padding_side="right"
    )


def encode_plain(tokenizer: Any, texts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of texts, nothing added; what looks like a control token in them is plain text."""
    backend = tokenizer.backend_tokenizer
    before = backend.encode_special_tokens
    backend.encode_special_tokens = True
    try:
        return [list(one.ids) for one in backend.encode_batch(list(texts), add_special_tokens=False)]
    finally:
        backend.encode_special_tokens = before


def _frame(tokenizer: Any, architecture: Architecture) -> None:
    """Say what stands around a text that is to be read."""
    from tokenizers.processors import TemplateProcessing

    frames = {
        "encoder": ("[CLS] $A [SEP]", "[CLS] $A [SEP] $B:1 [SEP]:1", ("[CLS]", "[SEP]")),
        "encoder-decoder": ("$A </s>", "$A </s> $B </s>", ("</s>",)),
    }
    if architecture in frames:
        single, pair, marks = frames[architecture]
        tokens = [(mark, tokenizer.token_to_id(mark)) for mark in marks]
        tokenizer.post_processor = TemplateProcessing(single=single, pair=pair, special_tokens=tokens)
