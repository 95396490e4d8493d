"""The MCP server as its clients see it: the official client over stdio, to a real process, and over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from localsmith.agents.rag import RagStrategy
from localsmith.agents.react import ReactStrategy
from localsmith.agents.tools.tool import FunctionTool, Observation
from localsmith.core.errors import SandboxError
from localsmith.core.settings import RetrievalSettings, ServeSettings
from localsmith.core.types import ProgramResult, Progress
from localsmith.models.embedding.embedder import EmbedderProcess
from localsmith.models.embedding.fake import HashingEmbedder
from localsmith.models.scripted import ScriptedModel
from localsmith.retrieval.library import Library
from localsmith.serving.keys import KeyStore
from localsmith.serving.mcp import resources
from localsmith.serving.mcp.http import create_http_app
from localsmith.serving.mcp.parts import McpParts
from localsmith.serving.mcp.progress import ProgressReport
from localsmith.serving.mcp.stdio import MAX_LINE_BYTES
from localsmith.serving.parts import ServedParts
from localsmith.serving.server import HttpServer
from mcp.client.session import ClientSession
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp.shared.exceptions import McpError
from mcp.types import CallToolResult, CancelledNotification, CancelledNotificationParams, ClientNotification
from pydantic import AnyUrl

LOCALSMITH = [sys.executable, "-c", "from localsmith.cli import main; main()"]
TEA = "Tea\n\nGreen tea is brewed at 80 degrees for two minutes.\n\nBlack tea is brewed at 95 degrees."
Use = Callable[[ClientSession], Awaitable[Any]]


class EchoSandbox:
    """Stands where the sandbox stands; the real one has its own tests."""

    name = "echo"

    def __init__(self) -> None:
        self.programs: list[tuple[str, float | None]] = []

    def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
        self.programs.append((program, timeout_s))
        if "1/0" in program:
            return ProgramResult("error", "before\n", "ZeroDivisionError: division by zero", 0.01)
        return ProgramResult("ok", "42\n", "", 0.01)


@dataclass
class Served:
    """A running HTTP server and what it serves."""

    url: str
    model: ScriptedModel
    library: Library
    sandbox: EchoSandbox

    def use(self, use: Use, key: str = "") -> Any:
        """Run a client against it."""

        async def run() -> Any:
            headers = {"Authorization": f"Bearer {key}"} if key else {}
            async with (
                httpx.AsyncClient(headers=headers, timeout=30) as client,
                streamable_http_client(f"{self.url}/mcp", http_client=client) as (read, write, _),
                ClientSession(read, write) as session,
            ):
                await session.initialize()
                try:
                    return await use(session)
                except McpError as exc:  # the library would wrap it in groups
                    return exc

        result = asyncio.run(run())
        if isinstance(result, McpError):
            raise result
        return result


@pytest.fixture
def library(tmp_path: Path) -> Iterator[Library]:
    with Library(tmp_path / "library", HashingEmbedder(), RetrievalSettings()) as library:
        library.add(TEA.encode(), name="tea.md")
        yield library


Start = Callable[..., Served]


@pytest.fixture
def start(library: Library) -> Iterator[Start]:
    """Start servers: `start(ScriptedModel([...]), keys=…, sandbox=…, **settings)`."""
    with contextlib.ExitStack() as stack:

        def run(
            model: ScriptedModel | None = None,
            *,
            keys: KeyStore | None = None,
            sandbox: Any = None,
            react: ReactStrategy | None = None,
            **settings: Any,
        ) -> Served:
            model = model or ScriptedModel(["Green tea is brewed at 80 degrees [1]."] * 9)
            sandbox = sandbox or EchoSandbox()
            served = ServedParts(
                model=lambda: model,
                embedder=HashingEmbedder,
                strategies={"rag": RagStrategy(model, library), **({"react": react} if react else {})},
            )
            parts = McpParts(served, library=lambda: library, sandbox=lambda: sandbox)
            serve = ServeSettings(**{"port": 0, "shutdown_s": 1.0, **settings})
            server = HttpServer(create_http_app(parts, serve, keys), serve)
            thread = threading.Thread(target=server.run, daemon=True)
            thread.start()
            deadline = time.monotonic() + 20
            while not server.is_started:
                assert time.monotonic() < deadline and thread.is_alive(), "the server did not start"
                time.sleep(0.01)
            stack.callback(thread.join, 20)
            stack.callback(server.stop)
            return Served(server.url, model, library, sandbox)

        yield run


def text_of(result: CallToolResult) -> str:
    (block,) = result.content
    assert block.type == "text"
    return block.text


def call(served: Served, tool: str, arguments: dict[str, Any], key: str = "") -> CallToolResult:
    result = served.use(lambda session: session.call_tool(tool, arguments), key)
    assert isinstance(result, CallToolResult)
    return result


def test_the_tools_are_listed_with_schemas_that_name_the_strategies(start: Start) -> None:
    listed = start().use(lambda session: session.list_tools())
    tools = {tool.name: tool for tool in listed.tools}
    assert sorted(tools) == ["ask", "list_collections", "run_python", "search"]
    assert tools["ask"].inputSchema["properties"]["strategy"]["enum"] == ["rag"]
    assert tools["ask"].inputSchema["required"] == ["question"]
    assert all(tool.description and tool.outputSchema and tool.annotations for tool in tools.values())


def test_an_answer_comes_with_its_sources_for_people_and_for_programs(start: Start) -> None:
    served = start()
    result = call(served, "ask", {"question": "How hot is green tea brewed?"})
    assert not result.isError and result.structuredContent is not None
    answer = result.structuredContent
    assert (
        answer["answer"] == "Green tea is brewed at 80 degrees [1]." and answer["stop_reason"] == "answered"
    )
    (citation,) = answer["citations"]
    assert citation["document"] == "tea.md" and citation["is_supported"]
    assert citation["quote"] == "Green tea is brewed at 80 degrees for two minutes."
    assert text_of(result) == (f"{answer['answer']}\n\nSources:\n[1] tea.md: “{citation['quote']}”")
    text = served.library.text(citation["document_id"])
    assert text[citation["start_char"] : citation["end_char"]] == citation["quote"]


def test_progress_grows_and_tells_what_is_done(start: Start) -> None:
    told: list[tuple[float, str | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append((progress, message))

    start().use(
        lambda session: session.call_tool(
            "ask", {"question": "How hot is green tea brewed?"}, progress_callback=note
        )
    )
    values, words = [value for value, _ in told], " / ".join(message or "" for _, message in told)
    assert values == sorted(set(values)) and len(values) >= 3
    assert "searching How hot" in words and "reading" in words and "writing" in words


def test_a_long_wait_is_told_of_seldom_and_never_twice_with_one_value() -> None:
    told: list[tuple[float, float, str]] = []
    now = 0.0

    async def send(value: float, words: str) -> None:
        told.append((now, value, words))

    async def run() -> None:
        nonlocal now
        report = ProgressReport(send, clock=lambda: now)
        while now < 10:
            await report.tell(Progress("loading", detail="the model"))
            now += 0.1
        for done in (100, 101, 400):
            await report.tell(Progress("reading", done, 400, "x" * 1000))
            now += 0.1

    asyncio.run(run())
    values = [value for _, value, _ in told]
    assert values == sorted(set(values))
    assert [round(when) for when, _, _ in told] == [0, 2, 4, 6, 8, 10]
    assert all(len(words) <= 300 for _, _, words in told)


class Watched(ScriptedModel):
    """A model that writes slowly and keeps what it was asked to write."""

    def __init__(self) -> None:
        super().__init__(["word " * 2000], token_delay_s=0.02)
        self.generations: list[Any] = []

    def submit(self, *args: Any, **named: Any) -> Any:
        self.generations.append(super().submit(*args, **named))
        return self.generations[-1]


def test_a_cancelled_request_stops_the_generation(start: Start) -> None:
    model = Watched()

    async def use(session: ClientSession) -> None:
        is_writing = asyncio.Event()

        async def note(progress: float, total: float | None, message: str | None) -> None:
            if (message or "").startswith("writing"):
                is_writing.set()

        asked = asyncio.create_task(
            session.call_tool("ask", {"question": "Which tea?"}, progress_callback=note)
        )
        await asyncio.wait_for(is_writing.wait(), 20)
        (generation,) = model.generations
        assert generation.finish_reason is None
        params = CancelledNotificationParams(requestId=1)  # 0 was initialize
        await session.send_notification(
            ClientNotification(CancelledNotification(method="notifications/cancelled", params=params))
        )
        begun = time.monotonic()
        with pytest.raises(McpError):
            await asked
        while generation.finish_reason is None:
            assert time.monotonic() - begun < 5, "the model writes on"
            await asyncio.sleep(0.02)
        assert generation.finish_reason == "cancelled"
        assert not (await session.call_tool("list_collections", {})).isError

    start(model).use(use)


def test_a_run_past_the_deadline_ends_with_what_it_has(start: Start) -> None:
    served = start(ScriptedModel(["word " * 2000], token_delay_s=0.02), deadline_s=0.6)
    result = call(served, "ask", {"question": "Which tea?"})
    assert result.structuredContent is not None and result.structuredContent["stop_reason"] == "time_limit"
    assert "word word" in text_of(result)


def test_a_tool_that_needs_a_person_is_not_called_for_another_assistant(start: Start, tmp_path: Path) -> None:
    sent: list[str] = []
    tool = FunctionTool(
        "send",
        "Send a text.",
        {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]},
        lambda arguments, _: sent.append(arguments["text"]) or Observation("sent"),  # type: ignore[func-returns-value]
        needs_approval=True,
    )
    model = ScriptedModel(['Thought: I send it.\nAction: send\nInput: {"text": "hi"}'], n_ctx=8192)
    react = ReactStrategy(model, [tool], checkpoints=tmp_path / "react.sqlite3")
    result = call(start(model, react=react), "ask", {"question": "Send hi.", "strategy": "react"})
    assert result.structuredContent is not None and sent == []
    assert result.structuredContent["stop_reason"] == "needs_approval"
    assert f"localsmith runs resume {result.structuredContent['trace_id']}" in text_of(result)


def test_search_returns_passages_and_where_they_stand(start: Start) -> None:
    served = start()
    result = call(served, "search", {"query": "black tea", "k": 1})
    assert result.structuredContent is not None
    (passage,) = result.structuredContent["passages"]
    assert passage["document"] == "tea.md" and "95 degrees" in passage["text"]
    assert text_of(result).startswith("[1] tea.md\n")

    async def read(session: ClientSession) -> str:
        address = f"{passage['uri']}/{passage['start_char']}-{passage['end_char']}"
        (contents,) = (await session.read_resource(AnyUrl(address))).contents
        return str(getattr(contents, "text", ""))

    assert served.use(read) == passage["text"]


def test_collections_are_listed_with_their_sizes(start: Start) -> None:
    result = call(start(), "list_collections", {})
    assert result.structuredContent == {"collections": [{"name": "default", "num_documents": 1}]}
    assert text_of(result) == "default: 1 document"


def test_a_program_runs_in_the_sandbox_and_its_failure_is_marked(start: Start) -> None:
    served = start()
    result = call(served, "run_python", {"program": "print(6*7)", "timeout_s": 3})
    assert (text_of(result), result.isError) == ("42", False)
    assert served.sandbox.programs == [("print(6*7)", 3.0)]
    failed = call(served, "run_python", {"program": "1/0"})
    assert failed.isError and "ZeroDivisionError" in text_of(failed)
    assert failed.structuredContent is not None and failed.structuredContent["status"] == "error"


def test_an_error_is_a_result_with_its_hint_and_no_details_of_a_bug(start: Start) -> None:
    class Broken:
        name = "broken"

        def run(self, program: str, *, timeout_s: float | None = None) -> ProgramResult:
            if program == "bug":
                raise KeyError("/secret/path")
            raise SandboxError("No sandbox runs here.", hint="localsmith setup makes one.")

    served = start(sandbox=Broken())
    result = call(served, "run_python", {"program": "print()"})
    assert result.isError and text_of(result) == "No sandbox runs here. localsmith setup makes one."
    assert "secret" not in text_of(call(served, "run_python", {"program": "bug"}))


WRONG = [
    ("ask", {"question": ""}, "question"),
    ("ask", {"question": "x" * 20_001}, "at most 20000 characters"),
    ("ask", {"question": "Tea?", "collection": "nowhere"}, "There are: default"),
    ("ask", {"question": "Tea?", "strategy": "guess"}, "There are: rag"),
    ("ask", {"question": "Tea?", "model": "x"}, "model: Extra inputs"),
    ("search", {"query": "tea", "k": 10_000}, "k: Input should be less"),
    ("search", {}, "query: Field required"),
    ("run_python", {"program": "x" * 100_001}, "at most 100000 characters"),
    ("run_python", {"program": "1", "timeout_s": 1e9}, "timeout_s"),
]


def test_arguments_outside_the_schema_are_refused_in_few_words(start: Start) -> None:
    served = start()

    async def use(session: ClientSession) -> None:
        for tool, arguments, words in WRONG:
            result = await session.call_tool(tool, arguments)
            assert result.isError and words in text_of(result) and len(text_of(result)) < 400, words

    served.use(use)
    assert served.model.prompts == [] and served.sandbox.programs == []


def test_an_unknown_tool_is_an_error_of_the_protocol(start: Start) -> None:
    with pytest.raises(McpError, match="There is no tool 'delete_all'"):
        call(start(), "delete_all", {})


def test_documents_are_resources_in_pages(
    start: Start, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "PAGE_SIZE", 2)
    library.create_collection("more")
    for number in range(4):
        library.add(f"Document number {number}.".encode(), name=f"{number}.md", collection="more")

    async def read_all(session: ClientSession) -> list[tuple[str, str]]:
        found, page = [], await session.list_resources()
        while True:
            for resource in page.resources:
                (contents,) = (await session.read_resource(resource.uri)).contents
                found.append((resource.name, str(getattr(contents, "text", ""))))
            if page.nextCursor is None:
                return found
            page = await session.list_resources(page.nextCursor)

    read = start().use(read_all)
    assert [name for name, _ in read] == ["tea.md", "0.md", "1.md", "2.md", "3.md"]
    assert read[3][1] == "Document number 2." and "95 degrees" in read[0][1]


def test_a_removed_document_can_no_longer_be_read(start: Start, library: Library) -> None:
    (document,) = library.documents()
    library.remove(document.id)
    served = start()
    for address in (f"localsmith://documents/{document.id}", "localsmith://documents/../keys", "file:///etc"):
        with pytest.raises(McpError, match="There is no"):
            served.use(lambda session, address=address: session.read_resource(AnyUrl(address)))
    assert served.use(lambda session: session.list_resources()).resources == []


def test_keys_are_asked_for_and_are_good_for_their_scopes_only(start: Start, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite3")
    _, reader = keys.create("reader", ["documents"])
    _, computer = keys.create("computer", ["python"])
    served = start(keys=keys)
    assert httpx.post(f"{served.url}/mcp", json={}).status_code == 401
    assert not call(served, "list_collections", {}, reader).isError
    assert not call(served, "run_python", {"program": "1"}, computer).isError
    refused = call(served, "run_python", {"program": "1"}, reader)
    assert refused.isError and "--scope python" in text_of(refused)
    assert call(served, "ask", {"question": "Tea?"}, computer).isError
    with pytest.raises(McpError, match="not good for 'documents'"):
        served.use(lambda session: session.list_resources(), computer)


def test_a_session_belongs_to_the_key_that_opened_it(start: Start, tmp_path: Path) -> None:
    keys = KeyStore(tmp_path / "keys.sqlite3")
    (_, one), (_, two) = keys.create("one"), keys.create("two")
    served = start(keys=keys)

    def post(key: str, body: dict[str, Any], **headers: str) -> httpx.Response:
        accept = {"Accept": "application/json, text/event-stream", "Authorization": f"Bearer {key}"}
        return httpx.post(f"{served.url}/mcp", json=body, headers=accept | headers, timeout=20)

    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    opened = post(one, {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello})
    session = {"mcp-session-id": opened.headers["mcp-session-id"]}
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    assert post(one, ping, **session).status_code == 200
    assert post(two, ping, **session).status_code == 404


def test_pages_of_other_origins_and_long_bodies_are_refused(start: Start) -> None:
    served = start(max_body_bytes=2000)
    evil = httpx.post(f"{served.url}/mcp", json={}, headers={"Origin": "http://evil.example"})
    rebound = httpx.post(f"{served.url}/mcp", json={}, headers={"Host": "evil.example"})
    long = httpx.post(
        f"{served.url}/mcp",
        json={"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "y" * 3000}},
        headers={"Accept": "application/json, text/event-stream"},
    )
    assert [evil.status_code, rebound.status_code, long.status_code] == [403, 403, 413]


# -- over standard input and output, to a real process


@contextlib.asynccontextmanager
async def stdio_session(home: Path, **environment: str) -> AsyncIterator[ClientSession]:
    with (home / "stderr.txt").open("w") as errors:
        parameters = StdioServerParameters(
            command=LOCALSMITH[0],
            args=[*LOCALSMITH[1:], "mcp"],
            env={"LOCALSMITH_HOME": str(home), "PATH": os.environ["PATH"], **environment},
        )
        async with (
            stdio_client(parameters, errors) as (read, write),
            ClientSession(read, write) as session,
        ):
            yield session


def test_initialize_is_answered_though_there_is_no_model_and_errors_say_what_to_do(tmp_path: Path) -> None:
    async def use() -> None:
        async with stdio_session(tmp_path, LOCALSMITH_MODEL__NAME="no-such-model") as session:
            hello = await session.initialize()
            assert hello.serverInfo.name == "localsmith" and "not" in (hello.instructions or "")
            assert len((await session.list_tools()).tools) == 4
            result = await session.call_tool("ask", {"question": "Which tea?"})
            assert result.isError and "localsmith" in text_of(result)

    asyncio.run(use())
    assert (tmp_path / "stderr.txt").read_text() == ""


def started(home: Path) -> subprocess.Popen[str]:
    environment = os.environ | {"LOCALSMITH_HOME": str(home), "LOCALSMITH_MODEL__NAME": "no-such-model"}
    return subprocess.Popen(
        [*LOCALSMITH, "mcp"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment,
    )


def ping(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None and process.stdout is not None
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "x", "version": "1"}}
    process.stdin.write(
        json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": hello}) + "\n"
    )
    process.stdin.flush()
    assert json.loads(process.stdout.readline())["result"]["serverInfo"]["name"] == "localsmith"


@pytest.mark.parametrize("end", ["SIGINT", "close"])
def test_the_process_ends_with_its_client_or_a_signal_and_says_nothing(tmp_path: Path, end: str) -> None:
    process = started(tmp_path)
    try:
        ping(process)
        if end == "close":
            assert process.stdin is not None
            process.stdin.close()
            process.stdin = None
        else:
            process.send_signal(getattr(signal, end))
        out, errors = process.communicate(timeout=30)
        assert (process.returncode, out, errors) == (0, "", "")
    finally:
        process.kill()


def test_lines_that_are_no_messages_end_nothing_and_one_without_end_ends_the_session(tmp_path: Path) -> None:
    process = started(tmp_path)
    try:
        ping(process)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write('hello\n{"jsonrpc": "2.0", "id": 7, "method": "ping"}\n')
        process.stdin.flush()
        lines = [json.loads(process.stdout.readline()) for _ in range(2)]
        assert [line["id"] for line in lines if "id" in line] == [7]
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write("x" * (MAX_LINE_BYTES + 1_000_000))
            process.stdin.flush()
        assert process.wait(30) == 0
    finally:
        process.kill()
        with contextlib.suppress(BrokenPipeError):
            process.communicate()
    assert "mcp_message_too_long" in (tmp_path / "localsmith.log").read_text()


NOISE = """
import os, subprocess, sys
from localsmith.serving.mcp.stdio import take_streams

streams = take_streams()
print("noise", flush=True)
os.write(1, b"noise\\n")
subprocess.run(["echo", "noise"], check=True)
assert sys.stdin.read() == ""
os.write(streams.output_fd, os.read(streams.input_fd, 100))
"""


def test_what_python_c_code_and_children_print_stays_out_of_the_protocol() -> None:
    done = subprocess.run(
        [sys.executable, "-c", NOISE], input="protocol", capture_output=True, text=True, timeout=60
    )
    assert (done.stdout, done.stderr) == ("protocol", "noise\n" * 3)


@pytest.mark.real_model
def test_a_real_model_answers_over_stdio_and_stdout_carries_the_protocol_alone(
    tmp_path: Path, models_home: Path, small_model_path: Path, embedder: EmbedderProcess
) -> None:
    """llama.cpp, the embedder's process and their libraries write what they like; the session holds."""
    (tmp_path / "models").symlink_to(models_home / "models")
    told: list[str] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        told.append(message or "")

    async def use() -> None:
        settings = {
            "LOCALSMITH_MODEL__NAME": "smollm2-135m",
            "LOCALSMITH_MODEL__N_CTX": "1024",
            "LOCALSMITH_ANSWER__MAX_TOKENS": "12",
            "HF_HUB_OFFLINE": "1",
        }
        async with stdio_session(tmp_path, **settings) as session:
            begun = time.monotonic()
            await session.initialize()
            assert time.monotonic() - begun < 30
            found = await session.call_tool("search", {"query": "green tea"}, progress_callback=note)
            assert found.structuredContent is not None
            assert "80 degrees" in found.structuredContent["passages"][0]["text"]
            asked = {"question": "How hot is green tea brewed?"}
            answer = await session.call_tool("ask", asked, progress_callback=note)
            assert not answer.isError and answer.structuredContent is not None
            assert answer.structuredContent["model"] == "smollm2-135m"
            assert answer.structuredContent["stop_reason"] in ("answered", "abstained")

    with Library(tmp_path / "library", embedder, RetrievalSettings()) as library:
        library.add(TEA.encode(), name="tea.md")
    asyncio.run(use())
    assert any(words.startswith("reading") for words in told)
