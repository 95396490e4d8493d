"""A LoRA adapter as peft saves it: its pairs of small matrices and the scale of each.

Place in the data's way: the trainer saves an adapter -> `LoraFolder` -> merged into the base by
`weights.MergedWeights`, or written beside it by `adapter`.

Source: Hu et al. 2021, LoRA, section 4.1: the trained layer is `W + B A * alpha / r`; `alpha / sqrt(r)` for
rank-stabilised LoRA (Kalajdzievski 2023).

Example:
    adapter = LoraFolder.open(Path("runs/7/adapter"))
    pair = adapter.pairs["model.layers.0.self_attn.q_proj.weight"]
    pair.a.shape, pair.b.shape, pair.scale
"""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ExportError
from .layout import Array

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
_KEY = re.compile(r"base_model\.model\.(?P<module>.+)\.lora_(?P<side>[AB])\.weight")
_MERGE_HINT = "Call merge_and_unload() on the trained model and export what it returns."
# Options that add something to the layer which is not B A * scale, with the value that turns each off.
_UNSUPPORTED = {
    "use_dora": False,
    "bias": "none",
    "lora_bias": False,
    "modules_to_save": None,
    "trainable_token_indices": None,
    "target_parameters": None,
    "fan_in_fan_out": False,
}


@dataclass(frozen=True, slots=True)
class LoraPair:
    """The two small matrices of one layer.

    Attributes:
        a: `(rank, n_columns)`, applied first.
        b: `(n_rows, rank)`.
        scale: What their product is multiplied with.
    """

    a: Array
    b: Array
    scale: float

    @property
    def delta(self) -> Array:
        """What is added to the base's weight, `(n_rows, n_columns)`."""
        return (self.b @ self.a) * self.a.dtype.type(self.scale)


@dataclass(frozen=True, slots=True)
class LoraFolder:
    """A LoRA adapter read into memory; it is small.

    Attributes:
        path: The folder.
        alpha: The numerator of the scale where a layer has no other.
        pairs: By the name of the weight they change, as transformers calls it.
    """

    path: Path
    alpha: float
    pairs: dict[str, LoraPair]

    @classmethod
    def open(cls, path: Path) -> LoraFolder:
        """Read an adapter.

        Raises:
            ExportError: A file is missing or damaged, or the adapter is not a plain LoRA.
        """
        config = _config(path)
        sides = _sides(path)
        pairs = {}
        for module, found in sides.items():
            if set(found) != {"A", "B"} or found["A"].shape[0] != found["B"].shape[1]:
                raise ExportError(
                    f"The adapter's pair for {module} is incomplete.", "Train the adapter anew."
                )
            rank = found["A"].shape[0]
            alpha = _for_module(config.get("alpha_pattern") or {}, module, config["lora_alpha"])
            scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
            pairs[f"{module}.weight"] = LoraPair(found["A"], found["B"], float(scale))
        if not pairs:
            raise ExportError(f"{path} holds an adapter without weights.", "Train the adapter anew.")
        return cls(path, float(config["lora_alpha"]), pairs)


def is_adapter(path: Path) -> bool:
    """Whether the folder holds an adapter rather than a whole model."""
    return (path / CONFIG_FILE).is_file()


def _config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
        kind, alpha = str(config["peft_type"]), float(config["lora_alpha"])
    except (OSError, ValueError, KeyError, TypeError) as exc:
        if isinstance(exc, KeyError) and "peft_type" in config and config["peft_type"] != "LORA":
            raise _not_plain(f"its kind is {config['peft_type']}") from exc
        raise ExportError(f"{path / CONFIG_FILE} can't be read: {exc}.", "Name an adapter's folder.") from exc
    if kind != "LORA":
        raise _not_plain(f"its kind is {kind}")
    if not math.isfinite(alpha) or alpha == 0:
        raise ExportError(f"The adapter's lora_alpha is {alpha}.", "Train the adapter anew.")
    for option, off in _UNSUPPORTED.items():
        if (value := config.get(option, off)) not in (off, None):
            raise _not_plain(f"{option} is {value!r}")
    return dict(config)


def _not_plain(reason: str) -> ExportError:
    return ExportError(f"The adapter is not a plain LoRA: {reason}.", _MERGE_HINT)


def _sides(path: Path) -> dict[str, dict[str, Array]]:
    from safetensors import SafetensorError, safe_open

    sides: dict[str, dict[str, Array]] = {}
    try:
        with safe_open(path / WEIGHTS_FILE, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118 - not a mapping
                match = _KEY.fullmatch(key)
                if match is None:
                    raise _not_plain(f"it holds {key}")
                values = file.get_tensor(key).float().numpy()
                sides.setdefault(match["module"], {})[match["side"]] = values
    except (OSError, SafetensorError) as exc:
        raise ExportError(f"{path / WEIGHTS_FILE} can't be read: {exc}.", "Train the adapter anew.") from exc
    return sides


def _for_module(patterns: dict[str, float], module: str, default: float) -> float:
    """Return the value of the pattern that fits a module; peft matches the end of the dotted name."""
    return next((v for key, v in patterns.items() if re.match(rf"(.*\.)?({key})$", module)), default)
