"""`localsmith memory` shows and changes what the chat remembers."""

from __future__ import annotations

import pytest
from localsmith.core.memory_store import MemoryStore
from localsmith.core.settings import load_settings
from typer.testing import CliRunner

from localsmith.cli import app


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore(load_settings().memory_path)


def memory(*args: str, exit_code: int = 0) -> str:
    done = CliRunner().invoke(app, ["memory", *args])
    assert done.exit_code == exit_code, done.output
    return done.output


def test_facts_are_added_edited_forgotten_and_restored(store: MemoryStore) -> None:
    memory("add", "I live in Leeds.")
    [fact] = store.facts()
    memory("edit", fact.id[:8], "I live in [bold]York[/bold].")
    assert store.fact(fact.id).text == "I live in [bold]York[/bold]."
    memory("forget", fact.id[:8])
    assert store.facts() == []
    memory("restore", fact.id[:8])
    assert [kept.id for kept in store.facts()] == [fact.id]


def test_each_user_has_a_memory_and_a_switch_of_their_own(store: MemoryStore) -> None:
    memory("add", "I am Ann.", "--user", "ann")
    memory("off", "--user", "ann")
    assert store.facts() == [] and [fact.text for fact in store.facts("ann")] == ["I am Ann."]
    assert store.is_on() and not store.is_on("ann")
    memory("on", "--user", "ann")
    assert store.is_on("ann")


def test_an_unknown_fact_and_an_empty_one_are_refused(store: MemoryStore) -> None:
    store.add_fact("I live in Leeds.")
    result = CliRunner().invoke(app, ["memory", "forget", "zzz"])
    assert result.exception is not None and "memory list" in getattr(result.exception, "hint", "")
    memory("add", "...", exit_code=2)
    assert len(store.facts()) == 1


def test_listing_shows_the_facts(store: MemoryStore, capfd: pytest.CaptureFixture[str]) -> None:
    fact = store.add_fact("I live in Leeds.")
    store.set_on(False)
    shown = memory("list") + "".join(capfd.readouterr())
    assert "I live in Leeds." in shown and fact.id[:12] in shown and "switched off" in shown
