"""Writes a trained model as GGUF: the header of its base, the weights of the trainer.

Place in the data's way: the base's file and `weights` -> `write_gguf` -> a file in 16 bits that the engine
runs and `quantize` makes smaller. Tokenizer, chat template and hyperparameters are the base's own, value by
value: a tokenizer that went through another library's form comes back as another one.

Example:
    provenance = Provenance("trained", "small", sha256, "7")
    write_gguf(base, MergedWeights(base, adapter), Path("trained.gguf"), provenance)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ...core.errors import ExportError
from ...core.whole_file import whole_file
from .base_file import BaseFile
from .weights import Weights

if TYPE_CHECKING:
    from gguf import GGUFWriter

_F32, _F16 = 0, 1  # llama_ftype, llama.h
# What is said of the base's weights and is not so of these, and what the library writes itself.
_NOT_COPIED = (
    "GGUF.",
    "general.architecture",
    "general.name",
    "general.file_type",
    "localsmith.",
    "quantize.",
    "split.",
)
# Tables that llama.cpp keeps as tensors and that transformers computes: no training changes them.
_TABLES = ("rope_freqs.weight", "rope_factors_long.weight", "rope_factors_short.weight")
_TEMPLATE = "tokenizer.chat_template"  # and, with a suffix, templates for special uses
_EMBEDDINGS, _OUTPUT = "token_embd.weight", "output.weight"


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where a trained model comes from; written into its file.

    Attributes:
        name: Its own name.
        base: Name of the base.
        base_sha256: SHA-256 of the base's file, lower-case hex.
        run: Identifier of the training run, "" for none.
    """

    name: str
    base: str
    base_sha256: str
    run: str = ""


def write_gguf(
    base: BaseFile,
    weights: Weights,
    target: Path,
    provenance: Provenance,
    *,
    template: str = "",
    is_half: bool = True,
    on_progress: Callable[[float], None] | None = None,
) -> None:
    """Write a model; at any time one tensor is in memory.

    Args:
        base: The base that was trained.
        weights: The trained weights.
        target: The file; replaced when the new one is whole.
        provenance: Goes into the header.
        template: Chat template that was trained with, Jinja source; "" for the base's own.
        is_half: Matrices in 16 bits (vectors stay in 32); False for all in 32.
        on_progress: Called with the share written, 0 to 1.

    Raises:
        ExportError: A tensor is missing, too many, of another shape than the base's, or not finite.
        StorageError: The disk is full or broken; nothing is left behind.
    """
    from gguf import GGUFWriter

    _check_names(base, weights)
    with whole_file(target) as partial:
        writer = GGUFWriter(partial, base.layout.architecture)
        try:
            _add_header(writer, base, provenance, template, is_half)
            for name in base.tensors:
                shape, dtype = base.shape(name), _dtype(base.shape(name), is_half)
                nbytes = int(np.prod(shape)) * dtype.itemsize
                writer.add_tensor_info(name, shape, dtype, nbytes)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_ti_data_to_file()
            for i, name in enumerate(base.tensors):
                writer.write_tensor_data(_values(base, weights, name, is_half))
                if on_progress:
                    on_progress((i + 1) / len(base.tensors))
        finally:
            writer.close()


def _check_names(base: BaseFile, weights: Weights) -> None:
    names = set(weights.names())
    missing = [name for name in base.tensors if name not in names and name not in _TABLES]
    if missing:
        raise ExportError(
            f"The trained model lacks {len(missing)} of the base's tensors, the first of them {missing[0]}.",
            "Name the base that was trained.",
        )
    unknown = names - set(base.tensors)
    if _OUTPUT in unknown and _EMBEDDINGS in names:
        if not np.array_equal(weights.tensor(_OUTPUT), weights.tensor(_EMBEDDINGS)):
            raise ExportError(
                "The output layer was trained apart from the embeddings, which the base shares with it.",
                "Leave lm_head out of what is trained, or train the embeddings with it.",
            )
        unknown.remove(_OUTPUT)
    if unknown:
        raise ExportError(
            f"The trained model has {len(unknown)} tensors that the base has not, as {min(unknown)}.",
            "Name the base that was trained.",
        )


def _add_header(
    writer: GGUFWriter, base: BaseFile, provenance: Provenance, template: str, is_half: bool
) -> None:
    from gguf import GGUFValueType

    for key, field in base.reader.fields.items():
        if key.startswith(_NOT_COPIED) or (template and key.startswith(_TEMPLATE)):
            continue
        try:
            value = field.contents()
        except UnicodeDecodeError as exc:
            raise ExportError(f"The base's {key} is not UTF-8.", "Pull the base model again.") from exc
        kind = field.types[0]
        if kind == GGUFValueType.ARRAY and len(value) == 0:
            continue  # the library can't write an empty array; to llama.cpp none is the same
        writer.add_key_value(key, value, kind, field.types[-1] if kind == GGUFValueType.ARRAY else None)
    writer.data_alignment = int(base.reader.alignment)
    writer.add_uint32("general.file_type", _F16 if is_half else _F32)
    for key, text in (
        (_TEMPLATE, template),
        ("general.name", provenance.name),
        ("localsmith.base", provenance.base),
        ("localsmith.base_sha256", provenance.base_sha256),
        ("localsmith.run", provenance.run),
    ):
        writer.add_string(key, text)


def _dtype(shape: tuple[int, ...], is_half: bool) -> np.dtype[Any]:
    return np.dtype(np.float16 if is_half and len(shape) > 1 else np.float32)


def _values(base: BaseFile, weights: Weights, name: str, is_half: bool) -> npt.NDArray[Any]:
    shape = base.shape(name)
    values = base.tensor(name) if name in _TABLES else weights.tensor(name)
    if values.shape != shape:
        raise ExportError(
            f"{name} has the shape {values.shape}, in the base it is {shape}.",
            "Name the base that was trained; a vocabulary that was enlarged can't be exported.",
        )
    with np.errstate(over="ignore"):
        stored = values.astype(_dtype(shape, is_half))
    if not np.isfinite(stored).all():
        raise ExportError(
            f"{name} holds values that are not finite or too large for 16 bits.",
            "Export an earlier checkpoint; lower the learning rate if the loss was not a number.",
        )
    return np.ascontiguousarray(stored)
