"""Whether the exported file, served, writes as well as the trainer's own model.

Place in the data's way: a finished run -> both write a completion for the same rows, greedily -> ROUGE-L of
each, and their difference row by row. Rounding to fewer bits turns a word here and there, and a text goes on
from it another way; more rows than the run itself was compared on keep that chance small.

Example:
    figures, texts = served_beside_trainer(run, 200)
    figures["rouge_l_served_minus_trainer"]
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from localsmith.core.settings import load_settings
from localsmith.evaluation.metrics import bootstrap
from localsmith.evaluation.overlap import rouge
from localsmith.models.catalog.installed import path_of
from localsmith.models.engine import Engine
from localsmith.training.bases import find_base, load_vocabulary
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.versions import load_version
from localsmith.training.evaluation_rows import comparison_rows
from localsmith.training.fine_tune import FineTuningPlan
from localsmith.training.runs.run_folder import RunFolder
from localsmith.training.sft import load_trained
from localsmith.training.writers import EngineWriter, TrainerWriter

from localsmith.evaluation_terminal import progress_bar


def served_beside_trainer(run: RunFolder, num_rows: int) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Let both write, showing how far they are, and compare.

    Args:
        run: A finished run that was exported and is in the catalog under its own name.
        num_rows: Rows at most, the first ones of the run's evaluation file.

    Returns:
        The figures, and of each row both texts with their ROUGE-L in points.

    Raises:
        LocalsmithError: The run, its data, its base or its export is missing.
    """
    settings = load_settings()
    plan = FineTuningPlan.from_json(run.config)
    version = load_version(settings.home, plan.sft.data_version)
    rows = comparison_rows(version, plan.evaluation, num_rows).held_out
    prompts = [row.prompt for row in rows]
    engine = Engine(path_of(settings, run.run_id), name=run.run_id, settings=settings.model)
    try:
        with progress_bar("served") as on_written:
            served = EngineWriter(engine, plan.max_completion_tokens).write(prompts, on_written)
    finally:
        engine.close()
    base = find_base(settings, plan.sft.base)
    model, _ = load_trained(run, plan.sft, base)
    writer = TrainerWriter(model, load_vocabulary(base, plan.sft.template), plan.max_completion_tokens)
    with progress_bar("trainer") as on_written:
        written = writer.write(prompts, on_written)
    return compared(rows, served, written)


def compared(
    rows: Sequence[TrainingRow], served: Sequence[str], trainer: Sequence[str]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures of the texts that both wrote, and the texts with their scores."""
    texts = [
        {
            "served": one,
            "trainer": other,
            "served_rouge_l": 100 * rouge(one, [row.completion, *row.reference]).rouge_l,
            "trainer_rouge_l": 100 * rouge(other, [row.completion, *row.reference]).rouge_l,
        }
        for row, one, other in zip(rows, served, trainer, strict=True)
    ]
    difference = bootstrap([row["served_rouge_l"] - row["trainer_rouge_l"] for row in texts])
    figures = {
        "rouge_l_served": bootstrap([row["served_rouge_l"] for row in texts]).mean,
        "rouge_l_trainer": bootstrap([row["trainer_rouge_l"] for row in texts]).mean,
        "rouge_l_served_minus_trainer": difference.mean,
        "rouge_l_served_minus_trainer_low": difference.low,
        "rouge_l_served_minus_trainer_high": difference.high,
        "served_same_text_share": sum(row["served"] == row["trainer"] for row in texts) / len(texts),
        "served_num_rows": float(len(texts)),
    }
    return figures, texts
