"""The commands about models: `localsmith models list | pull | use | measure | remove | restore`, and more.

Place in the data's way: words in, `localsmith.models` calls out. What a command reports goes to standard
output, progress to standard error. The commands about trained models are in `cli_promote.py`.

Example: `localsmith models pull qwen2.5-coder-1.5b`
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated

import typer

from . import cli_promote

if TYPE_CHECKING:
    from .core.settings import Settings
    from .models.catalog.installed import InstalledModel
    from .models.catalog.selection import Choice
    from .models.catalog.sources import OnPullProgress, PullProgress
    from .models.catalog.speed import Speed

AUTO = "auto"
_INTERRUPTED = 130  # what a shell reports for Ctrl-C

app = typer.Typer(help="Fetch, choose and remove models.", no_args_is_help=True)
for _command in (cli_promote.show, cli_promote.promote, cli_promote.rollback):
    app.command()(_command)

Name = Annotated[str, typer.Argument(help="Name of the model; `localsmith models list` shows all.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class _Row:
    """One model as `list` shows it."""

    name: str
    kind: str
    size_bytes: int
    licence: str
    n_ctx_train: int
    state: str
    base: str
    prompt_tokens_per_s: float | None
    decode_tokens_per_s: float | None
    busy_cores: float | None
    measured_at: float | None


@app.command("list")
def list_models(
    json: Annotated[bool, typer.Option("--json", help="Print the list as JSON.")] = False,
) -> None:
    """Show the models of the catalog and of this disk.

    Which of them are in use is marked.
    """
    from .core.settings import load_settings

    settings = load_settings()
    rows, reason, doubtful = _rows(settings)
    if json:
        import dataclasses
        import json as json_module

        typer.echo(json_module.dumps([dataclasses.asdict(row) for row in rows], indent=1))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, header_style="bold", pad_edge=False)
    for title in ("model", "size", "licence", "window", "state", "reads / writes"):
        table.add_column(title, no_wrap=True, justify="right" if title in ("size", "window") else "left")
    for row in rows:
        name = f"{row.name} (from {row.base})" if row.base else row.name
        table.add_row(
            name, _megabytes(row.size_bytes), row.licence, f"{row.n_ctx_train:,}", row.state, _speed(row)
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(f"\n{reason}", markup=False)
    for name in doubtful:
        words = (
            f"{name} was measured while other programs were busy; measure again: localsmith models measure"
        )
        console.print(f"{words} {name}", markup=False)


@app.command()
def pull(
    model: Annotated[
        str, typer.Argument(help="Catalog name, hub:owner/repository/file.gguf, or the path of a GGUF file.")
    ],
    name: Annotated[str | None, typer.Option(help="Name for a model that the catalog does not know.")] = None,
) -> None:
    """Fetch a model, verify it, and keep it.

    Goes on where an earlier try stopped.
    """
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .models.catalog.pull import pull as pull_model

    settings = load_settings()
    log_to_file(settings)
    try:
        with _progress_bar(model) as on_progress, _bad_values():
            found = pull_model(settings, model, name=name, on_progress=on_progress)
    except KeyboardInterrupt:
        typer.secho("Stopped. The same command goes on from here.", fg="yellow", err=True)
        raise typer.Exit(_INTERRUPTED) from None
    typer.echo(f"{found.name} is ready: {_megabytes(found.size_bytes)}, {found.licence}; {found.source}.")


@app.command()
def use(
    name: Annotated[str, typer.Argument(help="An installed chat model, or `auto` for the best in time.")],
) -> None:
    """Choose the chat model.

    `auto` leaves the choice to Localsmith. `rollback` goes back.
    """
    from .core.settings import load_settings
    from .models.catalog import installed

    settings = load_settings()
    with _bad_values():
        installed.use(settings, None if name == AUTO else name)
    choice, _ = _choose(settings)
    typer.echo(choice.reason)


@app.command()
def measure(
    name: Annotated[
        str | None, typer.Argument(help="An installed chat model; all of them where none is named.")
    ] = None,
) -> None:
    """Measure again how fast models read and write here.

    The default model and the time budgets rest on it.
    """
    from .core.errors import ConfigError
    from .core.settings import load_settings
    from .models.catalog.installed import installed, installed_model

    settings = load_settings()
    models = [installed_model(settings, name)] if name else list(installed(settings).values())
    chat_models = [model for model in models if model.kind == "chat"]
    if not chat_models:
        what = f"{name} is no chat model" if name else "No chat model is installed"
        raise ConfigError(f"{what}; there is nothing to measure.", hint="See: localsmith models list")
    _, before = _choose(settings)
    for model in chat_models:
        _measure(settings, model, before.get(model.name))
    choice, _ = _choose(settings)
    typer.echo(choice.reason)


@app.command()
def remove(name: Name, yes: Yes = False) -> None:
    """Remove a model.

    `restore` brings it back for seven days, or until another is pulled.
    """
    from .core.settings import load_settings
    from .models.catalog.installed import installed_model
    from .models.catalog.trash import TRASH_DAYS, purge_trash
    from .models.catalog.trash import remove as remove_model

    settings = load_settings()
    model = installed_model(settings, name)
    if not yes:
        typer.confirm(f"Remove {name} ({_megabytes(model.size_bytes)})?", abort=True)
    purge_trash(settings, older_than_days=TRASH_DAYS)
    remove_model(settings, name)
    typer.echo(f"Removed {name}. For {TRASH_DAYS:g} days it comes back by: localsmith models restore {name}")


@app.command()
def restore(name: Name) -> None:
    """Bring back a removed model."""
    from .core.settings import load_settings
    from .models.catalog.trash import restore as restore_model

    model = restore_model(load_settings(), name)
    typer.echo(f"{model.name} is back.")


def _choose(settings: Settings) -> tuple[Choice, dict[str, Speed]]:
    from .models.catalog.selection import choose_here

    return choose_here(settings)


def _measure(settings: Settings, model: InstalledModel, before: Speed | None) -> None:
    """Measure one model and say what was found, and how it differs from what was known."""
    import os

    from rich.console import Console

    from .models.catalog.measure import measure_here

    with Console(stderr=True, highlight=False).status(f"Measuring {model.name}") as status:
        speed = measure_here(
            settings, model, lambda done, total: status.update(f"Measuring {model.name}: {done} of {total}")
        )
    known = (
        f" (before: {before.prompt_tokens_per_s:.0f} and {before.decode_tokens_per_s:.0f})" if before else ""
    )
    typer.echo(
        f"{model.name}: reads {speed.prompt_tokens_per_s:.0f}, writes {speed.decode_tokens_per_s:.0f} "
        f"tokens/s{known}; other programs kept {speed.busy_cores:.1f} of {os.cpu_count() or 1} cores busy."
    )
    if speed.is_doubtful:
        hint = "A quiet machine is faster: measure again when there is less to do."
        typer.secho(hint, fg="yellow", err=True)


def _rows(settings: Settings) -> tuple[list[_Row], str, list[str]]:
    """Return what `list` shows: the models, why the chat model is in use, and whose speed is doubtful."""
    from .models.catalog.catalog import catalog
    from .models.catalog.installed import in_use, installed
    from .models.catalog.trash import trashed

    here = installed(settings)
    choice, speeds = _choose(settings)
    chosen, removed = in_use(settings), trashed(settings)
    rows = []
    for name in [*catalog(), *(name for name in here if name not in catalog())]:
        model = here.get(name) or catalog()[name]
        is_used = name == (choice.name if model.kind == "chat" else settings.embedder.name)
        state = "-" if name not in removed else "removed"
        if name in here:
            state = "installed" if not is_used else "in use" if name == chosen else "in use (auto)"
        speed = speeds.get(name)
        lineage = here[name].lineage if name in here else None
        rows.append(
            _Row(
                name=name,
                kind=model.kind,
                size_bytes=model.size_bytes,
                licence=model.licence,
                n_ctx_train=model.n_ctx_train,
                state=state,
                base=lineage.base if lineage else "",
                prompt_tokens_per_s=speed.prompt_tokens_per_s if speed else None,
                decode_tokens_per_s=speed.decode_tokens_per_s if speed else None,
                busy_cores=speed.busy_cores if speed else None,
                measured_at=speed.measured_at if speed else None,
            )
        )
    missing = "" if choice.name in here else f" Get it: localsmith models pull {choice.name}"
    doubtful = [row.name for row in rows if row.name in here and row.name in speeds]
    return rows, choice.reason + missing, [name for name in doubtful if speeds[name].is_doubtful]


@contextmanager
def _progress_bar(model: str) -> Iterator[OnPullProgress]:
    """Show bytes, rate and time left on standard error; without a terminal, a line now and then."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    from .stage_progress import StageLines

    console = Console(stderr=True, highlight=False)
    if not console.is_terminal:
        lines = StageLines(lambda line: console.print(line, markup=False, soft_wrap=True))
        yield lambda progress: lines.show(f"pulling {model}", 0, 0, _transfer(progress))
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.fields[words]}"))
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(f"Looking for {model}", total=None, words="")

        def show(progress: PullProgress) -> None:
            words = {"waiting": "another process is pulling it", "verifying": "verifying SHA-256"}
            bar.update(
                task,
                description=progress.source,
                total=progress.total_bytes or None,
                completed=progress.done_bytes,
                words=words.get(progress.stage) or _transfer(progress),
            )

        yield show


def _transfer(progress: PullProgress) -> str:  # noqa: F821 - imported late
    words = f"{progress.done_bytes / 1e6:,.0f} of {progress.total_bytes / 1e6:,.0f} MB"
    if progress.bytes_per_s > 0:
        words += f", {progress.bytes_per_s / 1e6:.1f} MB/s"
    if progress.eta_s is not None:
        minutes, seconds = divmod(round(progress.eta_s), 60)
        words += f", {minutes}:{seconds:02d} left"
    return words


@contextmanager
def _bad_values() -> Iterator[None]:
    """Turn a refused argument into one sentence."""
    from .core.errors import ConfigError

    try:
        yield
    except ValueError as exc:
        raise ConfigError(str(exc)) from exc


def _megabytes(size_bytes: int) -> str:
    return f"{size_bytes / 1e6:,.0f} MB"


def _speed(row: _Row) -> str:
    if row.prompt_tokens_per_s is None or row.decode_tokens_per_s is None:
        return "-"
    return f"{row.prompt_tokens_per_s:.0f} / {row.decode_tokens_per_s:.0f} tokens/s"
