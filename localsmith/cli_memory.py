"""`localsmith memory`: list, add, edit and forget what is remembered of a person; switch it on and off."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.memory_store import Fact, MemoryStore

app = typer.Typer(
    help="What is remembered of you: list, add, edit, forget, restore, switch off.", no_args_is_help=True
)

Id = Annotated[str, typer.Argument(help="Identifier of the fact, as listed; its beginning suffices.")]
Text = Annotated[str, typer.Argument(help="What to remember, in your words.")]
User = Annotated[str, typer.Option(help="Whose memory; empty for that of the chat on this machine.")]


@app.command("list")
def list_facts(
    user: User = "",
    forgotten: Annotated[bool, typer.Option("--forgotten", help="List what can be restored.")] = False,
) -> None:
    """List what is remembered."""
    from rich.table import Table
    from rich.text import Text as Words

    from .terminal import console

    store = _store()
    table = Table("Fact", "Id", "Origin", "Since", box=None)
    for fact in store.forgotten_facts(user) if forgotten else store.facts(user):
        day = time.strftime("%Y-%m-%d", time.localtime(fact.created_at))
        table.add_row(Words(fact.text), fact.id[:12], fact.origin, day)
    console.print(table)
    if not store.is_on(user):
        console.print("Memory is switched off: localsmith memory on", markup=False)


@app.command()
def add(text: Text, user: User = "") -> None:
    """Remember something."""
    from .terminal import console

    fact = _with_words(lambda: _store().add_fact(text, user))
    console.print(f"Remembered as {fact.id[:12]}: {fact.text}", markup=False)


@app.command()
def edit(fact_id: Id, text: Text, user: User = "") -> None:
    """Give a fact other words."""
    from .terminal import console

    store = _store()
    whole = _whole_id(fact_id, store.facts(user))
    fact = _with_words(lambda: store.edit_fact(whole, text))
    console.print(f"Changed {fact.id[:12]}: {fact.text}", markup=False)


@app.command()
def forget(fact_id: Id, user: User = "") -> None:
    """Forget a fact.

    `restore` brings it back within the time that `retrieval.undo_days` sets.
    """
    from .terminal import console

    store = _store()
    fact = store.fact(_whole_id(fact_id, store.facts(user)))
    store.forget_fact(fact.id)
    console.print(f"Forgot: {fact.text} Undo: localsmith memory restore {fact.id[:12]}", markup=False)


@app.command()
def restore(fact_id: Id, user: User = "") -> None:
    """Bring a forgotten fact back."""
    from .terminal import console

    store = _store()
    fact = store.restore_fact(_whole_id(fact_id, store.forgotten_facts(user)))
    console.print(f"Restored: {fact.text}", markup=False)


@app.command("on")
def switch_on(user: User = "") -> None:
    """Let things be remembered."""
    _store().set_on(True, user)


@app.command("off")
def switch_off(user: User = "") -> None:
    """Remember nothing new, and use nothing remembered.

    What there is stays until it is forgotten.
    """
    _store().set_on(False, user)


def _store() -> MemoryStore:
    from .core.memory_store import MemoryStore
    from .core.settings import load_settings

    settings = load_settings()
    return MemoryStore(settings.memory_path, settings.retrieval.undo_days)


def _with_words(change: Callable[[], Fact]) -> Fact:
    try:
        return change()
    except ValueError as exc:
        raise typer.BadParameter("A fact needs a few words.") from exc


def _whole_id(start: str, facts: list[Fact]) -> str:
    from .core.errors import IndexNotFoundError

    matching = [fact.id for fact in facts if fact.id.startswith(start)]
    if len(matching) != 1:
        raise IndexNotFoundError(
            f"{len(matching)} facts have an identifier that begins with {start!r}.",
            hint="`localsmith memory list` shows them; with --forgotten those that can be restored.",
        )
    return matching[0]
