"""A decoder that was pre-trained here as GGUF: there is no base whose header could be copied.

Place in the data's way: a finished pre-training run -> `export_decoder` writes header, vocabulary and
weights -> `export` quantizes the file and compares it with the trained model -> a GGUF file that the engine
runs. llama.cpp's own converter refuses vocabularies that it does not know by name.

Example:
    exported = export_decoder(decoder, target_dir, "Q8_0", held_out_texts, name="notes")
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ...core.errors import ExportError
from ...core.whole_file import whole_file
from ...models.llama.quantize import Quantization
from .export import Exported, VerifyRow, export
from .layout import TensorLayout
from .verify import Limits
from .weights import ModelWeights

_NORMAL, _CONTROL = 1, 3  # llama_token_type, llama.h
_F32 = 0  # llama_ftype, llama.h
_PRE_TOKENIZER = "gpt-2"
"""How llama.cpp calls the pattern by which `tokenizers`' ByteLevel cuts words."""
_OUTPUT = "output.weight"


def export_decoder(
    model: Any,
    tokenizer: Any,
    target_dir: Path,
    quantization: Quantization,
    texts: Sequence[str],
    *,
    name: str,
    run: str = "",
    limits: Limits | None = None,
) -> Exported:
    """Write a pre-trained decoder as GGUF, quantize it and compare it with the model.

    Args:
        model: Of the class Llama.
        tokenizer: Its byte-level vocabulary.
        target_dir: Folder of the result, `NAME-QUANTIZATION.gguf`.
        quantization: How small.
        texts: Held-out texts, which both read and continue.
        name: What the model is called: letters, digits, `.`, `_`, `-`.
        run: Identifier of the training run, for the file's header.
        limits: What the file may differ by; None for those of the quantization.

    Raises:
        ExportError: The model is no decoder, or the file is not the model within the limits.
        StorageError: The disk is full or broken; nothing new is left in `target_dir`.
        ModelLoadError: The written file can't be loaded.
        ValueError: A bad argument.
    """
    rows = [VerifyRow(text[: len(text) // 2], text[len(text) // 2 :]) for text in texts if text]
    target_dir.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target_dir, prefix=".from-scratch-") as work:
        full = Path(work) / f"{name}.gguf"
        write_decoder(model, tokenizer, full, name)
        return export(model, full, target_dir, quantization, rows, name=name, run=run, limits=limits)


def write_decoder(model: Any, tokenizer: Any, target: Path, name: str) -> None:
    """Write a decoder in 32 bits.

    Args:
        model: Of the class Llama.
        tokenizer: Its byte-level vocabulary.
        target: The file; replaced when the new one is whole.
        name: What the model is called in the header.

    Raises:
        ExportError: The model is of another class.
        StorageError: The disk is full or broken; nothing is left behind.
    """
    from gguf import GGUFWriter

    config = model.config
    if config.model_type != "llama":
        raise ExportError(
            f"A model of the class {config.model_type} can't be served by the engine; a decoder can.",
            "Use it from Python: localsmith.training.uses.",
        )
    layout = TensorLayout(
        "llama", config.num_hidden_layers, config.num_attention_heads, config.num_key_value_heads
    )
    weights = ModelWeights(model, layout)
    with whole_file(target) as partial:
        writer = GGUFWriter(partial, layout.architecture)
        try:
            writer.add_name(name)
            writer.add_file_type(_F32)
            _add_shape(writer, config)
            _add_vocabulary(writer, tokenizer)
            for tensor in weights.names():
                if tensor != _OUTPUT or not config.tie_word_embeddings:
                    writer.add_tensor(tensor, weights.tensor(tensor))
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
        finally:
            writer.close()


def _add_shape(writer: Any, config: Any) -> None:
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(config.rope_parameters["rope_theta"])
    writer.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    writer.add_vocab_size(config.vocab_size)


def _add_vocabulary(writer: Any, tokenizer: Any) -> None:
    """Write tokens and merges as llama.cpp's `gpt2` has them."""
    stored = json.loads(tokenizer.backend_tokenizer.to_str())["model"]
    special = set(tokenizer.all_special_ids)
    tokens = tokenizer.convert_ids_to_tokens(list(range(len(tokenizer))))
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in stored["merges"]]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre(_PRE_TOKENIZER)
    writer.add_token_list(tokens)
    writer.add_token_types([_CONTROL if i in special else _NORMAL for i in range(len(tokens))])
    if merges:
        writer.add_token_merges(merges)
    writer.add_bos_token_id(tokenizer.bos_token_id)
    writer.add_eos_token_id(tokenizer.eos_token_id)
    writer.add_pad_token_id(tokenizer.pad_token_id)
    writer.add_add_bos_token(False)
