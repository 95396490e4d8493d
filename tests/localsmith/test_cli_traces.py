"""`localsmith traces` as a person uses it: the command line's own entry over a real store."""

from __future__ import annotations

import json
import sys
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest
from localsmith.core.settings import load_settings
from localsmith.core.traces import TraceStore
from localsmith.core.types import Answer, Chunk, Passage, Question, Step, Usage

from localsmith.cli import main

SECRET = "xyzzy-4711"


@dataclass(frozen=True)
class Done:
    """What a command printed, and its exit status."""

    returncode: int
    stdout: str
    stderr: str


class Command:
    """`localsmith traces` over a data folder; in this process, which saves a start a command."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self._monkeypatch = monkeypatch
        self._capsys = capsys

    def __call__(self, home: Path, *args: str, **environment: str) -> Done:
        self._capsys.readouterr()
        self._monkeypatch.setattr(sys, "argv", ["localsmith", "traces", *args])
        for name, value in {"LOCALSMITH_HOME": str(home), **environment}.items():
            self._monkeypatch.setenv(name, value)
        with pytest.raises(SystemExit) as ended:
            main()
        printed = self._capsys.readouterr()
        return Done(int(ended.value.code or 0), printed.out, printed.err)


@pytest.fixture
def traces(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    return Command(monkeypatch, capsys)


@pytest.fixture
def home(tmp_path: Path) -> Path:
    settings = load_settings(home=tmp_path)
    usage = Usage(100, 40, 20, 0.1, 0.2, 0.3)
    inner = Step("tool", "calculator", 0.1, None, 0.2, "2+2", "4")
    with closing(TraceStore(settings.traces_path)) as store:
        for number, strategy in enumerate(("rag", "react", "rag")):
            steps = (
                Step(
                    "generate",
                    "Ended by stop",
                    0.5,
                    usage,
                    0.0,
                    f"prompt {SECRET}",
                    "out\x1b[31m",
                    steps=(inner,),
                ),
            )
            passage = Passage(Chunk("c", "d", 0, "t", 0, 1, 3, (), 1), "trees.pdf", 1, 1.0)
            answer = Answer(
                f"Answer {number}.",
                "answered",
                (),
                (passage,),
                steps,
                usage,
                None,
                "smollm2",
                f"{number}{'f' * 31}",
                0.5,
            )
            question = Question(f"Question {number}\x1b[2J about {SECRET}?")
            store.add(question, answer, strategy, begun_at=time.time() - number * 86_400)
    return tmp_path


def ids(home: Path) -> list[str]:
    with closing(TraceStore(load_settings(home=home).traces_path)) as store:
        return [info.id[0] for info in store.list().traces]


def test_runs_are_listed_and_one_is_shown(home: Path, traces: Command) -> None:
    listed = traces(home, "list", "--strategy", "rag")
    assert listed.returncode == 0, listed.stderr
    lines = listed.stdout.splitlines()
    assert [line[:3] for line in lines] == ["0ff", "2ff"]
    assert "Question 0" in lines[0] and "\x1b" not in listed.stdout
    assert "2 runs" in listed.stderr
    assert traces(home, "list", "--days", "1.5", "--json").stdout.count("\n") == 2

    shown = traces(home, "show", "1f")
    assert shown.returncode == 0, shown.stderr
    assert "react, answered" in shown.stdout and "read 100 (40 cached), wrote 20" in shown.stdout
    assert "    0.20 s   tool 0.10 s: calculator" in shown.stdout
    assert "[1] trees.pdf, page 3" in shown.stdout
    assert "prompt" not in shown.stdout
    texts = traces(home, "show", "1f", "--texts").stdout
    assert f"> prompt {SECRET}" in texts and "\x1b" not in texts
    whole = json.loads(traces(home, "show", "1f", "--json").stdout)
    assert whole["answer"]["steps"][0]["steps"][0]["output"] == "4"


def test_an_identifier_that_fits_none_is_told(home: Path, traces: Command) -> None:
    done = traces(home, "show", "9")
    assert done.returncode == 1
    assert "0 runs have an identifier" in done.stderr and "Traceback" not in done.stderr


def test_runs_are_written_to_a_file_without_texts(home: Path, traces: Command, tmp_path: Path) -> None:
    file = tmp_path / "runs.jsonl"
    done = traces(home, "export", "--json", str(file))
    assert done.returncode == 0, done.stderr
    assert "3 runs to" in done.stderr
    lines = file.read_text().splitlines()
    names = [json.loads(line)["resourceSpans"][0]["scopeSpans"][0]["spans"][0]["name"] for line in lines]
    assert names == ["invoke_agent rag", "invoke_agent react", "invoke_agent rag"]
    assert SECRET not in file.read_text()
    traces(home, "export", "1f", "--json", str(file), "--texts")
    assert SECRET in file.read_text() and len(file.read_text().splitlines()) == 1


def test_runs_go_nowhere_until_somebody_says_where(home: Path, traces: Command) -> None:
    done = traces(home, "export")
    assert done.returncode == 1
    assert "Nothing says where" in done.stderr
    gone = traces(home, "export", "0f", "--to", "nowhere")
    assert gone.returncode == 1 and "not the address" in gone.stderr


def test_runs_are_sent_to_a_collector(home: Path, traces: Command) -> None:
    import threading
    from http.server import BaseHTTPRequestHandler, HTTPServer

    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    bodies: list[bytes] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Receiver) as receiver:
        threading.Thread(target=receiver.serve_forever, daemon=True).start()
        endpoint = f"http://127.0.0.1:{receiver.server_port}"
        done = traces(home, "export", LOCALSMITH_TRACES__OTLP_ENDPOINT=endpoint)
        receiver.shutdown()
    assert done.returncode == 0, done.stderr
    spans = [
        span
        for body in bodies
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans
        for scope in resource.scope_spans
        for span in scope.spans
    ]
    assert len(spans) == 9 and SECRET.encode() not in b"".join(bodies)


def test_runs_are_forgotten(home: Path, traces: Command) -> None:
    assert "Forgot 1 run." in traces(home, "forget", "1f").stderr
    assert ids(home) == ["0", "2"]
    assert "Forgot 1 run." in traces(home, "forget", "--older-than", "1").stderr
    assert ids(home) == ["0"]
    assert traces(home, "forget").returncode == 2
    assert traces(home, "forget", "0f", "--all").returncode == 2
    assert ids(home) == ["0"]
    assert "Forgot 1 run." in traces(home, "forget", "--all").stderr
    assert ids(home) == []
