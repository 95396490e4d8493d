"""Tiny random models in GGUF, and LoRA adapters on them as if trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGUFWriter

N_EMBD, N_FF, N_BLOCKS, N_HEADS, N_KV_HEADS, N_CTX = 256, 512, 2, 4, 2, 1024
END = "<|im_end|>"
TEMPLATE = "{% for message in messages %}<|im_start|>{{ message.content }}<|im_end|>{% endfor %}"


def vocabulary() -> list[str]:
    """One token a byte, as GPT-2 writes bytes, one merged pair, and three control tokens."""
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in plain]
    letters = {byte: chr(byte) for byte in plain} | {byte: chr(256 + i) for i, byte in enumerate(others)}
    return [*(letters[byte] for byte in range(256)), "Ġt", "<|endoftext|>", "<|im_start|>", END]


def write_tiny(path: Path, architecture: str, seed: int = 7) -> Path:
    """Write a random model in 32 bits, directly by the library and in llama.cpp's own row order."""
    rng = np.random.default_rng(seed)
    tokens = vocabulary()
    writer = GGUFWriter(path, architecture)
    writer.add_name("tiny")
    writer.add_context_length(N_CTX)
    writer.add_embedding_length(N_EMBD)
    writer.add_block_count(N_BLOCKS)
    writer.add_feed_forward_length(N_FF)
    writer.add_head_count(N_HEADS)
    writer.add_head_count_kv(N_KV_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    # transformers takes 128 for every qwen3, whatever the header says
    head_size = 128 if architecture == "qwen3" else N_EMBD // N_HEADS
    writer.add_rope_dimension_count(head_size)
    if architecture == "qwen3":
        writer.add_key_length(head_size)
        writer.add_value_length(head_size)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * 257 + [3] * 3)
    writer.add_token_merges(["Ġ t"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(259)
    writer.add_pad_token_id(257)
    writer.add_add_bos_token(False)
    writer.add_chat_template(TEMPLATE)

    def add(name: str, *shape: int) -> None:
        # Norms around 1; matrices large enough that attention is no plain mean, so that a wrong row shows.
        spread = 0.1 if len(shape) == 1 else 2.0 / np.sqrt(shape[-1])
        values = rng.normal(1.0 if name.endswith("norm.weight") else 0.0, spread, shape)
        writer.add_tensor(name, values.astype(np.float32))

    add("token_embd.weight", len(tokens), N_EMBD)
    add("output_norm.weight", N_EMBD)
    q_size, kv_size = head_size * N_HEADS, head_size * N_KV_HEADS
    for i in range(N_BLOCKS):
        for name, rows, columns in (
            ("attn_q", q_size, N_EMBD),
            ("attn_k", kv_size, N_EMBD),
            ("attn_v", kv_size, N_EMBD),
            ("attn_output", N_EMBD, q_size),
            ("ffn_gate", N_FF, N_EMBD),
            ("ffn_up", N_FF, N_EMBD),
            ("ffn_down", N_EMBD, N_FF),
        ):
            add(f"blk.{i}.{name}.weight", rows, columns)
            if architecture == "qwen2" and name in ("attn_q", "attn_k", "attn_v"):
                add(f"blk.{i}.{name}.bias", rows)
        for name in ("attn_norm", "ffn_norm"):
            add(f"blk.{i}.{name}.weight", N_EMBD)
        if architecture == "qwen3":
            for name in ("attn_q_norm", "attn_k_norm"):
                add(f"blk.{i}.{name}.weight", head_size)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def tiny_lora(model: Any, seed: int = 3, **options: Any) -> Any:
    """Wrap a model into a LoRA whose pairs are both random, as if trained."""
    import torch
    from peft import LoraConfig, get_peft_model

    options = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "k_proj", "v_proj", "down_proj"],
    } | options
    torch.manual_seed(seed)
    wrapped = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **options))
    for name, values in wrapped.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(values, std=0.05)
    return wrapped.eval()


TOKENS = [258, *b"Tell me of the sea and of the stars.", 259, *b"They are far."]
