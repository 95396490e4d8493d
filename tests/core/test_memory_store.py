"""What the memory's store promises: facts are the person's to change, and nothing acknowledged is lost."""

from __future__ import annotations

import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.errors import IndexNotFoundError, StorageError
from localsmith.core.memory_rows import MAX_FACT_CHARS, normalised
from localsmith.core.memory_store import MemoryStore, Summary

SUMMARY = Summary("c1", "", "The person asked about bridges.", 4, "digest", 12.5)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "memory.sqlite3"


def test_a_fact_keeps_where_and_when_it_was_said_over_a_restart(path: Path) -> None:
    store = MemoryStore(path)
    fact = store.add_fact("I live in Leeds.", "ann", "noticed", "conversation", "turn")
    store.close()
    [kept] = MemoryStore(path).facts("ann")
    assert kept == fact
    assert (kept.origin, kept.conversation_id, kept.turn_id) == ("noticed", "conversation", "turn")
    assert abs(kept.created_at - time.time()) < 60


def test_the_same_words_are_kept_once_and_the_newest_fact_stands_first(path: Path) -> None:
    store = MemoryStore(path)
    first = store.add_fact("I live in Leeds.")
    assert store.add_fact("  i LIVE in  Leeds!") == first
    second = store.add_fact("I have a dog.")
    assert store.facts() == [second, first]


def test_people_do_not_see_each_others_facts(path: Path) -> None:
    store = MemoryStore(path)
    ann, bob = store.add_fact("I am Ann.", "ann"), store.add_fact("I am Ann.", "bob")
    assert ann.id != bob.id
    assert (store.facts("ann"), store.facts("bob"), store.facts()) == ([ann], [bob], [])
    store.set_on(False, "ann")
    assert (store.is_on("ann"), store.is_on("bob"), store.is_on()) == (False, True, True)


def test_an_edited_fact_has_new_words_and_loses_the_vector_of_the_old_ones(path: Path) -> None:
    store = MemoryStore(path)
    fact = store.add_fact("I live in Leeds.")
    store.save_vectors({fact.id: (fact.text, b"1234")}, "embedder")
    assert store.vectors("", "embedder") == {fact.id: b"1234"}
    assert store.vectors("", "another") == {}

    edited = store.edit_fact(fact.id, "I live in York.")
    assert (edited.text, edited.created_at) == ("I live in York.", fact.created_at)
    assert edited.updated_at >= fact.updated_at
    assert store.vectors("", "embedder") == {}
    # a vector that was being made of the old words comes too late
    store.save_vectors({fact.id: (fact.text, b"1234")}, "embedder")
    assert store.vectors("", "embedder") == {}


def test_a_forgotten_fact_can_be_restored_until_it_is_gone_from_the_disk(path: Path) -> None:
    store = MemoryStore(path)
    fact = store.add_fact("My secret is blue.")
    store.forget_fact(fact.id)
    assert store.facts() == [] and store.forgotten_facts() == [fact]
    assert store.restore_fact(fact.id) == fact and store.facts() == [fact]

    store.forget_fact(fact.id)
    store.close()
    time.sleep(0.01)
    MemoryStore(path, undo_days=0).close()
    with sqlite3.connect(path) as raw:
        assert raw.execute("SELECT count(*) FROM facts").fetchone()[0] == 0
    with pytest.raises(IndexNotFoundError):
        MemoryStore(path).restore_fact(fact.id)


def test_a_forgotten_fact_can_be_said_again(path: Path) -> None:
    store = MemoryStore(path)
    old = store.add_fact("I live in Leeds.")
    store.forget_fact(old.id)
    new = store.add_fact("I live in Leeds.")
    assert new.id != old.id and store.facts() == [new]


@pytest.mark.parametrize("text", ["", "  \n", "?!", "…"])
def test_a_fact_without_a_word_is_refused(path: Path, text: str) -> None:
    store = MemoryStore(path)
    with pytest.raises(ValueError, match="words"):
        store.add_fact(text)
    fact = store.add_fact("I live in Leeds.")
    with pytest.raises(ValueError, match="words"):
        store.edit_fact(fact.id, text)
    assert store.facts() == [fact]


def test_what_is_not_there_is_an_error_with_a_hint(path: Path) -> None:
    store = MemoryStore(path)
    for change in (store.forget_fact, store.restore_fact, lambda fact_id: store.edit_fact(fact_id, "x")):
        with pytest.raises(IndexNotFoundError) as error:
            change("nothing")
        assert "memory list" in error.value.hint


@settings(max_examples=40, deadline=None)
@given(text=st.text())
def test_any_text_is_kept_on_one_line_or_refused(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    store = MemoryStore(tmp_path_factory.mktemp("m") / "m.sqlite3")
    fact = store.add_fact(f"fact {text}\ud800")
    assert "\n" not in fact.text and len(fact.text) <= MAX_FACT_CHARS
    assert store.facts() == [fact]
    assert normalised(fact.text).startswith("fact")
    store.close()


def test_a_summary_takes_the_place_of_the_one_before(path: Path) -> None:
    store = MemoryStore(path)
    store.save_summary(SUMMARY)
    longer = replace(SUMMARY, text="Bridges and trees.", num_messages=8)
    store.save_summary(longer)
    store.save_summary(replace(SUMMARY, conversation_id="c2", user="ann"))
    store.close()

    again = MemoryStore(path)
    assert again.summary("c1") == longer and again.summaries() == [longer]
    again.keep_summaries_of(["c2", "c3"])
    assert again.summary("c1") is None and again.summary("c2") is not None
    again.drop_summary("c2")
    assert again.summaries("ann") == []


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    MemoryStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=99")
    with pytest.raises(StorageError, match="newer"):
        MemoryStore(path)


def test_a_killed_writer_loses_no_fact_it_acknowledged(path: Path) -> None:
    script = textwrap.dedent(
        """
        import pathlib, sys
        from localsmith.core.memory_store import MemoryStore
        store = MemoryStore(pathlib.Path(sys.argv[1]))
        for n in range(100000):
            store.add_fact(f"fact {n}")
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
        """
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, cwd=path.anchor
    )
    assert writer.stdout is not None
    for _ in range(20):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.wait()
    last = max([last] + [int(line) for line in rest[:-1] if line])
    kept = {fact.text for fact in MemoryStore(path).facts()}
    assert {f"fact {n}" for n in range(last + 1)} <= kept
