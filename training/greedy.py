"""Greedy completions of a batch of prompts by a model of transformers, whatever a method put around it.

Place in the data's way: tokens of prompts -> `continue_greedily` -> tokens of completions, for `writers`.

peft's own `generate` (0.21 with transformers 5.24) gives the tokens after the first one the wrong positions
where a prompt or a prefix was learned: what it then writes is not what the model learned. So what was learned
is handed to the base's `generate`, as embeddings before the prompt's or as keys and values that it holds
already. tests/training/test_greedy.py compares with one whole forward pass a token.

Example:
    completions = continue_greedily(model, [[1, 5, 9], [1, 7]], ends=[2], max_new_tokens=64)
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


def continue_greedily(
    model: Any, prompts: Sequence[Sequence[int]], ends: Sequence[int], max_new_tokens: int
) -> list[list[int]]:
    """Continue every prompt by its likeliest tokens.

    Args:
        model: A model of transformers, or one of peft around it, in evaluation mode.
        prompts: At least one prompt of at least one token each; they are padded at the left.
        ends: Tokens that end a completion; the first one also pads.
        max_new_tokens: Longest completion.

    Returns:
        The tokens behind each prompt, padded behind their end.
    """
    import torch

    device = next(model.parameters()).device
    length = max(len(prompt) for prompt in prompts)
    padded = [[ends[0]] * (length - len(prompt)) + list(prompt) for prompt in prompts]
    is_real = [[0] * (length - len(prompt)) + [1] * len(prompt) for prompt in prompts]
    tokens = torch.tensor(padded, device=device)
    mask = torch.tensor(is_real, device=device)
    with torch.inference_mode():
        generator, inputs, num_before = _inputs(model, tokens, mask)
        output = generator.generate(
            **inputs,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            eos_token_id=list(ends),
            pad_token_id=ends[0],
        )
    completions: list[list[int]] = output[:, num_before:].tolist()
    return completions


def _inputs(model: Any, tokens: Any, mask: Any) -> tuple[Any, dict[str, Any], int]:
    """Return who generates, from what, and how many tokens stand before the completions it returns."""
    import torch

    config = getattr(model, "peft_config", {}).get(getattr(model, "active_adapter", ""))
    if config is None or not config.is_prompt_learning:
        return model, {"input_ids": tokens, "attention_mask": mask}, tokens.shape[1]
    base, size = model.get_base_model(), (tokens.shape[0], config.num_virtual_tokens)
    learned = model.get_prompt(batch_size=tokens.shape[0])
    whole_mask = torch.cat((mask.new_ones(size), mask), dim=1)
    if config.peft_type == "PREFIX_TUNING":
        # tokens whose keys and values are there already are skipped; any stand for them
        held = torch.cat((tokens.new_zeros(size), tokens), dim=1)
        inputs = {"input_ids": held, "attention_mask": whole_mask, "cache": learned}
        return base, inputs, held.shape[1]
    embeddings = base.get_input_embeddings()(tokens)
    embedded = torch.cat((learned.to(embeddings.dtype), embeddings), dim=1)
    return base, {"inputs_embeds": embedded, "attention_mask": whole_mask}, 0
