"""The three classes of models, from scratch: an encoder, a decoder, an encoder-decoder.

Place in the data's way: settings and a vocabulary -> `new_model`, with first weights by the seed -> trained
-> `load_model` for its uses. The classes are transformers' own: ModernBERT, Llama and T5 (version 1.1).
ModernBERT rather than BERT, because with rotary positions so small a model finds a token's neighbours in far
fewer steps.

Source: Warner et al. 2024, "Smarter, Better, Faster, Longer" (ModernBERT), section 2; Touvron et al. 2023,
"LLaMA", section 2.2; Raffel et al. 2020 (T5), section 2.1. Sizes: Turc et al. 2019, "Well-Read Students Learn
Better", table 1, BERT-Tiny to BERT-Medium.

Example:
    model = new_model("decoder", "tiny", tokenizer, max_tokens=128)
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...core.errors import ModelLoadError
from ..objectives.objective import Objective, ObjectiveName
from .config import Architecture, Size

_HEAD_SIZE = 64
# Three matrices in place of two, two thirds as wide, have as many weights (Shazeer 2020, section 2); a
# multiple of 32 can be quantized.
_GATED_WIDTHS = {128: 352, 256: 704, 512: 1376}


@dataclass(frozen=True, slots=True)
class Shape:
    """How large a model is.

    Attributes:
        num_layers: Transformer blocks; an encoder-decoder has as many on either side.
        d_model: Width of a token's vector.
    """

    num_layers: int
    d_model: int

    @property
    def num_heads(self) -> int:
        """Attention heads of a block."""
        return self.d_model // _HEAD_SIZE


SHAPES: Mapping[Size, Shape] = {
    "tiny": Shape(2, 128),
    "mini": Shape(4, 256),
    "small": Shape(4, 512),
    "medium": Shape(8, 512),
}


def new_model(architecture: Architecture, size: Size, tokenizer: Any, max_tokens: int) -> Any:
    """Return a model with random weights, drawn by torch's global generator.

    There is no dropout, as in Llama and T5 1.1.

    Args:
        architecture: Its class.
        size: How large it is.
        tokenizer: Its vocabulary.
        max_tokens: Most tokens that it reads; an encoder-decoder has no such bound.
    """
    make = {"encoder": _bert, "decoder": _llama, "encoder-decoder": _t5}[architecture]
    return make(SHAPES[size], tokenizer, max_tokens)


def new_objective(name: ObjectiveName, tokenizer: Any) -> Objective:
    """Return the objective of this name for a vocabulary."""
    from ..objectives.causal import CausalObjective
    from ..objectives.masked import DenoisingObjective, MaskedObjective
    from ..objectives.span_corruption import SpanCorruptionObjective

    if name == "causal":
        return CausalObjective()
    made: Mapping[str, type[MaskedObjective | DenoisingObjective | SpanCorruptionObjective]] = {
        "masked": MaskedObjective,
        "denoising": DenoisingObjective,
        "span-corruption": SpanCorruptionObjective,
    }
    return made[name](tokenizer)


def load_model(architecture: Architecture, folder: Path) -> tuple[Any, Any]:
    """Return the model that a run has trained, and its tokenizer.

    Args:
        architecture: Its class.
        folder: The run's `trained_dir`.

    Raises:
        ModelLoadError: The folder holds no such model.
    """
    import transformers

    classes: Mapping[str, Any] = {
        "encoder": transformers.ModernBertForMaskedLM,
        "decoder": transformers.LlamaForCausalLM,
        "encoder-decoder": transformers.T5ForConditionalGeneration,
    }
    try:
        model = classes[architecture].from_pretrained(str(folder), local_files_only=True)
        return model, transformers.AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as exc:
        raise ModelLoadError(f"The model in {folder} can't be loaded: {exc}", "Train it anew.") from exc


def _bert(shape: Shape, tokenizer: Any, max_tokens: int) -> Any:
    from transformers import ModernBertConfig, ModernBertForMaskedLM

    return ModernBertForMaskedLM(
        ModernBertConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.d_model,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            intermediate_size=_GATED_WIDTHS[shape.d_model],
            max_position_embeddings=max_tokens,
            layer_types=["full_attention"] * shape.num_layers,  # its local layers are for longer texts
            classifier_pooling="mean",
            pad_token_id=tokenizer.pad_token_id,
            cls_token_id=tokenizer.cls_token_id,
            bos_token_id=tokenizer.cls_token_id,
            sep_token_id=tokenizer.sep_token_id,
            eos_token_id=tokenizer.sep_token_id,
        )
    )


def _llama(shape: Shape, tokenizer: Any, max_tokens: int) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=shape.d_model,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_heads,
            intermediate_size=_GATED_WIDTHS[shape.d_model],
            max_position_embeddings=max_tokens,
            tie_word_embeddings=True,
            pad_token_id=tokenizer.pad_token_id,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )


def _t5(shape: Shape, tokenizer: Any, _: int) -> Any:
    # Its positions are relative: it has no longest text.
    from transformers import T5Config, T5ForConditionalGeneration

    options: dict[str, Any] = {
        "vocab_size": len(tokenizer),
        "d_model": shape.d_model,
        "num_layers": shape.num_layers,
        "num_heads": shape.num_heads,
        "d_kv": _HEAD_SIZE,
        "d_ff": _GATED_WIDTHS[shape.d_model],
        "feed_forward_proj": "gated-gelu",
        "dropout_rate": 0.0,
        "tie_word_embeddings": True,
        "pad_token_id": tokenizer.pad_token_id,
        "eos_token_id": tokenizer.eos_token_id,
        "decoder_start_token_id": tokenizer.pad_token_id,
    }
    return T5ForConditionalGeneration(T5Config(**options))
