"""Writes a LoRA adapter as GGUF, which llama.cpp loads beside the base.

Place in the data's way: the trainer's adapter folder -> `write_adapter` -> a file of a few megabytes; several
of them can be used with one base in memory.

Source: llama.cpp src/llama-adapter.cpp, which reads `adapter.lora.alpha` and a pair `NAME.lora_a`,
`NAME.lora_b` for each tensor, and multiplies with alpha / rank.

Example:
    write_adapter(LoraFolder.open(folder), BaseFile.open(base), Path("adapter.gguf"), provenance)
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ...core.errors import ExportError
from ...core.whole_file import whole_file
from .base_file import BaseFile
from .gguf_writer import Provenance
from .lora_folder import LoraFolder
from .weights import MergedWeights

# llama.cpp multiplies with these two in ways of their own: by row look-up, and with a tensor of another name.
_NOT_IN_ADAPTERS = ("token_embd.weight", "output.weight")


def write_adapter(adapter: LoraFolder, base: BaseFile, target: Path, provenance: Provenance) -> None:
    """Write an adapter in 32 bits.

    Args:
        adapter: The adapter.
        base: The base it was trained on, or the same model quantized in another way.
        target: The file; replaced when the new one is whole.
        provenance: Goes into the header.

    Raises:
        ExportError: The adapter does not fit the base, or changes what an adapter can't.
        StorageError: The disk is full or broken; nothing is left behind.
    """
    from gguf import GGUFWriter

    MergedWeights(base, adapter)  # refuses what does not fit
    with whole_file(target) as partial:
        writer = GGUFWriter(partial, base.layout.architecture)
        try:
            writer.add_string("general.type", "adapter")
            writer.add_string("general.name", provenance.name)
            writer.add_string("adapter.type", "lora")
            writer.add_float32("adapter.lora.alpha", adapter.alpha)
            writer.add_string("localsmith.base", provenance.base)
            writer.add_string("localsmith.base_sha256", provenance.base_sha256)
            writer.add_string("localsmith.run", provenance.run)
            for hf_name, pair in adapter.pairs.items():
                name = base.layout.gguf_name(hf_name)
                if name in _NOT_IN_ADAPTERS:
                    raise ExportError(
                        f"An adapter file can't change {name}.", "Export the merged model instead."
                    )
                # llama.cpp knows one alpha for all layers: what a layer's scale differs by goes into b.
                factor = pair.scale * pair.a.shape[0] / adapter.alpha
                b = base.layout.to_gguf(name, pair.b) * np.float32(factor)
                writer.add_tensor(f"{name}.lora_a", np.ascontiguousarray(pair.a))
                writer.add_tensor(f"{name}.lora_b", np.ascontiguousarray(b))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()
