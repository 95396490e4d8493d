"""`localsmith serve` and `localsmith keys` as a person runs them: real processes."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import openai
import pytest

LOCALSMITH = [sys.executable, "-c", "from localsmith.cli import main; main()"]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LOCALSMITH_HOME", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    return tmp_path


def run(*args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*LOCALSMITH, *args], capture_output=True, text=True, timeout=60)


@contextlib.contextmanager
def started(*args: str) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Start the server on a free port and wait until it says where it listens."""
    process = subprocess.Popen(
        [*LOCALSMITH, "serve", "--port", "0", *args], stderr=subprocess.PIPE, text=True, env=os.environ
    )
    assert process.stderr is not None
    try:
        for line in process.stderr:
            if found := re.search(r"Listening on (http://\S+)/v1", line):
                yield process, found[1]
                return
        raise AssertionError("the server ended")
    finally:
        process.kill()
        process.wait()


def test_no_server_for_everyone_without_a_key(home: Path) -> None:
    done = run("serve", "--host", "0.0.0.0", "--port", "0")
    assert done.returncode == 1
    assert "localsmith keys create" in done.stderr and "Traceback" not in done.stderr


def test_a_key_is_shown_once_listed_and_revoked(home: Path) -> None:
    made = run("keys", "create", "laptop", "--scope", "chat")
    token = made.stdout.strip()
    assert made.returncode == 0 and token.startswith("ls-")
    listed = run("keys", "list")
    assert "laptop" in listed.stderr and "valid" in listed.stderr and token not in listed.stderr
    assert run("keys", "revoke", "laptop").returncode == 0
    assert "revoked" in run("keys", "list").stderr
    again = run("keys", "revoke", "laptop")
    assert again.returncode == 1 and "Traceback" not in again.stderr
    assert "root" in run("keys", "create", "x", "--scope", "root").stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_the_server_listens_before_it_has_a_model_and_stops_at_once(
    home: Path, monkeypatch: pytest.MonkeyPatch, number: signal.Signals
) -> None:
    monkeypatch.setenv("LOCALSMITH_MODEL__NAME", "no-such-model")
    with started() as (process, url):
        assert httpx.get(f"{url}/healthz").status_code == 503
        body = {"model": "localsmith", "messages": [{"role": "user", "content": "Hi"}]}
        refused = httpx.post(f"{url}/v1/chat/completions", json=body, timeout=20)
        assert refused.status_code == 503 and refused.json()["error"]["message"]
        begun = time.monotonic()
        process.send_signal(number)
        assert process.wait(10) == 0
        assert time.monotonic() - begun < 8


@pytest.mark.real_model
def test_the_server_answers_once_its_model_is_there(
    home: Path,
    models_home: Path,
    small_model_path: Path,
    embedder_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (home / "models").symlink_to(models_home / "models")
    monkeypatch.setenv("LOCALSMITH_MODEL__N_CTX", "1024")
    with started("--model", "smollm2-135m") as (process, url):
        deadline = time.monotonic() + 120
        while httpx.get(f"{url}/healthz").json()["parts"]["model"]["state"] != "ready":
            assert time.monotonic() < deadline
            time.sleep(0.2)
        api = openai.OpenAI(base_url=f"{url}/v1", api_key="none")
        assert {"smollm2-135m", "localsmith/rag"} <= {model.id for model in api.models.list()}
        reply = api.chat.completions.create(
            model="localsmith", messages=[{"role": "user", "content": "Say hello."}], max_tokens=8
        )
        assert reply.choices[0].message.content and reply.usage is not None
        stream = api.chat.completions.create(
            model="localsmith", messages=[{"role": "user", "content": "Count."}], stream=True, max_tokens=500
        )
        next(iter(stream))
        process.send_signal(signal.SIGTERM)
        assert process.wait(15) == 0
