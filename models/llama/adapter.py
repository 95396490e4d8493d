"""A LoRA adapter beside a base model: W x becomes W x + scale * (alpha / rank) * B A x, the base untouched.

Place in the data's way: a GGUF adapter that training exported -> `LlamaRuntime` loads it behind the base and
switches it on in the context. llama.cpp frees it with the model.

Source: Hu et al. 2021, "LoRA: Low-Rank Adaptation of Large Language Models" (arXiv 2106.09685), section 4.1;
the file's form is that of llama.cpp's src/llama-adapter.cpp.

Example:
    adapter = LoraAdapter(Path("adapter.gguf"), scale=0.5)
    engine = Engine(Path("base.gguf"), name="mine", settings=ModelSettings(), adapter=adapter)
"""

from __future__ import annotations

import ctypes
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ModelLoadError
from .library import LogMessages, check_magic

_HINT = "An adapter fits only the model it was trained on; take that as its base, or export it again."


@dataclass(frozen=True, slots=True)
class LoraAdapter:
    """An adapter's file and how strongly it acts.

    Attributes:
        path: The GGUF file.
        scale: Factor on the adapter's own scale, alpha / rank; 1 for as trained, 0 for the bare base.
    """

    path: Path
    scale: float = 1.0

    def load(self, api: Any, model: Any, messages: LogMessages) -> Any:
        """Read the adapter for a model that is loaded; returns llama.cpp's pointer.

        Raises:
            ModelLoadError: The file is damaged, or made for another architecture or other shapes.
        """
        check_magic(self.path)
        loaded = api.llama_adapter_lora_init(model, str(self.path).encode())
        if not loaded:
            reason = messages.last.rpartition("failed to apply lora adapter: ")[2]
            raise ModelLoadError(f"The adapter {self.path.name} can't be used: {reason}", _HINT)
        return loaded

    def switch_on(self, api: Any, context: Any, loaded: Any) -> None:
        """Let the adapter act in a context.

        Raises:
            ModelLoadError: llama.cpp refuses.
        """
        adapters = (api.llama_adapter_lora_p_ctypes * 1)(ctypes.cast(loaded, api.llama_adapter_lora_p_ctypes))
        if api.llama_set_adapters_lora(context, adapters, 1, (ctypes.c_float * 1)(self.scale)):
            raise ModelLoadError(f"The adapter {self.path.name} can't be switched on.", _HINT)
