"""What the trace store promises: every run is kept, found again, and forgotten when it should be."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import textwrap
import time
import zlib
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from localsmith.core.conversation_rows import storable
from localsmith.core.errors import ModelError, StorageError
from localsmith.core.settings import TraceSettings
from localsmith.core.trace_rows import flat
from localsmith.core.traces import TraceStore
from localsmith.core.types import Answer, Message, Question, Step

sys.path.insert(0, str(Path(__file__).parent))
from traced_runs import full_answer, small_answer

SECRET = "the password is xyzzy-4711"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "folder" / "traces.sqlite3"


def test_a_run_comes_back_as_it_was_after_a_restart(path: Path) -> None:
    question = Question("What is a trace tree?", (Message("user", "Hi"),), "papers", ("d",), "ann", "batch")
    store = TraceStore(path)
    assert store.add(question, full_answer(), "rag", begun_at=1000.0 + time.time()) == "a" * 32
    store.close()

    trace = TraceStore(path).get("a" * 32)
    assert trace is not None
    assert (trace.question, trace.answer) == (question, full_answer())
    info = trace.info
    assert (info.strategy, info.status, info.model, info.duration_s) == ("rag", "answered", "smollm2", 2.5)
    assert (info.prompt_tokens, info.cached_tokens, info.completion_tokens) == (300, 170, 70)
    assert info.num_steps == 5


def test_a_failed_run_is_kept_with_its_error_and_the_steps_it_made(path: Path) -> None:
    store = TraceStore(path)
    partial = Answer("", "cancelled", steps=full_answer().steps[:1])
    trace_id = store.add(Question("Why?"), partial, "react", error=ModelError("The model stumbled."))
    trace = store.get(trace_id)
    assert trace is not None and trace.answer.steps == partial.steps
    assert (trace.info.status, trace.info.error_type) == ("failed", "ModelError")
    assert trace.info.error == "The model stumbled."
    assert [info.id for info in store.list(text="STUMBLED").traces] == [trace_id]


@pytest.mark.parametrize("reason", ["cancelled", "step_limit", "time_limit", "abstained", "needs_approval"])
def test_how_a_run_ended_is_listed(path: Path, reason: str) -> None:
    store = TraceStore(path)
    store.add(Question("Why?"), replace(full_answer(), stop_reason=reason), "rag")  # type: ignore[arg-type]
    assert [info.status for info in store.list().traces] == [reason]


def test_runs_are_found_by_words_strategy_and_time_newest_first(path: Path) -> None:
    store = TraceStore(path)
    begun = time.time() - 1000
    for number in range(6):
        strategy = "cot" if number % 2 else "rag"
        text = "Die GRÖSSE der Straße." if number == 3 else ""
        store.add(
            Question(f"Question {number}"), small_answer(number, text), strategy, begun_at=begun + number
        )

    def found(**filters: object) -> list[int]:
        return [int(info.id, 16) for info in store.list(**filters).traces]  # type: ignore[arg-type]

    assert found() == [5, 4, 3, 2, 1, 0]
    assert found(strategy="cot") == [5, 3, 1]
    assert found(text="größe STRASSE") == [3]
    assert found(text="question 2") == [2]
    assert found(text="question 100%_") == []
    assert found(since=begun + 2, until=begun + 4) == [3, 2]
    assert found(limit=2, offset=2) == [3, 2]
    assert store.list(strategy="rag", limit=1).total == 3
    assert store.strategies() == {"cot": 3, "rag": 3}
    assert store.ids(f"{5:032x}"[:32]) == (f"{5:032x}",)
    assert len(store.ids("0000")) == 6 and store.ids("%") == ()


def test_runs_of_the_same_question_are_found(path: Path) -> None:
    store = TraceStore(path)
    for number, text in enumerate(("one", "two", "one")):
        store.add(Question(text), small_answer(number), "rag")
    trace = store.get(f"{0:032x}")
    assert trace is not None
    assert [int(info.id, 16) for info in store.same_question(trace)] == [2]


def test_a_resumed_run_takes_the_place_of_its_first_half(path: Path) -> None:
    store = TraceStore(path)
    waiting = replace(full_answer(), stop_reason="needs_approval", text="")
    store.add(Question("Send it?"), waiting, "react")
    store.add(Question("Send it?"), full_answer(), "react")
    assert [(info.id, info.status) for info in store.list().traces] == [("a" * 32, "answered")]


def test_old_runs_are_forgotten_by_age(path: Path) -> None:
    store = TraceStore(path)
    for number, days in enumerate((20, 8, 6, 0)):
        store.add(Question("?"), small_answer(number), "rag", begun_at=time.time() - days * 86_400)
    store.close()
    kept = TraceStore(path, TraceSettings(keep_days=7)).list().traces
    assert [int(info.id, 16) for info in kept] == [3, 2]


def test_the_oldest_runs_go_when_there_is_too_much(path: Path) -> None:
    store = TraceStore(path, TraceSettings(max_mb=1))
    noise = "".join(chr(0x4E00 + (n * 7919) % 20_000) for n in range(60_000))  # hardly compressible
    for number in range(8):
        answer = replace(small_answer(number), text=noise[number:])
        store.add(Question("?"), answer, "rag", begun_at=time.time() - 100 + number)
    kept = store.list().traces
    assert [int(info.id, 16) for info in kept] == list(range(7, 7 - len(kept), -1))
    assert 1 <= len(kept) < 8
    assert sum(info.size_bytes for info in kept) <= 1_000_000


def test_a_run_larger_than_the_limit_is_still_kept_until_the_next(path: Path) -> None:
    store = TraceStore(path, TraceSettings(max_mb=1))
    noise = "".join(chr(0x4E00 + (n * n * 7919) % 20_000) for n in range(350_000))
    for number in range(2):
        store.add(Question("?"), replace(small_answer(number), text=noise), "rag")
    assert [int(info.id, 16) for info in store.list().traces] == [1]


def raw_bytes(path: Path) -> bytes:
    """Return everything on the disk, compressed stretches read, so that nothing hides."""
    data = b"".join(file.read_bytes() for file in path.parent.iterdir())
    found, at = [data], data.find(b"\x78\x9c")
    while at >= 0:
        unpacker = zlib.decompressobj()
        try:
            found.append(unpacker.decompress(data[at : at + 1_000_000]))
        except zlib.error:
            pass
        at = data.find(b"\x78\x9c", at + 1)
    return b"".join(found)


def a_secret_run(number: int = 1) -> tuple[Question, Answer]:
    step = Step("generate", SECRET, 0.1, None, 0.0, SECRET, SECRET, steps=(Step("tool", SECRET, 0.1),))
    question = Question(SECRET, (Message("user", SECRET),), SECRET, (SECRET,), SECRET)
    answer = replace(full_answer(SECRET), steps=(step,), trace_id=f"{number:032x}")
    return question, replace(answer, passages=(replace(answer.passages[0], document_name=SECRET),))


def test_without_texts_nobodys_words_reach_the_disk(path: Path) -> None:
    question, answer = a_secret_run()
    store = TraceStore(path, TraceSettings(keep_texts=False))
    store.add(question, answer, "rag", error=ModelError(SECRET))
    begun = store.begin(question, "rag")
    store.add_step(begun, answer.steps[0])
    assert b"xyzzy" not in raw_bytes(path)
    trace = store.get(answer.trace_id)
    assert trace is not None and trace.info.error_type == "ModelError"
    assert [step.kind for _, step in flat(trace.answer.steps)] == ["generate", "tool"]
    assert trace.answer.usage == answer.usage and trace.answer.budget == answer.budget


@pytest.mark.parametrize("everything", [False, True])
def test_what_is_forgotten_is_gone_from_the_disk(path: Path, everything: bool) -> None:
    store = TraceStore(path)
    question, answer = a_secret_run()
    store.add(question, answer, "rag")
    store.add(Question("kept"), small_answer(2), "rag", begun_at=time.time() + 60)
    assert b"xyzzy" in raw_bytes(path)
    if everything:
        assert store.forget_before(time.time() + 30) == 1
    else:
        assert store.forget([answer.trace_id, "no such run"]) == 1
    assert b"xyzzy" not in raw_bytes(path)
    assert [info.question for info in store.list().traces] == ["kept"]
    assert store.forget_before() == 1 and store.list().total == 0


def test_a_run_forgotten_while_it_runs_stays_forgotten(path: Path) -> None:
    store = TraceStore(path)
    begun = store.begin(Question("?"), "rag")
    assert store.forget([begun]) == 1
    store.add_step(begun, full_answer().steps[0])
    store.finish(begun, full_answer())
    assert store.list().total == 0


def test_steps_of_a_run_under_way_can_be_looked_at(path: Path) -> None:
    store = TraceStore(path)
    begun = store.begin(Question("?"), "react")
    for step in full_answer().steps[:2]:
        store.add_step(begun, step)
    trace = TraceStore(path).get(begun)
    assert trace is not None and trace.info.status == "running"
    assert trace.answer.steps == full_answer().steps[:2]


WRITER = textwrap.dedent(
    """
    import sys, time
    from pathlib import Path
    sys.path.insert(0, sys.argv[2])
    from localsmith.core.traces import TraceStore
    from localsmith.core.types import Question
    from traced_runs import full_answer, small_answer
    store = TraceStore(Path(sys.argv[1]))
    if sys.argv[3] == "die":
        begun = store.begin(Question("half"), "react")
        for step in full_answer().steps[:2]:
            store.add_step(begun, step)
        print(begun, flush=True)
        time.sleep(60)
    first = int(sys.argv[3])
    for number in range(first, first + 25):
        store.add(Question(f"Question {number}"), small_answer(number), "rag")
    """
)


def writer(path: Path, what: str) -> subprocess.Popen[str]:
    arguments = [sys.executable, "-c", WRITER, str(path), str(Path(__file__).parent), what]
    return subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True)


def test_a_killed_process_leaves_the_steps_that_had_ended(path: Path) -> None:
    child = writer(path, "die")
    assert child.stdout is not None
    begun = child.stdout.readline().strip()
    store = TraceStore(path)
    assert [info.status for info in store.list().traces] == ["running"]
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert [(info.id, info.status) for info in store.list().traces] == [(begun, "interrupted")]
    trace = store.get(begun)
    assert trace is not None and trace.answer.steps == full_answer().steps[:2]
    assert trace.info.prompt_tokens == 100 and trace.info.num_steps == 4


def test_processes_write_at_once_and_nothing_is_lost(path: Path) -> None:
    TraceStore(path).close()
    children = [writer(path, str(first)) for first in (100, 200, 300)]
    assert [child.wait(60) for child in children] == [0, 0, 0]
    store = TraceStore(path)
    numbers = {int(info.id, 16) for info in store.list(limit=1000).traces}
    assert numbers == {first + n for first in (100, 200, 300) for n in range(25)}


def test_rows_of_other_versions_still_load(path: Path) -> None:
    store = TraceStore(path)
    for number in range(3):
        store.add(Question(f"Question {number}"), replace(full_answer(), trace_id=str(number)), "rag")
    with sqlite3.connect(path) as connection:
        for number, change in ((0, "drop"), (1, "add"), (2, "break")):
            where = f"number = (SELECT number FROM runs WHERE id = '{number}')"
            [body] = connection.execute(f"SELECT answer_json FROM bodies WHERE {where}").fetchone()
            values = json.loads(zlib.decompress(body))
            if change == "drop":
                for step in values["steps"]:
                    del step["begun_s"], step["prompt"], step["output"], step["is_error"], step["steps"]
            elif change == "add":
                values["mood"] = "good"
            else:
                values["steps"] = 3
            packed = zlib.compress(json.dumps(values).encode())
            connection.execute(f"UPDATE bodies SET answer_json = ? WHERE {where}", (packed,))
    old, newer, foreign = (store.get(str(number)) for number in range(3))
    assert old is not None and [step.kind for step in old.answer.steps] == ["search", "plan", "generate"]
    assert newer is not None and newer.answer.steps == full_answer().steps
    assert foreign is not None and foreign.answer.text == full_answer().text
    assert foreign.question.text == "Question 2"


@settings(max_examples=30, deadline=None)
@given(text=st.text(alphabet=st.characters(), max_size=40))
def test_any_text_can_be_kept_and_searched(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    store = TraceStore(tmp_path_factory.mktemp("any") / "t.sqlite3")
    text += "\ud800\x00"
    answer = replace(full_answer(text), trace_id=text)
    trace_id = store.add(Question(text), answer, text, error=ValueError(text))
    trace = store.get(trace_id)
    assert trace is not None and trace.question.text == trace.answer.text == storable(text)
    assert store.list(text=text).total == 1
    store.close()


def test_ten_thousand_runs_are_listed_searched_and_added_to_fast(path: Path) -> None:
    store = TraceStore(path)
    body = " ".join(f"word{n}" for n in range(150))
    with store._database.transaction() as connection:  # one commit for all: this test is not about the disk
        for number in range(10_000):
            text = f"{body} needle{number}"
            connection.execute(
                "INSERT INTO runs (id, strategy, status, begun_at, question, folded, size_bytes)"
                " VALUES (?, ?, 'answered', ?, ?, ?, 2000)",
                (f"{number:032x}", f"s{number % 5}", time.time() - number, f"Question {number}", text),
            )
    begun = time.perf_counter()
    assert store.list(limit=25).total == 10_000
    listed_s = time.perf_counter() - begun
    assert [int(info.id, 16) for info in store.list(text="needle7777").traces] == [7777]
    searched_s = time.perf_counter() - begun - listed_s
    assert store.list(strategy="s3", limit=25, offset=1975).total == 2000
    filtered_s = time.perf_counter() - begun - listed_s - searched_s
    store.add(Question("?"), replace(small_answer(1), trace_id="new"), "rag")
    added_s = time.perf_counter() - begun - listed_s - searched_s - filtered_s
    assert max(listed_s, searched_s, filtered_s, added_s) < 0.5, (listed_s, searched_s, filtered_s, added_s)


def test_a_file_that_is_no_database_is_told(path: Path) -> None:
    path.parent.mkdir()
    path.write_text("no database " * 500)
    with pytest.raises(StorageError, match="traces"):
        TraceStore(path)
