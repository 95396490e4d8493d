"""Templates are strict, varied by seed and content, and the same text in training and serving."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import DatasetError
from localsmith.core.types import Message
from localsmith.training.data.sources import FileSource, import_source
from localsmith.training.data.task_template import TEMPLATES, load_template, template_names

DATA = Path(__file__).parents[2] / "data" / "training"
EXAMPLES: dict[str, dict[str, Any]] = {
    "classification": {"text": "Fine film.", "label": "good", "labels": ["good", "bad"]},
    "named_entity_recognition": {"text": "Ann left.", "entities": [{"text": "Ann", "type": "person"}]},
    "question_answering": {"question": "Who left?", "answer": "Ann"},
    "summarization": {"text": "It rains and rains.", "summary": "Rain."},
    "translation": {
        "text": "Regen",
        "translation": "rain",
        "source_language": "German",
        "target_language": "English",
    },
}
OWN = """
task = "colour"
version = 1
[fields]
thing = ["thing"]
colour = ["colour"]
[target]
field = "colour"
[[wordings]]
name = "plain"
system = "Be brief."
prompt = "What colour is {{ thing }}?"
completion = "{{ colour }}"
"""


def own_template(folder: Path, **changes: str) -> Path:
    text = OWN
    for old, new in changes.items():
        text = text.replace(old, new)
    path = folder / "colour.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_examples_cover_every_template() -> None:
    assert template_names() == sorted(EXAMPLES)


@pytest.mark.parametrize("name", template_names())
def test_every_template_has_several_wordings_that_all_render(name: str) -> None:
    template = load_template(name)
    assert template.task == name
    rows = [template.row(EXAMPLES[name], wording.name) for wording in template.wordings]
    assert len({row.prompt for row in rows}) == len(rows) >= 3
    for row in rows:
        assert "{" not in row.text.replace('{"text"', "")
        assert "None" not in row.text


@pytest.mark.parametrize("name", template_names())
def test_no_wording_gives_the_answer_away(name: str) -> None:
    template = load_template(name)
    marked = EXAMPLES[name] | {template.target: "SECRET"}
    if name == "classification":
        marked["labels"] = ["good", "bad"]
    for wording in template.wordings:
        assert "SECRET" not in template.prompt(marked, wording.name)[-1].content


@pytest.mark.parametrize("name", template_names())
def test_training_and_serving_ask_in_the_same_words(name: str) -> None:
    template = load_template(name)
    asked = {field: value for field, value in EXAMPLES[name].items() if field != template.target}
    for wording in template.wordings:
        assert template.prompt(asked, wording.name) == template.row(EXAMPLES[name], wording.name).prompt


@pytest.mark.parametrize("name", template_names())
def test_a_missing_variable_is_an_error_that_names_it(name: str) -> None:
    template = load_template(name)
    for field in EXAMPLES[name]:
        left = {other: value for other, value in EXAMPLES[name].items() if other != field}
        with pytest.raises(DatasetError, match=field) as caught:
            for wording in template.wordings:
                template.row(left, wording.name)
        assert "fields are" in caught.value.hint


def test_a_label_outside_the_list_is_an_error() -> None:
    with pytest.raises(DatasetError, match="'fair' is none of labels"):
        load_template("classification").row(EXAMPLES["classification"] | {"label": "fair"})


def test_labels_that_are_no_list_are_an_error() -> None:
    with pytest.raises(DatasetError, match="labels is str, not a list"):
        load_template("classification").row(EXAMPLES["classification"] | {"labels": "good, bad"})


def test_constants_are_what_no_field_gives() -> None:
    assert load_template("classification").constants == {"labels"}
    assert load_template("question_answering").constants == frozenset()


def test_an_entity_list_may_be_empty() -> None:
    row = load_template("named_entity_recognition").row({"text": "It rains.", "entities": []})
    assert row.completion == "none"


def test_a_value_that_is_no_text_is_not_learned_in_pythons_form() -> None:
    with pytest.raises(DatasetError, match="neither text nor number"):
        load_template("summarization").row({"text": {"a": 1}, "summary": "x"})


def test_template_marks_in_data_are_only_text() -> None:
    text = "{{ 7 * 7 }} {% for x in y %}"
    assert text in load_template("summarization").prompt({"text": text})[0].content


def test_the_wording_depends_on_content_and_seed_alone() -> None:
    path = DATA / "dialogsum.jsonl"
    rows = {seed: import_source(FileSource(path), seed).rows for seed in (1, 2)}
    assert import_source(FileSource(path), 1).rows == rows[1]
    assert rows[1] != rows[2]
    names = {load_template("summarization").choose({"dialogue": str(i)}, 7) for i in range(100)}
    assert len(names) == len(load_template("summarization").wordings)


def test_all_wordings_of_a_record_are_one_group() -> None:
    rows = import_source(FileSource(DATA / "gsm8k.jsonl", wording="one"), 7).rows
    assert {row.group for row in rows} == {""}
    template = load_template("question_answering")
    rows = import_source(FileSource(DATA / "gsm8k.jsonl", template=template, wording="all"), 7).rows
    assert len(rows) == 12 * len(template.wordings)
    assert len({row.group for row in rows}) == 12
    assert len({row.id for row in rows}) == len(rows)


def test_a_persons_own_template_is_read(tmp_path: Path) -> None:
    row = load_template(own_template(tmp_path)).row({"thing": "snow", "colour": "white"})
    assert row.messages == (
        Message("system", "Be brief."),
        Message("user", "What colour is snow?"),
        Message("assistant", "white"),
    )
    assert (row.own_prompt, row.own_completion) == ("snow", "white")


@pytest.mark.parametrize(
    "changes",
    [
        {"{{ thing }}": "{{ thing"},
        {'task = "colour"': ""},
        {"version = 1": 'version = "one"'},
        {'name = "plain"': 'name = "all"'},
        {'completion = "{{ colour }}"': ""},
        {'system = "Be brief."': 'sytem = "Be brief."'},
        {"[fields]": "[fields"},
        {'thing = ["thing"]': "thing = 3"},
    ],
)
def test_a_file_that_is_no_template_is_an_error(tmp_path: Path, changes: dict[str, str]) -> None:
    with pytest.raises(DatasetError, match="is not a task template"):
        load_template(own_template(tmp_path, **changes))


def test_a_template_can_not_reach_out_of_its_sandbox(tmp_path: Path) -> None:
    path = own_template(tmp_path, **{"{{ thing }}": "{{ thing.__class__.__mro__[1].__subclasses__() }}"})
    with pytest.raises(DatasetError, match="can't be filled"):
        load_template(path).row({"thing": "snow", "colour": "white"})


def test_an_unknown_template_or_wording_is_told_with_those_there_are() -> None:
    with pytest.raises(DatasetError) as caught:
        load_template("poetry")
    assert "summarization" in caught.value.hint
    with pytest.raises(ValueError, match="instruction"):
        load_template("summarization").prompt({"text": "a"}, "rude")


def test_every_template_file_is_listed() -> None:
    assert len(list(TEMPLATES.iterdir())) == len(template_names())
