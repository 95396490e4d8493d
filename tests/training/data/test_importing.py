"""Files and feedback become rows; what is wrong with a line is told and ends nothing."""

from __future__ import annotations

import csv
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from localsmith.core.conversations import ConversationStore
from localsmith.core.errors import DatasetError
from localsmith.core.types import Answer, Chunk, Message, Passage
from localsmith.training.data import records
from localsmith.training.data.records import MAX_LINE_BYTES, BadLine, Record, read_records
from localsmith.training.data.rows import row_from_json, row_to_json
from localsmith.training.data.sources import FeedbackSource, FileSource, Imported, import_source

DATA = Path(__file__).parents[2] / "data" / "training"
ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
FIELDS = (
    "messages",
    "prompt",
    "completion",
    "question",
    "answer",
    "instruction",
    "instances",
    "text",
    "label",
)


def imported(path: Path, **settings: Any) -> Imported:
    return import_source(FileSource(path, **settings), seed=7)


def written(folder: Path, *rows: Any, name: str = "data.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "task", "num_rows"),
    [
        ("dialogsum", "summarization", 16),
        ("gsm8k", "question_answering", 12),
        ("seed_tasks", "instruction", 4),
    ],
)
def test_real_files_are_told_by_their_fields(name: str, task: str, num_rows: int) -> None:
    found = imported(DATA / f"{name}.jsonl")
    assert {row.task for row in found.rows} == {task}
    assert (len(found.rows), found.report.num_bad) == (num_rows, 0)
    assert found.rows[2].source == f"{name}.jsonl:3"


def test_further_summaries_are_references() -> None:
    raw = json.loads((DATA / "dialogsum_test.jsonl").read_text().splitlines()[0])
    row = imported(DATA / "dialogsum_test.jsonl").rows[0]
    assert row.completion == raw["summary1"]
    assert row.reference == (raw["summary2"], raw["summary3"])


@pytest.mark.parametrize(
    ("fields", "prompt", "completion"),
    [
        ({"prompt": "2 + 2?", "completion": "4"}, "2 + 2?", "4"),
        ({"instruction": "Add.", "input": "2 2", "output": 4}, "Add.\n\n2 2", "4"),
        ({"instruction": "Say hi.", "input": "", "output": "hi"}, "Say hi.", "hi"),
        ({"question": "Is it?", "answer": True}, "Is it?", "true"),
        ({"question": "Who?", "answers": ["Ann", "Anne"]}, "Who?", "Ann"),
    ],
)
def test_a_prompt_and_its_completion_are_taken_as_they_stand(
    tmp_path: Path, fields: dict[str, Any], prompt: str, completion: str
) -> None:
    row = imported(written(tmp_path, fields)).rows[0]
    assert (row.prompt[-1].content, row.completion) == (prompt, completion)


def test_a_chat_log_is_learned_up_to_its_last_answer(tmp_path: Path) -> None:
    roles = ("system", "user", "assistant", "user", "assistant", "user")
    messages = [{"role": role, "content": f"{role} {i}"} for i, role in enumerate(roles)]
    messages[1]["content"] = [{"type": "text", "text": "a "}, {"type": "text", "text": "part"}]
    row = imported(written(tmp_path, {"messages": messages})).rows[0]
    assert [message.role for message in row.messages] == list(roles[:5])
    assert row.messages[1].content == "a part"


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (b"{broken", "not valid JSON"),
        (b"[1, 2]", "not a JSON object"),
        (b'{"prompt": "a\xff", "completion": "b"}', "not UTF-8"),
        (b'{"prompt": "a\\u0000", "completion": "b"}', "NUL"),
        (b'{"prompt": "a\\ud800", "completion": "b"}', "surrogate"),
        (b'{"prompt": NaN, "completion": "b"}', "NaN"),
        (b'{"prompt": ["a"], "completion": "b"}', "prompt is list, not text"),
        (b'{"prompt": "a", "completion": " "}', "completion is empty"),
        (b'{"prompt": "a"}', "of no known form"),
        (b'{"messages": [{"role": "boss", "content": "a"}]}', "role 'boss'"),
        (b'{"messages": [{"role": "user", "content": null}]}', "not text"),
        (b'{"messages": [{"role": "user", "content": "a"}]}', "no message is the assistant's"),
        (b'{"messages": [{"role": "assistant", "content": "a"}]}', "must be a prompt"),
        (b'{"instruction": "a", "instances": []}', "at least one"),
        (b'{"text": "a", "label": "b"}', "'labels' is undefined"),
        (b"[" * 100_000, "nested"),
        (b'{"prompt": 1e999, "completion": "b"}', "JSON"),
    ],
)
def test_a_bad_line_is_told_with_its_number_and_ends_nothing(
    tmp_path: Path, line: bytes, reason: str
) -> None:
    path = tmp_path / "data.jsonl"
    good = b'{"prompt": "a", "completion": "b"}\n'
    path.write_bytes(good + line + b"\n\n" + good)
    found = imported(path)
    assert [row.source for row in found.rows] == ["data.jsonl:1", "data.jsonl:4"]
    assert found.report.num_bad == 1
    assert found.report.bad_examples[0].startswith("data.jsonl:2: ")
    assert reason in found.report.bad_examples[0]


def test_bad_lines_are_all_counted_but_only_the_first_shown(tmp_path: Path) -> None:
    found = imported(written(tmp_path, *[{"prompt": 1}] * 30, {"prompt": "a", "completion": "b"}))
    assert (found.report.num_bad, len(found.report.bad_examples)) == (30, 5)


def test_a_line_without_end_is_not_kept_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert MAX_LINE_BYTES >= 1 << 20
    monkeypatch.setattr(records, "MAX_LINE_BYTES", 1000)
    path = tmp_path / "data.jsonl"
    good = b'{"prompt": "a", "completion": "b"}\n'
    path.write_bytes(good + b"x" * 2999 + b"\n" + good + b"y" * 5000)
    items = list(read_records(path))
    assert [type(item) for item in items] == [Record, BadLine, Record, BadLine]
    assert items[-1].end_byte == path.stat().st_size
    assert max(len(line or b"") for line, _ in records.byte_lines(path)) < 1000


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("gone.jsonl", None, "can't be read"),
        ("data.xlsx", b"PK", "not a data file"),
        ("data.jsonl", b"", "is empty"),
        ("data.jsonl", b'\xff\xfe{"', "UTF-16"),
        ("data.jsonl", b"no\nno\n", "data.jsonl:1"),
        ("data.csv", b"", "no header"),
        ("data.csv", b"text,text\na,b\n", "no header"),
        ("data.csv", b'"text\n', "header"),
        ("data.csv", b"prompt,completion\n", "is empty"),
    ],
)
def test_a_file_without_a_row_is_an_error_that_says_why(
    tmp_path: Path, name: str, content: bytes | None, words: str
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(DatasetError, match=words) as caught:
        imported(tmp_path / name)
    assert caught.value.hint


def test_a_folder_is_no_data_file(tmp_path: Path) -> None:
    (tmp_path / "data.jsonl").mkdir()
    with pytest.raises(DatasetError, match="can't be read"):
        imported(tmp_path / "data.jsonl")


def test_a_table_is_read_with_its_quotes_and_line_ends(tmp_path: Path) -> None:
    path = tmp_path / "data.csv"
    path.write_bytes(
        b'\xef\xbb\xbfprompt,completion\r\n"a, b\r\nc","say ""hi"""\r\n'
        b'd\r\n"e\xff",f\r\ng,h\r\n"i,j\r\nk,l\r\n'
    )
    found = imported(path)
    assert [(row.prompt[0].content, row.completion) for row in found.rows] == [
        ("a, b\r\nc", 'say "hi"'),
        ("g", "h"),
    ]
    assert [row.source for row in found.rows] == ["data.csv:3", "data.csv:6"]
    assert [example.partition(": ")[0] for example in found.report.bad_examples] == [
        "data.csv:4",
        "data.csv:5",
        "data.csv:8",
    ]


def test_fields_of_other_names_are_found_where_they_are_named(tmp_path: Path) -> None:
    path = written(tmp_path, {"claim": "It rains.", "verdict": "yes"}, {"claim": "It snows."})
    found = imported(path, fields={"prompt": "claim", "completion": "verdict"}, task="weather")
    assert [(row.prompt[0].content, row.completion, row.task) for row in found.rows] == [
        ("It rains.", "yes", "weather")
    ]
    assert "no field 'verdict'" in found.report.bad_examples[0]


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.binary(max_size=300), st.sampled_from(["x.jsonl", "x.csv", "x.tsv"]))
def test_no_bytes_raise_anything_but_a_dataset_error(content: bytes, name: str) -> None:
    _import_or_refuse(content, name)


@settings(max_examples=200, suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(st.lists(st.dictionaries(st.sampled_from(FIELDS), ANY_JSON, max_size=4), max_size=4))
def test_no_values_raise_anything_but_a_dataset_error(rows: list[dict[str, Any]]) -> None:
    _import_or_refuse("\n".join(json.dumps(row) for row in rows).encode(), "x.jsonl")


@pytest.mark.parametrize("depth", [100, 300, 400, 480, 500, 900, 1000])
def test_no_depth_raises_anything_but_a_dataset_error(depth: int) -> None:
    nested = '{"a":' * depth + "1" + "}" * depth
    _import_or_refuse(f'{{"text": "a", "label": "a", "more": {nested}}}'.encode(), "x.jsonl")


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.tuples(*[st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))] * 2),
        min_size=1,
    )
)
def test_a_table_that_csv_wrote_comes_back(rows: list[tuple[str, str]]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "x.csv"
        with path.open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("prompt", "completion"), *rows])
        items = [item for item in read_records(path) if isinstance(item, Record)]
    assert [tuple(item.fields.values()) for item in items] == rows


def _import_or_refuse(content: bytes, name: str) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            rows = imported(path, constants={"labels": ["a"]}).rows
        except DatasetError:
            return
    assert rows
    for row in rows:
        assert row.id
        assert row_from_json(json.loads(json.dumps(row_to_json(row)))) == row


def _answered(store: ConversationStore, conversation: str, question: str, answer: Answer) -> str:
    return store.add_answer(store.add_turn(conversation, question).id, answer)


def test_feedback_becomes_rows_that_a_person_approved_of(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path / "c.sqlite3")
    talk = store.create("t").id
    passage = Passage(Chunk("c", "d", 0, "text", 0, 4, 1, (), 1), "doc", 1, 1.0)
    up = _answered(
        store, talk, "One?", Answer("The first [1], and the last [2].", "answered", passages=(passage,))
    )
    corrected = _answered(store, talk, "Two?", Answer("wrong", "answered"))
    down = _answered(store, talk, "Three?", Answer("bad", "answered"))
    store.feedback.save(up, 1)
    store.feedback.save(corrected, -1, "right")
    store.feedback.save(down, -1)
    found = import_source(FeedbackSource(store.feedback.all()), seed=7)
    assert [row.completion for row in found.rows] == ["The first, and the last.", "right"]
    assert found.rows[1].prompt[-1] == Message("user", "Two?")
    assert found.rows[1].prompt[0] == Message("user", "One?")
    assert found.report.left_out == (
        ("thumbs down without a correction: what would have been right is not known", 1),
    )


def test_feedback_that_teaches_nothing_is_an_error(tmp_path: Path) -> None:
    store = ConversationStore(tmp_path / "c.sqlite3")
    with pytest.raises(DatasetError, match="feedback holds no row"):
        import_source(FeedbackSource(store.feedback.all()), seed=7)
