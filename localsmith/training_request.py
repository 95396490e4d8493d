"""What a person asks a training run to be, before there are data and a plan.

Place in the data's way: the Training page's fields -> `TrainingRequest` -> `check` shows what would come of
it -> `plan_of` makes the plan of a run, the same that `localsmith train sft` makes.

Example:
    request = TrainingRequest(base="smollm2-135m", files=("tickets.jsonl",))
    plan_of(request, version.id, "tickets")
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.errors import ConfigError
from .core.settings import Settings

if TYPE_CHECKING:
    from .training.data.versions import DataVersion
    from .training.fine_tune import FineTuningPlan

_OF_THE_DATA = ("files", "uses_feedback", "task", "wording", "held_out_share", "seed")


@dataclass(frozen=True, slots=True)
class TrainingRequest:
    """What is to be trained, on what, and how; see `SftConfig` and `FineTuningPlan` for the settings.

    Attributes:
        base: An installed model.
        files: Paths of JSON Lines or CSV files.
        uses_feedback: Whether what was rated in the chat is trained on, too.
        task: Template that turns the files' fields into prompts; "" to tell by the fields.
        wording: The template's wording.
        held_out_share: Share of the rows that are held out for the comparison.
        method: Name of the method.
        method_options: Its settings.
        epochs: Times that every row is seen.
        batch_size: Rows of an optimizer step.
        micro_batch_size: Rows that are computed at once.
        max_tokens: Most tokens of a row.
        long_rows: What becomes of longer ones: "refuse" or "drop".
        learning_rate: Highest learning rate; 0 for the method's own.
        is_checkpointed: Whether activations are computed again, to save memory.
        template: The chat template: "model" or "chatml".
        quantization: Type of the exported weights.
        num_evaluated: Held-out rows that are compared, at most.
        seed: Of data, order and added weights.
    """

    base: str
    files: tuple[str, ...] = ()
    uses_feedback: bool = False
    task: str = ""
    wording: str = "one"
    held_out_share: float = 0.1
    method: str = "lora"
    method_options: Mapping[str, Any] = field(default_factory=dict)
    epochs: float = 1.0
    batch_size: int = 8
    micro_batch_size: int = 4
    max_tokens: int = 1024
    long_rows: str = "refuse"
    learning_rate: float = 0.0
    is_checkpointed: bool = False
    template: str = "model"
    quantization: str = "Q8_0"
    num_evaluated: int = 50
    seed: int = 7

    def to_json(self) -> dict[str, Any]:
        """Return what `from_json` makes the request from again."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> TrainingRequest:
        """Return the request that `to_json` wrote."""
        return cls(**{**raw, "files": tuple(raw["files"])})

    @property
    def data_key(self) -> tuple[Any, ...]:
        """What the data version hangs on: the same for requests that differ in training alone."""
        return tuple(getattr(self, name) for name in _OF_THE_DATA)


def plan_of(request: TrainingRequest, data_version: str, name: str) -> FineTuningPlan:
    """Return the plan of a run.

    Args:
        request: What was asked for.
        data_version: Id of the prepared data.
        name: Name of the trained model.

    Raises:
        ConfigError: A value is out of range.
        TrainingError: The method has no such setting.
    """
    from .training.config import SftConfig
    from .training.evaluation_rows import EvaluationFile
    from .training.fine_tune import FineTuningPlan
    from .training.methods.registry import method_of, options_of

    config: dict[str, Any] = {
        "base": request.base,
        "data_version": data_version,
        "method": request.method,
        "method_options": options_of(method_of(request.method, request.method_options)),
        "epochs": request.epochs,
        "batch_size": request.batch_size,
        "micro_batch_size": request.micro_batch_size,
        "max_tokens": request.max_tokens,
        "long_rows": request.long_rows,
        "learning_rate": request.learning_rate,
        "is_checkpointed": request.is_checkpointed,
        "template": request.template,
        "seed": request.seed,
    }
    try:
        return FineTuningPlan(
            SftConfig(**config),
            name,
            request.quantization,  # type: ignore[arg-type]
            evaluation=EvaluationFile("", request.task, request.wording, request.seed),
            num_evaluated=request.num_evaluated,
        )
    except ValueError as exc:
        raise ConfigError(f"These settings don't go together: {exc}") from exc


def prepare_data(settings: Settings, request: TrainingRequest, on_progress: Any = None) -> DataVersion:
    """Make the data version of a request.

    Args:
        settings: Where data are kept.
        request: What was asked for.
        on_progress: Called with (done, in all, stage); None for no one.

    Raises:
        ConfigError: There are no data.
        DatasetError: A file can't be read, or no row is left.
    """
    from .core.conversations import ConversationStore
    from .training.data.prepare import prepare
    from .training.data.recipe import Recipe
    from .training.data.sources import FeedbackSource, FileSource, Source
    from .training.data.task_template import load_template

    template = load_template(request.task) if request.task else None
    sources: list[Source] = [
        FileSource(Path(path), template=template, wording=request.wording) for path in request.files
    ]
    if request.uses_feedback:
        feedback = ConversationStore(settings.conversations_path).feedback.all()
        sources.append(FeedbackSource(feedback))
    if not sources:
        raise ConfigError("There is nothing to train on.", hint="Give a file, or take the chat's ratings.")
    recipe = Recipe(held_out_share=request.held_out_share, seed=request.seed)
    return prepare(sources, recipe, settings.home, on_progress)


def free_name(settings: Settings, base: str, method: str) -> str:
    """Return a name for a run and its model: base and method, with a number behind where that is taken."""
    from .models.catalog.installed import installed
    from .training.runs.run_folder import list_runs
    from .training.runs.trash import discarded_runs

    stem = re.sub(r"[^a-z0-9]+", "-", base.lower()).strip("-") or "model"
    wanted = f"{stem[:60]}-{method}"
    runs = {run.run_id for run in list_runs(settings.runs_dir)} | set(discarded_runs(settings.runs_dir))
    taken = runs | set(installed(settings))
    numbered = (f"{wanted}-{number}" for number in range(2, len(taken) + 3))
    return next(name for name in (wanted, *numbered) if name not in taken)
