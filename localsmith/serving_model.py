"""The front door's model: one that is named, one on another server, or the one in use, which may change.

Place in the data's way: `Localsmith` starts it; it loads in the background; where the person named no model,
`PromotionWatch` replaces it when another is put in use.

Example:
    part = ServingModel(load_settings())
    part.start()
    part.result().submit([Message("user", "Name a prime.")])
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING

from .core.settings import Settings, remote_api_key
from .loading import LoadingState, Part, Report
from .models.remote.address import RemoteAddress, is_remote

if TYPE_CHECKING:
    from .models.engine import Engine
    from .models.hot_swap import HotSwap
    from .models.remote.model import RemoteModel
    from .promotion_watch import PromotionWatch

AUTO = "auto"


class ServingModel:
    """The chat model, loaded when it is first needed.

    Args:
        settings: The settings; only a model that they leave to "auto" is ever replaced.
        follows_promotions: Whether one that is promoted meanwhile takes over.

    Raises:
        ConfigError: The settings name another server by an address that is none.
    """

    def __init__(self, settings: Settings, *, follows_promotions: bool = True) -> None:
        if is_remote(settings.model.name):
            RemoteAddress.parse(settings.model.name)
        self._settings = settings
        self._follows = follows_promotions and settings.model.name == AUTO
        self._closing = threading.Event()
        self._part: Part[Engine | HotSwap | RemoteModel] = Part("model", self._load)
        self._swap: HotSwap | None = None
        self._watch: PromotionWatch | None = None

    @property
    def state(self) -> LoadingState:
        """How far it is; while it is replaced, how far the next one is."""
        state = self._part.state
        if state.state != "ready" or self._swap is None:
            return state
        swap = self._swap.state
        if swap.stage == "failed":
            return replace(state, state="failed", detail=swap.detail, error=swap.error)
        is_between = swap.stage == "between"
        return replace(
            state,
            state="loading" if is_between else "ready",
            progress=swap.progress,
            detail=swap.detail,
            is_replacing=is_between,
        )

    def start(self) -> None:
        """Begin to load, unless that runs or is done; again after a failure."""
        if self._watch is not None and self.state.state == "failed":
            self._watch.retry()
        self._part.start()

    def result(self) -> Engine | HotSwap | RemoteModel:
        """Wait for the model; starts to load it where that was not done.

        Raises:
            ModelError: It is not installed or can't be loaded.
            ModelNotReadyError: The other server can't be reached.
            AccessDenied: The other server refuses the key.
        """
        return self._part.result()

    def close(self) -> None:
        """Stop the model and the watch."""
        self._closing.set()
        if self._part.state.state != "ready":
            return
        if self._watch is not None:
            self._watch.stop()
        self._part.result().close()
        if self._watch is not None:
            self._watch.join()

    def _load(self, report: Report) -> Engine | HotSwap | RemoteModel:
        if is_remote(self._settings.model.name):
            return self._connect(report)
        from .models.catalog.installed import in_use
        from .setup import load_engine

        chosen = in_use(self._settings)  # before the choice, so that no later promotion is missed
        engine = load_engine(self._settings, report)
        return self._follow(engine, chosen) if self._follows else engine

    def _follow(self, engine: Engine, in_use: str | None) -> HotSwap:
        from .models.catalog.installed import installed_model
        from .models.hot_swap import HotSwap
        from .models.installed_engine import installed_engine
        from .promotion_watch import PromotionWatch

        self._swap = HotSwap(
            engine,
            reload=lambda on_share: installed_engine(
                self._settings,
                installed_model(self._settings, engine.name),
                prompt_tokens_per_s=engine.prompt_tokens_per_s,
                on_progress=on_share,
            ),
        )
        self._watch = PromotionWatch(self._settings, self._swap, in_use)
        self._watch.start()
        return self._swap

    def _connect(self, report: Report) -> RemoteModel:
        from .models.remote.model import connect

        model = self._settings.model
        return connect(
            model.name,
            api_key=remote_api_key(self._settings),
            n_ctx=model.n_ctx if "n_ctx" in model.model_fields_set else None,
            on_wait=lambda words: report(None, words),
            stop=self._closing,
        )
