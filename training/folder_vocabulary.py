"""The vocabulary of a model in Hugging Face's form, behind the same few methods as a GGUF's.

Place in the data's way: `bases.load_vocabulary` -> `ChatTemplate`, for bases that did not come as a GGUF.

Example:
    FolderVocabulary(Path("my-model")).tokenize("Hello", parse_special=False)
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.errors import ModelLoadError


class FolderVocabulary:
    """A tokenizer of transformers as a `Vocabulary` of `models.chat.template`.

    Args:
        path: Folder with the tokenizer's files.

    Raises:
        ModelLoadError: The tokenizer can't be loaded.
    """

    def __init__(self, path: Path) -> None:
        from transformers import AutoTokenizer

        try:
            self._tokenizer: Any = AutoTokenizer.from_pretrained(str(path), local_files_only=True)
        except (OSError, ValueError) as exc:
            raise ModelLoadError(
                f"The tokenizer in {path} can't be loaded: {exc}",
                hint="The folder needs tokenizer.json and tokenizer_config.json.",
            ) from exc
        self.n_vocab: int = len(self._tokenizer)
        self.template: str = self._tokenizer.chat_template or ""
        self.bos_text: str = self._tokenizer.bos_token or ""
        self.eos_text: str = self._tokenizer.eos_token or ""
        self.bos_token: int = -1 if self._tokenizer.bos_token_id is None else self._tokenizer.bos_token_id
        with_bos = self._tokenizer("a")["input_ids"]
        self.adds_bos: bool = with_bos[:1] == [self.bos_token]
        self._ends = {self._tokenizer.eos_token_id} | {
            token
            for text, token in self._tokenizer.get_added_vocab().items()
            if text in ("<|im_end|>", "<|eot_id|>", "<|end|>", "<end_of_turn>", "<|endoftext|>")
        }

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of `text`, without added special tokens.

        Args:
            text: Any text.
            parse_special: Whether markup like `<|im_end|>` becomes its control token.
        """
        encoded = self._tokenizer(text, add_special_tokens=False, split_special_tokens=not parse_special)
        return list(encoded["input_ids"])

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens; control tokens stand for none."""
        return str(self._tokenizer.decode(tokens, skip_special_tokens=True))

    def is_end(self, token: int) -> bool:
        """Return whether the token ends a generation."""
        return token in self._ends
