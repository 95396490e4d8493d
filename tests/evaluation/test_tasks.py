from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import EvaluationError
from localsmith.evaluation.grading import ChoiceGrader, NumberGrader, TextGrader
from localsmith.evaluation.tasks import CLAIM_QUESTION, LETTER_INSTRUCTION, Task, load_tasks

BBH_DATES = "What is the date?\nOptions:\n(A) 04/05/1973\n(B) 03/04/1973"


def written(path: Path, *rows: dict[str, Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def task_of(tmp_path: Path, row: dict[str, Any]) -> Task:
    return load_tasks(written(tmp_path / "rows.jsonl", row))[0]


@pytest.mark.parametrize(
    ("row", "grader", "gold"),
    [
        ({"question": "q", "answer": "2+3=<<2+3=5>>5\n#### 1,005"}, NumberGrader, "1005"),
        ({"input": "q", "target": 72.0}, NumberGrader, "72"),
        ({"input": "q", "target": 5, "code": "x"}, NumberGrader, "5"),
        ({"input": "q", "target": "-110"}, NumberGrader, "-110"),
        ({"input": BBH_DATES, "target": "(B)"}, ChoiceGrader, "(B)"),
        ({"input": "q\nOptions:\n- valid \n- invalid", "target": "invalid"}, ChoiceGrader, "invalid"),
        ({"input": "q", "target": "yes"}, ChoiceGrader, "yes"),
        ({"input": "q", "target": "False"}, ChoiceGrader, "False"),
        ({"input": "q", "target": "apple pear"}, TextGrader, "apple pear"),
        (
            {"input": "q", "target_scores": {"1": 1, "one": 1, "2": 0}, "target": "1"},
            ChoiceGrader,
            "1 or one",
        ),
        ({"input": "q", "target": "red", "choices": ["red", "blue"]}, ChoiceGrader, "red"),
        ({"question": "q", "answer": False, "facts": ["f"]}, ChoiceGrader, "no"),
        ({"question": "q", "answer": "Newcastle", "type": "bridge"}, TextGrader, "Newcastle"),
        ({"question": "q", "answers": ["a", "b"], "id": "1"}, TextGrader, "a or b"),
        ({"claim": "c", "label": "REFUTES", "evidence": []}, ChoiceGrader, "REFUTES"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_the_fields_tell_what_kind_of_question_a_row_is(
    tmp_path: Path, row: dict[str, Any], grader: type, gold: str
) -> None:
    task = task_of(tmp_path, row)
    assert isinstance(task.grader, grader)
    assert task.grader.gold == gold
    assert task.grader.grade(f"The answer is {gold.split(' or ')[0]}.").is_exact


def test_a_question_says_the_form_of_its_answer_where_it_does_not_show(tmp_path: Path) -> None:
    lettered = task_of(tmp_path, {"input": BBH_DATES, "target": "(B)"})
    assert lettered.text == f"{BBH_DATES}\n\n{LETTER_INSTRUCTION}"
    claim = task_of(tmp_path, {"claim": "Rome lies in Italy.", "label": "SUPPORTS"})
    assert claim.text.startswith(f"{CLAIM_QUESTION}Rome lies in Italy.")
    assert claim.text.endswith("The final answer is SUPPORTS, REFUTES or NOT ENOUGH INFO.")
    assert task_of(tmp_path, {"input": "1 + 1 =", "target": "2"}).text == "1 + 1 ="


def test_the_order_of_options_does_not_give_the_right_one_away(tmp_path: Path) -> None:
    scores = {"03/05/2002": 1, "02/06/2002": 0, "01/12/2002": 0, "04/01/2002": 0}
    text = task_of(tmp_path, {"input": "q", "target_scores": scores}).text
    assert text.endswith("one of: 01/12/2002, 02/06/2002, 03/05/2002, 04/01/2002.")


def test_a_context_goes_before_the_question(tmp_path: Path) -> None:
    path = written(tmp_path / "rows.jsonl", {"input": "Who is oldest?", "target": 7, "context": "Own."})
    assert load_tasks(path, context="Table.\n")[0].text == "Table.\n\nOwn.\n\nWho is oldest?"


def test_a_worked_solution_is_kept_without_the_calculators_marks(tmp_path: Path) -> None:
    task = task_of(tmp_path, {"question": "q", "answer": "Half is 40/2=<<40/2=20>>20.\n#### 20"})
    assert task.solution == "Half is 40/2=20.\nThe answer is 20."


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"dialogue": "d", "summary": "s"}, "dialogue, summary"),
        ({}, "fields none"),
        ({"question": "q", "answer": 5}, "question, answer"),
        ({"question": " ", "answer": "a"}, "field 'question'"),
        ({"question": "q", "answer": "so many\n#### many"}, "field 'answer'"),
        ({"question": "q", "answers": []}, "field 'answers'"),
        ({"input": "q", "target": None}, "field 'target'"),
        ({"input": "q", "target": True}, "field 'target'"),
        ({"input": "q", "target": float("nan")}, "field 'target'"),
        ({"input": "q", "target_scores": {"a": 1}}, "field 'target_scores'"),
        ({"input": "q", "target_scores": {"a": 0, "b": 0}}, "field 'target_scores'"),
        ({"input": "q", "target_scores": ["a"]}, "field 'target_scores'"),
        ({"input": "q", "target": "green", "choices": ["red", "blue"]}, "field 'target'"),
        ({"claim": "c", "label": "MAYBE"}, "field 'label'"),
    ],
    ids=lambda value: json.dumps(value)[:60] if isinstance(value, dict) else "",
)
def test_a_row_that_is_no_question_is_refused_by_line(
    tmp_path: Path, row: dict[str, Any], words: str
) -> None:
    path = written(tmp_path / "rows.jsonl", {"question": "q", "answer": "a"}, row)
    with pytest.raises(EvaluationError, match="line 2") as caught:
        load_tasks(path)
    assert words in str(caught.value)
    assert caught.value.hint


def test_an_unknown_form_is_answered_with_all_known_ones(tmp_path: Path) -> None:
    with pytest.raises(EvaluationError) as caught:
        task_of(tmp_path, {"text": "t"})
    for words in ("GSM8K", "PAL", "BIG-Bench Hard", "StrategyQA", "HotpotQA", "FEVER", "SQuAD"):
        assert words in caught.value.hint


def test_the_limit_takes_the_first_rows_and_ids_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(json.dumps({"input": f"q{i}", "target": i}) + "\n" for i in range(4)))
    assert [(task.id, task.text) for task in load_tasks(path, 2)] == [("1", "q0"), ("3", "q1")]


def test_every_shared_question_file_loads_and_its_gold_answers_are_right(shared_data: Path) -> None:
    for name in ("gsm8k", "pal", "bbh", "strategyqa", "hotpotqa", "fever"):
        for path in (shared_data / name).glob("*.jsonl") if (shared_data / name).is_dir() else ():
            for task in load_tasks(path, 100):
                for gold in task.grader.gold.split(" or "):
                    assert task.grader.grade(f"2 and 3 make 5. The answer is {gold}.").is_exact, (path, task)
    tasks = load_tasks(shared_data / "squad" / "questions.jsonl")
    assert len(tasks) == 400 and all(isinstance(task.grader, TextGrader) for task in tasks)
