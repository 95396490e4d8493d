from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from localsmith.core.errors import ContextOverflow, EvaluationError, SandboxError
from localsmith.core.types import Answer, Delta, Event, Final, Progress, Question, Step, Usage
from localsmith.evaluation.grading import Grader, NumberGrader, TextGrader
from localsmith.evaluation.journal import Journal
from localsmith.evaluation.reasoning import Record, busy_seconds, reasoning_figures, run_tasks
from localsmith.evaluation.tasks import Task

ABOUT = {"model": "m"}


def tasks(num: int, grader: Callable[[int], Grader] = NumberGrader) -> list[Task]:
    return [Task(str(i), f"What is {i}?", grader(i)) for i in range(1, num + 1)]


class Scripted:
    """A strategy that says what it is told to and notes what it was asked."""

    def __init__(self, answer: Callable[[int], Answer], delay_s: float = 0.0) -> None:
        self._answer = answer
        self._delay_s = delay_s
        self._lock = threading.Lock()
        self.asked: list[Question] = []
        self.num_running = 0
        self.most_running = 0

    def events(self, question: Question, *, cancel: threading.Event | None = None) -> Iterator[Event]:
        assert cancel is not None
        with self._lock:
            self.asked.append(question)
            self.num_running += 1
            self.most_running = max(self.most_running, self.num_running)
        try:
            yield Progress("answering")
            if cancel.wait(self._delay_s):
                yield Final(Answer("", "cancelled"))
                return
            answer = self._answer(int(question.text.split()[-1].rstrip("?")))
            yield Delta(answer.text)
            yield Final(answer)
        finally:
            with self._lock:
                self.num_running -= 1


def says(text: str, **fields: object) -> Answer:
    return replace(Answer(text, "answered"), **fields)  # type: ignore[arg-type]


def test_questions_are_asked_at_once_as_batch_work_and_come_back_in_order() -> None:
    strategy = Scripted(lambda i: says(f"The answer is {i}."), delay_s=0.05)
    told: list[tuple[int, int]] = []
    records = run_tasks(
        tasks(12), strategy, at_once=4, collection="papers", on_record=lambda *n: told.append(n)
    )
    assert [record.id for record in records] == [str(i) for i in range(1, 13)]
    assert all(record.is_exact for record in records)
    assert strategy.most_running == 4
    assert {(q.priority, q.collection) for q in strategy.asked} == {("batch", "papers")}
    assert told == [(done, 12) for done in range(13)]


def test_the_figures_are_those_counted_by_hand() -> None:
    calls = (
        Step("plan", "ReAct, for it asks for a document.", 0.1),
        Step("tool", "calculator", 0.1, steps=(Step("tool", "inner", 0.1),)),
    )
    answers = {
        1: says("The answer is 1.", usage=Usage(100, 40, 10), steps=calls),
        2: says("The answer is 3.", usage=Usage(200, 0, 30)),
        3: says("I can't tell.", stop_reason="step_limit"),
        4: says("4", stop_reason="abstained"),
        5: says("5"),
    }
    records = run_tasks(tasks(5), Scripted(answers.__getitem__))
    figures = reasoning_figures(records)
    assert figures["num_questions"] == 5
    assert figures["accuracy"] == pytest.approx(2 / 5)  # an abstention is no answer, whatever it says
    assert figures["accuracy_low"] == pytest.approx(0.1176, abs=1e-4)  # Wilson, 2 of 5
    assert figures["accuracy_high"] == pytest.approx(0.7693, abs=1e-4)
    assert figures["no_answer_share"] == pytest.approx(2 / 5)
    assert figures["limit_share"] == pytest.approx(1 / 5)
    assert figures["abstained_share"] == pytest.approx(1 / 5)
    assert figures["failed_share"] == 0
    assert figures["prompt_tokens_mean"] == pytest.approx(60)
    assert figures["cached_tokens_mean"] == pytest.approx(8)
    assert figures["completion_tokens_mean"] == pytest.approx(8)
    assert figures["tokens_mean"] == pytest.approx(60 - 8 + 8)
    assert figures["tool_calls_mean"] == pytest.approx(2 / 5)
    assert (figures["malformed_calls"], figures["malformed_calls_low"]) == (0, 0)
    assert figures["malformed_calls_high"] == pytest.approx(2 * 0.6576, abs=1e-3)  # Wilson, 0 of 2 calls
    assert records[0].plan == "ReAct, for it asks for a document."
    assert "f1" not in figures


def test_free_text_is_measured_by_f1_and_exact_match() -> None:
    golds = tasks(2, lambda i: TextGrader(("Denver Broncos",)))
    answers = {1: says("the Broncos"), 2: says("Denver Broncos [1]")}
    figures = reasoning_figures(run_tasks(golds, Scripted(answers.__getitem__)))
    assert figures["f1"] == pytest.approx((2 / 3 + 1) / 2)
    assert figures["exact_match"] == pytest.approx(1 / 2)
    assert figures["f1_low"] <= figures["f1"] <= figures["f1_high"]
    assert "accuracy" not in figures


def test_a_question_that_fails_alone_counts_as_wrong_and_the_rest_goes_on() -> None:
    def answer(i: int) -> Answer:
        if i == 2:
            raise ContextOverflow(9000, 400, 8192)
        return says(f"{i}")

    records = run_tasks(tasks(3), Scripted(answer))
    assert [record.is_exact for record in records] == [True, False, True]
    assert records[1].stop_reason == "failed"
    assert "9000" in records[1].explanation
    assert reasoning_figures(records)["failed_share"] == pytest.approx(1 / 3)


def test_a_fault_that_every_question_meets_ends_the_run_and_keeps_what_is_done(tmp_path: Path) -> None:
    def answer(i: int) -> Answer:
        if i == 3:
            raise SandboxError("No sandbox can run here.")
        return says(f"{i}")

    journal = Journal.open(tmp_path / "j.partial.jsonl", Record, ABOUT, resume=False)
    with pytest.raises(SandboxError):
        run_tasks(tasks(50), Scripted(answer), at_once=1, journal=journal)
    assert len(journal) >= 2


def test_a_run_without_a_last_event_is_an_error() -> None:
    class Mute:
        def events(self, question: Question, *, cancel: threading.Event | None = None) -> Iterable[Event]:
            return [Progress("answering")]

    with pytest.raises(EvaluationError, match="line 1"):
        run_tasks(tasks(1), Mute())


def test_an_interrupted_run_keeps_what_is_done_and_goes_on_with_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "cot.json.partial.jsonl"
    journal = Journal.open(path, Record, ABOUT, resume=False)

    def stop_after_three(done: int, total: int) -> None:
        if done == 3:
            raise KeyboardInterrupt

    slow = Scripted(lambda i: says(f"{i}"), delay_s=0.05)
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        run_tasks(tasks(200), slow, at_once=2, journal=journal, on_record=stop_after_three)
    assert time.monotonic() - begun < 2  # it does not wait for the other 197
    with path.open("a") as file:
        file.write('{"key": "4", "rec')  # cut by a kill
    kept = Journal.open(path, Record, ABOUT, resume=True)
    done = {task.id for task in tasks(200) if kept.get(task.id) is not None}
    assert 3 <= len(done) == len(kept) < 8
    quick = Scripted(lambda i: says(f"{i}"))
    records = run_tasks(tasks(10), quick, journal=kept)
    asked = {question.text for question in quick.asked}
    assert asked == {task.text for task in tasks(10) if task.id not in done}
    assert [record.text for record in records] == [str(i) for i in range(1, 11)]


def test_a_record_survives_the_journal_as_it_was(tmp_path: Path) -> None:
    path = tmp_path / "j.partial.jsonl"
    journal = Journal.open(path, Record, ABOUT, resume=False)
    records = run_tasks(tasks(2), Scripted(lambda i: says("no number")), journal=journal)
    again = Journal.open(path, Record, ABOUT, resume=True)
    assert [again.get("1"), again.get("2")] == records


def test_seconds_are_counted_once_where_questions_ran_at_once_and_not_while_none_ran() -> None:
    record = run_tasks(tasks(1), Scripted(lambda i: says("1")))[0]
    runs = [(100.0, 10.0), (102.0, 3.0), (105.0, 10.0), (500.0, 5.0)]
    records = [replace(record, begun_at=begun, seconds=seconds) for begun, seconds in runs]
    assert busy_seconds(records) == pytest.approx(15 + 5)
    assert reasoning_figures(records)["seconds_per_question"] == pytest.approx(20 / 4)


def turn(output: str) -> Step:
    return Step("generate", "", 0.1, output=output)


@pytest.mark.parametrize(
    ("steps", "num_malformed", "num_cut"),
    [
        ((turn('Thought: I need it.\nAction: calculator\nInput: {"expression": "6*7"}'),), 0, 0),
        ((turn("Thought: I know it.\nAnswer: 42"), turn("Action is a film. The answer is 3.")), 0, 0),
        ((turn('Thought: I need it.\nAction: calculator\nInput: {"expression": "6*'),), 0, 1),
        ((turn('Action: calculator\nInput: {"n": [1, 2'), turn('Action: a\nInput: {"n": tr')), 0, 2),
        ((turn("Thought: I need it.\nAction: calc"),), 0, 1),
        ((turn("Thought: I need"),), 0, 0),
        ((turn('Action: calculator\nInput: {"n": 6*7'),), 1, 0),
        ((turn("Action: calculator\nInput: {'n': 6"),), 1, 0),
        ((turn("Action: calculator\nInput: [1]"),), 1, 0),
        ((turn("Action: calculator\nInput: 6*7"), turn("Action: search\nInput: {}{}")), 2, 0),
        ((Step("tool", "", 0.1, output="arguments.n must be an integer.", is_error=True),), 1, 0),
        ((Step("tool", "", 0.1, output="calculator failed: division by zero", is_error=True),), 0, 0),
        ((Step("tool", "", 0.1, output="arguments for and against"),), 0, 0),
        ((Step("plan", "", 0.1, steps=(turn("Action: calculator\nInput: x"),)),), 1, 0),
    ],
)
def test_a_malformed_call_is_counted_by_what_the_model_wrote(
    steps: tuple[Step, ...], num_malformed: int, num_cut: int
) -> None:
    answer = says("1", steps=steps)
    record = run_tasks(tasks(1), Scripted(lambda i: answer))[0]
    assert (record.num_malformed_calls, record.num_cut_calls) == (num_malformed, num_cut)
