"""Decodes a few tokens with a tiny random model: does the engine that was just built run on this processor?

Place in the data's way: `engine_wheel.py` runs this file in a process of its own right after the
installation, before a large model is downloaded, and reads its exit status; a miscompiled kernel ends it by a
signal. The model has the shape of a real one (quantised matrices, so that AMX, AVX or NEON kernels are used)
but is written here, in the GGUF format, within a second.

Example: `python scripts/engine_smoke.py` prints "ok".

Source: GGUF, version 3: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

from __future__ import annotations

import ctypes
import math
import random
import struct
import sys
import tempfile
from pathlib import Path

_WIDTH, _HEADS, _FEED_FORWARD, _VOCAB, _LAYERS, _CONTEXT = 256, 4, 512, 512, 2, 256
_U32, _F32, _STRING = 4, 6, 8  # GGUF value types
_TYPE_F32, _TYPE_Q8_0 = 0, 8  # ggml tensor types
_ALIGNMENT = 32
_Q8_BLOCK = 32


def _string(text: str) -> bytes:
    return struct.pack("<Q", len(text)) + text.encode()


def _metadata() -> list[bytes]:
    numbers = {
        "context_length": _CONTEXT,
        "embedding_length": _WIDTH,
        "block_count": _LAYERS,
        "feed_forward_length": _FEED_FORWARD,
        "attention.head_count": _HEADS,
        "rope.dimension_count": _WIDTH // _HEADS,
        "vocab_size": _VOCAB,
    }
    items = [_string(f"llama.{key}") + struct.pack("<II", _U32, value) for key, value in numbers.items()]
    items.append(_string("llama.attention.layer_norm_rms_epsilon") + struct.pack("<If", _F32, 1e-5))
    for key, text in {"general.architecture": "llama", "tokenizer.ggml.model": "no_vocab"}.items():
        items.append(_string(key) + struct.pack("<I", _STRING) + _string(text))
    return items


def _tensors() -> list[tuple[str, tuple[int, ...]]]:
    wide, deep = (_WIDTH, _WIDTH), (_FEED_FORWARD, _WIDTH)
    tensors: list[tuple[str, tuple[int, ...]]] = [
        ("token_embd.weight", (_WIDTH, _VOCAB)),
        ("output_norm.weight", (_WIDTH,)),
        ("output.weight", (_WIDTH, _VOCAB)),
    ]
    for layer in range(_LAYERS):
        shapes = {"attn_norm": (_WIDTH,), "ffn_norm": (_WIDTH,), "ffn_down": deep}
        shapes |= {name: wide for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        shapes |= {name: (_WIDTH, _FEED_FORWARD) for name in ("ffn_gate", "ffn_up")}
        tensors += [(f"blk.{layer}.{name}.weight", shape) for name, shape in shapes.items()]
    return tensors


def _data(shape: tuple[int, ...], rng: random.Random) -> tuple[int, bytes]:
    count = math.prod(shape)
    if len(shape) == 1:
        return _TYPE_F32, struct.pack(f"<{count}f", *[1.0] * count)
    scale = struct.pack("<e", 0.001)
    blocks = (scale + bytes(rng.randrange(256) for _ in range(_Q8_BLOCK)) for _ in range(count // _Q8_BLOCK))
    return _TYPE_Q8_0, b"".join(blocks)


def write_model(path: Path) -> None:
    """Write the random model, about 1.5 MB."""
    rng = random.Random(7)
    metadata, infos, body = _metadata(), [], bytearray()
    for name, shape in _tensors():
        kind, data = _data(shape, rng)
        body += bytes(-len(body) % _ALIGNMENT)
        infos.append(
            _string(name)
            + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
            + struct.pack("<IQ", kind, len(body))
        )
        body += data
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(infos), len(metadata)) + b"".join(metadata) + b"".join(infos)
    path.write_bytes(head + bytes(-len(head) % _ALIGNMENT) + body)


def decode(path: Path, num_tokens: int = 48) -> list[float]:
    """Read a prompt, then one token, as a chat does.

    Args:
        path: The GGUF file.
        num_tokens: Prompt length; long enough for the kernels that work on many rows at once.

    Returns:
        The logits after the last token, one a word of the vocabulary.

    Raises:
        RuntimeError: The file can't be loaded or a step fails.
    """
    import llama_cpp

    llama_cpp.llama_backend_init()
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), llama_cpp.llama_model_default_params())
    if not model:
        raise RuntimeError("The engine can't load its test model.")
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = _CONTEXT
    context = llama_cpp.llama_init_from_model(model, params)
    for tokens in (list(range(1, num_tokens + 1)), [7]):
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        if llama_cpp.llama_decode(context, llama_cpp.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("The engine failed to decode.")
    logits = llama_cpp.llama_get_logits_ith(context, -1)[:_VOCAB]
    llama_cpp.llama_free(context)
    llama_cpp.llama_model_free(model)
    return [float(value) for value in logits]


def main() -> int:
    """Run the check; the exit status is 0 where the engine works."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "smoke.gguf"
        write_model(path)
        logits = decode(path)
    if not all(math.isfinite(value) for value in logits) or max(logits) == min(logits):
        sys.stderr.write("The engine computes nonsense.\n")
        return 1
    sys.stdout.write("ok\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
