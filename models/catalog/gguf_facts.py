"""What a GGUF file says about itself: read from its header, without llama.cpp and without the weights.

Place in the data's way: `pull` of a person's own file -> `read_gguf_facts` -> window and size in
`localsmith models list`; a file that is no GGUF is refused before it is copied.

Source: GGUF specification, ggml/docs/gguf.md (version 3; version 2 differs in nothing that is read here).

Example:
    >>> read_gguf_facts(path).n_ctx_train  # doctest: +SKIP
    32768
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...core.errors import ModelLoadError

_MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_FORMATS = {
    0: "<B",
    1: "<b",
    2: "<H",
    3: "<h",
    4: "<I",
    5: "<i",
    6: "<f",
    7: "<?",
    10: "<Q",
    11: "<q",
    12: "<d",
}
_STRING, _ARRAY = 8, 9
_MAX_STRING_BYTES = 1 << 24
_MAX_ITEMS = 1 << 26


@dataclass(frozen=True, slots=True)
class GgufFacts:
    """The facts of a GGUF file.

    Attributes:
        kind: "model", or another kind of file such as "adapter".
        architecture: Name by which llama.cpp knows it, for example "qwen2".
        name: Name that its maker gave it, or "".
        licence: Licence that its maker stated, or "".
        n_ctx_train: Tokens that it was trained to read; 0 where it does not say.
        parameters: Weights in all its tensors.
        n_layer: Transformer blocks; 0 where it does not say.
        kv_elements: Elements of keys and values that a token takes in the KV cache, all layers together; 0
            where it can't be told.
    """

    kind: str
    architecture: str
    name: str
    licence: str
    n_ctx_train: int
    parameters: int
    n_layer: int
    kv_elements: int


def read_gguf_facts(path: Path) -> GgufFacts:
    """Read the header of a GGUF file.

    Raises:
        ModelLoadError: The file can't be read, is no GGUF, or its header is damaged.
    """
    try:
        with path.open("rb") as file:
            return _read(file, path)
    except OSError as exc:
        raise ModelLoadError(f"{path} can't be read: {exc.strerror}.") from exc
    except (struct.error, KeyError, ValueError, UnicodeDecodeError, OverflowError) as exc:
        raise ModelLoadError(f"{path} is damaged: its GGUF header ends early or makes no sense.") from exc


def _read(file: BinaryIO, path: Path) -> GgufFacts:
    if file.read(4) != _MAGIC:
        raise ModelLoadError(
            f"{path} is not a GGUF file.",
            "Chat models are GGUF files; embedding models are set by embedder.name.",
        )
    version, num_tensors, num_values = struct.unpack("<IQQ", _take(file, 20))
    if version not in _VERSIONS:
        raise ModelLoadError(f"{path} is GGUF version {version}; versions 2 and 3 can be read.")
    values: dict[str, object] = {}
    for _ in range(_bounded(num_values)):
        key = _string(file)
        values[key] = _value(file, *struct.unpack("<I", _take(file, 4)))
    parameters = sum(_tensor_size(file) for _ in range(_bounded(num_tensors)))
    architecture = str(values["general.architecture"])
    return GgufFacts(
        kind=str(values.get("general.type", "model")),
        architecture=architecture,
        name=str(values.get("general.name", "")),
        licence=str(values.get("general.license", "")),
        n_ctx_train=_number(values, f"{architecture}.context_length"),
        parameters=parameters,
        n_layer=_number(values, f"{architecture}.block_count"),
        kv_elements=_kv_elements(values, architecture),
    )


def _number(values: dict[str, object], key: str) -> int:
    value = values.get(key)
    return value if isinstance(value, int) else 0


def _kv_elements(values: dict[str, object], architecture: str) -> int:
    num_heads = _number(values, f"{architecture}.attention.head_count")
    num_kv_heads = _number(values, f"{architecture}.attention.head_count_kv") or num_heads
    head_size = _number(values, f"{architecture}.embedding_length") // max(1, num_heads)
    key_size = _number(values, f"{architecture}.attention.key_length") or head_size
    value_size = _number(values, f"{architecture}.attention.value_length") or head_size
    return _number(values, f"{architecture}.block_count") * num_kv_heads * (key_size + value_size)


def _tensor_size(file: BinaryIO) -> int:
    _string(file)
    (num_dimensions,) = struct.unpack("<I", _take(file, 4))
    shape = struct.unpack(f"<{_bounded(num_dimensions)}Q", _take(file, 8 * num_dimensions))
    _take(file, 12)  # type and offset
    return math.prod(shape)


def _value(file: BinaryIO, kind: int) -> object:
    if kind == _STRING:
        return _string(file)
    if kind == _ARRAY:
        _skip_array(file)
        return None
    form = _FORMATS[kind]
    return struct.unpack(form, _take(file, struct.calcsize(form)))[0]


def _skip_array(file: BinaryIO) -> None:
    kind, count = struct.unpack("<IQ", _take(file, 12))
    if kind in _FORMATS:
        file.seek(struct.calcsize(_FORMATS[kind]) * _bounded(count), 1)
        return
    for _ in range(_bounded(count)):
        _value(file, kind)


def _string(file: BinaryIO) -> str:
    (length,) = struct.unpack("<Q", _take(file, 8))
    if length > _MAX_STRING_BYTES:
        raise ValueError(f"a string of {length} bytes")
    return _take(file, length).decode("utf-8", errors="replace")


def _take(file: BinaryIO, size_bytes: int) -> bytes:
    data = file.read(size_bytes)
    if len(data) < size_bytes:
        raise ValueError("the file ends early")
    return data


def _bounded(count: int) -> int:
    if count > _MAX_ITEMS:
        raise ValueError(f"{count} items")
    return count
