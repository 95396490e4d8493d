"""`localsmith runs`: runs that were interrupted or wait for a person's word.

Place in the data's way: the checkpoints of `react` -> a list; `resume` goes on where a run stopped.

Example: `localsmith runs resume 0f3c --approve`
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .agents.acting.approval import Approval
    from .agents.acting.checkpoints import UnfinishedRun

app = typer.Typer(help="Unfinished runs: list, resume, forget.", no_args_is_help=True)
_QUESTION_CHARS = 60

RunId = Annotated[str, typer.Argument(help="The run's id, or its beginning.", metavar="RUN")]


@app.command("list")
def list_runs() -> None:
    """List the runs that can be resumed, the latest first."""
    import time

    from rich.table import Table

    from .terminal import console, printable

    found = _unfinished()
    if not found:
        console.print("No run is unfinished.")
        return
    table = Table("Run", "State", "Steps", "Last at work", "Question", "Waits for", box=None)
    for run in found:
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(run.updated_at))
        waits = f"{run.approval.tool} {run.approval.arguments}" if run.approval else ""
        words = [run.run_id[:8], run.state.replace("_", " "), str(run.num_steps), when]
        table.add_row(*words, *(printable(text)[:_QUESTION_CHARS] for text in (run.question, waits)))
    console.print(table)


@app.command()
def resume(
    run: RunId,
    approve: Annotated[bool, typer.Option("--approve", help="Make the call that waits.")] = False,
    refuse: Annotated[bool, typer.Option("--refuse", help="Go on without the call that waits.")] = False,
    arguments: Annotated[
        str | None, typer.Option(help="Approve with these arguments instead, a JSON object.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(help="Catalog name of the chat model, or openai://HOST:PORT/MODEL.")
    ] = None,
) -> None:
    """Go on with a run.

    After its last step, or with a decision on the call that waits.
    """
    from .front_door import Localsmith
    from .terminal import show_sources
    from .terminal_runs import show_resumed, show_waiting

    approval = _approval(approve, refuse, arguments)
    found = _named(run)
    with Localsmith(model) as ls:
        if found.approval is not None and approval is None:
            show_sources(show_waiting(ls, found.approval))
        else:
            show_sources(show_resumed(ls, found.run_id, approval))


@app.command()
def forget(run: RunId) -> None:
    """Delete an unfinished run, for good."""
    from .front_door import Localsmith
    from .terminal import console

    found = _named(run)
    with Localsmith() as ls:
        ls.strategies.forget_run(found.run_id)
    console.print(f"Forgot the run {found.run_id[:8]}.")


def _unfinished() -> list[UnfinishedRun]:
    from .front_door import Localsmith

    with Localsmith() as ls:
        return ls.unfinished_runs()


def _named(start: str) -> UnfinishedRun:
    """Return the one run whose id begins so.

    Raises:
        ConfigError: There is none, or more than one.
    """
    from .core.errors import ConfigError

    found = [run for run in _unfinished() if run.run_id.startswith(start)]
    if len(found) != 1:
        many = "More than one" if found else "No"
        raise ConfigError(
            f"{many} unfinished run has an id that begins with {start[:40]!r}.",
            hint="`localsmith runs list` names them.",
        )
    return found[0]


def _approval(approve: bool, refuse: bool, arguments: str | None) -> Approval | None:
    from .agents.acting.approval import Approval
    from .core.errors import ConfigError

    if approve + refuse + (arguments is not None and not approve) > 1:
        raise ConfigError("--approve and --refuse can't be given together, nor --refuse with --arguments.")
    if refuse:
        return Approval("refuse")
    return Approval("approve", arguments=arguments) if approve or arguments is not None else None
