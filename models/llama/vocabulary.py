"""A GGUF file's vocabulary without its weights: text to tokens, by llama.cpp itself.

Place in the data's way: training tokenizes here, so that a model learns from the very tokens that the engine
will give it. Loading takes a fraction of a second and a few megabytes.

Example:
    with LlamaVocabulary(Path("model.gguf")) as vocabulary:
        vocabulary.tokenize("Hello", parse_special=False)
"""

from __future__ import annotations

import ctypes
from pathlib import Path
from types import TracebackType
from typing import Any

from ...core.errors import ModelLoadError, ModelNotReadyError
from .library import LogMessages, check_magic, llama_api
from .tokens import token_text, tokenize


class LlamaVocabulary:
    """The vocabulary and the chat template of a GGUF file; a `Vocabulary` of `models.chat.template`.

    Args:
        path: The GGUF file.

    Raises:
        ModelLoadError: The file is missing, damaged, or of an unknown architecture.
    """

    def __init__(self, path: Path) -> None:
        self._api: Any = llama_api()
        messages = LogMessages(self._api)
        check_magic(path)
        params = self._api.llama_model_default_params()
        params.vocab_only = True
        self._model = self._api.llama_model_load_from_file(str(path).encode(), params)
        if not self._model:
            raise ModelLoadError(
                f"The vocabulary of {path.name} can't be loaded: {messages.last}",
                hint="It may be damaged, or of an architecture this llama.cpp doesn't know; pull it again.",
            )
        self._vocab = self._api.llama_model_get_vocab(self._model)
        template = self._api.llama_model_chat_template(self._model, None)
        self.n_vocab: int = self._api.llama_vocab_n_tokens(self._vocab)
        self.template: str = template.decode("utf-8") if template else ""
        self.bos_token = int(self._api.llama_vocab_bos(self._vocab))
        self.bos_text = token_text(self._api, self._vocab, self.bos_token)
        self.eos_text = token_text(self._api, self._vocab, self._api.llama_vocab_eos(self._vocab))
        self.adds_bos = bool(self._api.llama_vocab_get_add_bos(self._vocab))

    def __enter__(self) -> LlamaVocabulary:
        """Return the vocabulary."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Free the vocabulary."""
        self.close()

    def tokenize(self, text: str, *, parse_special: bool) -> list[int]:
        """Return the tokens of `text`, without added special tokens.

        Args:
            text: Any text.
            parse_special: Whether markup like `<|im_end|>` becomes its control token.

        Raises:
            ModelNotReadyError: The vocabulary has been closed.
        """
        return tokenize(self._api, self._open, text, parse_special=parse_special)

    def text(self, tokens: list[int]) -> str:
        """Return the text of tokens; control tokens stand for none."""
        raw = (self._api.llama_token * len(tokens))(*tokens)
        size = 8 * len(tokens) + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            count = self._api.llama_detokenize(self._open, raw, len(tokens), buffer, size, False, False)
            if count >= 0:
                return buffer.raw[:count].decode("utf-8", errors="replace")
            size = -count

    def is_end(self, token: int) -> bool:
        """Return whether the token ends a generation."""
        return bool(self._api.llama_vocab_is_eog(self._open, token))

    def close(self) -> None:
        """Free the vocabulary."""
        if self._model:
            self._api.llama_model_free(self._model)
            self._model = None

    @property
    def _open(self) -> Any:
        if not self._model:
            raise ModelNotReadyError("The vocabulary has been closed.")
        return self._vocab
