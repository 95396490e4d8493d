"""The model that serves, which can be replaced while it serves: no answer is cut, no question is refused.

Place in the data's way: the front door hands out a `HotSwap` where `Engine` would stand; the promotion watch
calls `swap`. Where memory holds both models, the new one loads while the old one answers, and takes all that
comes from then on; the old one is closed when its last answer has ended. Where memory does not, new questions
wait until the old one has ended its answers and made room.

Who asks a model several times for one answer takes a `lease`, so that one model makes the whole of it.

Example:
    swap = HotSwap(engine, reload=lambda on_share: load("old", on_share))
    with swap.lease() as model:
        model.submit([Message("user", "Name a prime.")])
    swap.swap("new", lambda on_share: load("new", on_share), has_room=lambda: True)
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol

import structlog

from ..core.contracts import Generation, ServedModel
from ..core.errors import LocalsmithError, ModelLoadError, ModelNotReadyError
from ..core.types import EngineStats, Message, Priority, SamplingParams

# So long a run may go on after its model was replaced; then others need the memory more. Longer than any
# request over HTTP may take.
PATIENCE_S = 900.0
log = structlog.get_logger(__name__)


class DrainableModel(ServedModel, Protocol):
    """A model that can be ended politely; `Engine` is one."""

    def drain(self) -> None:
        """Refuse what is new, let what runs and waits end, then close; `close` cuts it short."""
        ...

    def close(self) -> None:
        """Cancel what runs and free the model."""
        ...


Load = Callable[[Callable[[float], None]], DrainableModel]
"""Loads a model; gets a function that takes the share loaded, 0 to 1."""


@dataclass(frozen=True, slots=True)
class SwapState:
    """Where a replacement stands.

    Attributes:
        stage: "serving": a model answers, whether or not another loads; "between": questions wait for the new
            one; "failed": there is none, and `error` says why.
        progress: Share of the new model loaded, 0 to 1; None where nothing loads.
        detail: What goes on, for people; "" where there is nothing to say.
        error: Why there is no model.
    """

    stage: Literal["serving", "between", "failed"] = "serving"
    progress: float | None = None
    detail: str = ""
    error: LocalsmithError | None = None


class _Version:
    """A loaded model, how to load it again, and who holds it."""

    def __init__(self, model: DrainableModel, load: Load) -> None:
        self.model = model
        self.load = load
        self.num_leases = 0


class HotSwap:
    """One serving model after another; fulfils `core.contracts.ServedModel`.

    Args:
        model: The first model.
        reload: Loads it again, where it had to make room for one that then could not be loaded.
        patience_s: How long a lease keeps a replaced model from being closed; for one that is forgotten.
    """

    def __init__(self, model: DrainableModel, reload: Load, *, patience_s: float = PATIENCE_S) -> None:
        self._patience_s = patience_s
        self._latest = model  # what is told of the model needs no lease
        self._version: _Version | None = _Version(model, reload)
        self._retired: set[_Version] = set()
        self._state = SwapState()
        self._changed = threading.Condition()
        self._swapping = threading.Lock()
        self._closed = False

    @property
    def state(self) -> SwapState:
        """Where a replacement stands."""
        return self._state

    @contextmanager
    def lease(self) -> Iterator[ServedModel]:
        """Hold the serving model, which is not closed before the lease ends. Waits while there is none.

        Raises:
            ModelError: No model could be loaded.
            ModelNotReadyError: All has been closed.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._version or self._state.error or self._closed)
            if self._closed or self._version is None:
                raise self._state.error or ModelNotReadyError("The model has been closed.")
            version = self._version
            version.num_leases += 1
        try:
            yield version.model
        finally:
            with self._changed:
                version.num_leases -= 1
                self._changed.notify_all()

    # -- core.contracts.ServedModel

    @property
    def name(self) -> str:
        """Name of the model that serves."""
        return self._latest.name

    @property
    def prompt_tokens_per_s(self) -> float:
        """Speed of reading, in tokens a second; infinity where not measured."""
        return self._latest.prompt_tokens_per_s

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        return self._latest.n_ctx

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary."""
        return self._latest.n_vocab

    def count_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return the tokens of the rendered chat template, generation prompt included."""
        with self.lease() as model:
            count: Callable[..., int] = model.count_prompt  # an engine's counts tools, too
            return count(messages, tools) if tools else count(messages)

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text."""
        with self.lease() as model:
            return model.count_text(text)

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return how many leading prompt tokens of `messages` are in the KV cache now."""
        with self.lease() as model:
            return model.cached_prefix_tokens(messages)

    def submit(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        tools: Sequence[dict[str, Any]] = (),
        priority: Priority = "interactive",
        user: str = "",
    ) -> Generation:
        """Queue a completion with the model that serves now; see `core.contracts.LanguageModel.submit`."""
        with self.lease() as model:
            return model.submit(
                messages,
                sampling,
                deadline_s=deadline_s,
                cancel=cancel,
                tools=tools,
                priority=priority,
                user=user,
            )

    def submit_text(
        self,
        prompt: str,
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        priority: Priority = "interactive",
        user: str = "",
    ) -> Generation:
        """Queue the continuation of a raw text with the model that serves now; see `submit`."""
        with self.lease() as model:
            return model.submit_text(
                prompt, sampling, deadline_s=deadline_s, cancel=cancel, priority=priority, user=user
            )

    def stats(self) -> EngineStats:
        """Return what the serving model does now and has done so far."""
        return self._latest.stats()

    # -- replacing

    def swap(self, name: str, load: Load, *, has_room: Callable[[], bool]) -> None:
        """Put another model in this one's place; returns when it answers what comes from now on.

        Args:
            name: Its name, for people.
            load: Loads it.
            has_room: Says whether memory holds it beside what is loaded now.

        Raises:
            LocalsmithError: It can't be loaded; the old one serves on, loaded again where it had made room.
        """
        with self._swapping:
            old, before = self._version, self._latest.name
            if old is not None and self._has_room(has_room):
                self._swap_beside(old, name, load)
            else:
                self._swap_alone(old, name, load)
        log.info("model_swapped", before=before, now=name)

    def note(self, detail: str) -> None:
        """Keep a word for people, such as why a model could not take over, until the next replacement."""
        with self._changed:
            if self._state.stage == "serving":
                self._state = SwapState(detail=detail)

    def close(self) -> None:
        """Cancel what runs and free every model; a second call does nothing."""
        with self._changed:
            self._closed = True
            versions = [*self._retired, *([self._version] if self._version else [])]
            self._changed.notify_all()
        for version in versions:
            version.model.close()

    def _has_room(self, has_room: Callable[[], bool]) -> bool:
        """Ask for room, once more when those replaced before are gone."""
        if has_room():
            return True
        with self._changed:
            has_changed = bool(self._retired)
            self._changed.wait_for(lambda: not self._retired or self._closed)
        return has_changed and has_room()

    def _swap_beside(self, old: _Version, name: str, load: Load) -> None:
        answering = f"loading {name}; {old.model.name} answers meanwhile"
        self._tell(SwapState(detail=answering))
        self._publish(self._load(load, SwapState(detail=answering)), load)
        threading.Thread(target=self._retire, args=(old,), name="localsmith-retire", daemon=True).start()

    def _swap_alone(self, old: _Version | None, name: str, load: Load) -> None:
        """Make room first; what comes meanwhile waits in `lease`."""
        if old is not None:
            self._tell(SwapState("between", None, f"waiting for {old.model.name} to end its answers"))
            self._make_room(old)
        try:
            self._publish(self._load(load, SwapState("between", None, f"loading {name}")), load)
        except LocalsmithError as exc:
            if old is None:
                self._tell(SwapState("failed", error=exc))
                raise
            log.warning("model_reloaded", name=old.model.name, cause=str(exc))
            self._reload(old)
            raise

    def _reload(self, old: _Version) -> None:
        try:
            again = SwapState("between", None, f"loading {old.model.name} again")
            self._publish(self._load(old.load, again), old.load)
        except LocalsmithError as exc:
            self._tell(SwapState("failed", error=exc))
            raise

    def _make_room(self, old: _Version) -> None:
        """Take the model away once nobody holds it, and free it."""
        with self._changed:
            self._wait_for_leases(old)
            self._version = None
            self._retired.add(old)
        self._free(old)

    def _load(self, load: Load, state: SwapState) -> DrainableModel:
        self._tell(state)
        try:
            return load(lambda share: self._tell(replace(state, progress=share)))
        except LocalsmithError:
            raise
        except Exception as exc:
            log.exception("loading failed")
            raise ModelLoadError(f"The model could not be loaded: {exc}", hint="See the log.") from exc

    def _publish(self, model: DrainableModel, load: Load) -> None:
        """Let a model answer what comes from now on."""
        with self._changed:
            if not self._closed:
                if self._version is not None:
                    self._retired.add(self._version)
                self._version, self._latest = _Version(model, load), model
                self._state = SwapState()
                self._changed.notify_all()
                return
        model.close()

    def _retire(self, version: _Version) -> None:
        with self._changed:
            self._wait_for_leases(version)
        self._free(version)

    def _wait_for_leases(self, version: _Version) -> None:
        if not self._changed.wait_for(lambda: version.num_leases == 0 or self._closed, self._patience_s):
            log.warning("leases_forgotten", model=version.model.name, num_leases=version.num_leases)

    def _free(self, version: _Version) -> None:
        """Let what a replaced model writes end, and close it."""
        version.model.drain()
        with self._changed:
            self._retired.discard(version)
            self._changed.notify_all()

    def _tell(self, state: SwapState) -> None:
        with self._changed:
            self._state = state
            self._changed.notify_all()


def held(model: ServedModel) -> AbstractContextManager[ServedModel]:
    """Hold one model for as long as an answer takes: the serving one of a `HotSwap`, any other as it is.

    Raises what `HotSwap.lease` does.
    """
    return model.lease() if isinstance(model, HotSwap) else contextlib.nullcontext(model)
