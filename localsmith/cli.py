"""The command line: `localsmith ask`, `chat`, `ui`, `serve`, `setup`, `models`, `documents`, and more.

Place in the data's way: words in, `Localsmith` calls out; the only place besides the pages where an error
becomes words. Everything heavy is imported inside the commands, so that `--help` answers at once.

Example: `localsmith ask "What is a trace tree?" --docs tracemonkey.pdf`
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from . import (
    cli_documents,
    cli_evaluate,
    cli_mcp,
    cli_memory,
    cli_models,
    cli_runs,
    cli_serve,
    cli_traces,
    cli_train,
)

if TYPE_CHECKING:
    from .core.types import Answer
    from .front_door import Localsmith

FILES_COLLECTION = "files"

app = typer.Typer(
    name="localsmith",
    help="Ask your documents, with a model that runs on this machine.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # rich's own import takes a quarter of the time of --help
)
app.add_typer(cli_models.app, name="models")
app.add_typer(cli_documents.app, name="documents")
app.add_typer(cli_evaluate.app, name="evaluate")
app.add_typer(cli_train.app, name="train")
app.add_typer(cli_runs.app, name="runs")
app.add_typer(cli_traces.app, name="traces")
app.add_typer(cli_memory.app, name="memory")
app.add_typer(cli_serve.keys_app, name="keys")
app.command()(cli_serve.serve)
app.command()(cli_mcp.mcp)

Model = Annotated[
    str | None, typer.Option(help="Catalog name of the chat model, or openai://HOST:PORT/MODEL.")
]
Collection = Annotated[str | None, typer.Option(help="Collection to search.")]
Seconds = Annotated[
    float | None, typer.Option("--seconds", help="Time budget for reading, in seconds to the first token.")
]
Strategy = Annotated[
    str | None,
    typer.Option(help="How to answer: auto, rag, direct, few-shot, cot, cot-sc, pal, pal-vote, react."),
]


@app.command()
def ask(
    question: Annotated[str, typer.Argument(help="The question.")],
    docs: Annotated[
        list[Path] | None,
        typer.Option("--docs", help="Files to answer from, added first; repeat or list several."),
    ] = None,
    more_docs: Annotated[list[Path] | None, typer.Argument(metavar="[FILE]...", help="More --docs.")] = None,
    collection: Collection = None,
    model: Model = None,
    seconds: Seconds = None,
    strategy: Strategy = None,
    json: Annotated[bool, typer.Option("--json", help="Print the whole answer as JSON.")] = False,
) -> None:
    """Answer a question.

    From documents with citations, or in the way that --strategy names.
    """
    from .core.types import DEFAULT_COLLECTION, Question
    from .terminal import show_ingest, show_sources
    from .terminal_runs import show_question

    files = [*(docs or ()), *(more_docs or ())]
    with _open(model, seconds) as ls:
        name = collection or (FILES_COLLECTION if files else DEFAULT_COLLECTION)
        ids: tuple[str, ...] = ()
        if files:
            if name not in [info.name for info in ls.library.collections()]:
                ls.library.create_collection(name)
            ls.warm_up()
            documents, num_failed = show_ingest(ls.library.ingest(files, name))
            ids = tuple(document.id for document in documents)
            if num_failed and not ids:
                raise typer.Exit(1)
        asked = Question(question, collection=name, document_ids=ids)
        if json:
            _print_json(ls.ask(asked, strategy=strategy))
            return
        show_sources(show_question(ls, asked, strategy))


@app.command()
def chat(
    collection: Collection = None,
    model: Model = None,
    seconds: Seconds = None,
    strategy: Strategy = None,
) -> None:
    """Talk with your documents in the terminal.

    An empty line or Ctrl-D ends it.
    """
    import uuid

    from .core.types import DEFAULT_COLLECTION, Message, Question
    from .terminal import console, show_sources
    from .terminal_runs import show_question

    history: list[Message] = []
    conversation_id = uuid.uuid4().hex
    with _open(model, seconds) as ls:
        ls.warm_up()
        console.print("Ask about your documents. Ctrl-C stops an answer, Ctrl-D ends the chat.")
        while text := _read_line():
            asked = Question(
                text, tuple(history), collection or DEFAULT_COLLECTION, conversation_id=conversation_id
            )
            answer = show_question(ls, asked, strategy)
            show_sources(answer)
            history += [Message("user", text), Message("assistant", answer.text)]


@app.command()
def ui(
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    open_browser: Annotated[bool, typer.Option("--open/--no-open", help="Open the browser.")] = True,
) -> None:
    """Open the chat in the browser."""
    import os

    from .core.settings import load_settings
    from .ui.launch import command

    settings = load_settings(**({"ui": {"port": port}} if port else {}))
    words = command(settings, open_browser=open_browser)
    _compile_sandbox_meanwhile()
    os.execv(words[0], words)  # the server takes this process's place, so that stopping one stops both


@app.command()
def setup(
    model: Model = None,
    welcome: Annotated[bool, typer.Option(help="Add the small welcome collection.")] = True,
    sandbox: Annotated[bool, typer.Option(help="Compile the sandbox that runs programs.")] = True,
    models: Annotated[bool, typer.Option(help="Fetch models; else compile the sandbox only.")] = True,
) -> None:
    """Fetch and measure the models this machine runs best.

    Adds the welcome collection and the sandbox too.
    """
    from .core.logs import log_to_file
    from .core.settings import load_settings
    from .setup import compile_sandbox, set_up
    from .terminal import SetupBar, console

    settings = load_settings(**({"model": {"name": model}} if model else {}))
    log_to_file(settings)
    with SetupBar() as bar:
        if not models:
            compile_sandbox(settings, bar.show)
            return
        choice = set_up(settings, bar.show, with_welcome=welcome, with_sandbox=sandbox)
    console.print(choice.reason, markup=False)


def _compile_sandbox_meanwhile() -> None:
    """Compile the sandbox, where that is not done yet, in a process that gives way to the first answers."""
    import subprocess

    # The shell ends at once, so that the chat, which this process becomes, is left with no child to bury.
    orphan = ["sh", "-c", 'nice -n 15 "$@" &', "sh"]
    command = [sys.executable, "-m", "localsmith.cli", "setup", "--no-models"]
    quiet = subprocess.DEVNULL
    subprocess.run(
        [*orphan, *command], stdin=quiet, stdout=quiet, stderr=quiet, start_new_session=True, check=False
    )


@app.command()
def doctor() -> None:
    """Check this installation: engine, models, speed, disk; say what to do about each fault."""
    from .core.settings import load_settings
    from .doctor import run_checks
    from .terminal import console

    is_well = True
    for check in run_checks(load_settings()):
        console.print(f"{'ok  ' if check.is_ok else 'FAIL'} {check.name}: {check.detail}", markup=False)
        is_well = is_well and check.is_ok
    raise typer.Exit(0 if is_well else 1)


def main() -> None:
    """Run the command line; a `LocalsmithError` becomes one sentence and a hint, exit status 1."""
    from .core.errors import LocalsmithError

    try:
        app()
    except LocalsmithError as exc:
        typer.secho(f"Error: {exc}", fg="red", err=True)
        if exc.hint:
            typer.secho(exc.hint, err=True)
        raise SystemExit(1) from exc


def _open(model: str | None, seconds: float | None) -> Localsmith:
    from .core.settings import load_settings
    from .front_door import Localsmith

    settings = load_settings(**({"answer": {"seconds_to_first_token": seconds}} if seconds else {}))
    return Localsmith(model, settings=settings)


def _read_line() -> str:
    try:
        return input("\n> ").strip()
    except (EOFError, KeyboardInterrupt):
        return ""


def _print_json(answer: Answer) -> None:
    from dataclasses import asdict
    from json import dumps

    sys.stdout.write(dumps(asdict(answer), ensure_ascii=False, indent=2) + "\n")


if __name__ == "__main__":
    main()
