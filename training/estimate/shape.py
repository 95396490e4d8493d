"""The sizes of a model that decide what its training costs, read without loading a weight.

Place in the data's way: a GGUF file or a Hugging Face folder -> `read_shape` -> `estimate_run`. Known are
decoders of the Llama family: RMS norm, rotary positions, grouped-query attention, a gated feed-forward.

Example:
    >>> read_shape(Path("SmolLM2-135M-Instruct.Q4_1.gguf")).num_parameters  # doctest: +SKIP
    134515008
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import TrainingError

# Whether queries, keys and values have a bias; None where the config says so itself.
_KNOWN_MODEL_TYPES: Mapping[str, bool | None] = {"llama": None, "mistral": False, "qwen2": True}
_ONLY_THESE = "Give a model of the Llama family: Llama, Mistral, Qwen2, SmolLM2."
# The linear layers of a block, as transformers and peft name them.
LINEARS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True, slots=True)
class ModelShape:
    """Sizes of a decoder.

    Attributes:
        vocabulary_size: Tokens that it knows.
        hidden_size: Width of the residual stream.
        intermediate_size: Width of the feed-forward.
        num_layers: Transformer blocks.
        num_heads: Heads of queries.
        num_kv_heads: Heads of keys and values.
        head_size: Width of a head.
        has_tied_embeddings: Whether the output layer is the embedding.
        has_attention_bias: Whether queries, keys and values have a bias.
        file_bytes: Size of the files that the weights are read from, which are mapped meanwhile; 0 for
            unknown.

    Raises:
        ValueError: A size is below 1.
    """

    vocabulary_size: int
    hidden_size: int
    intermediate_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    has_tied_embeddings: bool
    has_attention_bias: bool = False
    file_bytes: int = 0

    def __post_init__(self) -> None:
        """Check the sizes."""
        for name in ("vocabulary_size", "hidden_size", "intermediate_size", "num_layers", "num_heads"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")
        for name in ("num_kv_heads", "head_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")

    @property
    def query_size(self) -> int:
        """Width of all queries together."""
        return self.num_heads * self.head_size

    @property
    def kv_size(self) -> int:
        """Width of all keys together; that of the values is the same."""
        return self.num_kv_heads * self.head_size

    @property
    def linears(self) -> dict[str, tuple[int, int]]:
        """Inputs and outputs of a block's linear layers by name."""
        h, f, q, kv = self.hidden_size, self.intermediate_size, self.query_size, self.kv_size
        sizes = ((h, q), (h, kv), (h, kv), (q, h), (h, f), (h, f), (f, h))
        return dict(zip(LINEARS, sizes, strict=True))

    @property
    def linear_parameters(self) -> int:
        """Weights in all linear layers of all blocks: those that quantization makes smaller."""
        return self.num_layers * sum(inputs * outputs for inputs, outputs in self.linears.values())

    @property
    def bias_parameters(self) -> int:
        """Biases in all blocks."""
        return self.num_layers * (self.query_size + 2 * self.kv_size) if self.has_attention_bias else 0

    @property
    def norm_parameters(self) -> int:
        """Weights of all norms: two a block and the last one."""
        return (2 * self.num_layers + 1) * self.hidden_size

    @property
    def layer_parameters(self) -> int:
        """Parameters of one block."""
        return (self.linear_parameters + self.bias_parameters) // self.num_layers + 2 * self.hidden_size

    @property
    def embedding_parameters(self) -> int:
        """Parameters of the embedding, which is the largest matrix."""
        return self.vocabulary_size * self.hidden_size

    @property
    def num_parameters(self) -> int:
        """All parameters; a tied output layer is counted once."""
        embeddings = self.embedding_parameters * (1 if self.has_tied_embeddings else 2)
        return embeddings + self.linear_parameters + self.bias_parameters + self.norm_parameters


def read_shape(path: Path) -> ModelShape:
    """Read the sizes of a model.

    Args:
        path: A GGUF file, or a folder with a config.json.

    Raises:
        TrainingError: It can't be read, or is a model of another kind.
    """
    return _config_shape(path) if path.is_dir() else _gguf_shape(path)


def _gguf_shape(path: Path) -> ModelShape:
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (OSError, ValueError, KeyError, IndexError) as exc:
        raise TrainingError(f"{path} can't be read as GGUF: {exc}", "Pull the model again.") from exc
    shapes = {tensor.name: [int(size) for size in tensor.shape] for tensor in reader.tensors}
    try:
        hidden_size, vocabulary_size = shapes["token_embd.weight"]
        architecture = reader.fields["general.architecture"].contents()
        num_heads = int(reader.fields[f"{architecture}.attention.head_count"].contents())
        head_size = shapes["blk.0.attn_q.weight"][1] // num_heads
        shape = ModelShape(
            vocabulary_size=vocabulary_size,
            hidden_size=hidden_size,
            intermediate_size=shapes["blk.0.ffn_gate.weight"][1],
            num_layers=int(reader.fields[f"{architecture}.block_count"].contents()),
            num_heads=num_heads,
            num_kv_heads=shapes["blk.0.attn_k.weight"][1] // head_size,
            head_size=head_size,
            has_tied_embeddings="output.weight" not in shapes,
            has_attention_bias="blk.0.attn_q.bias" in shapes,
            file_bytes=path.stat().st_size,
        )
    except (KeyError, ValueError, IndexError, TypeError, ZeroDivisionError) as exc:
        raise _unknown(path, f"{exc} is missing or makes no sense") from exc
    return shape


def _config_shape(folder: Path) -> ModelShape:
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise TrainingError(f"{path} can't be read: {exc.strerror}.", "Give a model's folder.") from exc
    except ValueError as exc:
        raise TrainingError(f"{path} is not valid JSON: {exc}.", "Fetch the model again.") from exc
    model_type = config.get("model_type") if isinstance(config, dict) else None
    if model_type not in _KNOWN_MODEL_TYPES:
        raise _unknown(path, f"its model_type is {model_type!r}")
    try:
        return _of_config(config, sum(file.stat().st_size for file in folder.glob("*.safetensors")))
    except (KeyError, ValueError, TypeError, ZeroDivisionError) as exc:
        raise _unknown(path, f"{exc} is missing or makes no sense") from exc


def _of_config(config: Mapping[str, Any], file_bytes: int) -> ModelShape:
    num_heads = int(config["num_attention_heads"])
    hidden_size = int(config["hidden_size"])
    bias = _KNOWN_MODEL_TYPES[config["model_type"]]
    # What a config leaves out is transformers' default for all three types: no head_dim, untied, no bias.
    return ModelShape(
        vocabulary_size=int(config["vocab_size"]),
        hidden_size=hidden_size,
        intermediate_size=int(config["intermediate_size"]),
        num_layers=int(config["num_hidden_layers"]),
        num_heads=num_heads,
        num_kv_heads=int(config.get("num_key_value_heads") or num_heads),
        head_size=int(config.get("head_dim") or hidden_size // num_heads),
        has_tied_embeddings=bool(config.get("tie_word_embeddings", False)),
        has_attention_bias=bool(config.get("attention_bias", False)) if bias is None else bias,
        file_bytes=file_bytes,
    )


def _unknown(path: Path, why: str) -> TrainingError:
    return TrainingError(f"What training {path} costs can't be told: {why}.", hint=_ONLY_THESE)
