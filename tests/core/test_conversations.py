"""What the conversation store promises: nothing acknowledged is lost, nothing half-written is shown."""

from __future__ import annotations

import math
import signal
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.conversations import ConversationStore
from localsmith.core.errors import IndexNotFoundError, StorageError
from localsmith.core.types import (
    Answer,
    Box,
    BudgetPart,
    BudgetReport,
    Chunk,
    Citation,
    Message,
    Passage,
    Step,
    Usage,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "conversations.sqlite3"


def full_answer(text: str = "A trace tree holds traces [1].", score: float = 0.5) -> Answer:
    chunk = Chunk("c", "d", 0, "Trace trees.", 3, 15, 2, ("Intro",), 4, (Box(2, 0.1, 0.2, 0.3, 0.4),))
    passage = Passage(chunk, "tracemonkey.pdf", 1, score, 1, None, 0.8)
    part = BudgetPart("passages", 700, 3, 2, 400, "time")
    return Answer(
        text,
        "answered",
        (Citation(1, passage, text, "Trace trees.", 0.9, True),),
        (passage,),
        (Step("search", "3 passages", 0.1), Step("generate", "done", 2.0, Usage(10, 2, 3, 0.1, 0.2, 0.3))),
        Usage(10, 2, 3, 0.1, 0.2, 0.3),
        BudgetReport(8192, 900, "time", 800, 400, (part,)),
        "smollm2",
        "trace-1",
        2.5,
    )


def test_an_answer_comes_back_as_it_was_after_a_restart(path: Path) -> None:
    store = ConversationStore(path)
    talk = store.create("What is a trace tree?", "papers")
    turn = store.add_turn(talk.id, "What is a trace tree?")
    answer_id = store.add_answer(turn.id, full_answer(score=math.inf))
    store.close()

    again = ConversationStore(path)
    assert again.get(talk.id) is not None and again.all()[0].collection == "papers"
    [kept] = again.turns(talk.id)
    assert kept.answer == full_answer(score=math.inf)
    assert kept.answer_id == answer_id


def test_a_question_without_an_answer_stays_and_is_no_history(path: Path) -> None:
    store = ConversationStore(path)
    talk = store.create()
    first = store.add_turn(talk.id, "one")
    store.add_answer(first.id, Answer("1", "answered"))
    store.add_turn(talk.id, "two")
    store.close()

    again = ConversationStore(path)
    assert [(t.question, t.answer is None) for t in again.turns(talk.id)] == [("one", False), ("two", True)]
    assert again.history(talk.id) == (Message("user", "one"), Message("assistant", "1"))
    assert again.history(talk.id, before=0) == ()


def test_regenerating_keeps_both_answers_and_shows_the_latest(path: Path) -> None:
    store = ConversationStore(path)
    turn = store.add_turn(store.create().id, "q")
    old = store.add_answer(turn.id, Answer("old", "answered", trace_id="a"))
    store.set_error(turn.id, "It failed.", "Try again.")
    assert store.turns(turn.conversation_id)[0].error == "It failed."
    store.add_answer(turn.id, Answer("new", "answered", trace_id="b"))

    [shown] = store.turns(turn.conversation_id)
    assert (str(shown.answer), shown.num_answers, shown.error) == ("new", 2, "")
    store.feedback.save(old, -1)
    assert str(store.feedback.all()[0].answer) == "old"


def test_a_deleted_conversation_can_be_restored_until_it_is_forgotten(path: Path) -> None:
    store = ConversationStore(path)
    talk = store.create("secret")
    turn = store.add_turn(talk.id, "secret question")
    answer_id = store.add_answer(turn.id, Answer("secret answer", "answered"))
    store.feedback.save(answer_id, 1)
    store.delete(talk.id)
    assert store.all() == [] and store.get(talk.id) is None and store.feedback.all() == []
    store.restore(talk.id)
    assert [c.title for c in store.all()] == ["secret"]
    assert len(store.feedback.all()) == 1

    store.delete(talk.id)
    store.close()
    time.sleep(0.01)
    ConversationStore(path, undo_days=0).close()
    with sqlite3.connect(path) as raw:
        left = [
            raw.execute(f"SELECT count(*) FROM {t}").fetchone()[0] for t in ("turns", "answers", "feedback")
        ]
    assert left == [0, 0, 0]


def test_feedback_keeps_the_trace_the_history_and_the_correction(path: Path) -> None:
    store = ConversationStore(path)
    talk = store.create()
    store.add_answer(store.add_turn(talk.id, "one").id, Answer("1", "answered"))
    answer_id = store.add_answer(store.add_turn(talk.id, "two").id, full_answer())
    store.feedback.save(answer_id, -1)
    store.feedback.save(answer_id, -1, "  It is a tree.  ")

    [kept] = store.feedback.all()
    assert (kept.trace_id, kept.rating, kept.correction) == ("trace-1", -1, "It is a tree.")
    assert kept.question == "two" and kept.answer == full_answer()
    assert kept.history == (Message("user", "one"), Message("assistant", "1"))
    assert store.feedback.ratings(talk.id) == {answer_id: (-1, "It is a tree.")}
    assert store.feedback.of(answer_id) == kept
    assert store.feedback.all(since=time.time()) == []
    store.feedback.save(answer_id, 0)
    assert store.feedback.of(answer_id) is None


def test_bad_feedback_is_refused(path: Path) -> None:
    store = ConversationStore(path)
    with pytest.raises(ValueError, match="rating must be"):
        store.feedback.save("x", 5)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no answer"):
        store.feedback.save("x", 1)


def test_a_turn_needs_its_conversation(path: Path) -> None:
    with pytest.raises(IndexNotFoundError):
        ConversationStore(path).add_turn("nothing", "q")


def test_an_answer_to_a_forgotten_turn_is_dropped_quietly(path: Path) -> None:
    assert ConversationStore(path).add_answer("nothing", Answer("x", "answered")) == ""


def test_renaming_shortens_and_an_empty_title_changes_nothing(path: Path) -> None:
    store = ConversationStore(path)
    talk = store.create("a\n b " + "x" * 200)
    assert talk.title.startswith("a b x") and len(talk.title) == 80
    store.rename(talk.id, "  ")
    assert store.all()[0].title == talk.title
    store.rename(talk.id, "Trees")
    store.set_collection(talk.id, "papers")
    assert [(c.title, c.collection) for c in store.all()] == [("Trees", "papers")]


def test_the_last_used_conversation_comes_first(path: Path) -> None:
    store = ConversationStore(path)
    first, _ = store.create("first"), store.create("second")
    store.add_turn(first.id, "q")
    assert store.all()[0].title == "first"


@settings(max_examples=40, deadline=None)
@given(question=st.text(), answer=st.text())
def test_any_text_is_stored(tmp_path_factory: pytest.TempPathFactory, question: str, answer: str) -> None:
    store = ConversationStore(tmp_path_factory.mktemp("c") / "c.sqlite3")
    turn = store.add_turn(store.create(question).id, question + "\ud800")
    store.add_answer(turn.id, Answer(answer, "answered"))
    [kept] = store.turns(turn.conversation_id)
    assert kept.question == question.encode("utf-8", "replace").decode() + "?"
    assert kept.answer is not None and kept.answer.text == answer
    store.close()


def test_a_file_that_is_no_database_is_refused_with_a_hint(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 20)
    with pytest.raises(StorageError) as error:
        ConversationStore(path)
    assert error.value.hint


def test_a_file_of_a_newer_version_is_refused(path: Path) -> None:
    ConversationStore(path).close()
    with sqlite3.connect(path) as raw:
        raw.execute("PRAGMA user_version=99")
    with pytest.raises(StorageError, match="newer"):
        ConversationStore(path)


def test_an_answer_with_unknown_fields_still_shows_its_words(path: Path) -> None:
    store = ConversationStore(path)
    turn = store.add_turn(store.create().id, "q")
    store.add_answer(turn.id, Answer("words", "answered"))
    with sqlite3.connect(path) as raw:
        raw.execute("""UPDATE answers SET answer_json = '{"stop_reason": 3}'""")
    assert str(store.turns(turn.conversation_id)[0].answer) == "words"


def test_threads_and_a_second_process_write_side_by_side(path: Path) -> None:
    stores = [ConversationStore(path), ConversationStore(path)]
    talk = stores[0].create()
    threads = [
        threading.Thread(target=lambda s=s: [s.add_turn(talk.id, "q") for _ in range(25)]) for s in stores * 2
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [t.position for t in stores[1].turns(talk.id)] == list(range(100))


def test_a_killed_writer_loses_nothing_it_acknowledged(path: Path) -> None:
    script = textwrap.dedent(
        """
        import pathlib, sys
        from localsmith.core.conversations import ConversationStore
        from localsmith.core.types import Answer
        store = ConversationStore(pathlib.Path(sys.argv[1]))
        talk = store.create()
        for n in range(100000):
            turn = store.add_turn(talk.id, f"question {n}")
            store.add_answer(turn.id, Answer(f"answer {n}", "answered"))
            sys.stdout.write(f"{n}\\n")
            sys.stdout.flush()
        """
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", script, str(path)], stdout=subprocess.PIPE, text=True, cwd=path.anchor
    )
    assert writer.stdout is not None
    for _ in range(30):
        last = int(writer.stdout.readline())
    writer.send_signal(signal.SIGKILL)
    rest = writer.stdout.read().split("\n")
    writer.wait()
    last = max([last] + [int(line) for line in rest[:-1] if line])

    store = ConversationStore(path)
    turns = store.turns(store.all()[0].id)
    assert len(turns) > last
    assert [str(t.answer) for t in turns[: last + 1]] == [f"answer {n}" for n in range(last + 1)]
