"""BERT sentence embeddings in plain torch: sentence-transformers' vectors, ready in a third of the time.

Place in the data's way: runs in the embedder's child process only. Importing sentence-transformers takes five
times as long as importing torch, and more than twice the memory, and every start of Localsmith would wait for
it. Folders of the commonest make (BERT, mean or first-token pooling) are therefore computed here; every other
folder goes through sentence-transformers. A test holds the two to the same vectors.

Example:
    >>> BertEncoder(EmbeddingFolder.read(folder), "cpu").encode(["a text"]).shape  # doctest: +SKIP
    (1, 384)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from .folder import EmbeddingFolder

if TYPE_CHECKING:
    import torch

_POOLINGS = (("mean_tokens",), ("cls_token",))
_MODULES = (("Transformer", "Pooling"), ("Transformer", "Pooling", "Normalize"))


def can_encode(folder: EmbeddingFolder) -> bool:
    """Whether this file computes exactly what the folder asks for."""
    config = folder.config
    return (
        config.get("model_type") == "bert"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and config.get("hidden_act") == "gelu"
        and folder.pooling is not None
        and folder.pooling.modes in _POOLINGS
        and folder.module_types in _MODULES
        and not folder.do_lower_case
        and not folder.has_default_prompt
        and [file.name for file in folder.weight_files] == ["model.safetensors"]
    )


class BertEncoder:
    """A BERT model that turns texts into L2-normalised vectors.

    Source: Devlin et al. 2018, "BERT", section 3 (post-layer-norm encoder); Reimers and Gurevych 2019,
    "Sentence-BERT", section 3 (pooling).
    """

    def __init__(self, folder: EmbeddingFolder, device: str) -> None:
        """Load tokenizer and weights.

        Args:
            folder: A folder for which `can_encode` is true.
            device: A torch device.
        """
        from safetensors.torch import load_file

        weights = load_file(folder.weight_files[0])
        self._weights = {
            name.removeprefix("bert."): tensor.float().to(device)
            for name, tensor in weights.items()
            if tensor.is_floating_point()
        }
        self._device = device
        self._num_layers = int(folder.config["num_hidden_layers"])
        self._num_heads = int(folder.config["num_attention_heads"])
        self._eps = float(folder.config["layer_norm_eps"])
        self._takes_mean = folder.pooling is not None and folder.pooling.modes == ("mean_tokens",)
        self._tokenizer = folder.load_tokenizer()
        self._tokenizer.enable_truncation(folder.max_seq_length)
        self._tokenizer.enable_padding(pad_id=int(folder.config.get("pad_token_id") or 0))

    def encode(self, texts: list[str]) -> npt.NDArray[np.float32]:
        """Return (len(texts), dimension) float32, each row L2-normalised; the texts make one batch."""
        import torch

        encodings = self._tokenizer.encode_batch(texts)
        ids = torch.tensor([encoding.ids for encoding in encodings], device=self._device)  # (batch, length)
        mask = torch.tensor([encoding.attention_mask for encoding in encodings], device=self._device).bool()
        with torch.inference_mode():
            hidden = self._encode_tokens(ids, mask)  # (batch, length, dimension)
            if self._takes_mean:
                kept = mask.unsqueeze(-1).to(hidden.dtype)
                pooled = (hidden * kept).sum(1) / kept.sum(1)
            else:
                pooled = hidden[:, 0]
            vectors = torch.nn.functional.normalize(pooled, dim=1)
        rows: npt.NDArray[np.float32] = vectors.cpu().numpy()
        return rows

    def _encode_tokens(self, ids: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        w = self._weights
        positions = w["embeddings.position_embeddings.weight"][: ids.shape[1]]
        x = w["embeddings.word_embeddings.weight"][ids] + positions
        x = self._norm(x + w["embeddings.token_type_embeddings.weight"][0], "embeddings")
        visible = mask[
            :, None, None, :
        ]  # (batch, 1, 1, length): every token sees the tokens that are no padding
        for i in range(self._num_layers):
            layer = f"encoder.layer.{i}"
            x = self._norm(x + self._attend(x, visible, layer), f"{layer}.attention.output")
            x = self._norm(x + self._feed_forward(x, layer), f"{layer}.output")
        return x

    def _attend(self, x: torch.Tensor, visible: torch.Tensor, layer: str) -> torch.Tensor:
        from torch.nn import functional

        batch, length, width = x.shape
        query, key, value = (
            self._linear(x, f"{layer}.attention.self.{part}")
            .view(batch, length, self._num_heads, width // self._num_heads)
            .transpose(1, 2)  # (batch, heads, length, width of a head)
            for part in ("query", "key", "value")
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=visible)
        return self._linear(
            mixed.transpose(1, 2).reshape(batch, length, width), f"{layer}.attention.output.dense"
        )

    def _feed_forward(self, x: torch.Tensor, layer: str) -> torch.Tensor:
        from torch.nn import functional

        inner = functional.gelu(self._linear(x, f"{layer}.intermediate.dense"))
        return self._linear(inner, f"{layer}.output.dense")

    def _linear(self, x: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        return functional.linear(x, self._weights[f"{name}.weight"], self._weights[f"{name}.bias"])

    def _norm(self, x: torch.Tensor, name: str) -> torch.Tensor:
        from torch.nn import functional

        w = self._weights
        name = f"{name}.LayerNorm"
        return functional.layer_norm(x, (x.shape[-1],), w[f"{name}.weight"], w[f"{name}.bias"], self._eps)
