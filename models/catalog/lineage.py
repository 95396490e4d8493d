"""Where a trained model comes from, and whether it is better than what it was trained from.

Place in the data's way: a training run ends -> `register_trained` keeps the `Lineage` beside the model in
`installed.json` -> `localsmith models show` prints it, `promote` reads its figures, `weights_of` finds the
base that a LoRA adapter needs.

Example:
    >>> Metric("rouge_l", before=0.21, after=0.29).is_worse
    False
    >>> Metric("loss", before=2.1, after=2.4, is_higher_better=False, tolerance=0.1).is_worse
    True
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Metric:
    """One figure of the base and of the trained model, measured on the same held-out data.

    Attributes:
        name: What was measured, for example "rouge_l".
        before: The base's figure.
        after: The trained model's.
        is_higher_better: False for losses and perplexities.
        tolerance: How much worse `after` may be and still pass, in the figure's own unit: for what training
            must only not spoil, such as other tasks, and for noise.

    Raises:
        ValueError: A figure is not finite, or the tolerance is negative.
    """

    name: str
    before: float
    after: float
    is_higher_better: bool = True
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        """Refuse what can't be compared."""
        if not (math.isfinite(self.before) and math.isfinite(self.after)):
            raise ValueError(
                f"{self.name} is {self.before} before and {self.after} after; both must be finite."
            )
        if not self.tolerance >= 0:
            raise ValueError(f"The tolerance of {self.name} is {self.tolerance}; it can't be negative.")

    @property
    def gain(self) -> float:
        """How much better the trained model is; negative where it is worse."""
        return (self.after - self.before) * (1 if self.is_higher_better else -1)

    @property
    def is_worse(self) -> bool:
        """Whether the trained model is worse by more than the tolerance."""
        return self.gain < -self.tolerance

    def __str__(self) -> str:
        """Return the figures in words."""
        notes = [] if self.is_higher_better else ["lower is better"]
        if self.tolerance:
            notes.append(f"worse by up to {self.tolerance:.2g} passes")
        said = f" ({'; '.join(notes)})" if notes else ""
        return f"{self.name} {self.before:.4g} -> {self.after:.4g}{said}"


@dataclass(frozen=True, slots=True)
class Lineage:
    """How a trained model came to be.

    Attributes:
        base: Name of the model it was trained from.
        base_sha256: SHA-256 of that model's GGUF file.
        run_id: The training run.
        data_version: Content hash of the training data.
        method: How it was trained, for example "lora".
        quantization: Type of its weights as llama.cpp writes it, for example "Q8_0".
        created_at: Seconds since the epoch.
        adapter_file: Name of the GGUF file with a LoRA adapter, which is loaded beside the base; "" where the
            model is whole.
        adapter_scale: Factor on the adapter's own scale, alpha / rank; 1 for as trained.
        metrics: Figures before and after, the one that was trained for first.
    """

    base: str
    base_sha256: str
    run_id: str
    data_version: str
    method: str
    quantization: str
    created_at: float
    adapter_file: str = ""
    adapter_scale: float = 1.0
    metrics: tuple[Metric, ...] = ()

    @property
    def worse(self) -> tuple[Metric, ...]:
        """The figures by which the model is worse than its base."""
        return tuple(metric for metric in self.metrics if metric.is_worse)


def lineage_to_json(lineage: Lineage) -> dict[str, Any]:
    """Return what is kept of a lineage, as JSON values."""
    return dataclasses.asdict(lineage)


def lineage_from_json(raw: Mapping[str, Any]) -> Lineage:
    """Return the lineage that `lineage_to_json` wrote.

    Raises:
        TypeError: A field is missing or unknown.
        ValueError: A figure is not finite.
    """
    values = dict(raw)
    values["metrics"] = tuple(Metric(**metric) for metric in values.get("metrics", ()))
    return Lineage(**values)
