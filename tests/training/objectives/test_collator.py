"""Batches under an objective: noise by a block's place alone, labels that `Trainer` counts right."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from localsmith.training.batches import IGNORED
from localsmith.training.objectives.causal import CausalObjective
from localsmith.training.objectives.collator import BlockDataset, ObjectiveCollator, noise_seed, token_loss
from localsmith.training.objectives.masked import MaskedObjective
from localsmith.training.objectives.span_corruption import SpanCorruptionObjective


def rows(num: int) -> list[dict[str, Any]]:
    return [{"block": list(range(100 + i, 140 + i)), "place": i} for i in range(num)]


@pytest.mark.parametrize("kind", ["encoder", "encoder-decoder"])
def test_noise_hangs_on_seed_and_place_and_on_nothing_that_was_drawn_before(
    tokenizers: dict[str, Any], kind: str
) -> None:
    make = {"encoder": MaskedObjective, "encoder-decoder": SpanCorruptionObjective}[kind]
    collate = ObjectiveCollator(make(tokenizers[kind]), seed=7)
    together = collate(rows(4))
    torch.rand(3)
    alone = ObjectiveCollator(make(tokenizers[kind]), seed=7)([rows(4)[2]])
    for name, values in alone.items():
        assert torch.equal(values[0], together[name][2])
    other = ObjectiveCollator(make(tokenizers[kind]), seed=8)(rows(4))
    assert not torch.equal(other["input_ids"], together["input_ids"])


def test_the_same_block_is_noised_anew_each_time(tokenizers: dict[str, Any]) -> None:
    collate = ObjectiveCollator(MaskedObjective(tokenizers["encoder"]), seed=7)
    block = rows(1)[0]["block"]
    labels = collate([{"block": block, "place": place} for place in range(4)])["labels"]
    assert len({tuple(row) for row in labels.tolist()}) == 4


def test_seeds_of_places_differ() -> None:
    seeds = {noise_seed(seed, place) for seed in range(20) for place in range(200)}
    assert len(seeds) == 4000
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_the_loss_is_the_mean_over_labels_and_accumulates(tokenizers: dict[str, Any]) -> None:
    batch = ObjectiveCollator(CausalObjective(), seed=7)(rows(2))
    assert batch["labels"][:, 0].tolist() == [IGNORED, IGNORED]
    logits = torch.randn(2, 40, 200, generator=torch.Generator().manual_seed(1))
    outputs = SimpleNamespace(logits=logits)
    by_hand = torch.nn.functional.cross_entropy(
        logits[:, :-1].reshape(-1, 200), batch["input_ids"][:, 1:].reshape(-1)
    )
    torch.testing.assert_close(token_loss(outputs, batch["labels"]), by_hand)
    parts = [
        token_loss(SimpleNamespace(logits=logits[i : i + 1]), batch["labels"][i : i + 1], 78) for i in (0, 1)
    ]
    torch.testing.assert_close(parts[0] + parts[1], by_hand)


def test_blocks_come_in_the_order_given_and_know_their_place() -> None:
    blocks = np.arange(12, dtype=np.int32).reshape(3, 4)
    dataset = BlockDataset(blocks, [2, 0, 2])
    assert len(dataset) == 3
    assert [dataset[i]["place"] for i in range(3)] == [0, 1, 2]
    assert dataset[0]["block"] == dataset[2]["block"] == [8, 9, 10, 11]
