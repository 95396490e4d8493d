"""The GGUF file that a training run began from, opened for reading.

Place in the data's way: `export` and `adapter` open the base here; the writer copies its header and takes its
tensors' names and shapes.

Example:
    base = BaseFile.open(Path("model.gguf"))
    base.tensor("output_norm.weight").shape
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...core.errors import ExportError
from ...models.llama.library import check_magic
from .layout import Array, TensorLayout, layout_of

if TYPE_CHECKING:
    from gguf import GGUFReader


@dataclass(frozen=True, slots=True)
class BaseFile:
    """An open base; its weights stay on disk until they are asked for.

    Attributes:
        path: The file.
        reader: The header, and the weights as a memory map.
        layout: Names and row order of its tensors.
        tensors: The reader's tensors by name, in the file's order.
    """

    path: Path
    reader: GGUFReader
    layout: TensorLayout
    tensors: dict[str, Any]

    @classmethod
    def open(cls, path: Path) -> BaseFile:
        """Open a GGUF file.

        Raises:
            ModelLoadError: It can't be read or is no GGUF.
            ExportError: It is damaged, split into several files, or of an architecture that is not tested.
        """
        from gguf import GGUFReader

        check_magic(path)
        try:
            reader = GGUFReader(path)
        except (ValueError, KeyError, IndexError, OverflowError, TypeError) as exc:
            raise ExportError(f"{path.name} is damaged: {exc}.", "Pull the base model again.") from exc
        if "split.count" in reader.fields and int(reader.fields["split.count"].contents()) > 1:
            raise ExportError(
                f"{path.name} is one of several files of a split model.",
                "Join them first with llama.cpp's llama-gguf-split --merge.",
            )
        return cls(path, reader, layout_of(reader), {tensor.name: tensor for tensor in reader.tensors})

    def shape(self, name: str) -> tuple[int, ...]:
        """Return a tensor's shape, rows first as numpy and torch have it."""
        return tuple(int(size) for size in reversed(self.tensors[name].shape))

    def tensor(self, name: str) -> Array:
        """Return a tensor's values as `(n_rows, n_columns)` float32, in llama.cpp's row order."""
        from gguf import dequantize

        tensor = self.tensors[name]
        values = dequantize(tensor.data, tensor.tensor_type)
        return np.asarray(values, np.float32).reshape(self.shape(name))
