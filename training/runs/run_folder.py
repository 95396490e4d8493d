"""One training run as a folder: its config, its state, its metrics, its checkpoints, what it trained.

Place in the data's way: a recipe makes or reopens a `RunFolder` -> the trainer writes metrics and checkpoints
into it -> export reads what was trained -> the catalog keeps the run's id as the model's lineage. A folder
holds everything that is needed to go on after a kill.

Example:
    with RunFolder.create(runs_dir, "sft", {"base": "smollm2-135m"}) as run:
        run.metrics.append(1, {"loss": 2.9})
        run.finish({"loss": 2.1})
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shutil
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from filelock import FileLock, Timeout

from ...core.errors import StorageError, TrainingError
from ...core.whole_file import write_json
from .holder import forget_holder, note_holder
from .metrics import MetricsFile
from .stages import StageFile

if TYPE_CHECKING:
    from types import TracebackType

RunStatus: TypeAlias = Literal["running", "interrupted", "stopped", "failed", "finished"]

CONFIG_FILE, STATE_FILE, METRICS_FILE, LOCK_FILE = "run.json", "state.json", "metrics.jsonl", "run.lock"
STAGE_FILE = "stage.json"
# Who only looks whether a run is held takes its lock for a moment.
_LOOK_S = 0.2
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,80}")


@dataclass(frozen=True, slots=True)
class RunState:
    """How far a run is.

    Attributes:
        status: "running" while a process trains; "interrupted" where that process is gone; "stopped" by a
            person; "failed" with an error; "finished".
        step: Optimizer steps done.
        num_steps: Steps in all; 0 before that is known.
        error: What went wrong, for people; "".
        hint: What to do about it, for people; "".
        figures: What the run came to; empty before it is finished.
        updated_at: Seconds since the epoch.
    """

    status: RunStatus
    step: int = 0
    num_steps: int = 0
    error: str = ""
    figures: Mapping[str, float] | None = None
    updated_at: float = 0.0
    hint: str = ""


class RunFolder:
    """A run's folder; as a context manager it is held by this process alone.

    Args:
        path: The folder; it holds a config already. `create` makes one.

    Attributes:
        path: The folder.
        metrics: The numbers logged so far.
        stages: What is being done.

    Raises:
        TrainingError: There is no run in this folder, or its config is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.metrics = MetricsFile(path / METRICS_FILE)
        self.stages = StageFile(path / STAGE_FILE)
        self._lock = FileLock(path / LOCK_FILE, timeout=_LOOK_S)
        try:
            content = json.loads((path / CONFIG_FILE).read_text(encoding="utf-8"))
            self.kind: str = content["kind"]
            self.created_at: float = content["created_at"]
            self.config: dict[str, Any] = content["config"]
        except FileNotFoundError as exc:
            raise _unknown_run(path.name, path.parent) from exc
        except (OSError, ValueError, KeyError, TypeError) as exc:
            raise TrainingError(
                f"The run {path.name} is damaged: its {CONFIG_FILE} can't be read.",
                hint="Start it anew; other runs are not affected.",
            ) from exc

    @classmethod
    def create(cls, runs_dir: Path, kind: str, config: Mapping[str, Any], run_id: str = "") -> RunFolder:
        """Make the folder of a new run.

        Args:
            runs_dir: Folder of all runs.
            kind: What is trained, for example "sft".
            config: Everything that the run depends on, as JSON values.
            run_id: The run's name; "" for one made of kind and time.

        Raises:
            TrainingError: There is a run of this name, or it can't be a folder's name.
            StorageError: The folder can't be written.
        """
        run_id = run_id or f"{kind}-{time.strftime('%Y%m%d-%H%M%S')}-{secrets.token_hex(2)}"
        if not _ID.fullmatch(run_id):
            raise TrainingError(
                f"{run_id!r} can't be the name of a run.", hint="Use small letters, digits and hyphens."
            )
        path = runs_dir / run_id
        try:
            runs_dir.mkdir(parents=True, exist_ok=True)
            path.mkdir()
        except FileExistsError as exc:
            raise TrainingError(
                f"There is a run named {run_id} already.",
                hint=f"Go on with it: localsmith train resume {run_id}. Or choose another name.",
            ) from exc
        except OSError as exc:
            raise StorageError(f"{path} can't be written: {exc.strerror}.", hint="Free some space.") from exc
        content = {"kind": kind, "created_at": time.time(), "config": dict(config)}
        write_json(path / CONFIG_FILE, content)
        run = cls(path)
        run.write_state(RunState("interrupted"))
        return run

    @property
    def run_id(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def checkpoints_dir(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def trained_dir(self) -> Path:
        """Folder of what the run trained: adapter or weights; there once it is finished."""
        return self.path / "trained"

    def __enter__(self) -> RunFolder:
        """Take the run for this process.

        Raises:
            TrainingError: Another process is training it.
        """
        try:
            self._lock.acquire()
        except Timeout as exc:
            raise TrainingError(
                f"The run {self.run_id} is being trained by another process.",
                hint="Wait for it, or stop that process first.",
            ) from exc
        self.stages.clear()
        note_holder(self.path, os.getpid())
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Give the run back; what ended it is kept as its state."""
        try:
            if error is not None and self.state.status != "finished":
                status: RunStatus = "stopped" if isinstance(error, KeyboardInterrupt) else "failed"
                said = "" if status == "stopped" else str(error) or type(error).__name__
                self._change(status, error=said, hint=getattr(error, "hint", ""))
        finally:
            forget_holder(self.path)
            self._lock.release()

    @property
    def state(self) -> RunState:
        """How far the run is; "interrupted" where it says "running" and no process holds it."""
        try:
            state = RunState(**json.loads((self.path / STATE_FILE).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):
            return RunState("interrupted")
        if state.status == "running" and not self._is_held():
            return RunState("interrupted", state.step, state.num_steps, updated_at=state.updated_at)
        return state

    def progress(self, step: int, num_steps: int) -> None:
        """Note how far the run is."""
        self.write_state(RunState("running", step, num_steps))

    def stop(self) -> None:
        """Note that a person has stopped the run."""
        self._change("stopped")

    def finish(self, figures: Mapping[str, float]) -> None:
        """Note that the run is finished and what it came to."""
        self._change("finished", figures=figures)

    def write_state(self, state: RunState) -> None:
        """Replace the state, wholly or not at all."""
        write_json(self.path / STATE_FILE, {**asdict(state), "updated_at": time.time()})

    def delete(self) -> None:
        """Remove the run with its checkpoints.

        Raises:
            TrainingError: It is being trained.
        """
        with self:
            shutil.rmtree(self.path)

    def _change(
        self,
        status: RunStatus,
        error: str = "",
        figures: Mapping[str, float] | None = None,
        hint: str = "",
    ) -> None:
        before = self.state
        self.write_state(RunState(status, before.step, before.num_steps, error, figures, hint=hint))

    def _is_held(self) -> bool:
        if self._lock.is_locked:
            return True
        try:
            with FileLock(self.path / LOCK_FILE, timeout=0):
                return False
        except Timeout:
            return True


def list_runs(runs_dir: Path) -> list[RunFolder]:
    """Return the runs of a folder, newest first; damaged ones are left out."""
    runs = []
    for path in runs_dir.iterdir() if runs_dir.is_dir() else ():
        if (path / CONFIG_FILE).is_file():
            try:
                runs.append(RunFolder(path))
            except TrainingError:
                continue
    return sorted(runs, key=lambda run: run.created_at, reverse=True)


def open_run(runs_dir: Path, run_id: str) -> RunFolder:
    """Return the run of this name.

    Raises:
        TrainingError: There is none, or it is damaged.
    """
    if not _ID.fullmatch(run_id):
        raise _unknown_run(run_id, runs_dir)
    return RunFolder(runs_dir / run_id)


def _unknown_run(run_id: str, runs_dir: Path) -> TrainingError:
    names = ", ".join(run.run_id for run in list_runs(runs_dir)[:5])
    return TrainingError(
        f"There is no run named {run_id}.",
        hint=f"The newest are {names}." if names else "There are no runs yet.",
    )
