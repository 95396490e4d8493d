from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from localsmith.agents.reasoning.examples import (
    FOLDER,
    MAX_PROMPT_EXAMPLES,
    Example,
    ExampleSet,
    load_examples,
    most_relevant,
)
from localsmith.agents.reasoning.extraction import comparable, final_answer
from localsmith.agents.reasoning.program import program_in
from localsmith.core.errors import ConfigError

SHIPPED = sorted(path.stem for path in FOLDER.glob("*.toml"))
FILE = """
name = "moods"
version = 3
format = "One word."
template = "Review: {{ question }}\\nMood:"
pattern = "good|bad"

[[examples]]
question = "I loved it."
answer = "good"

[[examples]]
question = "Never again."
answer = "bad"
"""


def a_set(num: int) -> ExampleSet:
    return ExampleSet("many", 1, "", tuple(Example(f"q{i}", f"a{i}") for i in range(num)))


@pytest.mark.parametrize("name", SHIPPED)
def test_sets_that_come_along_are_few_and_named_like_their_files(name: str) -> None:
    examples = load_examples(name)
    assert examples.name == name and examples.version >= 1 and examples.format
    assert 3 <= len(examples.examples) <= MAX_PROMPT_EXAMPLES and not examples.advice


@pytest.mark.parametrize("name", ["cot", "few_shot"])
def test_their_answers_are_of_the_form_that_is_asked_for(name: str) -> None:
    for example in load_examples(name).examples:
        last = example.answer.splitlines()[-1]
        answer = final_answer(last)
        assert answer and last == f"The answer is {answer}."


def test_reasoned_and_programmed_answers_to_the_same_question_agree() -> None:
    reasoned = {example.question: example.answer for example in load_examples("cot").examples}
    same = 0
    for example in load_examples("pal").examples:
        program = program_in(example.answer)
        assert program is not None
        names: dict[str, object] = {}
        exec(program, names)  # our own file
        result = names["solution"]()  # type: ignore[operator]
        if example.question in reasoned:
            same += 1
            assert comparable(str(result)) == comparable(final_answer(reasoned[example.question]) or "")
        else:
            assert result == "04.06.2031"
    assert same >= 2


def test_a_file_becomes_turns_of_a_conversation(tmp_path: Path) -> None:
    path = tmp_path / "moods.toml"
    path.write_text(FILE)
    examples = load_examples(path)
    assert (examples.name, examples.version, examples.format) == ("moods", 3, "One word.")
    turns = [(message.role, message.content) for message in examples.messages()]
    assert turns[:2] == [("user", "Review: I loved it.\nMood:"), ("assistant", "good")]
    assert '"b" "a" "d"' in examples.grammar()


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("version = 3", 'version = "three"', "version"),
        ("version = 3", "", "version"),
        ('answer = "good"', 'answer = "fine"', "answer 1"),
        ('answer = "good"', "", "example 1"),
        ('answer = "good"', "answer = 5", "answer"),
        ('pattern = "good|bad"', 'pattern = "(good"', "moods"),
        ("{{ question }}", "{{ text }}", "text"),
        ('name = "moods"', 'nmae = "moods"', "nmae"),
        ("[[examples]]", "[[examples", "TOML"),
    ],
)
def test_a_file_that_is_no_example_set_says_what_is_wrong(
    tmp_path: Path, old: str, new: str, said: str
) -> None:
    path = tmp_path / "moods.toml"
    path.write_text(FILE.replace(old, new, 1))
    with pytest.raises(ConfigError, match=said):
        load_examples(path)


def test_an_unknown_set_names_the_known_ones(tmp_path: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load_examples("nonsense")
    assert "cot" in caught.value.hint
    with pytest.raises(ConfigError):
        load_examples(tmp_path / "gone.toml")


def test_past_six_examples_fine_tuning_is_advised() -> None:
    assert a_set(6).advice == ""
    assert "fine-tuning" in a_set(7).advice and "to_training_jsonl" in a_set(7).advice


def test_a_set_becomes_a_training_set(tmp_path: Path) -> None:
    path = tmp_path / "train.jsonl"
    examples = ExampleSet("s", 1, "", (Example("Größe?", "groß\nsehr"),), template="Q: {{ question }}")
    assert examples.to_training_jsonl(path, system="Be brief.") == 1
    (line,) = path.read_text(encoding="utf-8").splitlines()
    assert json.loads(line) == {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Q: Größe?"},
            {"role": "assistant", "content": "groß\nsehr"},
        ]
    }


def brute_force(query: np.ndarray, vectors: np.ndarray, num: int, weight: float) -> list[int]:
    """Maximal marginal relevance as Carbonell & Goldstein write it."""
    chosen: list[int] = []
    for _ in range(num):
        best, best_score = -1, -np.inf
        for i in range(len(vectors)):
            if i in chosen:
                continue
            repeated = max((float(vectors[i] @ vectors[j]) for j in chosen), default=0.0)
            score = weight * float(vectors[i] @ query) - (1 - weight) * repeated
            if score > best_score:
                best, best_score = i, score
        chosen.append(best)
    return chosen


@pytest.mark.parametrize("weight", [0.0, 0.5, 0.7, 1.0])
def test_the_choice_is_maximal_marginal_relevance(weight: float) -> None:
    rng = np.random.default_rng(3)
    vectors = rng.normal(size=(40, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    query = vectors[0] + vectors[1]
    query /= np.linalg.norm(query)
    assert most_relevant(query, vectors, 10, weight) == brute_force(query, vectors, 10, weight)


def test_of_two_equal_examples_one_is_enough() -> None:
    vectors = np.array([[1, 0], [1, 0], [0.7, 0.714]], dtype=np.float32)
    query = np.array([1, 0], dtype=np.float32)
    assert most_relevant(query, vectors, 2, 0.3) == [0, 2]
    assert most_relevant(query, vectors, 2, 1.0) == [0, 1]
    assert sorted(most_relevant(query, vectors, 9)) == [0, 1, 2]
