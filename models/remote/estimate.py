"""How many tokens a prompt has at most, where the server doesn't count: a guess on the safe side.

Place in the data's way: `RemoteServer` counts with this where a server has no `/tokenize`. A guess that is
too low would overflow the window; one that is too high only leaves room unused, so it errs upwards.

Byte-level tokenizers make at most one token of a byte. That bound is used as it is outside ASCII and for
words with digits in them (keys, hashes). Words of ASCII letters count a token for every three letters begun,
long ones for every two; digits and marks count one each. How far this lies above what real tokenizers make is
measured in docs/how-to/outgrow.md. Only letters thrown together at random come out too low.

Example:
    >>> estimate_text("What is a trace tree?")
    8
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from ...core.types import Message

# Long words are seldom in a vocabulary: compounds, other languages, names.
LONG_LETTERS = 9
MIXED_CHARS = 8
# The markup of a turn in ChatML takes 5 tokens, in Llama 3's template 5, in Gemma's 5.
TURN_TOKENS = 8
# What a template adds of itself: Qwen's and SmolLM's system text 21 and 18 tokens, Llama 3's dates 25.
TEMPLATE_TOKENS = 48
# The words that templates put around tool schemas, Qwen's for instance 120 tokens.
TOOLS_TOKENS = 256

_PIECE = re.compile(r"([A-Za-z0-9]+)|(\s+)|([\x00-\x7f])|([^\x00-\x7f]+)")
_LETTERS = re.compile(r"[A-Za-z]+")


def estimate_text(text: str) -> int:
    """Return more tokens than a tokenizer makes of ordinary text."""
    num_tokens = 0
    for word, space, mark, beyond in _PIECE.findall(text):
        if word:
            num_tokens += _word_tokens(word)
        elif space:  # one space belongs to the word behind it
            num_tokens += 0 if space == " " else len(space.replace(" ", "")) + ("  " in space)
        else:
            num_tokens += 1 if mark else len(beyond.encode("utf-8", "surrogatepass"))
    return num_tokens


def estimate_prompt(messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
    """Return more tokens than the rendered chat template takes for ordinary conversations."""
    turns = sum(estimate_text(message.content) + TURN_TOKENS for message in messages)
    schemas = sum(estimate_text(json.dumps(tool)) for tool in tools) + TOOLS_TOKENS if tools else 0
    return TEMPLATE_TOKENS + turns + schemas


def _word_tokens(word: str) -> int:
    if not word.isalpha() and len(word) > MIXED_CHARS:
        return len(word)
    runs = [len(run) for run in _LETTERS.findall(word)]
    num_digits = len(word) - sum(runs)
    return num_digits + sum(-(-size // (3 if size <= LONG_LETTERS else 2)) for size in runs)
