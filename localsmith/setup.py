"""From an empty data folder to one that can answer: models pulled, measured, chosen; welcome documents added.

Place in the data's way: `localsmith setup` runs `set_up` before the first chat; the front door runs
`load_engine`, which does what set-up left undone.

Example:
    choice = set_up(load_settings(), on_step=lambda step: None)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path

import psutil
import structlog

from .core.settings import Settings
from .loading import Report
from .models.catalog import catalog
from .models.engine import Engine
from .models.installed import InstalledModel, in_use, installed, installed_model
from .models.llama import default_threads
from .models.measure import measure
from .models.pull import pull
from .models.selection import Choice, choose_chat_model
from .models.sources import PullProgress
from .models.speed import SPEED_FILE, Speed, SpeedStore

log = structlog.get_logger(__name__)

WELCOME_COLLECTION = "welcome"


@dataclass(frozen=True, slots=True)
class SetupStep:
    """What set-up is doing.

    Attributes:
        name: The step, for people.
        done: Units done.
        total: Units in all; None where unknown.
        detail: Rate or figures, or "".
    """

    name: str
    done: float = 0
    total: float | None = None
    detail: str = ""


OnStep = Callable[[SetupStep], None]


def set_up(settings: Settings, on_step: OnStep, *, with_welcome: bool = True) -> Choice:
    """Pull the embedding model and the chat model this machine runs best; add the welcome documents.

    What is there already is not fetched or measured again; a cut download goes on where it stopped.

    Args:
        settings: The settings.
        on_step: Called whenever there is something to show.
        with_welcome: Whether to add the welcome collection.

    Returns:
        The chat model chosen, and why.

    Raises:
        ModelDownloadError: No source delivered a model.
        StorageError: The disk is full.
    """
    if settings.embedder.name in catalog():
        _pull(settings, settings.embedder.name, on_step)
    choice = _choose_and_pull(settings, on_step)
    if with_welcome:
        _add_welcome(settings, on_step)
    return choice


def load_engine(settings: Settings, report: Report) -> Engine:
    """Load the chat model that the settings name or that this machine runs best.

    Args:
        settings: The settings.
        report: Gets the share loaded.

    Raises:
        ModelError: It can't be pulled or loaded.
    """

    def on_step(step: SetupStep) -> None:
        share = step.done / step.total if step.total else None
        report(share, f"{step.name} {step.detail}".rstrip())

    choice = _choose_and_pull(settings, on_step)
    log.info("model_chosen", name=choice.name, reason=choice.reason)
    model = installed_model(settings, choice.name).verify()
    return Engine(
        model.path,
        name=choice.name,
        settings=settings.model,
        prompt_tokens_per_s=_measured(settings, model, on_step).prompt_tokens_per_s,
        on_progress=lambda share: report(share, f"loading {choice.name}"),
    )


def _choose_and_pull(settings: Settings, on_step: OnStep) -> Choice:
    """Choose, pull and measure until the choice rests on measurements."""
    while True:
        models = {name: model for name, model in installed(settings).items() if model.kind == "chat"}
        known = {name: speed for name, model in models.items() if (speed := _stored(settings, model))}
        memory = psutil.virtual_memory().total
        choice = choose_chat_model(settings, known, models.keys(), memory, in_use(settings))
        is_there = choice.name in models
        if is_there and choice.name in known:
            return choice
        model = models[choice.name] if is_there else _pull(settings, choice.name, on_step)
        _measured(settings, model, on_step)


def _pull(settings: Settings, name: str, on_step: OnStep) -> InstalledModel:
    models = installed(settings)
    if name in models:
        return models[name]

    def show(progress: PullProgress) -> None:
        megabytes = f"{progress.done_bytes / 1e6:.0f} of {progress.total_bytes / 1e6:.0f} MB"
        rate = f", {progress.bytes_per_s / 1e6:.1f} MB/s" if progress.bytes_per_s else ""
        detail = f"{progress.stage} {megabytes}{rate}"
        on_step(SetupStep(f"Model {name}:", progress.done_bytes, progress.total_bytes, detail))

    model = pull(settings, name, on_progress=show)
    on_step(SetupStep(f"Model {name}:", 1, 1, "is here"))
    return model


def _measured(settings: Settings, model: InstalledModel, on_step: OnStep) -> Speed:
    """Return the model's speed here, measured now where it isn't known."""
    if (known := _stored(settings, model)) is not None:
        return known
    step = f"Measuring {model.name}:"
    on_step(SetupStep(step, detail="reads and writes a little"))
    engine = Engine(model.verify().path, name=model.name, settings=settings.model)
    try:
        speed = measure(engine)
    finally:
        engine.close()
    _store(settings).put(model.sha256, _threads(settings), speed)
    words = f"reads {speed.prompt_tokens_per_s:.0f}, writes {speed.decode_tokens_per_s:.0f} tokens/s"
    on_step(SetupStep(step, 1, 1, words))
    return speed


def _add_welcome(settings: Settings, on_step: OnStep) -> None:
    """Index the welcome documents, once; a person who removed them doesn't get them again."""
    from .front_door import Localsmith
    from .retrieval.ingest import FileFailed, FileStarted

    folder = files("localsmith.ui").joinpath("welcome")
    paths = sorted(Path(str(entry)) for entry in folder.iterdir() if entry.name.endswith(".md"))
    with Localsmith(settings=settings) as ls:
        names = [info.name for info in ls.library.collections()]
        removed = [info.name for info in ls.library.removed_collections()]
        if WELCOME_COLLECTION in [*names, *removed]:
            return
        ls.library.create_collection(WELCOME_COLLECTION)
        for event in ls.library.ingest(paths, WELCOME_COLLECTION):
            if isinstance(event, FileFailed):
                raise event.error
            if isinstance(event, FileStarted):
                on_step(SetupStep("Welcome documents:", event.overall.done, event.overall.total))
        on_step(SetupStep("Welcome documents:", 1, 1, "are here"))


def _stored(settings: Settings, model: InstalledModel) -> Speed | None:
    return _store(settings).get(model.sha256, _threads(settings))


def _store(settings: Settings) -> SpeedStore:
    return SpeedStore(settings.models_dir / SPEED_FILE)


def _threads(settings: Settings) -> int:
    return settings.model.n_threads or default_threads()
