"""Where a trained tensor goes in a GGUF file: its name there, and the order of its rows.

Place in the data's way: a trainer's weights carry Hugging Face names -> `TensorLayout` -> `weights` and
`adapter` hand llama.cpp's names and row order to the writers.

llama.cpp keeps the query and key rows of the architecture `llama` in another order than transformers does:
rotary pairs lie beside each other there, and half a head apart here. The other architectures are alike.

Example:
    >>> TensorLayout("qwen2", num_blocks=2, num_heads=4, num_kv_heads=2).gguf_name("model.norm.weight")
    'output_norm.weight'
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import ExportError

if TYPE_CHECKING:
    from gguf import GGUFReader

Array = npt.NDArray[np.float32]

# Whether rotary rows are reordered; each architecture here is proven by a round trip in the tests.
_ROTARY_ROWS_ARE_PAIRED = {"llama": True, "qwen2": False, "qwen3": False}
_SUFFIXES = (".weight", ".bias")


@dataclass(frozen=True, slots=True)
class TensorLayout:
    """Names and row order of one model's tensors in GGUF.

    Attributes:
        architecture: Name by which llama.cpp knows it, for example "qwen2".
        num_blocks: Transformer blocks.
        num_heads: Query heads of a block.
        num_kv_heads: Key heads of a block.
    """

    architecture: str
    num_blocks: int
    num_heads: int
    num_kv_heads: int

    def gguf_name(self, name: str) -> str:
        """Return the GGUF name of a tensor that transformers calls `name`.

        Raises:
            ExportError: A model of this architecture has no such tensor in GGUF.
        """
        found = _names(self.architecture, self.num_blocks).get_name(name, try_suffixes=_SUFFIXES)
        if found is None:
            raise ExportError(
                f"{name} has no place in a GGUF file of the architecture {self.architecture}.",
                "Only weights that the base has too can be exported; merge adapters of other kinds first.",
            )
        return str(found)

    def to_gguf(self, gguf_name: str, values: Array) -> Array:
        """Return a tensor, or the output side of a low-rank pair, with its rows as llama.cpp orders them.

        Args:
            gguf_name: Name of the tensor in GGUF.
            values: `(n_rows, ...)` as transformers has it.

        Source: llama.cpp conversion/llama.py, `LlamaModel.permute`; transformers undoes it when it loads a
        GGUF, `LlamaTensorProcessor`.
        """
        if not _ROTARY_ROWS_ARE_PAIRED[self.architecture]:
            return values
        part = gguf_name.split(".")[-2]
        heads = {"attn_q": self.num_heads, "attn_k": self.num_kv_heads}.get(part)
        if heads is None:
            return values
        # (heads, half, pair element) -> (heads, pair element, half)
        halves = values.reshape(heads, 2, values.shape[0] // heads // 2, *values.shape[1:])
        return halves.swapaxes(1, 2).reshape(values.shape)


def layout_of(reader: GGUFReader) -> TensorLayout:
    """Return the layout of an open GGUF file.

    Raises:
        ExportError: Its architecture is not one whose export is tested, or its header lacks a number.
    """
    architecture = str(_value(reader, "general.architecture"))
    if architecture not in _ROTARY_ROWS_ARE_PAIRED:
        raise ExportError(
            f"Models of the architecture {architecture!r} can't be exported from a GGUF base; "
            f"{', '.join(sorted(_ROTARY_ROWS_ARE_PAIRED))} can.",
            "Train from the Hugging Face folder of the same model: llama.cpp's converter does the rest.",
        )
    num_heads = int(_value(reader, f"{architecture}.attention.head_count"))
    kv_key = f"{architecture}.attention.head_count_kv"
    return TensorLayout(
        architecture=architecture,
        num_blocks=int(_value(reader, f"{architecture}.block_count")),
        num_heads=num_heads,
        num_kv_heads=int(_value(reader, kv_key)) if kv_key in reader.fields else num_heads,
    )


def _value(reader: GGUFReader, key: str) -> Any:
    if key not in reader.fields:
        raise ExportError(f"The base has no {key} in its header.", "Pull the base model again.")
    return reader.fields[key].contents()


@lru_cache(maxsize=8)
def _names(architecture: str, num_blocks: int) -> Any:
    from gguf import MODEL_ARCH_NAMES, get_tensor_name_map

    arch = next(key for key, name in MODEL_ARCH_NAMES.items() if name == architecture)
    return get_tensor_name_map(arch, num_blocks)
