"""Text to tokens and back by llama.cpp's vocabulary, for whoever holds one.

Place in the data's way: `LlamaRuntime` and `LlamaVocabulary` call these on a vocabulary that they keep open.
"""

from __future__ import annotations

from typing import Any


def tokenize(api: Any, vocab: Any, text: str, *, parse_special: bool) -> list[int]:
    """Return the tokens of `text`, without added special tokens.

    Args:
        api: llama.cpp, of `llama_api`.
        vocab: A vocabulary that stays open meanwhile.
        text: Any text.
        parse_special: Whether markup like `<|im_end|>` becomes its control token.
    """
    raw = text.encode("utf-8", errors="replace")
    size = len(raw) + 8
    while True:
        buffer = (api.llama_token * size)()
        count = api.llama_tokenize(vocab, raw, len(raw), buffer, size, False, parse_special)
        if count >= 0:
            return list(buffer[:count])
        size = -count


def token_text(api: Any, vocab: Any, token: int) -> str:
    """Return the markup of a token as the vocabulary writes it; "" for none, which is a negative number."""
    raw = api.llama_vocab_get_text(vocab, token) if token >= 0 else None
    return raw.decode("utf-8", errors="replace") if raw else ""
