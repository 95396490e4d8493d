"""The whole loop: prepared data in, a better model out that the chat can serve, with the proof of it.

Place in the data's way: a data version -> `sft.train` -> base and trained model compared on held-out rows ->
`export` to a GGUF that is checked against the trained model -> the catalog, from where `localsmith models
promote` puts it in use. Every stage that is done is not done again after a kill.

Example:
    plan = FineTuningPlan(SftConfig(base="smollm2-135m", data_version=version.id), name="tickets")
    with RunFolder.create(settings.runs_dir, "sft", plan.to_json()) as run:
        tuned = fine_tune(settings, run)
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.errors import TrainingError
from ..core.settings import Settings
from ..models.catalog.installed import sha256_of
from ..models.catalog.lineage import Lineage
from ..models.catalog.pull import register_trained
from ..models.chat.template import ChatTemplate
from ..models.llama.quantize import QUANTIZATIONS, Quantization
from .bases import Base, find_base, load_vocabulary
from .comparison import Comparison, OnStage, metrics_of
from .config import SftConfig
from .data.rows import TrainingRow
from .data.versions import load_version
from .evaluation_rows import ComparisonRows, EvaluationFile, check_held_out, comparison_rows
from .export.export import Exported, VerifyRow, export
from .methods.method import count_parameters
from .parallel.ranks import Flag, launched, leave
from .runs.kept import KeptStages
from .runs.run_folder import RunFolder
from .samples import save_samples
from .sft import Trained, load_trained, train
from .trainer_run import curve_figures

if TYPE_CHECKING:
    from .watcher import TrainingProgress

# Both models read these before a file is handed over; more add time and little else.
_NUM_VERIFY_ROWS = 8
# Training rows from which it is measured which weights matter, for the coarser quantizations.
_NUM_IMATRIX_ROWS = 100


@dataclass(frozen=True, slots=True)
class FineTuningPlan:
    """What a run is to do, from its data version to the catalog.

    Attributes:
        sft: How the model is trained.
        name: Name of the trained model in the catalog.
        quantization: Type of the exported weights, as llama.cpp writes it.
        evaluation: File on which base and trained model are compared; as a whole unlike what is trained on.
        num_evaluated: Rows of it at most.
        max_completion_tokens: Longest completion in that comparison.

    Raises:
        ValueError: A value is out of range.
    """

    sft: SftConfig
    name: str
    quantization: Quantization = "Q8_0"
    evaluation: EvaluationFile = field(default_factory=EvaluationFile)
    num_evaluated: int = 50
    max_completion_tokens: int = 128

    def __post_init__(self) -> None:
        """Check the ranges."""
        if self.quantization not in QUANTIZATIONS:
            raise ValueError(
                f"quantization must be one of {', '.join(QUANTIZATIONS)}, not {self.quantization!r}."
            )
        for name in ("num_evaluated", "max_completion_tokens"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, not {getattr(self, name)}.")

    def to_json(self) -> dict[str, Any]:
        """Return the plan as JSON values."""
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, raw: Mapping[str, Any]) -> FineTuningPlan:
        """Return the plan that `to_json` wrote.

        Raises:
            TrainingError: It is of another version of Localsmith, or damaged.
        """
        values = dict(raw)
        try:
            sft = SftConfig.from_json(values.pop("sft"))
            evaluation = EvaluationFile(**values.pop("evaluation"))
            return cls(sft, evaluation=evaluation, **values)
        except (KeyError, TypeError, ValueError) as exc:
            raise TrainingError(f"The run's plan can't be read: {exc}", hint="Start it anew.") from exc


@dataclass(frozen=True, slots=True)
class FineTuned:
    """What a run came to.

    Attributes:
        run_id: The run.
        model_name: The model in the catalog; "" where the run was stopped, or its method has no GGUF.
        is_stopped: Whether a person stopped it before its end.
        figures: Everything that was measured.
        words: How many parameters were trained, for people.
    """

    run_id: str
    model_name: str
    is_stopped: bool
    figures: Mapping[str, float]
    words: str


def fine_tune(
    settings: Settings,
    run: RunFolder,
    *,
    on_stage: OnStage | None = None,
    cancel: Flag | None = None,
) -> FineTuned:
    """Do what the run's plan says, from where it stands.

    Of several processes all call this; the first goes on alone after training, and returns the figures.

    Args:
        settings: Where models, data and runs are kept.
        run: The run, held by this process, or by the first of several.
        on_stage: Told how far each stage is.
        cancel: Set to stop training after the step at hand; None for never.

    Raises:
        DatasetError: A row can't be used, or no row was held out.
        TrainingError: The plan can't be carried out.
        ExportError: The exported file is not the trained model.
        StorageError: The disk is full; the last whole checkpoint is kept.
    """
    plan = FineTuningPlan.from_json(run.config)
    base = find_base(settings, plan.sft.base)
    version = load_version(settings.home, plan.sft.data_version)
    is_first = launched().is_first
    tell: OnStage = _noting(run, on_stage) if is_first else lambda *_: None
    tell("reading", 0, 1, "")
    chosen = comparison_rows(version, plan.evaluation, plan.num_evaluated)
    tell("reading", 1, 1, f"{chosen.num_given_away} rows left out" if chosen.num_given_away else "")
    check_held_out(len(chosen.held_out))
    trained = _train(run, plan, base, chosen.train, tell, cancel)
    leave()
    if trained.is_stopped or not is_first:
        return FineTuned(run.run_id, "", trained.is_stopped, trained.figures, str(trained.parameters))
    comparison = Comparison(base, plan.sft, chosen.held_out, plan.max_completion_tokens, tell)
    kept = KeptStages(run.path)
    figures = kept.figures("training", lambda: trained.figures)
    figures |= kept.figures("losses", lambda: comparison.losses(trained.model))
    figures |= {"num_train": len(chosen.train), "num_given_away": chosen.num_given_away}
    path = None
    if trained.method.can_be_exported:
        path, agreement = _exported(settings, run, plan, base, trained, chosen, tell)
        figures |= {"export_agreement": agreement}

    def completions() -> dict[str, float]:
        if path is None:
            measured = comparison.completions_of_trainer(trained.model)
        else:
            measured = comparison.completions_of_file(path, settings)
        save_samples(run.path, comparison.samples)
        return measured

    figures |= kept.figures("completions", completions)
    name = _register(settings, run, plan, base, path, figures) if path else ""
    run.finish(figures)
    return FineTuned(run.run_id, name, False, figures, str(trained.parameters))


def _noting(run: RunFolder, on_stage: OnStage | None) -> OnStage:
    """Return what keeps each stage in the run's folder before it tells the caller."""

    def tell(stage: str, done: int, total: int, words: str) -> None:
        run.stages.note(stage, done, total, words)
        if on_stage:
            on_stage(stage, done, total, words)

    return tell


def _train(
    run: RunFolder,
    plan: FineTuningPlan,
    base: Base,
    rows: Sequence[TrainingRow],
    tell: OnStage,
    cancel: Flag | None,
) -> Trained:
    """Train, or take what an earlier process has trained to its end."""
    if run.trained_dir.is_dir():
        model, method = load_trained(run, plan.sft, base)
        return Trained(model, method, count_parameters(model), False, curve_figures(run, 0.0))

    def show(progress: TrainingProgress) -> None:
        words = f"loss {progress.loss:.3f}, {progress.tokens_per_s:.0f} tokens/s"
        tell("training", progress.step, progress.num_steps, words)

    return train(
        run,
        plan.sft,
        base,
        rows,
        on_encoded=lambda done, total: tell("encoding", done, total, ""),
        on_progress=show,
        cancel=cancel,
    )


def _exported(
    settings: Settings,
    run: RunFolder,
    plan: FineTuningPlan,
    base: Base,
    trained: Trained,
    rows: ComparisonRows,
    tell: OnStage,
) -> tuple[Path, float]:
    """Export, or take what an earlier process exported if it is the same to the byte; with its agreement."""
    stages = KeptStages(run.path)
    kept = stages.read("export")
    if kept is not None:
        path = run.path / "export" / kept["file"]
        if path.is_file() and sha256_of(path) == kept["sha256"]:
            return path, kept["agreement"]
    made = export_run(settings, run.run_id, plan, base, trained.model, rows, run.path / "export", tell)
    agreement = made.verification.value
    file = {"file": made.model.path.name, "sha256": made.model.sha256, "agreement": agreement}
    stages.keep("export", file)
    return made.model.path, agreement


def export_run(
    settings: Settings,
    run_id: str,
    plan: FineTuningPlan,
    base: Base,
    model: Any,
    rows: ComparisonRows,
    target_dir: Path,
    tell: OnStage = lambda *_: None,
) -> Exported:
    """Write a run's model as a GGUF file, checked against the model itself on held-out rows.

    Args:
        settings: Where the converter is kept.
        run_id: The run, for the file's header.
        plan: What was trained, and how small the file is to be.
        base: The base.
        model: The trained model of transformers.
        rows: Its rows.
        target_dir: Folder of the file.
        tell: Told how far it is.

    Raises:
        ExportError: The file is not the model within the limits, or something is missing.
        StorageError: The disk is full or broken.
    """
    vocabulary = load_vocabulary(base, plan.sft.template)
    template = ChatTemplate(vocabulary)
    is_coarse = plan.quantization in ("Q5_K_M", "Q4_K_M")
    return export(
        model,
        base.path,
        target_dir,
        plan.quantization,
        [VerifyRow(template.text(row.prompt), row.completion) for row in rows.held_out[:_NUM_VERIFY_ROWS]],
        lambda stage, share: tell(f"export: {stage}", round(100 * share), 100, ""),
        name=plan.name,
        run=run_id,
        template=vocabulary.template if plan.sft.template != "model" else "",
        imatrix_texts=[row.text for row in rows.train[:_NUM_IMATRIX_ROWS]] if is_coarse else (),
        cache=settings.cache_dir,
    )


def _register(
    settings: Settings,
    run: RunFolder,
    plan: FineTuningPlan,
    base: Base,
    path: Path,
    figures: Mapping[str, float],
) -> str:
    """Take the file into the catalog, with where it comes from and what it came to; return its name there."""
    lineage = Lineage(
        base=base.name,
        base_sha256=base.sha256,
        run_id=run.run_id,
        data_version=plan.sft.data_version,
        method=plan.sft.method,
        quantization=plan.quantization,
        created_at=time.time(),
        metrics=metrics_of(figures),
    )
    return register_trained(settings, path, plan.name, lineage).name
