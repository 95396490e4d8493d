"""Files that hang, crash or devour memory cost their own process and nothing else."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st
from localsmith.core.errors import LoadError
from localsmith.core.types import Box
from localsmith.retrieval.loaded import Block, LineBox, LoadedDocument
from localsmith.retrieval.loaders import load_document
from localsmith.retrieval.parser_process import ParserProcess
from localsmith.retrieval.parser_wire import (
    WireError,
    decode_document,
    decode_failure,
    encode_document,
    encode_failure,
)


@pytest.fixture
def parser() -> Iterator[ParserProcess]:
    with ParserProcess(timeout_s=60) as parser:
        yield parser


@pytest.fixture
def note(tmp_path: Path) -> Path:
    path = tmp_path / "note.txt"
    path.write_text("Tea at four.", encoding="utf-8")
    return path


@pytest.fixture(scope="session")
def slow_table(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An honest file that takes seconds and hundreds of megabytes."""
    path = tmp_path_factory.mktemp("slow") / "table.csv"
    path.write_text("name,amount,remark\n" + "x,1,none at all\n" * 1_500_000, encoding="utf-8")
    return path


@pytest.fixture(autouse=True)
def _readers_of_other_tests() -> Iterator[None]:
    """Leave out the readers that libraries of other tests keep."""
    _OTHERS.update(child.pid for child in psutil.Process().children())
    yield
    _OTHERS.clear()


_OTHERS: set[int] = set()


def children() -> list[psutil.Process]:
    found = []
    for child in psutil.Process().children():
        try:
            if child.pid not in _OTHERS and any("parser_worker" in part for part in child.cmdline()):
                found.append(child)
        except psutil.Error:
            continue
    return found


def is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if condition():
            return True
        time.sleep(0.02)
    return False


def test_the_process_reads_what_the_function_reads(parser: ParserProcess, shared_data: Path) -> None:
    for name in (
        "tracemonkey.pdf",
        "more/word_sample.docx",
        "more/winter-sports.epub",
        "more/fake-text-utf-16.txt",
    ):
        path = shared_data / "documents" / name
        assert parser.parse(path, path.name) == load_document(path, path.name)


def test_a_refusal_arrives_with_its_reason_and_hint(parser: ParserProcess, shared_data: Path) -> None:
    with pytest.raises(LoadError) as caught:
        parser.parse(shared_data / "documents/more/password.pdf", "password.pdf")
    assert caught.value.reason == "encrypted" and caught.value.hint


def test_limits_of_the_caller_reach_the_reader(note: Path) -> None:
    with ParserProcess(max_file_bytes=5) as parser, pytest.raises(LoadError) as caught:
        parser.parse(note, "note.txt")
    assert caught.value.reason == "too_large"
    with ParserProcess(max_text_chars=5) as parser, pytest.raises(LoadError) as caught:
        parser.parse(note, "note.txt")
    assert caught.value.reason == "too_large"


def test_a_file_that_takes_too_long_is_given_up_and_the_next_goes_on(slow_table: Path, note: Path) -> None:
    with ParserProcess(timeout_s=0.5) as parser:
        start = time.monotonic()
        with pytest.raises(LoadError) as caught:
            parser.parse(slow_table, "table.csv")
        assert caught.value.reason == "timeout" and "0.5" in str(caught.value)
        assert time.monotonic() - start < 15
    with ParserProcess(timeout_s=60) as parser:
        assert parser.parse(note, "note.txt").text == "Tea at four."


def test_a_file_that_needs_too_much_memory_is_given_up_and_the_next_goes_on(
    slow_table: Path, note: Path
) -> None:
    with ParserProcess(memory_bytes=150_000_000) as parser:
        with pytest.raises(LoadError) as caught:
            parser.parse(slow_table, "table.csv")
        assert caught.value.reason == "memory" and caught.value.hint
        assert parser.parse(note, "note.txt").text == "Tea at four."


@pytest.mark.parametrize(("number", "reason"), [(signal.SIGSEGV, "corrupt"), (signal.SIGXCPU, "timeout")])
def test_a_crash_refuses_the_file_and_the_next_goes_on(
    parser: ParserProcess, slow_table: Path, note: Path, number: signal.Signals, reason: str
) -> None:
    parser.parse(note, "note.txt")
    (child,) = children()
    threading.Timer(0.3, os.kill, (child.pid, number)).start()
    with pytest.raises(LoadError) as caught:
        parser.parse(slow_table, "table.csv")
    assert caught.value.reason == reason
    assert parser.parse(note, "note.txt").text == "Tea at four."
    assert children() != [child]


def test_what_this_process_held_is_not_counted_to_a_reader_that_crashes(slow_table: Path, note: Path) -> None:
    """Linux hands the highest memory of a parent down to a child that it starts."""
    peak_bytes = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    with ParserProcess(timeout_s=60, memory_bytes=int(1.2 * max(peak_bytes, 800_000_000))) as parser:
        held = bytearray(800_000_000)
        held[::4096] = b"x" * len(held[::4096])
        del held
        parser.parse(note, "note.txt")
        (child,) = children()
        threading.Timer(0.3, os.kill, (child.pid, signal.SIGSEGV)).start()
        with pytest.raises(LoadError) as caught:
            parser.parse(slow_table, "table.csv")
    assert caught.value.reason == "corrupt"


def test_a_reader_that_died_between_files_is_replaced_unnoticed(parser: ParserProcess, note: Path) -> None:
    parser.parse(note, "note.txt")
    (child,) = children()
    child.kill()
    assert wait_for(lambda: not is_alive(child))
    time.sleep(0.1)
    assert parser.parse(note, "note.txt").text == "Tea at four."


def test_threads_take_turns_and_outlive_one_another(parser: ParserProcess, note: Path) -> None:
    texts: list[str] = []
    threads = [
        threading.Thread(target=lambda: texts.append(parser.parse(note, "note.txt").text)) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert texts == ["Tea at four."] * 8
    (child,) = children()
    time.sleep(0.2)  # the thread that asked first has ended; its reader must not end with it
    assert child.is_running() and parser.parse(note, "note.txt").text == "Tea at four."


def test_close_ends_the_process_and_a_later_file_starts_another(parser: ParserProcess, note: Path) -> None:
    parser.parse(note, "note.txt")
    parser.close()
    assert wait_for(lambda: not children())
    assert parser.parse(note, "note.txt").text == "Tea at four."


def test_the_reader_dies_with_a_killed_parent(note: Path, slow_table: Path) -> None:
    program = (
        "import sys, threading, time; from pathlib import Path\n"
        "from localsmith.retrieval.parser_process import ParserProcess\n"
        "parser = ParserProcess(); parser.parse(Path(sys.argv[1]), 'note.txt')\n"
        "print('up', flush=True); parser.parse(Path(sys.argv[2]), 'table.csv'); time.sleep(60)\n"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program, str(note), str(slow_table)], stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None and parent.stdout.readline().strip() == "up"
    (child,) = psutil.Process(parent.pid).children()
    if sys.platform == "linux":
        child.suspend()  # so that it can't notice the end of its input: only the kernel's signal ends it
    parent.kill()
    parent.wait()
    parent.stdout.close()
    assert wait_for(lambda: not is_alive(child)), "the reader outlived its parent"


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_reader_has_given_up_what_it_does_not_need(parser: ParserProcess, note: Path) -> None:
    parser.parse(note, "note.txt")
    (child,) = children()
    limits = Path(f"/proc/{child.pid}/limits").read_text()
    values = {line[:25].strip(): line[25:].split() for line in limits.splitlines()[1:]}
    assert values["Max core file size"][:2] == ["0", "0"]
    assert values["Max file size"][:2] == ["0", "0"]
    assert int(values["Max open files"][1]) <= 64
    assert int(values["Max address space"][0]) < 4_000_000_000
    assert values["Max cpu time"][0] != "unlimited"


def test_the_reader_starts_at_once(note: Path) -> None:
    with ParserProcess() as parser:
        start = time.perf_counter()
        parser.parse(note, "note.txt")
        assert time.perf_counter() - start < 3  # 0.1 s on a free core


def test_the_reader_imports_no_heavy_library() -> None:
    program = (
        "import sys, localsmith.retrieval.parser_worker, localsmith.retrieval.loaders\n"
        "heavy = {'torch', 'faiss', 'kreuzberg', 'pypdfium2', 'PIL', 'numpy', 'langchain_core'}\n"
        "print(*heavy & set(sys.modules))"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


def test_a_document_survives_the_wire() -> None:
    lines = (LineBox(0, 3, Box(2, 0.1, 0.2, 0.3, 0.4)),)
    blocks = (Block("Tea", "heading", 2, 2, lines), Block("日本 👩‍💻", "paragraph"))
    document = LoadedDocument("application/pdf", blocks, 3, "Title", ("a", "b"))
    assert decode_document(encode_document(document)) == document


def test_an_error_survives_the_wire() -> None:
    error = decode_failure(encode_failure(LoadError("No.", "no_text", hint="Try.")))
    assert (str(error), error.reason, error.hint) == ("No.", "no_text", "Try.")


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=6) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
)


@given(st.binary(max_size=200) | _JSON.map(lambda value: __import__("json").dumps(value).encode()))
def test_whatever_a_hijacked_reader_says_is_at_worst_a_wire_error(payload: bytes) -> None:
    for decode in (decode_document, decode_failure):
        try:
            decode(payload)
        except WireError:
            continue


def test_deep_nesting_in_an_answer_is_a_wire_error() -> None:
    with pytest.raises(WireError):
        decode_document(b"[" * 200_000)


@pytest.mark.parametrize(
    "line",
    [
        [0, 99, 1, 0.1, 0.1, 0.2, 0.2],
        [0, 1, 1, 0.5, 0.1, 0.2, 0.2],
        [0, 1, 1, -1, 0.1, 0.2, 0.2],
        [0, 1, -1, 0, 0, 1, 1],
    ],
)
def test_boxes_that_lie_are_not_taken_over(line: list[float]) -> None:
    payload = __import__("json").dumps(["x", [["Tea", "paragraph", 0, 1, [line]]], 1, "", []]).encode()
    with pytest.raises(WireError):
        decode_document(payload)
