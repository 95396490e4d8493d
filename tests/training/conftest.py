"""A language model small enough to be trained within a test: two layers, a vocabulary of its own, ChatML."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from localsmith.core.types import Message
from localsmith.models.chat.template import CHATML
from localsmith.training.bases import Base, find_base
from localsmith.training.data.rows import TrainingRow

COLOURS = ("red", "green", "blue", "black", "white", "brown", "grey", "pink")
THINGS = ("apple", "house", "river", "stone", "coat", "bird", "ship", "door")


def rows_about_colours() -> list[TrainingRow]:
    """Sixty-four questions that have one right answer each, all of the same form."""
    return [
        TrainingRow(
            (
                Message("user", f"The {thing} is {colour}. What colour is the {thing}?"),
                Message("assistant", f"The {thing} is {colour}."),
            ),
            task="colours",
            source=f"colours:{number}",
        )
        for number, (thing, colour) in enumerate((t, c) for t in THINGS for c in COLOURS)
    ]


def save_tiny_model(folder: Path, texts: Sequence[str], template: str | None = CHATML) -> None:
    """Write an untrained Llama of two layers with a tokenizer of these texts."""
    import torch
    from tokenizers import Tokenizer
    from tokenizers.decoders import ByteLevel as ByteLevelDecoder
    from tokenizers.models import BPE
    from tokenizers.pre_tokenizers import ByteLevel
    from tokenizers.trainers import BpeTrainer
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    tokenizer = Tokenizer(BPE())
    tokenizer.pre_tokenizer = ByteLevel(add_prefix_space=False)
    tokenizer.decoder = ByteLevelDecoder()
    special = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    trainer = BpeTrainer(
        vocab_size=400, special_tokens=special, initial_alphabet=ByteLevel.alphabet(), show_progress=False
    )
    tokenizer.train_from_iterator(texts, trainer)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )
    fast.chat_template = template
    fast.save_pretrained(folder)
    torch.manual_seed(1)
    config = LlamaConfig(
        vocab_size=len(fast),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        tie_word_embeddings=True,
        pad_token_id=0,
        eos_token_id=2,
    )
    LlamaForCausalLM(config).save_pretrained(folder)


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Keep PyTorch to one thread: models this small are slower on two, and other tests run beside these."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="session")
def colour_rows() -> list[TrainingRow]:
    """What the tiny model is to learn."""
    return rows_about_colours()


@pytest.fixture(scope="session")
def tiny_base(tmp_path_factory: pytest.TempPathFactory, colour_rows: list[TrainingRow]) -> Base:
    """The tiny model as a base."""
    from localsmith.core.settings import load_settings

    folder = tmp_path_factory.mktemp("tiny") / "tiny-model"
    save_tiny_model(folder, [row.text for row in colour_rows])
    return find_base(load_settings(), str(folder))
