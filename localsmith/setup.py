"""From an empty data folder to one that can answer: models chosen, welcome documents added, sandbox compiled.

Place in the data's way: `localsmith setup` runs `set_up` before the first chat; the front door runs
`load_engine`, which does what set-up left undone.

Example:
    choice = set_up(load_settings(), on_step=lambda step: None)
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import structlog

from .core.errors import SandboxError
from .core.settings import Settings
from .loading import Report
from .models.catalog.catalog import catalog
from .models.catalog.installed import InstalledModel, installed, installed_model
from .models.catalog.measure import measure_here
from .models.catalog.pull import pull
from .models.catalog.selection import Choice, choose_here
from .models.catalog.sources import PullProgress
from .models.catalog.speed import Speed
from .models.engine import Engine
from .models.installed_engine import installed_engine
from .models.remote.address import RemoteAddress, is_remote
from .ui.welcome_documents import COLLECTION, welcome_files

log = structlog.get_logger(__name__)


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


def set_up(
    settings: Settings, on_step: OnStep, *, with_welcome: bool = True, with_sandbox: bool = True
) -> Choice:
    """Pull the models this machine runs best, add the welcome documents, compile the sandbox.

    What is there already is not made again; a cut download goes on where it stopped. A sandbox that can't be
    compiled here is no error: the step says why, and everything but running programs works without it.

    Args:
        settings: The settings.
        on_step: Called whenever there is something to show.
        with_welcome: Whether to add the welcome collection.
        with_sandbox: Whether to compile the sandbox.

    Returns:
        The chat model chosen, and why.

    Raises:
        ModelDownloadError: No source delivered a model.
        StorageError: The disk is full.
    """
    if settings.embedder.name in catalog():
        _pull(settings, settings.embedder.name, on_step)
    choice = _remote_choice(settings) or _choose_and_pull(settings, on_step)[0]
    if with_welcome:
        _add_welcome(settings, on_step)
    if with_sandbox:
        compile_sandbox(settings, on_step)
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

    choice, speeds = _choose_and_pull(settings, on_step)
    log.info("model_chosen", name=choice.name, reason=choice.reason)
    return installed_engine(
        settings,
        installed_model(settings, choice.name),
        prompt_tokens_per_s=speeds[choice.name].prompt_tokens_per_s,
        on_progress=lambda share: report(share, f"loading {choice.name}"),
    )


def _remote_choice(settings: Settings) -> Choice | None:
    """Return the model on another server, where the settings name one; there is nothing to pull."""
    name = settings.model.name
    if not is_remote(name):
        return None
    RemoteAddress.parse(name)
    return Choice(name, f"{name} is another server's; this machine needs no chat model.")


def _choose_and_pull(settings: Settings, on_step: OnStep) -> tuple[Choice, dict[str, Speed]]:
    """Choose, pull and measure until the choice rests on measurements; return it with them."""
    while True:
        choice, speeds = choose_here(settings)
        model = installed(settings).get(choice.name)
        if model is not None and choice.name in speeds:
            return choice, speeds
        _measure(settings, model or _pull(settings, choice.name, on_step), on_step)


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


def _measure(settings: Settings, model: InstalledModel, on_step: OnStep) -> None:
    step = f"Measuring {model.name}:"
    on_step(SetupStep(step, detail="reads and writes a little"))
    speed = measure_here(
        settings, model, lambda done, total: on_step(SetupStep(step, done, total, f"round {done} of {total}"))
    )
    on_step(SetupStep(step, 1, 1, str(speed)))


def _add_welcome(settings: Settings, on_step: OnStep) -> None:
    """Index the welcome documents, once; a person who removed them doesn't get them again."""
    from .front_door import Localsmith
    from .retrieval.ingest import FileFailed, FileStarted

    with Localsmith(settings=settings) as ls:
        names = [info.name for info in ls.library.collections()]
        removed = [info.name for info in ls.library.removed_collections()]
        if COLLECTION in [*names, *removed]:
            return
        ls.library.create_collection(COLLECTION)
        for event in ls.library.ingest(welcome_files(), COLLECTION):
            if isinstance(event, FileFailed):
                raise event.error
            if isinstance(event, FileStarted):
                on_step(SetupStep("Welcome documents:", event.overall.done, event.overall.total))
        on_step(SetupStep("Welcome documents:", 1, 1, "are here"))


def compile_sandbox(settings: Settings, on_step: OnStep) -> None:
    """Compile what runs the model's programs, so that the first program needn't wait for it.

    Args:
        settings: The settings; nothing is compiled where they want the sandbox that needs no compiling.
        on_step: Called whenever there is something to show.
    """
    if settings.sandbox.kind == "bubblewrap":
        return
    from .agents.sandbox import compile_module

    step = "Sandbox for programs:"

    def show(share: float, left_s: float | None) -> None:
        left = "" if left_s is None else f", about {left_s:.0f} s left"
        on_step(SetupStep(step, share, 1, f"compiling{left}"))

    try:
        compile_module(settings.sandbox_cache_dir, show)
    except SandboxError as exc:
        log.warning("sandbox_not_compiled", reason=str(exc), hint=exc.hint)
        on_step(SetupStep(step, 0, 1, f"not compiled. {exc} {exc.hint}".rstrip()))
        return
    on_step(SetupStep(step, 1, 1, "is here"))
