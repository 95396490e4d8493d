"""A check of a training request in a process of its own, looked at by a page.

Place in the data's way: the Training page -> `CheckJob.start` -> `python -m localsmith.training_check` -> the
page looks at `view()` until there is a result or an error.

Example:
    job = CheckJob(settings, request, [("tickets.jsonl", content)])
    job.start()
    job.view().result
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog

from .core.settings import HOME_VARIABLE, Settings
from .training_check import Check, check_from_json
from .training_process import lowered
from .training_request import TrainingRequest

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class CheckView:
    """A check as it stands at one moment.

    Attributes:
        stage: What is done, for people; "" before that is known.
        done: How much of it.
        total: In all; 0 where unknown.
        elapsed_s: Seconds since its start.
        eta_s: Seconds left of this stage; None where unknown.
        result: What came of it; None before its end, and where it failed.
        error: Why it failed; "".
        hint: What to do about it; "".
    """

    stage: str = ""
    done: int = 0
    total: int = 0
    elapsed_s: float = 0.0
    eta_s: float | None = None
    result: Check | None = None
    error: str = ""
    hint: str = ""

    @property
    def has_ended(self) -> bool:
        """Whether there is a result or an error."""
        return self.result is not None or bool(self.error)


class CheckJob:
    """One check.

    Args:
        settings: Where models and data are kept.
        request: What is asked for; its files are those given here.
        files: (name, content) of the uploaded files; kept on disk while the check runs.
        data_version: Id of data that were prepared before, or "".
        on_result: Told what came of it; None for no one.
    """

    def __init__(
        self,
        settings: Settings,
        request: TrainingRequest,
        files: Sequence[tuple[str, bytes]],
        data_version: str = "",
        on_result: Callable[[Check], None] | None = None,
    ) -> None:
        self.request = request
        self._on_result = on_result
        self._settings = settings
        self._files = files
        self._data_version = data_version
        self._lock = threading.Lock()
        self._view = CheckView()
        self._begun = self._stage_begun = time.monotonic()
        self._process: subprocess.Popen[str] | None = None
        self._is_cancelled = False

    def start(self) -> None:
        """Begin in the background."""
        threading.Thread(target=self._run, name="training-check", daemon=True).start()

    def view(self) -> CheckView:
        """Return how far it is."""
        with self._lock:
            view, now = self._view, time.monotonic()
            eta_s = (now - self._stage_begun) * (view.total - view.done) / view.done if view.done else None
            return dataclasses.replace(view, elapsed_s=now - self._begun, eta_s=eta_s)

    def cancel(self) -> None:
        """End the check; nothing is left behind."""
        with self._lock:
            self._is_cancelled = True
            if self._process is not None:
                self._process.kill()

    def _run(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="localsmith-training-"))
        try:
            self._work(folder)
        except Exception as exc:  # noqa: BLE001 - the last frame of a thread: told to the person, logged in full
            log.error("training_check_failed", exc_info=exc)
            self._end(error="The check failed.", hint="The details are in the log file.")
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _work(self, folder: Path) -> None:
        paths = []
        for number, (name, content) in enumerate(self._files):
            path = folder / str(number) / (Path(name.replace("\\", "/")).name or "data")
            path.parent.mkdir()
            path.write_bytes(content)
            paths.append(str(path))
        request = dataclasses.replace(self.request, files=tuple(paths))
        asked = {"request": request.to_json(), "data_version": self._data_version}
        with (folder / "errors").open("w+", encoding="utf-8") as errors:
            process = self._started(errors)
            assert process.stdin is not None and process.stdout is not None
            with process:
                process.stdin.write(json.dumps(asked))
                process.stdin.close()
                for line in process.stdout:
                    self._take(json.loads(line))
            if not self.view().has_ended:
                errors.seek(0)
                log.error("training_check_died", status=process.returncode, said=errors.read()[-4000:])
                self._end(error="The check ended early.", hint="The details are in the log file. Try again.")

    def _started(self, errors: Any) -> subprocess.Popen[str]:
        with self._lock:
            self._process = subprocess.Popen(
                lowered([sys.executable, "-m", "localsmith.training_check"]),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                encoding="utf-8",
                env={**os.environ, HOME_VARIABLE: str(self._settings.home)},
            )
            if self._is_cancelled:
                self._process.kill()
            return self._process

    def _take(self, line: dict[str, Any]) -> None:
        if "result" in line:
            result = check_from_json(line["result"])
            if self._on_result:
                self._on_result(result)
            self._end(result=result)
        elif "error" in line:
            self._end(error=line["error"], hint=line["hint"])
        else:
            with self._lock:
                if line["stage"] != self._view.stage:
                    self._stage_begun = time.monotonic()
                self._view = CheckView(line["stage"], line["done"], line["total"])

    def _end(self, result: Check | None = None, error: str = "", hint: str = "") -> None:
        with self._lock:
            self._view = CheckView(result=result, error=error, hint=hint)
