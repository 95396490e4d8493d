"""A training run as a page shows it: read from its folder, whoever trains it, and wherever.

Place in the data's way: `RunFolder` (state, stage, metrics, samples), the process that holds it, the catalog
-> `view_of` -> the Training page.

Example:
    view = view_of(open_run(settings.runs_dir, "tickets"))
    view.phase, view.step, view.eta_s
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from .core.settings import Settings
from .training_process import log_tail

if TYPE_CHECKING:
    from .models.catalog.lineage import Lineage
    from .training.runs.holder import Holder
    from .training.runs.metrics import MetricsLine
    from .training.runs.run_folder import RunFolder, RunState
    from .training.runs.stages import Stage
    from .training.samples import Sample

Phase: TypeAlias = Literal[
    "starting", "running", "stopping", "interrupted", "stopped", "failed", "finished", "never begun"
]
ACTIVE: frozenset[Phase] = frozenset({"starting", "running", "stopping"})
# Steps over which the time left is averaged, as the trainer's own display does it.
_WINDOW = 20


@dataclass(frozen=True, slots=True)
class RunView:
    """A run at one moment.

    Attributes:
        run_id: Its name.
        kind: What is trained, for example "sft".
        base: Name of its base; "" where it has none.
        method: Name of its method; "" where it has none.
        created_at: Seconds since the epoch.
        phase: Where it stands. "interrupted" where its process died; "never begun" where none came to work.
        stage: What is being done, for people; "" where nothing is.
        stage_words: A few more words on it.
        stage_done: How much of the stage.
        stage_total: In all; 0 where unknown.
        eta_s: Seconds left of the stage; None where unknown.
        step: Optimizer steps done.
        num_steps: In all; 0 before that is known.
        error: Why it failed, for people; "".
        hint: What to do about it; "".
        said: The end of what its process has said, where it has ended badly; "".
        figures: What it came to; empty before its end.
        config: Everything that it depends on.
    """

    run_id: str
    kind: str
    base: str
    method: str
    created_at: float
    phase: Phase
    stage: str
    stage_words: str
    stage_done: int
    stage_total: int
    eta_s: float | None
    step: int
    num_steps: int
    error: str
    hint: str
    said: str
    figures: Mapping[str, float]
    config: Mapping[str, Any]

    @property
    def is_active(self) -> bool:
        """Whether a process works on it."""
        return self.phase in ACTIVE

    @property
    def can_be_resumed(self) -> bool:
        """Whether it could go on."""
        return not self.is_active and self.phase != "finished"


@dataclass(frozen=True, slots=True)
class RunDetails:
    """What is looked up for one run alone.

    Attributes:
        curves: (step, value) of each number that was logged, in order, by its name: "loss" and others.
        samples: Held-out rows with what base and trained model wrote.
        lineage: Where its model in the catalog comes from; None where it has no model there.
        is_in_use: Whether the chat answers with its model.
        used_before: What answered before this model; None for the automatic choice.
    """

    curves: Mapping[str, Sequence[tuple[int, float]]]
    samples: tuple[Sample, ...]
    lineage: Lineage | None
    is_in_use: bool
    used_before: str | None


def view_of(run: RunFolder) -> RunView:
    """Return how a run stands."""
    from .training.runs.holder import read_holder

    holder, state, stage = read_holder(run.path), run.state, run.stages.read()
    phase = _phase(holder, state, stage)
    now = stage if phase in ACTIVE else None
    trained = run.config.get("sft")
    trained = trained if isinstance(trained, dict) else {}
    has_ended_badly = phase in ("never begun", "interrupted", "failed")
    return RunView(
        run_id=run.run_id,
        kind=run.kind,
        base=Path(str(trained.get("base", ""))).name,
        method=str(trained.get("method", "")),
        created_at=run.created_at,
        phase=phase,
        stage=now.name if now else "",
        stage_words=now.words if now else "",
        stage_done=now.done if now else 0,
        stage_total=now.total if now else 0,
        eta_s=_eta_s(run, now),
        step=state.step,
        num_steps=state.num_steps,
        error=state.error,
        hint=state.hint,
        said=log_tail(run.path) if has_ended_badly else "",
        figures=dict(state.figures or {}),
        config=run.config,
    )


def details_of(settings: Settings, run: RunFolder) -> RunDetails:
    """Return what a page about this run alone shows beside its view.

    Raises:
        StorageError: The record of models can't be read.
    """
    from .models.catalog.installed import history, in_use, installed
    from .training.samples import load_samples

    name = str(run.config.get("name", run.run_id))
    model = installed(settings).get(name)
    lineage = model.lineage if model and model.lineage and model.lineage.run_id == run.run_id else None
    before = history(settings)
    return RunDetails(
        curves=_curves(run.metrics.lines()),
        samples=tuple(load_samples(run.path)),
        lineage=lineage,
        is_in_use=lineage is not None and in_use(settings) == name,
        used_before=before[-1] if before else None,
    )


def _curves(lines: Sequence[MetricsLine]) -> dict[str, list[tuple[int, float]]]:
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in lines:
        for name, value in line.values.items():
            curves.setdefault(name, []).append((line.step, value))
    return curves


def _phase(holder: Holder | None, state: RunState, stage: Stage | None) -> Phase:
    if holder is not None and holder.is_alive:
        if holder.is_stopping:
            return "stopping"
        return "running" if stage is not None else "starting"
    if state.status == "running":
        return "interrupted"  # its lock was looked at before the process was gone
    if state.status == "interrupted" and not state.num_steps and stage is None:
        return "never begun"  # or it died before it said anything
    return state.status


def _eta_s(run: RunFolder, stage: Stage | None) -> float | None:
    if stage is None:
        return None
    if stage.name != "training":
        return stage.eta_s
    times = [line.time for line in run.metrics.lines() if line.time >= stage.begun_at][-_WINDOW - 1 :]
    if len(times) < 2:
        return None
    return (stage.total - stage.done) * (times[-1] - times[0]) / (len(times) - 1)
