"""Base and trained model on the same held-out rows: which of them is better, and by how much.

Place in the data's way: `fine_tune` -> `Comparison` -> figures named `..._before` and `..._after`, and
`..._error`, the standard error of the change -> `metrics_of` -> the lineage, by which `promote` judges.

Example:
    comparison = Comparison(base, config, rows, max_tokens=128)
    comparison.losses(trained.model)["held_out_loss_after"]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..core.settings import Settings
from ..evaluation.paired import chance_of, paired_error
from ..models.catalog.lineage import Metric
from ..models.engine import Engine
from .bases import Base, load_trainable, load_vocabulary
from .config import SftConfig
from .data.rows import TrainingRow
from .held_out import losses_on, overlap_on, rouge_l_of_rows
from .samples import KeptWriter, Sample, samples_of
from .sft import encode
from .writers import EngineWriter, TrainerWriter, Writer

OnStage: TypeAlias = Callable[[str, int, int, str], None]
"""Called with (stage, done, in all, more words for people)."""


class Comparison:
    """Measures a base, and what was trained from it, on rows that were held out.

    Args:
        base: The base.
        config: How it was trained: template, precision, longest row.
        rows: The held-out rows; without any, nothing is measured.
        max_tokens: Longest completion.
        on_stage: Told how far each measurement is; None for no one.
    """

    def __init__(
        self,
        base: Base,
        config: SftConfig,
        rows: Sequence[TrainingRow],
        max_tokens: int,
        on_stage: OnStage | None = None,
    ) -> None:
        self._base = base
        self._config = dataclasses.replace(config, long_rows="drop")
        self._rows = rows
        self._max_tokens = max_tokens
        self._tell: OnStage = on_stage or (lambda *_: None)
        self._texts: list[tuple[str, ...]] = [(), ()]  # completions before and after training

    @property
    def samples(self) -> list[Sample]:
        """The first held-out rows as both models have written them; empty before they did."""
        return samples_of(self._rows, *self._texts)

    def losses(self, model: Any) -> dict[str, float]:
        """Return the mean loss of the completions' tokens before and after training, and the change's error.

        Args:
            model: The trained model of transformers.
        """
        if not self._rows:
            return {}
        encoded = encode(self._config, self._base, self._rows)
        sizes = [row.num_completion for row in encoded]
        sums = []
        for number, when in enumerate(("before", "after")):
            chosen = load_trainable(self._base, self._config.precision) if when == "before" else model
            show = self._shower("comparing", number, f"loss {when} training")
            sums.append(losses_on(encoded, chosen, show))
        return {
            "held_out_loss_before": sum(sums[0]) / sum(sizes),
            "held_out_loss_after": sum(sums[1]) / sum(sizes),
            "held_out_loss_error": paired_error(sums[0], sums[1], sizes),
        }

    def completions_of_trainer(self, model: Any) -> dict[str, float]:
        """Return ROUGE and BLEU before and after training, the latter written by the trainer's model."""
        return self._completions(self._base_by_trainer, lambda: self._overlap(self._trainer(model), 1))

    def completions_of_file(self, path: Path, settings: Settings) -> dict[str, float]:
        """Return ROUGE and BLEU before and after training, the latter written by the engine from a GGUF file.

        Args:
            path: The exported file.
            settings: How engines are run.
        """
        is_file = self._base.kind == "gguf"
        return self._completions(
            (lambda: self._engine(self._base.path, settings, 0)) if is_file else self._base_by_trainer,
            lambda: self._engine(path, settings, 1),
        )

    def _completions(
        self, before: Callable[[], dict[str, float]], after: Callable[[], dict[str, float]]
    ) -> dict[str, float]:
        if not self._rows:
            return {}
        figures = {f"{name}_before": value for name, value in before().items()}
        figures |= {f"{name}_after": value for name, value in after().items()}
        old, new = (rouge_l_of_rows(self._rows, texts) for texts in self._texts)
        return figures | {"rouge_l_error": paired_error(old, new)}

    def _engine(self, path: Path, settings: Settings, number: int) -> dict[str, float]:
        """Load a file, let it write, and free it."""
        engine = Engine(path, name=path.stem, settings=settings.model)
        try:
            return self._overlap(EngineWriter(engine, self._max_tokens), number)
        finally:
            engine.close()

    def _base_by_trainer(self) -> dict[str, float]:
        return self._overlap(self._trainer(load_trainable(self._base, self._config.precision)), 0)

    def _trainer(self, model: Any) -> Writer:
        vocabulary = load_vocabulary(self._base, self._config.template)
        return TrainerWriter(model, vocabulary, self._max_tokens)

    def _overlap(self, writer: Writer, number: int) -> dict[str, float]:
        when = ("before", "after")[number]
        kept = KeptWriter(writer)
        figures = overlap_on(
            self._rows, kept, self._shower("evaluating", number, f"completions {when} training")
        )
        self._texts[number] = kept.texts
        return figures

    def _shower(self, stage: str, number: int, words: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(stage, number * total + done, 2 * total, words)


def metrics_of(figures: Mapping[str, float]) -> tuple[Metric, ...]:
    """Return the figures by which the model is judged, the one that was trained for first.

    Each may be worse by what chance alone would do to a model as good as its base: see `chance_of`.
    """
    metrics = []
    for name, is_higher_better in (("rouge_l", True), ("held_out_loss", False)):
        before, after = figures.get(f"{name}_before"), figures.get(f"{name}_after")
        if before is not None and after is not None:
            chance = chance_of(figures.get(f"{name}_error", 0.0))
            metrics.append(Metric(name, before, after, is_higher_better, chance))
    return tuple(metrics)
