"""Notices that another model was put in use, and lets it take over in what runs.

Place in the data's way: `localsmith models promote` writes `installed.json` -> this thread sees the file
change -> `HotSwap.swap`. A thread looks, not the next question: so the new model is loaded before anybody
asks, no question pays for the look, and a server that nobody asks frees the old model's memory, too. A look
is one `stat` a second; file events of the system would cost less and work on fewer file systems.

Example:
    watch = PromotionWatch(settings, swap, in_use=in_use(settings))
    watch.start()
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from .core.errors import LocalsmithError
from .core.settings import Settings
from .models.catalog.installed import STATE_FILE, InstalledModel, in_use, installed_model
from .models.catalog.selection import choose_here, threads
from .models.catalog.speed import SPEED_FILE, SpeedStore
from .models.engine import Engine
from .models.hot_swap import HotSwap
from .models.installed_engine import fits_beside, installed_engine

LOOK_EVERY_S = 1.0
log = structlog.get_logger(__name__)


class PromotionWatch:
    """Keeps a serving model the one that is in use.

    Args:
        settings: Where models are kept.
        swap: The serving model.
        in_use: What was in use when it was chosen; None for the automatic choice.
    """

    def __init__(self, settings: Settings, swap: HotSwap, in_use: str | None) -> None:
        self._settings = settings
        self._swap = swap
        self._in_use = in_use
        self._stamp: tuple[int, int] | None = None
        self._wake = threading.Event()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="localsmith-promotion", daemon=True)

    def start(self) -> None:
        """Begin to look."""
        self._thread.start()

    def retry(self) -> None:
        """Load the model in use again, after none could be loaded."""
        self._wake.set()

    def stop(self) -> None:
        """Look no more; a replacement that has begun goes on."""
        self._closed = True
        self._wake.set()

    def join(self) -> None:
        """Wait for the end of what has begun."""
        self._thread.join()

    def _run(self) -> None:
        while not self._closed:
            try:
                if (stamp := self._read_stamp()) != self._stamp or self._swap.state.stage == "failed":
                    self._stamp = stamp
                    self._look()
            except LocalsmithError as exc:
                log.warning("promotion_failed", error=str(exc), hint=exc.hint)
                words = f"{self._in_use or 'The automatic choice'} could not take over: {exc} {exc.hint}"
                self._swap.note(f"{words.rstrip()} {self._swap.name} goes on.")
            except Exception:  # noqa: BLE001 - the watch must outlive whatever fails
                log.exception("promotion failed")
            self._wait()

    def _wait(self) -> None:
        # Where no model could be loaded, only a person's retry or another promotion makes it worth a try.
        while not self._closed and not self._wake.wait(LOOK_EVERY_S):
            if self._swap.state.stage != "failed" or self._read_stamp() != self._stamp:
                return
        self._wake.clear()

    def _read_stamp(self) -> tuple[int, int] | None:
        try:
            stat = (self._settings.models_dir / STATE_FILE).stat()
        except OSError:  # the folder may be away for a moment; what serves needs it no more
            return self._stamp
        return stat.st_mtime_ns, stat.st_ino

    def _look(self) -> None:
        name, is_serving = in_use(self._settings), self._swap.state.stage != "failed"
        if is_serving and name == self._in_use and name in (None, self._swap.name):
            return  # the automatic choice is made once, at the start
        self._in_use = name
        choice, _ = choose_here(self._settings)
        if is_serving and choice.name == self._swap.name:
            self._swap.note("")
            return
        log.info("model_chosen", name=choice.name, reason=choice.reason)
        model = installed_model(self._settings, choice.name)
        tokens_per_s = self._prompt_tokens_per_s(model)

        def load(on_share: Callable[[float], None]) -> Engine:
            return installed_engine(
                self._settings, model, prompt_tokens_per_s=tokens_per_s, on_progress=on_share
            )

        self._swap.swap(choice.name, load, has_room=lambda: fits_beside(self._settings, model))

    def _prompt_tokens_per_s(self, model: InstalledModel) -> float:
        """Return the speed of reading: measured, else its base's, else that of the model it replaces.

        Measuring would slow down the answers being written. The engine corrects what it sees to be wrong, and
        the next start measures.
        """
        store, n_threads = SpeedStore(self._settings.models_dir / SPEED_FILE), threads(self._settings)
        hashes = [model.sha256, *([model.lineage.base_sha256] if model.lineage else [])]
        for sha256 in hashes:
            if (speed := store.get(sha256, n_threads)) is not None:
                return speed.prompt_tokens_per_s
        return self._swap.prompt_tokens_per_s
