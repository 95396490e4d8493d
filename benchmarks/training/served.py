"""Whether the exported file, served, writes as well as the trainer's own model.

Place in the data's way: a finished run -> the engine with its file, the engine with an unquantized export,
and the trainer write completions for the same rows, greedily -> ROUGE-L of each, and the differences row by
row. Rounding to fewer bits turns a word here and there, and a text goes on from it another way; what the
unquantized file differs by is what the engine differs by.

Example:
    figures, texts = served_beside_trainer(run, 200)
    figures["rouge_l_served_minus_trainer"]
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from localsmith.core.settings import Settings, load_settings
from localsmith.core.types import Message
from localsmith.evaluation.metrics import bootstrap
from localsmith.models.catalog.installed import path_of
from localsmith.models.engine import Engine
from localsmith.training.bases import find_base, load_vocabulary
from localsmith.training.data.rows import TrainingRow
from localsmith.training.data.versions import load_version
from localsmith.training.evaluation_rows import comparison_rows
from localsmith.training.fine_tune import FineTuningPlan, export_run
from localsmith.training.held_out import rouge_l_of_rows
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
        The figures, and of each row the three texts with their ROUGE-L in points.

    Raises:
        LocalsmithError: The run, its data, its base or its file is missing, or none can be made in F16.
    """
    settings = load_settings()
    plan = FineTuningPlan.from_json(run.config)
    version = load_version(settings.home, plan.sft.data_version)
    rows = comparison_rows(version, plan.evaluation, num_rows)
    prompts = [row.prompt for row in rows.held_out]
    base = find_base(settings, plan.sft.base)
    model, _ = load_trained(run, plan.sft, base)
    trainer = TrainerWriter(model, load_vocabulary(base, plan.sft.template), plan.max_completion_tokens)
    with progress_bar("trainer") as on_written:
        by_trainer = trainer.write(prompts, on_written)
    by_engine = {"served": _written(settings, plan, path_of(settings, run.run_id), prompts, "served")}
    with tempfile.TemporaryDirectory() as folder:
        unquantized = replace(plan, quantization="F16")
        exported = export_run(settings, run.run_id, unquantized, base, model, rows, Path(folder))
        by_engine["f16"] = _written(settings, plan, exported.model.path, prompts, "F16")
    return compared(rows.held_out, by_trainer, by_engine)


def _written(
    settings: Settings, plan: FineTuningPlan, path: Path, prompts: Sequence[Sequence[Message]], shown: str
) -> list[str]:
    """Return the completions that the engine writes with a file."""
    engine = Engine(path, name=plan.name, settings=settings.model)
    try:
        with progress_bar(shown) as on_written:
            return EngineWriter(engine, plan.max_completion_tokens).write(prompts, on_written)
    finally:
        engine.close()


def compared(
    rows: Sequence[TrainingRow], trainer: Sequence[str], by_engine: Mapping[str, Sequence[str]]
) -> tuple[dict[str, float], list[dict[str, Any]]]:
    """Return the figures of the texts, and the texts with their scores.

    Args:
        rows: What was to be written.
        trainer: What the trainer's model wrote, a text a row.
        by_engine: The same by the engine, under a name for the figures.
    """
    written = {**by_engine, "trainer": trainer}
    scores = {name: rouge_l_of_rows(rows, texts) for name, texts in written.items()}
    figures = {f"rouge_l_{name}": bootstrap(values).mean for name, values in scores.items()}
    for name, texts in by_engine.items():
        pairs = zip(scores[name], scores["trainer"], strict=True)
        difference = bootstrap([one - other for one, other in pairs])
        figures[f"rouge_l_{name}_minus_trainer"] = difference.mean
        figures[f"rouge_l_{name}_minus_trainer_low"] = difference.low
        figures[f"rouge_l_{name}_minus_trainer_high"] = difference.high
        num_same = sum(one == other for one, other in zip(texts, trainer, strict=True))
        figures[f"{name}_same_text_share"] = num_same / len(rows)
    figures["served_num_rows"] = float(len(rows))
    texts_of_rows = [
        {name: texts[number] for name, texts in written.items()}
        | {f"{name}_rouge_l": values[number] for name, values in scores.items()}
        for number in range(len(rows))
    ]
    return figures, texts_of_rows
