"""Greedy completions are those of a whole forward pass a token, as in training, whatever the method."""

from __future__ import annotations

from typing import Any

import pytest
from localsmith.training.bases import Base, load_trainable
from localsmith.training.greedy import continue_greedily
from localsmith.training.methods.registry import method_of

PROMPTS = ([5, 9, 30, 31, 12, 7, 22], [8, 3, 40])
NUM_TOKENS = 8
END = 2


def moved(model: Any) -> Any:
    """Give every weight large random values, so that each place and token counts."""
    import torch

    torch.manual_seed(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return model.eval()


def by_whole_passes(model: Any, prompt: list[int]) -> list[int]:
    """Compute everything anew for every token, as training does; until the end."""
    import torch

    tokens = list(prompt)
    for _ in range(NUM_TOKENS):
        with torch.no_grad():
            mask = torch.ones(1, len(tokens), dtype=torch.long)
            logits = model(input_ids=torch.tensor([tokens]), attention_mask=mask).logits
        tokens.append(int(logits[0, -1].argmax()))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize("name", ["lora", "prompt", "prefix"])
def test_a_batch_is_continued_as_each_prompt_alone(name: str, tiny_base: Base) -> None:
    model = moved(method_of(name).prepare(load_trainable(tiny_base)))
    expected = [by_whole_passes(model, prompt) for prompt in PROMPTS]
    assert len({token for tokens in expected for token in tokens}) > 2, "this would prove nothing"
    written = continue_greedily(model, PROMPTS, [END], NUM_TOKENS)
    assert [tokens[: len(wanted)] for tokens, wanted in zip(written, expected, strict=True)] == expected
    alone = continue_greedily(model, PROMPTS[1:], [END], NUM_TOKENS)
    assert alone[0][: len(expected[1])] == expected[1]
