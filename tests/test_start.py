"""Nothing heavy is loaded before it is needed; `benchmarks/start.py` has the times."""

from __future__ import annotations

import subprocess
import sys

import pytest

# Each of these alone takes as long to load as all that `--help` needs.
HEAVY = {
    "duckdb",
    "faiss",
    "fastapi",
    "httpx",
    "langchain_core",
    "langgraph",
    "llama_cpp",
    "numpy",
    "openai",
    "pandas",
    "pydantic",
    "pypdfium2",
    "rich",
    "sentence_transformers",
    "streamlit",
    "structlog",
    "torch",
    "transformers",
    "wasmtime",
}
MAX_MODULES = 300  # of the standard library and Typer for the most part


@pytest.mark.parametrize(
    "code",
    ["import localsmith", "from localsmith.cli import app; app(['--help'], standalone_mode=False)"],
    ids=["import", "help"],
)
def test_nothing_heavy_is_loaded_at_the_start(code: str) -> None:
    code = f"import sys\n{code}\nprint('loaded:', *sys.modules)"
    output = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = output.rpartition("loaded:")[2].split()
    assert "localsmith" in loaded
    assert not HEAVY & set(loaded)
    assert len(loaded) < MAX_MODULES


def test_help_names_the_commands() -> None:
    run = subprocess.run(
        [sys.executable, "-m", "localsmith.cli", "--help"], capture_output=True, text=True, check=True
    )
    assert {"ask", "chat", "serve", "documents"} <= set(run.stdout.split())
