"""The command line as a person uses it: real processes, real models."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.real_model


def run(home: Path, *args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "LOCALSMITH_HOME": str(home),
        "LOCALSMITH_MODEL__NAME": "smollm2-135m",
        "LOCALSMITH_MODEL__N_CTX": "2048",
        "LOCALSMITH_ANSWER__MAX_TOKENS": "40",
        "COLUMNS": "200",
    }
    command = [sys.executable, "-c", "from localsmith.cli import main; main()", *args]
    return subprocess.run(command, env=environment, input=stdin, capture_output=True, text=True, timeout=200)


@pytest.fixture
def handbook(tmp_path: Path) -> Path:
    path = tmp_path / "handbook.md"
    path.write_text("# Leave\n\nEvery employee has thirty days of paid leave a year.\n")
    return path


def test_ask_answers_from_files_on_standard_output(ready_home: Path, handbook: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken.pdf"
    broken.write_bytes(b"%PDF-1.4 nothing more")
    done = run(ready_home, "ask", "How many days of paid leave?", "--docs", str(handbook), str(broken))
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip()
    assert "Added handbook.md" in done.stderr
    assert "broken.pdf" in done.stderr
    assert "Traceback" not in done.stderr
    asked = ("ask", "How many days of paid leave?", "--docs", str(handbook), "--json")
    answer = json.loads(run(ready_home, *asked).stdout)
    assert answer["text"].strip() == done.stdout.strip()
    assert {passage["document_name"] for passage in answer["passages"]} == {"handbook.md"}


def test_chat_keeps_the_conversation_and_ends_at_an_empty_line(ready_home: Path) -> None:
    done = run(ready_home, "chat", "--collection", "default", stdin="Hello there\n\n")
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_documents_are_added_listed_removed_restored_and_reindexed(ready_home: Path, handbook: Path) -> None:
    def documents(*args: str) -> str:
        done = run(ready_home, "documents", *args, "--collection", "cli")
        assert done.returncode == 0, done.stderr
        return done.stderr

    assert "1 in cli" in documents("add", str(handbook.parent))
    listed = documents("list")
    assert "handbook.md" in listed
    start = listed.splitlines()[-1].split()[1]
    documents("remove", start)
    assert "handbook.md" not in documents("list")
    documents("restore", start)
    assert "handbook.md" in documents("list")
    assert "Re-indexed 1" in documents("reindex")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("ask", "x", "--docs", "missing.pdf"), "missing.pdf"),
        (("ask", "x", "--collection", "nowhere"), "nowhere"),
        (("ask", "x", "--model", "gpt-9"), "gpt-9"),
        (("documents", "remove", "zzz"), "documents list"),
    ],
)
def test_an_error_is_a_sentence_and_a_hint_never_a_traceback(
    ready_home: Path, args: tuple[str, ...], words: str
) -> None:
    done = run(ready_home, *args)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_an_unknown_setting_stops_the_start_and_names_the_nearest(ready_home: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "LOCALSMITH_HOME": str(ready_home)}
    (tmp_path / "localsmith.toml").write_text("[answer]\nmax_tokn = 3\n")
    command = [sys.executable, "-c", "from localsmith.cli import main; main()", "documents", "list"]
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "answer.max_tokens" in done.stderr


def test_doctor_finds_this_installation_well(ready_home: Path) -> None:
    done = run(ready_home, "doctor")
    assert "smollm2-135m: answers" in done.stderr
    assert "FAIL" not in done.stderr, done.stderr


def test_measuring_again_says_the_speed_the_load_and_the_choice(ready_home: Path) -> None:
    done = run(ready_home, "models", "measure", "smollm2-135m")
    assert done.returncode == 0, done.stderr
    assert "smollm2-135m: reads" in done.stdout and "cores busy" in done.stdout
    assert "model.name" in done.stdout  # why this model is in use
    refused = run(ready_home, "models", "measure", "all-minilm-l6-v2")
    assert refused.returncode == 1
    assert "no chat model" in refused.stderr
