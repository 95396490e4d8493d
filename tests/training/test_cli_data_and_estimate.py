"""What `localsmith train data` and `localsmith train estimate` say, before anything is trained."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import ConfigError, DatasetError, LocalsmithError
from localsmith.core.settings import load_settings
from localsmith.training.bases import Base
from localsmith.training.config import SftConfig
from localsmith.training.data.rows import TrainingRow
from localsmith.training.estimate.memory import estimate_run
from localsmith.training.estimate.sft_plan import sft_plan
from localsmith.training.estimate.shape import read_shape
from localsmith.training.row_measures import RowMeasures
from localsmith.training.runs.run_folder import RunFolder
from typer.testing import CliRunner

from localsmith.cli import app

ENGLISH = "The weather in the northern hills was cold and wet, and the old farmer stayed by the fire"
GERMAN = "Das Wetter in den nördlichen Hügeln war kalt und nass, und der alte Bauer blieb am warmen Ofen"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A data folder of its own, which is where the files are as well."""
    monkeypatch.setenv("LOCALSMITH_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "home"


def train(*words: str) -> str:
    return CliRunner(env={"COLUMNS": "200"}).invoke(app, ["train", *words], catch_exceptions=False).stdout


def report(*words: str) -> Any:
    return json.loads(train("data", *words, "--json"))


def jsonl(name: str, rows: Sequence[dict[str, str]]) -> str:
    Path(name).write_text("\n".join(json.dumps(row) for row in rows), encoding="utf-8")
    return name


def mixed_file() -> str:
    """Forty good rows, and one for each filter."""
    rows = [{"prompt": f"{ENGLISH} number {i}?", "completion": f"Answer {i * i}."} for i in range(40)]
    rows += [
        {"prompt": GERMAN, "completion": "Ja, das ist wahr, er blieb den ganzen Tag zu Hause."},
        {"prompt": f"{ENGLISH}. Whom to ask?", "completion": "Write to ann@example.org, she knows."},
        {"prompt": f"{ENGLISH}. What then?", "completion": "He said: what a pile of shit."},
        {"prompt": "Hi", "completion": "Hello"},
    ]
    return jsonl("mixed.jsonl", rows)


def dropped(content: Any) -> dict[str, int]:
    return {stage["name"]: stage["num_dropped"] for stage in content["report"]["filters"]}


# -- data


def test_each_option_reaches_its_rule(home: Path) -> None:
    options = ["--data", mixed_file(), "--language", "en", "--min-words", "5", "--max-words", "60"]
    options += ["--drop-toxic", "--personal-data", "drop", "--near-duplicates", "0"]
    content = report(*options)
    found = dropped(content)
    assert {name for name, number in found.items() if number == 1} == {
        "words",
        "language",
        "toxicity",
        "personal data",
    }
    assert "near-duplicates" not in found
    assert (home / "datasets" / content["id"] / "train.jsonl").is_file()
    assert report(*options)["id"] == content["id"]


def test_personal_data_are_masked_where_that_is_asked_for(home: Path) -> None:
    content = report("--data", mixed_file(), "--personal-data", "redact", "--near-duplicates", "0")
    (stage,) = [stage for stage in content["report"]["filters"] if stage["name"] == "personal data"]
    assert (stage["num_dropped"], stage["num_changed"]) == (0, 1)
    rows = "".join(path.read_text() for path in (home / "datasets" / content["id"]).glob("*.jsonl"))
    assert "[EMAIL]" in rows and "ann@example.org" not in rows


def test_what_was_dropped_is_shown_with_samples() -> None:
    said = train("data", "--data", mixed_file(), "--language", "en", "--samples", "1")
    assert "mixed.jsonl: 44 rows of 44 records" in said
    assert "language: 1 of " in said and "language de (1)" in said
    assert f"mixed.jsonl:41 (language de):\n        {GERMAN}" in said
    assert "Data version" in said
    assert GERMAN not in train("data", "--data", mixed_file(), "--language", "en", "--samples", "0")


def test_files_have_templates_of_their_own_and_tasks_are_mixed_by_weight_and_cap() -> None:
    asked = [
        {"question": f"What is {i}?", "answer": f"number {i}", "context": f"On {i * 7}"} for i in range(30)
    ]
    texts = [{"text": f"long text {i} {i * 3}", "summary": f"text {i}"} for i in range(50)]
    options = ["--data", f"{jsonl('asked.jsonl', asked)}:question_answering", "--held-out", "0"]
    options += ["--data", f"{jsonl('texts.jsonl', texts)}:summarization", "--near-duplicates", "0"]
    content = report(*options, "--cap", "summarization=20", "--weight", "question_answering=2")
    mix = {part["task"]: (part["num_before"], part["num_after"]) for part in content["report"]["mix"]}
    assert mix == {"question_answering": (30, 60), "summarization": (50, 20)}
    with pytest.raises(ConfigError, match="no row is of the task 'translation'"):
        report(*options, "--weight", "translation=2")


def test_a_recipe_file_says_it_all_and_options_go_before_it() -> None:
    mixed_file()
    Path("recipe.toml").write_text(
        'seed = 3\nheld_out_share = 0.3\n[[sources]]\nfile = "mixed.jsonl"\n'
        '[filters]\nlanguages = ["en"]\nnear_duplicates = 0.9\n'
    )
    content = report("--recipe", "recipe.toml", "--min-words", "5", "--held-out", "0.2")
    recipe = content["recipe"]
    assert (recipe["seed"], recipe["held_out_share"]) == (3, 0.2)
    assert recipe["filters"]["languages"] == ["en"] and recipe["filters"]["min_words"] == 5
    assert dropped(content)["language"] == 1 and dropped(content)["words"] == 1


def test_a_base_counts_tokens_and_finds_the_strangest_rows(
    tiny_base: Base, colour_rows: list[TrainingRow]
) -> None:
    rows = [{"prompt": row.prompt[0].content, "completion": row.completion} for row in colour_rows[:19]]
    data = jsonl("rows.jsonl", [*rows, {"prompt": "a", "completion": "b"}])
    base = ["--data", data, "--base", str(tiny_base.path), "--near-duplicates", "0"]
    content = report(*base, "--min-tokens", "5", "--drop-strangest", "0.11")
    assert dropped(content)["length"] == 1 and dropped(content)["perplexity"] == 2
    assert content["recipe"]["filters"]["measured_by"] == str(tiny_base.path)


def test_perplexity_is_the_exponential_of_the_mean_loss(tiny_base: Base) -> None:
    import torch
    from localsmith.training.bases import load_trainable, load_vocabulary

    text = "The apple is red. What colour is the apple?"
    tokens = load_vocabulary(tiny_base).tokenize(text, parse_special=False)
    measures = RowMeasures(tiny_base)
    assert measures.count_tokens(text) == len(tokens)
    with torch.no_grad():
        loss = load_trainable(tiny_base)(input_ids=torch.tensor([tokens]), labels=torch.tensor([tokens])).loss
    assert measures.perplexity(text) == pytest.approx(float(loss.exp()), rel=1e-4)
    assert measures.perplexity("a") == float("inf")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "There are no data"),
        (["--data", "mixed.jsonl", "--min-tokens", "5"], "which one is meant"),
        (["--data", "mixed.jsonl", "--near-duplicates", "0.5"], "threshold must be from 0.7 to 1"),
        (["--data", "mixed.jsonl", "--personal-data", "eat"], "personal_data"),
        (["--data", "mixed.jsonl", "--language", "xx"], "languages must be among"),
        (["--data", "mixed.jsonl", "--cap", "many"], "--cap many makes no sense"),
        (["--data", "mixed.jsonl", "--weight", "3"], "--weight 3 makes no sense"),
        (["--data", "mixed.jsonl:summaries"], "There is no template summaries"),
        (["--data", "none.jsonl"], "none.jsonl can't be read"),
        (["--data", "mixed.jsonl", "--min-words", "500"], "words dropped 44 of 44"),
    ],
)
def test_a_mistake_is_named(options: list[str], said: str) -> None:
    mixed_file()
    with pytest.raises((ConfigError, DatasetError)) as caught:
        train("data", *options)
    assert said in str(caught.value)


# -- estimate


def test_an_estimate_is_that_of_the_check_before_a_run(tiny_base: Base) -> None:
    options = ["--base", str(tiny_base.path), "--micro-batch-size", "2", "--max-tokens", "64"]
    content = json.loads(train("estimate", *options, "--device", "cpu", "--tokens", "1000", "--json"))
    shape = read_shape(tiny_base.path)
    config = SftConfig(str(tiny_base.path), "", micro_batch_size=2, max_tokens=64)
    estimate = estimate_run(shape, sft_plan(config, shape, "cpu"))
    assert content["total_bytes"] == estimate.total_bytes
    assert content["moments"][content["peak"]] == dict(estimate.parts)
    assert content["fits"] and content["alternatives"] == []
    assert content["compute_optimal_tokens"] == 20 * shape.num_parameters
    assert content["num_tokens"] == 1000 and content["seconds"] > 0
    fewer = json.loads(train("estimate", *options, "--device", "cpu", "--completion-tokens", "4", "--json"))
    assert fewer["total_bytes"] < content["total_bytes"]


def test_where_it_does_not_fit_it_says_what_would(tiny_base: Base) -> None:
    options = ["--base", str(tiny_base.path), "--method", "full", "--max-tokens", "512", "--device", "cpu"]
    said = train("estimate", *options, "--micro-batch-size", "8", "--memory-gb", "0.56")
    assert "It does not fit: " in said and "a machine has 0.56 GB free" in said
    assert "would fit: " in said and "activations" in said
    assert "are compute-optimal, 20 a parameter" in said
    shared = json.loads(train("estimate", *options, "--devices", "4", "--memory-gb", "1", "--json"))
    assert (shared["plan"]["sharding"], shared["plan"]["num_devices"]) == ("fsdp", 4)


def test_the_time_is_that_of_the_last_run_of_this_kind(tiny_base: Base, home: Path) -> None:
    config = SftConfig(str(tiny_base.path), "1", "ia3", device="cpu")
    for name, speed in (("mine", 250.0), ("other", 7.0)):
        used = config.to_json() | ({"method": "lora"} if name == "other" else {})
        with RunFolder.create(load_settings().runs_dir, "sft", {"sft": used}, name) as run:
            run.finish({"tokens_per_s": speed})
    options = ["--base", str(tiny_base.path), "--method", "ia3", "--device", "cpu", "--tokens", "50000"]
    content = json.loads(train("estimate", *options, "--json"))
    assert content["speed"]["run_id"] == "mine" and content["seconds"] == pytest.approx(200.0)
    assert "about 3 min at the 250 tokens/s of the run mine" in train("estimate", *options)


def test_without_such_a_device_no_time_is_made_up(tiny_base: Base) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("there is a GPU here")
    options = ["--base", str(tiny_base.path), "--device", "cuda", "--memory-gb", "24", "--base-bits", "4"]
    content = json.loads(train("estimate", *options, "--precision", "bf16", "--json"))
    assert content["seconds"] is None and content["device"]["kind"] == "cuda"
    assert "there is no such device here" in train("estimate", *options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--precision", "int3"], "precision must be one of fp32, mixed, bf16, fp16"),
        (["--method", "full", "--base-bits", "4"], "A base of 4 bits can't be trained with 'full'"),
        (["--base-bits", "3"], "base_bits must be one of 4, 8"),
        (["--method", "magic"], "There is no method 'magic'"),
        (["--batch-size", "6"], "multiple of micro_batch_size"),
    ],
)
def test_what_can_not_be_estimated_is_named(tiny_base: Base, options: list[str], said: str) -> None:
    with pytest.raises(LocalsmithError) as caught:
        train("estimate", "--base", str(tiny_base.path), *options)
    assert said in str(caught.value)


def test_help_of_training_loads_nothing_heavy() -> None:
    code = (
        "import sys\nfrom localsmith.cli import app\napp(['train', 'sft', '--help'], standalone_mode=False)\n"
        "heavy = {'torch', 'transformers', 'numpy', 'rich', 'llama_cpp'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
