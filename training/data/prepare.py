"""The whole way from files and feedback to a data version, in one call.

Place in the data's way: sources and a recipe -> import with templates -> filter -> split -> mix -> a version
on disk. The mixture comes after the split and touches the training side only, so that repeated rows are never
held out, and another mixture leaves the held-out rows, and so the figures, comparable.

Example:
    version = prepare([FileSource(Path("dialogues.jsonl"))], Recipe(), settings.home)
    version.id, version.report.num_train
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeAlias

from ...core.errors import DatasetError
from .filter import StageReport, filtered
from .filter_recipe import filter_rules
from .length import CountTokens
from .mix import mixed
from .perplexity import Perplexity
from .recipe import Recipe
from .report import DataReport, rows_by_task
from .rows import TrainingRow
from .sources import FileSource, Imported, Source, import_source
from .split import split
from .versions import DataVersion, save_version

OnProgress: TypeAlias = Callable[[int, int, str], None]
"""Called with (done, in all, stage): bytes of a file that is imported, rows in every later stage."""


def prepare(
    sources: Sequence[Source],
    recipe: Recipe,
    home: Path,
    on_progress: OnProgress | None = None,
    *,
    count_tokens: CountTokens | None = None,
    perplexity: Perplexity | None = None,
) -> DataVersion:
    """Make a data version of the sources.

    Args:
        sources: Files and feedback, at least one; where rows say nearly the same, the first is kept.
        recipe: What is to be done.
        home: The data folder.
        on_progress: Told how far each stage is; what it raises ends the preparation, and nothing is left
            behind.
        count_tokens: The model's tokenizer; needed where the recipe limits tokens.
        perplexity: The model's perplexity; needed where the recipe has shares of it.

    Returns:
        The version, new or as it was written before.

    Raises:
        DatasetError: A source can't be read, or no row is left to train on.
        StorageError: The disk is full or can't be written to.
        ValueError: There is no source, or the recipe can't be followed with what was given.
    """
    if not sources:
        raise ValueError("sources must be at least one")
    begun, prepared_at = time.monotonic(), time.time()
    rules = filter_rules(recipe.filters, count_tokens, perplexity, on_progress)
    imported = [_imported(source, recipe.seed, on_progress) for source in sources]
    rows: list[TrainingRow] = [row for part in imported for row in part.rows]
    rows, stages = filtered(rows, rules, on_progress)
    if not rows:
        raise _nothing_left(stages)
    parts = split(
        rows,
        held_out_share=recipe.held_out_share,
        seed=recipe.seed,
        threshold=recipe.split_threshold,
        on_rows=on_progress,
    )
    if not parts.train:
        raise DatasetError(
            f"All {len(rows)} rows would be held out.", hint="Give more rows or a smaller held-out share."
        )
    train, shares = mixed(parts.train, recipe.mix, recipe.seed) if recipe.mix else (parts.train, [])
    report = DataReport(
        imports=tuple(part.report for part in imported),
        filters=tuple(stages),
        mix=tuple(shares),
        train_tasks=rows_by_task(train),
        held_out_tasks=rows_by_task(parts.held_out),
        num_clusters=parts.num_clusters,
        largest_cluster=parts.largest_cluster,
        prepared_at=prepared_at,
        duration_s=round(time.monotonic() - begun, 3),
    )
    return save_version(
        home, train, parts.held_out, recipe, [source.describe() for source in sources], report
    )


def _imported(source: Source, seed: int, on_progress: OnProgress | None) -> Imported:
    if not isinstance(source, FileSource) or on_progress is None:
        return import_source(source, seed)
    stage = f"import {source.path.name}"
    try:
        total = source.path.stat().st_size
    except OSError:  # import_source says it better
        total = 0
    imported = import_source(source, seed, lambda done: on_progress(done, total, stage))
    on_progress(total, total, stage)
    return imported


def _nothing_left(stages: Sequence[StageReport]) -> DatasetError:
    worst = max(stages, key=lambda stage: stage.num_dropped)
    reason = worst.reasons[0][0] if worst.reasons else ""
    return DatasetError(
        f"The filter left no row: {worst.name} dropped {worst.num_dropped} of {worst.num_before} ({reason}).",
        hint="Loosen this rule in the recipe, or give other data.",
    )
