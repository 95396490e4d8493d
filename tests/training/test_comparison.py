"""What base and trained model are compared by, and how much worse one may look by chance."""

from __future__ import annotations

import pytest
from localsmith.training.bases import Base, load_trainable
from localsmith.training.comparison import Comparison, metrics_of
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.held_out import losses_on
from localsmith.training.sft import encode

CONFIG = SftConfig("tiny", "")


def test_a_row_has_its_own_loss_wherever_it_stands(tiny_base: Base, colour_rows: list[TrainingRow]) -> None:
    model = load_trainable(tiny_base)
    rows = sorted(encode(CONFIG, tiny_base, colour_rows[::9]), key=lambda row: -len(row.tokens))
    together = losses_on(rows, model)
    assert len(set(together)) == len(rows)
    assert together == pytest.approx([losses_on([row], model)[0] for row in rows], rel=1e-4)


def test_a_model_compared_with_itself_has_neither_changed_nor_noise(
    tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    comparison = Comparison(tiny_base, CONFIG, colour_rows[:6], max_tokens=4)
    figures = comparison.losses(load_trainable(tiny_base))
    assert figures["held_out_loss_before"] == pytest.approx(figures["held_out_loss_after"])
    assert figures["held_out_loss_error"] == pytest.approx(0.0, abs=1e-6)
    figures |= comparison.completions_of_trainer(load_trainable(tiny_base))
    assert figures["rouge_l_error"] == 0.0
    assert not any(metric.is_worse for metric in metrics_of(figures))


def test_only_a_rise_beyond_chance_is_worse() -> None:
    figures = {"held_out_loss_before": 1.0, "held_out_loss_error": 0.01}
    (small,) = metrics_of(figures | {"held_out_loss_after": 1.016})
    (large,) = metrics_of(figures | {"held_out_loss_after": 1.017})
    assert (small.is_worse, large.is_worse) == (False, True)
    assert str(small) == "held_out_loss 1 -> 1.016 (lower is better; worse by up to 0.016 passes)"
    (strict,) = metrics_of({"held_out_loss_before": 1.0, "held_out_loss_after": 1.0001})
    assert strict.is_worse, "without rows to tell the noise by, none is let pass"
