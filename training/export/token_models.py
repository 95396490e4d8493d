"""The two sides of a comparison: the trainer's model and the exported file, both asked in tokens.

Place in the data's way: `export` opens both -> `verify` asks them the same tokens, so that no difference of
tokenizers can hide or feign a difference of weights.

Example:
    with GgufTokenModel(Path("model.gguf")) as exported:
        exported.logits([1, 2, 3]).shape
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from ...core.errors import ExportError
from ...core.settings import ModelSettings
from ...models.llama.adapter import LoraAdapter
from ...models.llama.own_thread import OwnThread
from ...models.llama.runtime import LlamaRuntime
from .layout import Array


class TokenModel(Protocol):
    """A model that reads tokens."""

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return `(n_tokens, n_vocab)` float32, the logits behind each token."""
        ...

    def greedy(self, tokens: Sequence[int], num_tokens: int) -> list[int]:
        """Return the `num_tokens` tokens that follow, each the likeliest."""
        ...


class HfTokenModel:
    """A causal model of transformers, with or without adapters of peft."""

    def __init__(self, model: Any) -> None:
        """Keep the model; it is set to evaluation while it is asked and back after."""
        self._model = model
        base = model.get_base_model() if hasattr(model, "get_base_model") else model
        # transformers renamed the argument, and its result, within version 5
        is_renamed = "cache" in inspect.signature(base.forward).parameters
        self._cache_name = "cache" if is_renamed else "past_key_values"

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return `(n_tokens, n_vocab)` float32."""
        return self._run([list(tokens)], None)[0]

    def greedy(self, tokens: Sequence[int], num_tokens: int) -> list[int]:
        """Return the likeliest continuation; keys and values are kept from step to step."""
        found: list[int] = []
        step, cache = list(tokens), None
        while len(found) < num_tokens:
            rows, cache = self._run([step], cache, num_rows=1)
            found.append(int(np.argmax(rows[-1])))
            step = found[-1:]
        return found

    def _run(self, ids: list[list[int]], cache: Any, num_rows: int = 0) -> tuple[Array, Any]:
        import torch

        was_training = self._model.training
        if was_training:  # switching goes through every module, which costs as much as a step
            self._model.eval()
        try:
            with torch.inference_mode():
                output = self._model(
                    input_ids=torch.tensor(ids, device=self._model.device),
                    use_cache=True,
                    logits_to_keep=num_rows,
                    **{self._cache_name: cache},
                )
            return output.logits[0].float().cpu().numpy(), output[self._cache_name]
        finally:
            if was_training:
                self._model.train()


class GgufTokenModel:
    """A GGUF file in the engine's own runtime.

    Args:
        path: The file.
        n_ctx: Most tokens that are asked at once, continuation included.
        adapter: A LoRA adapter beside it; None for the bare model.

    Raises:
        ModelLoadError: It can't be loaded.
    """

    def __init__(self, path: Path, n_ctx: int = 1024, adapter: LoraAdapter | None = None) -> None:
        settings = ModelSettings(n_ctx=n_ctx, kv_cells=n_ctx, n_batch=min(256, n_ctx), n_gpu_layers=0)
        self._runtime = LlamaRuntime(path, settings, n_seq=1, adapter=adapter)
        self._thread = OwnThread()

    def __enter__(self) -> GgufTokenModel:
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Free the model."""
        self._thread.close()
        self._runtime.close()

    @property
    def n_ctx(self) -> int:
        """Most tokens that can be asked at once."""
        return self._runtime.n_ctx

    def tokenize(self, text: str) -> list[int]:
        """Return the tokens of a text, control tokens as such, begun as the model expects it."""
        tokens = self._runtime.tokenize(text, parse_special=True)
        begins = [self._runtime.bos_token] if self._runtime.adds_bos else []
        return tokens if tokens[:1] == begins else begins + tokens

    def is_end(self, token: int) -> bool:
        """Whether the token ends a completion."""
        return self._runtime.is_end(token)

    def logits(self, tokens: Sequence[int]) -> Array:
        """Return `(n_tokens, n_vocab)` float32."""
        self._runtime.forget(0, 0)
        return np.concatenate(self._read(tokens, 0))

    def greedy(self, tokens: Sequence[int], num_tokens: int) -> list[int]:
        """Return the likeliest continuation."""
        self._runtime.forget(0, 0)
        rows = self._read(tokens, 0)[-1]
        found = [int(np.argmax(rows[-1]))]
        while len(found) < num_tokens:
            rows = self._read(found[-1:], len(tokens) + len(found) - 1)[-1]
            found.append(int(np.argmax(rows[-1])))
        return found

    def _read(self, tokens: Sequence[int], start: int) -> list[Array]:
        """Return the logits of each batch, `(n_batch, n_vocab)`."""
        found, batch = [], self._runtime.batch
        for begin in range(0, len(tokens), self._runtime.n_batch):
            part = tokens[begin : begin + self._runtime.n_batch]
            batch.clear()
            first = batch.add(0, part, start=start + begin, num_logits=len(part))
            if code := self._thread.run(self._runtime.decode):
                raise ExportError(f"The exported model could not read {len(tokens)} tokens (code {code}).")
            found.append(np.stack([self._runtime.logits(first + row) for row in range(len(part))]))
        return found
