"""The comparison of fine-tuning methods: fair rows, runs that go on, changes counted from the base."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from localsmith.training.bases import Base, find_base, load_vocabulary

if TYPE_CHECKING:
    from benchmarks.peft.entries import Plan
    from benchmarks.peft.report import Measured

NUM_ROWS = 12


def plan(**changes: Any) -> Plan:
    from benchmarks.peft.entries import Plan

    sizes = Plan(
        num_rows=NUM_ROWS,
        num_summaries=2,
        num_others=2,
        max_tokens=200,
        max_completion_tokens=4,
        max_answer_tokens=4,
        batch_size=2,
    )
    return dataclasses.replace(sizes, **changes)


def write_lines(path: Path, rows: Sequence[Mapping[str, object]]) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def word(number: int) -> str:
    """Return words that are another row's in nothing."""
    return " ".join(f"w{number}{letter}" for letter in "abcdefgh")


def dialogue(number: int) -> dict[str, object]:
    return {"dialogue": word(number), "summary": f"They said w{number}a."}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data files of the real ones' forms; the first dialogue to train on stands in the test file, too."""
    folder = tmp_path_factory.mktemp("data")
    write_lines(folder / "dialogsum" / "dev.jsonl", [dialogue(number) for number in range(30)])
    write_lines(folder / "dialogsum" / "test.jsonl", [dialogue(0), dialogue(100), dialogue(101)])
    write_lines(
        folder / "squad" / "articles.jsonl",
        [{"title": f"t{n}", "paragraphs": [word(200 + n)]} for n in range(8)],
    )
    write_lines(
        folder / "squad" / "questions.jsonl",
        [
            {"article": n, "paragraph": 0, "question": f"What is w{300 + n}?", "answers": [f"w{200 + n}a"]}
            for n in range(8)
        ],
    )
    write_lines(
        folder / "instructions" / "seed_tasks.jsonl",
        [{"instruction": word(400 + n), "output": f"w{400 + n}a"} for n in range(16)],
    )
    for name, first in (("train", 500), ("test", 600)):
        rows = [{"question": word(first + n), "answer": f"#### {n}"} for n in range(8)]
        write_lines(folder / "gsm8k" / f"{name}.jsonl", rows)
    return folder


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    """An untrained model of two layers."""
    from localsmith.core.settings import load_settings

    path = Path(__file__).parents[1] / "training" / "conftest.py"
    spec = importlib.util.spec_from_file_location("tiny_models", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    target = tmp_path_factory.mktemp("tiny") / "tiny-model"
    module.save_tiny_model(target, [word(number) for number in range(600)])
    return find_base(load_settings(), str(target))


def own_words(text: str) -> set[str]:
    """Return the words that tell a row from others."""
    return set(re.findall(r"w\d+[a-h]", text))


def silent(*_: object) -> None:
    """Show nothing."""


def test_the_base_is_always_measured_and_first() -> None:
    from benchmarks.peft.entries import names_of

    assert names_of("lora,full") == ["base", "full", "lora"]
    with pytest.raises(ValueError, match="magic"):
        names_of("magic")


def test_nothing_that_is_scored_is_trained_on(folder: Path, base: Base) -> None:
    from benchmarks.peft.data import read_data

    data = read_data(folder, base, plan())
    scored = " ".join(row.text for row in [*data.summaries, *data.questions])
    vocabulary = load_vocabulary(base)
    scored += " ".join(vocabulary.text(list(row.tokens)) for rows in data.others.values() for row in rows)
    for rows in (data.train, data.mixture):
        assert len(rows) == NUM_ROWS
        assert not own_words(" ".join(row.text for row in rows)) & own_words(scored)
    assert {row.task for row in data.train} == {"summarization"}
    tasks = [row.task for row in data.mixture]
    assert tasks.count("summarization") == NUM_ROWS / 2
    assert set(tasks) == {"summarization", "squad", "instructions", "gsm8k"}
    assert all(len(rows) == 2 for rows in data.others.values())


def test_too_few_rows_are_an_error(folder: Path, base: Base) -> None:
    from benchmarks.peft.data import read_data

    with pytest.raises(ValueError, match="29 rows to train on, not 40"):
        read_data(folder, base, plan(num_rows=40))


def test_an_entry_that_was_killed_goes_on_and_one_that_was_trained_is_not_trained_again(
    folder: Path, base: Base, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from localsmith.training.runs.run_folder import open_run

    from benchmarks.peft import child

    sizes = plan(base=str(base.path))

    class Killed(BaseException):
        """Stands for a kill."""

    def kill(stage: str, done: int, *_: object) -> None:
        if (stage, done) == ("training", 5) or stage == "summaries":
            raise Killed

    def steps() -> list[int]:
        return [line.step for line in open_run(tmp_path, "lora").metrics.lines()]

    with pytest.raises(Killed):
        child.measure("lora", sizes, folder, tmp_path, kill)
    assert steps() == [1, 2, 3, 4, 5]
    told: list[int] = []

    def watch(stage: str, done: int, *_: object) -> None:
        if stage == "training":
            told.append(done)

    measured = child.measure("lora", sizes, folder, tmp_path, watch)
    assert told == [5, 6]  # from the checkpoint of step 4
    assert steps() == [1, 2, 3, 4, 5, 6]
    monkeypatch.setattr(child, "train", None)
    again = child.measure("lora", sizes, folder, tmp_path, silent)
    assert again["figures"] == pytest.approx(measured["figures"], rel=1e-4)
    for task, nats in measured["nats"].items():
        assert again["nats"][task] == pytest.approx(nats, rel=1e-4) and len(nats) == 2
    figures = measured["figures"]
    assert figures["trained_parameters"] > 0 and figures["peak_bytes"] > 1e8
    assert figures["tokens_per_s"] > 0 and 0 <= figures["rouge_l"] <= 100


@pytest.mark.parametrize(
    "name",
    ["full_fast_multitask", "selective_layers", "selective_norms", "bottleneck", "ia3", "prompt", "prefix"],
)
def test_every_method_is_trained_and_scored(name: str, folder: Path, base: Base, tmp_path: Path) -> None:
    from benchmarks.peft import child

    figures = child.measure(name, plan(base=str(base.path), num_rows=6), folder, tmp_path, silent)["figures"]
    assert figures["trained_parameters"] > 0 and figures["last_loss"] > 0
    assert (figures["trained_share"] == 1) == (name == "full_fast_multitask")
    assert {"rouge_l", "squad_answered", "tokens_per_s", "peak_bytes", "learning_rate"} <= figures.keys()


def test_steps_that_waited_for_a_checkpoint_do_not_count() -> None:
    from localsmith.training.runs.metrics import MetricsLine

    from benchmarks.peft.child import tokens_per_s

    times = [0.0, 1.0, 101.0, 102.0]  # step 3 waited for the checkpoint of step 2
    lines = [MetricsLine(i, time, {"tokens": 10.0 * i}) for i, time in enumerate(times, 1)]
    assert tokens_per_s(lines, save_every=2) == 10.0


def measured(name: str, loss: float, rouge_l: float = 20.0, **changes: Any) -> Measured:
    from benchmarks.peft.entries import ENTRIES, OTHER_TASKS
    from benchmarks.peft.report import Measured

    figures = {"rouge_l": rouge_l, "rouge_l_low": rouge_l - 2, "rouge_l_high": rouge_l + 2, "words_mean": 9.0}
    figures["squad_answered"] = 0.25
    if name != "base":
        figures |= {"trained_parameters": 4608.0, "trained_share": 0.14, "learning_rate": 5e-4}
        figures |= {"peak_bytes": 2e9, "tokens_per_s": 250.0}
    fields: dict[str, Any] = {
        "plan": dataclasses.asdict(plan()),
        "settings": ENTRIES[name].settings,
        "date": "2026-11-29",
        "machine": "a machine",
        "figures": figures,
        "nats": {task: [loss, loss + 1] for task in OTHER_TASKS},
    }
    return Measured(**(fields | changes))


def test_changes_are_counted_from_the_base_row_by_row_and_read_back(tmp_path: Path) -> None:
    from benchmarks.peft.report import read, write

    entries = {"base": measured("base", 2.0), "lora": measured("lora", 2.5, 30.0)}
    figures = write(tmp_path / "peft.json", entries)
    assert read(tmp_path / "peft.json") == entries
    assert json.loads((tmp_path / "peft.json").read_text())["figures"] == pytest.approx(figures)
    interval = [figures[f"lora_forgetting_gsm8k{end}"] for end in ("", "_low", "_high")]
    assert interval == pytest.approx([0.5, 0.5, 0.5])  # rows differ, their changes don't
    assert figures["base_loss_gsm8k"] == 2.5
    assert "base_forgetting" not in figures


def test_entries_of_other_sizes_or_settings_are_not_mixed_in() -> None:
    from benchmarks.peft.report import merged

    earlier = {
        "base": measured("base", 2.0),
        "lora": measured("lora", 2.0, settings={"method": "lora", "options": {"rank": 1}}),
        "gone": measured("lora", 2.0),
    }
    same = merged(earlier, {"full": measured("full", 2.0)}, dataclasses.asdict(plan()))
    assert list(same) == ["base", "full"]
    assert merged(earlier, {}, dataclasses.asdict(plan(num_rows=13))) == {}


def test_the_page_says_what_the_figures_show_whichever_way_they_fall(tmp_path: Path) -> None:
    from benchmarks.peft.page import NOT_MEASURED, PAGE, page_text

    page = dataclasses.replace(PAGE, path=tmp_path / "page.md")
    page.path.write_text(PAGE.path.read_text(encoding="utf-8"), encoding="utf-8")
    entries = {"base": measured("base", 2.0), "full_fast": measured("full_fast", 3.0, 25.0)}
    page.write(page_text(entries | {"lora": measured("lora", 2.0, 30.0)}))
    text = page.path.read_text(encoding="utf-8")
    rows = {line.split("`")[1]: line for line in text.splitlines() if line.startswith("| `")}
    assert NOT_MEASURED in text and "4,608 (14 %) | 0.0005 | 2.00 | 250 | 30.0 (28.0 to 32.0)" in text
    assert "`full_fast` **forgets**" in text and "`lora` **forgets nothing that could be seen**" in text
    assert "beyond chance (95 %), forget `lora`." in text and "ROUGE-L is that of `lora`: 30.0, +10.0" in text
    assert "+1.000 (+1.000 to +1.000)" in rows["full_fast"]
    page.write(page_text(entries | {"lora": measured("lora", 3.5, 21.0)}))
    text = page.path.read_text(encoding="utf-8")
    assert "`lora` **forgets**" in text and "No entry forgets less than `full_fast`" in text
    assert "is that of `full_fast`" in text and "intervals of `lora` overlap with it" in text


def test_the_page_is_that_of_the_results() -> None:
    from benchmarks.peft.page import PAGE, page_text
    from benchmarks.peft.report import read

    before, after = PAGE.around()
    written = f"{before}{PAGE.begin}\n\n{page_text(read())}\n{PAGE.end}{after}"
    assert PAGE.path.read_text(encoding="utf-8") == written, "run `python -m benchmarks.peft --page`"
