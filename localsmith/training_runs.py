"""All that the Training page does, in one object: choose, check, start, look, stop, resume, delete, promote.

Place in the data's way: the page -> `Localsmith.training_runs` -> `training` and the catalog. Nothing of a
run is kept here: they lie on disk and are trained in processes of their own.

Example:
    runs = Localsmith().training_runs
    job = runs.check(TrainingRequest("smollm2-135m"), [("tickets.jsonl", content)])
    run_id = runs.start(job.request, job.view().result)
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .core.errors import TrainingError
from .core.settings import Settings
from .training_check_job import CheckJob
from .training_process import start_training
from .training_request import TrainingRequest, free_name, plan_of
from .training_view import RunDetails, RunView, details_of, view_of

if TYPE_CHECKING:
    from .models.catalog.promotion import Change
    from .training_check import Check

_MOST_REMEMBERED = 20


class TrainingRuns:
    """Training runs of one data folder.

    Args:
        settings: Where models, data and runs are kept.
    """

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._versions: dict[tuple[Any, ...], str] = {}  # data settings and files -> data version

    # -- before a run

    def check(self, request: TrainingRequest, files: Sequence[tuple[str, bytes]]) -> CheckJob:
        """Begin to find out what would come of a request.

        Data that were prepared before are not prepared again, unless they came from the chat, where more may
        have been rated since.

        Args:
            request: What is asked for; its files are those given here.
            files: (name, content) of uploaded files.
        """
        contents = tuple((name, hashlib.sha256(content).hexdigest()) for name, content in files)
        key = (request.data_key, contents)
        known = "" if request.uses_feedback else self._versions.get(key, "")
        job = CheckJob(
            self._settings, request, files, known, lambda result: self._remember(key, result.data_version)
        )
        job.start()
        return job

    def start(self, request: TrainingRequest, result: Check) -> str:
        """Make a run of a request that was checked, and begin to train; return its name.

        Raises:
            TrainingError: The check refused it.
            ConfigError: A value is out of range.
            StorageError: The disk is full or can't be written.
        """
        from .training.runs.run_folder import RunFolder

        if result.refusal:
            raise TrainingError(result.refusal, hint=result.hint)
        name = free_name(self._settings, request.base, request.method)
        plan = plan_of(request, result.data_version, name)
        run = RunFolder.create(self._settings.runs_dir, "sft", plan.to_json(), name)
        start_training(self._settings, run)
        return name

    # -- runs

    def views(self) -> list[RunView]:
        """Return all runs as they stand, the newest first."""
        from .training.runs.run_folder import list_runs

        return [view_of(run) for run in list_runs(self._settings.runs_dir)]

    def view(self, run_id: str) -> RunView:
        """Return how a run stands.

        Raises:
            TrainingError: There is none of this name, or it is damaged.
        """
        from .training.runs.run_folder import open_run

        return view_of(open_run(self._settings.runs_dir, run_id))

    def details(self, run_id: str) -> RunDetails:
        """Return metrics, samples and what became of the model; see `view`."""
        from .training.runs.run_folder import open_run

        return details_of(self._settings, open_run(self._settings.runs_dir, run_id))

    def losses(self, run_ids: Sequence[str]) -> dict[str, list[tuple[int, float]]]:
        """Return (step, loss) of several runs, by run; those that are gone are left out."""
        from .training.runs.run_folder import list_runs

        by_id = {run.run_id: run for run in list_runs(self._settings.runs_dir)}
        return {run_id: by_id[run_id].metrics.series("loss") for run_id in run_ids if run_id in by_id}

    def resume(self, run_id: str) -> None:
        """Go on with a run that was stopped, killed or has failed.

        Raises:
            TrainingError: It is being trained, or is finished.
            StorageError: The disk can't be written.
        """
        from .training.runs.run_folder import open_run

        start_training(self._settings, open_run(self._settings.runs_dir, run_id))

    def stop(self, run_id: str) -> None:
        """Ask a run to stop after the step at hand; asked again, it stops at once. It can be resumed.

        Raises:
            TrainingError: No process works on it.
        """
        from .training.runs.holder import interrupt_holder
        from .training.runs.run_folder import open_run

        interrupt_holder(open_run(self._settings.runs_dir, run_id).path)

    def delete(self, run_id: str) -> None:
        """Delete a run with its checkpoints; `restore` brings it back for some days. Its model stays.

        Raises:
            TrainingError: It is being trained.
            StorageError: The folder can't be moved.
        """
        from .training.runs.run_folder import open_run
        from .training.runs.trash import discard_run, purge_discarded

        discard_run(open_run(self._settings.runs_dir, run_id))
        purge_discarded(self._settings.runs_dir, self._settings.retrieval.undo_days)

    def restore(self, run_id: str) -> None:
        """Bring a deleted run back.

        Raises:
            TrainingError: It is gone for good.
        """
        from .training.runs.trash import restore_run

        restore_run(self._settings.runs_dir, run_id)

    def deleted(self) -> list[str]:
        """Return the names of deleted runs that can be brought back."""
        from .training.runs.trash import discarded_runs

        return discarded_runs(self._settings.runs_dir)

    # -- models

    def promote(self, name: str, *, anyway: bool = False) -> Change:
        """Let a trained model answer in the chat from now on; see `models.catalog.promotion.promote`.

        Raises:
            GateRejected: It is worse than its base.
            ModelError: It is not installed, or damaged.
        """
        from .models.catalog.promotion import promote

        return promote(self._settings, name, anyway=anyway)

    def rollback(self) -> Change:
        """Let the model before answer again; see `models.catalog.promotion.rollback`.

        Raises:
            LocalsmithError: There is none, or it is gone.
        """
        from .models.catalog.promotion import rollback

        return rollback(self._settings)

    def named_model(self) -> str:
        """Return the model that the settings name, which wins over promotions; "" where they name none."""
        from .models.catalog.selection import AUTO

        return "" if self._settings.model.name == AUTO else self._settings.model.name

    def _remember(self, key: tuple[Any, ...], data_version: str) -> None:
        self._versions[key] = data_version
        while len(self._versions) > _MOST_REMEMBERED:
            del self._versions[next(iter(self._versions))]
