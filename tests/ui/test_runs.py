"""Answers and batches that belong to the server, not to a page."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from localsmith.core.conversations import Turn
from localsmith.ui.ingests import Ingests
from localsmith.ui.runs import AnswerRun, AnswerRuns
from scripted_front_door import ScriptedFrontDoor

HERE = Path(__file__).parent


@pytest.fixture
def front() -> ScriptedFrontDoor:
    front = ScriptedFrontDoor()
    front.warm_up()
    list(front.library.ingest([("trees.txt", b"A trace tree is a tree of traces. " * 20)]))
    return front


def ask(front: ScriptedFrontDoor, runs: AnswerRuns, question: str, talk: str = "") -> AnswerRun:
    talk = talk or front.conversations.create(question).id
    return runs.start(front.conversations.add_turn(talk, question), "default")


def stored(front: ScriptedFrontDoor, run: AnswerRun) -> Turn:
    assert run.ended.wait(20)
    [turn] = [t for t in front.conversations.turns(run.turn.conversation_id) if t.id == run.turn.id]
    return turn


def test_an_answer_is_stored_by_its_thread(front: ScriptedFrontDoor) -> None:
    runs = AnswerRuns(front)
    run = ask(front, runs, "What is a trace tree?")
    turn = stored(front, run)
    assert turn.answer is not None and turn.answer.citations[0].passage.document_name == "trees.txt"
    assert run.view().state == "ended" and runs.active(run.turn.id) is None


@pytest.mark.parametrize("when", ["reading", "answering"])
def test_stopping_keeps_what_was_written(front: ScriptedFrontDoor, when: str) -> None:
    runs = AnswerRuns(front)
    run = ask(front, runs, "slow trace tree")
    wanted = time.monotonic() + 20
    while time.monotonic() < wanted and (run.view().progress is None or run.view().progress.stage != when):
        time.sleep(0.02)
    stopped_at = time.monotonic()
    runs.stop(run.turn.id)
    turn = stored(front, run)
    assert time.monotonic() - stopped_at < 2
    assert turn.answer is not None and turn.answer.stop_reason == "cancelled"
    assert bool(turn.answer.text) == (when == "answering")


def test_questions_of_one_conversation_are_answered_in_order(front: ScriptedFrontDoor) -> None:
    runs = AnswerRuns(front)
    first = ask(front, runs, "slow trace")
    second = ask(front, runs, "trace", first.turn.conversation_id)
    time.sleep(0.5)
    assert (first.view().state, second.view().state) == ("running", "queued")
    runs.stop(first.turn.id)
    assert stored(front, second).answer is not None
    assert first.ended.is_set()


def test_a_queued_question_can_be_taken_back(front: ScriptedFrontDoor) -> None:
    runs = AnswerRuns(front)
    first = ask(front, runs, "slow trace")
    second = ask(front, runs, "trace", first.turn.conversation_id)
    runs.stop(second.turn.id)
    turn = stored(front, second)
    assert turn.answer is not None and turn.answer.stop_reason == "cancelled"
    assert not first.ended.is_set()
    runs.stop_conversation(first.turn.conversation_id)
    assert first.ended.wait(5)


def test_a_question_waits_for_its_documents(front: ScriptedFrontDoor) -> None:
    runs = AnswerRuns(front)
    added = threading.Event()
    turn = front.conversations.add_turn(front.conversations.create().id, "trace")
    run = runs.start(turn, "default", after=added)
    assert not run.ended.wait(0.5)
    added.set()
    assert stored(front, run).answer is not None


def test_an_error_of_ours_is_told_with_its_hint(front: ScriptedFrontDoor) -> None:
    turn = stored(front, ask(front, AnswerRuns(front), "error please"))
    assert (turn.answer, turn.error, turn.hint) == (None, "The model stumbled.", "Ask again.")


def test_an_error_nobody_foresaw_is_told_without_its_inside(front: ScriptedFrontDoor) -> None:
    turn = stored(front, ask(front, AnswerRuns(front), "crash please"))
    assert turn.error == "Something went wrong." and "nobody foresaw" not in turn.hint


def test_a_failed_load_fails_the_question_and_a_second_try_answers_it(
    front: ScriptedFrontDoor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SCRIPT_LOADING_FAILURES", "1")
    broken = ScriptedFrontDoor()
    broken.warm_up()
    runs = AnswerRuns(broken)
    turn = stored(broken, ask(broken, runs, "trace"))
    assert turn.error == "The file is damaged." and turn.hint
    broken.warm_up()
    again = stored(broken, runs.start(turn, "default"))
    assert again.answer is not None and again.error == ""


def test_starting_a_turn_twice_makes_one_run(front: ScriptedFrontDoor) -> None:
    runs = AnswerRuns(front)
    run = ask(front, runs, "slow trace")
    assert runs.start(run.turn, "default") is run
    runs.stop(run.turn.id)
    assert stored(front, run).num_answers == 1


def test_a_batch_tells_what_became_of_every_file(front: ScriptedFrontDoor) -> None:
    files = [
        ("../../etc/new.txt", b"Fresh text about engines."),
        ("trees.txt", b"A trace tree is a tree of traces. " * 20),
        ("empty.pdf", b""),
        ("new.txt", b"The same name, other words."),
    ]
    run = Ingests(front).start(files, "default")
    assert run.ended.wait(60)
    view = run.view()
    assert [row.state for row in view.rows] == ["added", "duplicate", "failed", "added"]
    assert [row.name for row in view.rows] == ["new.txt", "trees.txt", "empty.pdf", "new.txt"]
    assert "trees.txt" in view.rows[1].note and view.rows[2].note
    assert view.share == 1.0 and not view.error


def test_a_cancelled_batch_keeps_what_was_added(front: ScriptedFrontDoor) -> None:
    ingests = Ingests(front)
    files = [(f"{n}.txt", f"text {n} ".encode() * 500) for n in range(200)]
    run = ingests.start(files, "default")
    while run.view().rows[2].state != "added":
        time.sleep(0.01)
    run.cancel.set()
    assert run.ended.wait(20)
    states = [row.state for row in run.view().rows]
    assert states[0] == "added" and states[-1] == "cancelled"
    assert len(front.library.documents()) == 1 + states.count("added")
    assert ingests.active("default") == [] and ingests.runs("default") == [run]
    ingests.dismiss(run)
    assert ingests.runs("default") == []


def test_a_batch_for_a_collection_that_is_gone_says_so(front: ScriptedFrontDoor) -> None:
    run = Ingests(front).start([("a.txt", b"text")], "nowhere")
    assert run.ended.wait(20)
    assert "nowhere" in run.view().error
    assert [row.state for row in run.view().rows] == ["cancelled"]
