"""`localsmith evaluate STRATEGY FILE` from its files to its results, with the small real model."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from localsmith.core.errors import ConfigError, EvaluationError
from localsmith.core.settings import Settings, load_settings
from localsmith.evaluation.reasoning import reasoning_figures

from localsmith.evaluation_corpus import add_corpus, corpus_dir
from localsmith.evaluation_run import PreparedRun, StrategyRun, load_example_file

SUMS = [{"question": f"What is {i} + {i}?", "answer": f"{i}+{i}={2 * i}\n#### {2 * i}"} for i in range(1, 7)]
FACTS = [{"question": "Who designed the Tay Bridge?", "answer": "Thomas Bouch"}]
ARTICLE = {"title": "Bridges", "text": "The Tay Bridge was designed by Thomas Bouch."}


def written(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


@pytest.fixture
def sums(tmp_path: Path) -> Path:
    return written(tmp_path / "sums.jsonl", SUMS)


@pytest.fixture
def settings(tmp_path: Path, models_home: Path, small_model_path: Path, embedder_path: Path) -> Settings:
    home = tmp_path / "home"
    home.mkdir()
    (home / "models").symlink_to(models_home / "models")
    return load_settings(home=home, model={"name": "smollm2-135m", "n_ctx": 2048}, answer={"max_tokens": 24})


def command(*words: str) -> list[str]:
    return [sys.executable, "-c", "from localsmith.cli import main; main()", "evaluate", *words]


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "LOCALSMITH_HOME": str(settings.home),
        "LOCALSMITH_MODEL__NAME": "smollm2-135m",
        "LOCALSMITH_MODEL__N_CTX": "2048",
        "LOCALSMITH_ANSWER__MAX_TOKENS": "24",
        "COLUMNS": "200",
    }


@pytest.mark.real_model
def test_a_killed_run_goes_on_and_ends_with_figures_and_answers(
    tmp_path: Path, sums: Path, settings: Settings
) -> None:
    out = tmp_path / "direct.json"
    words = ("direct", str(sums), "--json", str(out), "--at-once", "1", "--limit", "5")
    partial = tmp_path / "direct.json.partial.jsonl"
    process = subprocess.Popen(command(*words), env=environment(settings), stderr=subprocess.DEVNULL)
    ends = time.monotonic() + 100
    while not partial.exists() or len(partial.read_text().splitlines()) < 3:
        assert process.poll() is None or out.exists(), "it ended before it could be killed"
        assert time.monotonic() < ends
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = partial.read_text() if partial.exists() else ""
    assert not out.exists()
    done = subprocess.run(
        command(*words, "--resume"),
        env=environment(settings),
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    content = json.loads(out.read_text())
    assert content["figures"]["num_questions"] == 5
    assert content["details"]["strategy"] == "direct"
    answers = [json.loads(line) for line in (tmp_path / "direct.answers.jsonl").read_text().splitlines()]
    assert {answer["key"] for answer in answers[1:]} == {"1", "2", "3", "4", "5"}
    whole = [line for line in kept.splitlines()[:-1] if line]
    assert [json.dumps(answer, ensure_ascii=False) for answer in answers[: len(whole)]] == whole
    assert all(answer["record"]["completion_tokens"] > 0 for answer in answers[1:])
    assert not partial.exists()


@pytest.mark.real_model
def test_few_shot_takes_its_examples_from_a_file_and_other_documents_stay_unread(
    tmp_path: Path, sums: Path, settings: Settings
) -> None:
    run = StrategyRun("few-shot", sums, limit=2, examples=sums, context=None, at_once=2, seed=3)
    with PreparedRun(run, settings) as prepared:
        records = prepared.ask()
        about = prepared.about
    assert reasoning_figures(records)["num_questions"] == 2
    assert records[0].prompt_tokens > 100  # the examples are in the prompt
    assert about["answer"]["seed"] == 3
    assert about["examples_sha256"] and not about["corpus_sha256"]
    assert not (settings.home / "library").exists()


def test_examples_of_a_question_file_carry_its_solutions(sums: Path, tmp_path: Path) -> None:
    examples = load_example_file(sums).examples
    assert (examples[1].question, examples[1].answer) == ("What is 2 + 2?", "2+2=4\nThe answer is 4.")
    facts = load_example_file(written(tmp_path / "facts.jsonl", FACTS)).examples
    assert facts[0].answer == "Thomas Bouch"


def test_a_corpus_has_a_library_of_its_own_that_is_filled_once(
    tmp_path: Path, settings: Settings, embedder: Any
) -> None:
    from localsmith.evaluation.question_files import load_articles
    from localsmith.retrieval.library import Library

    articles = load_articles(written(tmp_path / "corpus.jsonl", [ARTICLE, ARTICLE | {"text": "It fell."}]))
    folder = corpus_dir(settings, articles)
    assert folder.is_relative_to(settings.home / "evaluation") and folder != corpus_dir(settings, ())
    told: list[tuple[int, int]] = []
    with Library(folder, embedder, settings.retrieval) as library:
        ids = add_corpus(library, articles, lambda *n: told.append(n))
        assert add_corpus(library, articles) == ids
        assert len(library.documents()) == 2
        assert library.search("Who designed the bridge?", "default", 1)[0].document_name == "Bridges.txt"
    assert told == [(1, 2), (2, 2)]


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"strategy": "cott"}, ConfigError, "cot"),
        ({"strategy": "cot", "num_samples": 4}, EvaluationError, "no samples"),
        ({"strategy": "cot", "examples": Path("x.toml")}, EvaluationError, "no examples"),
        ({"strategy": "few-shot", "examples": Path("missing.jsonl")}, EvaluationError, "missing.jsonl"),
        ({"strategy": "cot", "context": Path("missing.txt")}, EvaluationError, "missing.txt"),
        ({"strategy": "cot", "corpus": Path("missing.jsonl")}, EvaluationError, "missing.jsonl"),
        ({"strategy": "cot", "file": Path("missing.jsonl")}, EvaluationError, "missing.jsonl"),
    ],
)
def test_a_run_that_can_not_be_is_refused_before_the_model_loads(
    sums: Path, settings: Settings, changes: dict[str, Any], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        PreparedRun(StrategyRun(**{"file": sums, **changes}), settings)


def test_react_without_documents_is_not_asked_for_facts(tmp_path: Path, settings: Settings) -> None:
    facts = written(tmp_path / "facts.jsonl", FACTS)
    with pytest.raises(EvaluationError, match="no documents") as caught:
        PreparedRun(StrategyRun("react", facts), settings)
    assert "--corpus" in caught.value.hint


def test_what_answers_depend_on_names_every_input(tmp_path: Path, sums: Path, settings: Settings) -> None:
    corpus = written(tmp_path / "corpus.jsonl", [ARTICLE])
    base = StrategyRun("cot-sc", sums)
    first = _settings_of(base, settings)
    assert _settings_of(StrategyRun("cot-sc", sums, num_samples=3), settings).answer.num_samples == 3
    assert _settings_of(StrategyRun("cot-sc", sums, corpus=corpus), settings) != first
    assert settings.retrieval.library_dir is None  # the person's own settings are as before


def _settings_of(run: StrategyRun, settings: Settings) -> Settings:
    return PreparedRun(run, settings).settings
