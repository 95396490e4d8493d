"""The Training page in a real browser: a small run from upload to the chat's model, and what can go wrong."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chat_server import Server
from localsmith.core.extras import install_command
from localsmith.core.settings import Settings, load_settings
from localsmith.models.catalog.installed import in_use
from localsmith.models.catalog.lineage import Lineage
from localsmith.models.catalog.pull import register_trained
from localsmith.training.runs.holder import read_holder
from localsmith.training.runs.run_folder import RunFolder
from playwright.sync_api import Page, expect

WRITER = Path(__file__).parent.parent / "training" / "export" / "tiny_gguf.py"
SLOW_MS = 150_000
THINGS = ("apple", "house", "river", "stone", "coat", "bird", "ship", "door")
COLOURS = ("red", "green", "blue", "black", "white", "brown")


@pytest.fixture(scope="module")
def training(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A served chat with a random model of two blocks in its catalog."""
    spec = importlib.util.spec_from_file_location("tiny_gguf", WRITER)
    assert spec is not None and spec.loader is not None
    module: Any = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    home = tmp_path_factory.mktemp("training-page")
    lineage = Lineage("none", "0" * 64, "none", "none", "none", "F32", time.time())
    tiny = module.write_tiny(home / "tiny.gguf", "llama")
    register_trained(load_settings(home=home), tiny, "tiny", lineage)
    server = Server(
        home,
        {"OMP_NUM_THREADS": "1", "LOCALSMITH_MODEL__N_CTX": "512", "LOCALSMITH_MODEL__N_THREADS": "1"},
    )
    server.start()
    yield server
    server.kill()


def settings_of(server: Server) -> Settings:
    return load_settings(home=server.home)


def colours() -> str:
    rows = (
        {"prompt": f"The {thing} is {colour}. Say it.", "completion": f"The {thing} is {colour}."}
        for thing in THINGS
        for colour in COLOURS
    )
    return "\n".join(map(json.dumps, rows))


def upload(page: Page, text: str, name: str = "colours.jsonl") -> None:
    page.locator('[data-testid="stFileUploader"] input[type=file]').set_input_files(
        {"name": name, "mimeType": "application/json", "buffer": text.encode()}
    )
    expect(page.get_by_text(name, exact=True).first).to_be_visible()


def open_new_run(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/training")
    box = page.locator("details", has_text="New run")
    expect(box).to_be_visible()
    if box.get_attribute("open") is None:
        page.get_by_text("New run").click()
    expect(page.get_by_test_id("stFileUploader")).to_be_visible()


def fill(page: Page, label: str, value: str) -> None:
    box = page.get_by_label(label, exact=True)
    box.fill(value)
    box.press("Enter")
    expect(box).to_have_value(value)


def check(page: Page) -> None:
    page.get_by_role("button", name="Check data and memory").click()


def a_run(server: Server, name: str, losses: list[float]) -> RunFolder:
    """Return a run as one that was stopped has left it."""
    run = RunFolder.create(
        settings_of(server).runs_dir, "sft", {"sft": {"base": "tiny", "method": "full"}, "name": name}, name
    )
    run.progress(len(losses), 10)
    for step, loss in enumerate(losses, 1):
        run.metrics.append(step, {"loss": loss, "learning_rate": 1e-4, "tokens_per_s": 900.0})
    run.stop()
    return run


def test_a_run_is_checked_started_stopped_killed_resumed_finished_and_promoted(
    training: Server, page: Page
) -> None:
    expect.set_options(timeout=SLOW_MS)
    page.set_default_timeout(SLOW_MS)
    open_new_run(page, training)
    upload(page, colours() + "\nnot JSON\n")
    fill(page, "Epochs", "10")
    page.get_by_text("More settings").click()
    fill(page, "Learning rate", "0.01")
    check(page)
    start = page.get_by_role("button", name="Start training")
    expect(start).to_be_enabled()
    expect(page.get_by_text(re.compile(r"1 of 49 records of colours\.jsonl"))).to_be_visible()
    expect(page.get_by_text("colours.jsonl:49")).to_be_visible()
    expect(page.locator(".ls-row mark").first).to_have_text("The apple is red.")
    expect(page.locator(".ls-facts", has_text="near-duplicates")).to_be_visible()
    expect(page.get_by_role("img", name=re.compile(r"MB needed, .* free"))).to_be_visible()
    fill(page, "Batch", "4")
    expect(page.get_by_text("Something was changed since")).to_be_visible()
    expect(start).to_be_disabled()
    fill(page, "Batch", "8")
    expect(start).to_be_enabled()
    start.click()

    # Stopped before its first step is done: it stops after that one.
    page.wait_for_url(re.compile(r"run=tiny-lora"))
    stop = page.get_by_role("button", name="Stop", exact=True)
    expect(stop).to_be_enabled()
    stop.click()
    expect(page.get_by_text("It was stopped and can go on where it was.")).to_be_visible()
    run = settings_of(training).runs_dir / "tiny-lora"
    step = RunFolder(run).state.step
    assert step >= 1

    # Killed in the middle, with the page and the chat's server gone as well.
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_text(re.compile(r"Training: step \d+ of \d+"))).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    training.kill()
    holder = read_holder(run)
    assert holder is not None and holder.is_alive
    os.kill(holder.pid, signal.SIGKILL)
    training.start()
    page.goto(f"{training.url}/training")
    expect(page.locator(".ls-run", has_text="interrupted")).to_be_visible()
    page.get_by_role("button", name="tiny-lora").click()
    expect(page.get_by_text("The process that trained it ended before the run did.")).to_be_visible()
    assert RunFolder(run).state.step > step

    page.get_by_role("button", name="Resume").click()
    table = page.locator(".ls-figures")
    expect(table).to_contain_text("ROUGE-L")
    assert [line.step for line in RunFolder(run).metrics.lines()] == list(
        range(1, RunFolder(run).state.num_steps + 1)
    )
    expect(table.locator("tr", has_text="Loss on held-out rows").locator(".ls-better")).to_be_visible()
    expect(page.locator(".ls-sample").first).to_contain_text("What would be right")
    page.get_by_text("Where the model comes from").click()
    expect(page.get_by_text("Data version", exact=True)).to_be_visible()

    page.get_by_role("button", name="Use this model in the chat").click()
    expect(page.get_by_text("This model answers in the chat.")).to_be_visible()
    assert in_use(settings_of(training)) == "tiny-lora"
    page.get_by_role("button", name=re.compile("Roll back to the automatic choice")).click()
    expect(page.get_by_role("button", name="Use this model in the chat")).to_be_visible()
    assert in_use(settings_of(training)) is None


def test_bad_data_and_too_long_rows_are_told_before_anything_is_trained(training: Server, page: Page) -> None:
    open_new_run(page, training)
    expect(page.get_by_role("button", name="Check data and memory")).to_be_disabled()
    upload(page, "", "empty.jsonl")
    check(page)
    expect(page.get_by_text("empty.jsonl holds no row that can be learned: it is empty.")).to_be_visible()
    page.reload()
    open_new_run(page, training)
    upload(page, colours())
    fill(page, "Most tokens of a row", "20")
    check(page)
    expect(page.get_by_text(re.compile(r"\d+ of \d+ rows are longer than 20 tokens\."))).to_be_visible()
    expect(page.get_by_role("button", name="Start training")).to_be_disabled()


def test_runs_are_listed_compared_deleted_and_brought_back(training: Server, page: Page) -> None:
    a_run(training, "first", [3.0, 2.0, 1.5])
    a_run(training, "second", [3.0, 2.5, 2.4])
    run = a_run(training, "failed", [3.0])
    run.write_state(
        type(run.state)("failed", 1, 10, "The loss of step 2 is nan.", hint="Lower the learning rate.")
    )
    page.goto(f"{training.url}/training")
    expect(page.locator(".ls-run", has_text="stopped · step 3 of 10 · tiny, full")).to_have_count(2)
    box = page.get_by_role("combobox", name="Compare the loss of")
    for name in ("first", "second"):
        box.click()
        page.get_by_role("option", name=name, exact=True).click()
    box.press("Escape")  # the open list hides what is behind it
    expect(page.get_by_test_id("stVegaLiteChart")).to_be_visible()

    page.get_by_role("button", name="failed", exact=True).click()
    expect(page.get_by_text("The loss of step 2 is nan. Lower the learning rate.")).to_be_visible()
    expect(page.get_by_text("resume goes on from the last whole checkpoint")).to_be_visible()
    page.get_by_role("button", name="Delete").click()
    expect(page.get_by_text("Deleted the run failed.")).to_be_visible()
    expect(page.get_by_role("button", name="failed", exact=True)).to_be_hidden()
    page.get_by_role("button", name="Undo").click()
    expect(page.get_by_role("button", name="failed", exact=True)).to_be_visible()


def test_without_the_extra_the_page_names_the_command_and_the_chat_is_unaffected(
    server: Server, page: Page, tmp_path: Path
) -> None:
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    (hidden / "sitecustomize.py").write_text(
        "import importlib.util as u\nfind = u.find_spec\n"
        "u.find_spec = lambda name, package=None: None if name == 'peft' else find(name, package)\n"
    )
    server.environment["PYTHONPATH"] = str(hidden)
    server.start()
    page.goto(f"{server.url}/training")
    expect(page.get_by_text(install_command("train"))).to_be_visible()
    expect(page.get_by_text("New run")).to_be_hidden()
    page.get_by_role("link", name="Chat", exact=True).click()
    expect(page.get_by_test_id("stChatInputTextArea")).to_be_visible()
