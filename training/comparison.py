"""Base and trained model on the same held-out rows: which of them is better, and by how much.

Place in the data's way: `fine_tune` -> `Comparison` -> figures named `..._before` and `..._after`, which
become the lineage's metrics.

Example:
    comparison = Comparison(base, config, rows, max_tokens=128)
    comparison.losses(trained.model)["held_out_loss_after"]
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..core.settings import Settings
from ..models.engine import Engine
from .bases import Base, load_trainable, load_vocabulary
from .config import SftConfig
from .data.rows import TrainingRow
from .held_out import loss_on, overlap_on
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

    def losses(self, model: Any) -> dict[str, float]:
        """Return the mean loss of the completions' tokens before and after training.

        Args:
            model: The trained model of transformers.
        """
        if not self._rows:
            return {}
        encoded = encode(self._config, self._base, self._rows)
        figures = {}
        for number, when in enumerate(("before", "after")):
            chosen = load_trainable(self._base, self._config.precision) if when == "before" else model
            show = self._shower("comparing", number, f"loss {when} training")
            figures[f"held_out_loss_{when}"] = loss_on(encoded, chosen, show)
        return figures

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
        return figures | {f"{name}_after": value for name, value in after().items()}

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
        return overlap_on(
            self._rows, writer, self._shower("evaluating", number, f"completions {when} training")
        )

    def _shower(self, stage: str, number: int, words: str) -> Callable[[int, int], None]:
        return lambda done, total: self._tell(stage, number * total + done, 2 * total, words)
