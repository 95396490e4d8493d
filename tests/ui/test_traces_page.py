"""The Traces page in a real browser: find a run, look into it, compare two, forget one."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from chat_server import Server
from localsmith.core.errors import ModelError
from localsmith.core.settings import load_settings
from localsmith.core.traces import TraceStore
from localsmith.core.types import (
    Answer,
    BudgetPart,
    BudgetReport,
    Chunk,
    Citation,
    Passage,
    Question,
    Step,
    Usage,
)
from localsmith.ui.trace_link import trace_url
from playwright.sync_api import Page, expect

HOSTILE = "<img src=x onerror=\"window.hacked='img'\"> ![remote](http://192.0.2.1/a.png) **bold**"


def an_answer(trace_id: str, text: str = "Birches shed their bark [1].", summary: str = "") -> Answer:
    chunk = Chunk("c", "d", 0, "In winter birches shed their bark.", 0, 34, 3, (), 8)
    passage = Passage(chunk, f"trees {summary}.pdf", 1, 0.5, 1, 2, 0.83)
    sample = Step(
        "sample", f"Sample {summary}", 0.8, Usage(100, 20, 30, 0.1, 0.2, 0.6), 0.2, "asked", "x = 1"
    )
    tried = Step("program", "NameError: x", 0.1, None, 1.0, "print(x)", "NameError", is_error=True)
    generate = Step(
        "generate", f"Ended {summary}", 1.4, Usage(210, 150, 40, 0.4, 0.5, 0.9), 1.1,
        f"user: the whole prompt {summary}", f"the whole output {summary}",
    )  # fmt: skip
    parts = (BudgetPart("system", 60, 1), BudgetPart("passages", 140, 1, 2, 400, "time"))
    return Answer(
        text,
        "answered",
        (Citation(1, passage, text, "birches shed their bark", 0.9, True),),
        (passage,),
        (
            Step("search", "1 passage", 0.1),
            Step("plan", "Two ways", 1.0, None, 0.1, steps=(sample, tried)),
            generate,
        ),
        Usage(310, 170, 70, 0.4, 0.7, 1.5),
        BudgetReport(8192, 900, "time", 200, 400, parts),
        "scripted",
        trace_id,
        2.5,
    )


@pytest.fixture(scope="module")
def chat(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = Server(tmp_path_factory.mktemp("traces"))
    now = time.time()
    with closing(store_of(server)) as store:
        store.add(Question("What do birches shed?"), an_answer("birch"), "rag", begun_at=now - 10)
        quick = an_answer("birch-again", "They shed bark.")
        quick = replace(
            quick, steps=(quick.steps[0], Step("rewrite", "Searched for: bark", 0.2), quick.steps[2])
        )
        store.add(Question("What do birches shed?"), replace(quick, duration_s=1.5), "cot", begun_at=now - 20)
        store.add(Question(HOSTILE), an_answer("hostile", HOSTILE, HOSTILE), "rag", begun_at=now - 30)
        failed = Answer("", "cancelled", steps=an_answer("x").steps[:1], duration_s=0.4)
        error = ModelError(f"The model stumbled over {HOSTILE}.")
        store.add(Question("Why did it fail?"), failed, "react", error=error, begun_at=now - 40)
    server.start()
    yield server
    server.kill()


def store_of(server: Server) -> TraceStore:
    settings = load_settings(home=server.home)
    return TraceStore(settings.traces_path, settings.traces)


def open_list(page: Page, server: Server) -> None:
    page.goto(f"{server.url}/traces")
    expect(page.get_by_placeholder("Words of the question")).to_be_visible()


def choose(page: Page, label: str, option: str | re.Pattern[str]) -> None:
    box = page.get_by_role("combobox", name=re.compile(label))
    for _ in range(3):  # a click that falls into Streamlit's redrawing opens nothing
        box.click()
        page.wait_for_timeout(1000)
        if page.get_by_role("option").count():
            break
    page.get_by_role("option", name=option).first.click()


def test_a_run_is_found_and_looked_into(chat: Server, page: Page) -> None:
    open_list(page, chat)
    expect(page.get_by_text("4 runs")).to_be_visible()
    box = page.get_by_placeholder("Words of the question")
    box.fill("BIRCHES shed")
    box.press("Enter")
    expect(page.get_by_text("2 runs")).to_be_visible()
    choose(page, "Strategy", re.compile("^rag"))
    expect(page.get_by_text("1 run", exact=True)).to_be_visible()
    page.get_by_role("button", name="What do birches shed?").click()

    page.wait_for_url(re.compile(r"\?trace=birch$"))
    bars = page.locator(".ls-tl-bar")
    expect(bars).to_have_count(5)
    expect(page.locator(".ls-tl-error")).to_have_count(1)
    expect(page.locator(".ls-tl-row", has_text="Ended")).to_contain_text("210 read (71% cached), 40 written")
    widths = [bars.nth(n).bounding_box() for n in (1, 4)]  # 1.0 s and 1.4 s of 2.5 s
    assert widths[0] is not None and widths[1] is not None
    assert widths[1]["width"] / widths[0]["width"] == pytest.approx(1.4, abs=0.05)
    assert widths[1]["x"] > widths[0]["x"] + 0.9 * widths[0]["width"]

    expect(page.get_by_text("the whole prompt")).to_have_count(0)
    choose(page, "Step", re.compile("5. Written"))
    expect(page.get_by_text("user: the whole prompt")).to_be_visible()
    expect(page.get_by_text("the whole output")).to_be_visible()
    expect(page.locator(".ls-bar")).to_be_visible()
    page.get_by_text(re.compile(r"\[1\] trees .*page 3 · similarity 0.83")).click()
    expect(page.locator(".ls-passage mark")).to_have_text("birches shed their bark")

    page.get_by_role("button", name="All runs").click()
    expect(page.get_by_placeholder("Words of the question")).to_be_visible()


def test_the_address_of_a_trace_leads_to_it(chat: Server, page: Page) -> None:
    page.goto(trace_url("birch", base=chat.url))
    expect(page.get_by_role("heading", name="What do birches shed?")).to_be_visible()
    page.goto(trace_url("no-such-run", base=chat.url))
    expect(page.get_by_text("This run is not kept")).to_be_visible()


def test_a_failed_run_says_why_and_how_far_it_came(chat: Server, page: Page) -> None:
    open_list(page, chat)
    page.get_by_role("button", name="Why did it fail?").click()
    expect(page.get_by_text("ModelError: The model stumbled over <img src=x")).to_be_visible()
    expect(page.locator(".ls-tl-bar")).to_have_count(1)


def test_nothing_in_a_trace_is_obeyed(chat: Server, page: Page) -> None:
    page.goto(trace_url("hostile", "birch", base=chat.url))
    expect(page.locator(".ls-steps")).to_be_visible()
    page.goto(trace_url("hostile", base=chat.url))
    expect(page.locator(".ls-tl-bar")).to_have_count(5)
    choose(page, "Step", re.compile("5. Written"))
    expect(page.get_by_text("user: the whole prompt <img src=x")).to_be_visible()
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x], img[src*='192.0.2.1']").count() == 0


def test_two_runs_are_compared_step_by_step(chat: Server, page: Page) -> None:
    page.goto(trace_url("birch", base=chat.url))
    choose(page, "Compare with", re.compile("^same question · cot"))
    page.wait_for_url(re.compile("compare=birch-again"))
    totals = page.locator(".ls-compare").first
    expect(totals.locator("tr", has_text="Strategy")).to_contain_text("differs")
    expect(totals.locator("tr", has_text="Took")).to_contain_text(
        re.compile(r"2\.5 s\s*1\.5 s\s*−1\.0 s \(-40%\)")
    )
    steps = page.locator(".ls-steps tbody tr")
    expect(steps).to_have_count(6)  # two stand beside each other, three are in A only, one in B
    expect(page.locator(".ls-steps tr.ls-only")).to_have_count(4)
    expect(page.locator(".ls-timeline")).to_have_count(2)
    expect(page.get_by_text("They shed bark.")).to_be_visible()
    page.get_by_role("button", name="Swap").click()
    expect(totals.locator("tr", has_text="Took")).to_contain_text(
        re.compile(r"1\.5 s\s*2\.5 s\s*\+1\.0 s \(\+67%\)")
    )
    page.get_by_role("button", name="Run A alone").click()
    page.wait_for_url(re.compile(r"\?trace=birch-again$"))


def test_a_run_is_forgotten_for_good(chat: Server, page: Page) -> None:
    with closing(store_of(chat)) as store:
        store.add(Question("Forget me, please?"), an_answer("gone"), "rag", begun_at=time.time() - 3600)
    page.goto(trace_url("gone", base=chat.url))
    page.get_by_role("button", name="Forget this run").click()
    page.get_by_role("button", name="Forget", exact=True).click()
    expect(page.get_by_text("4 runs")).to_be_visible()
    with closing(store_of(chat)) as store:
        assert store.get("gone") is None


def test_ten_thousand_runs_are_paged_and_searched_fast(server: Server, page: Page, tmp_path: Path) -> None:
    with closing(store_of(server)) as store, store._database.transaction() as connection:
        for number in range(10_000):
            connection.execute(
                "INSERT INTO runs (id, strategy, status, begun_at, question, folded, size_bytes)"
                " VALUES (?, 'rag', 'answered', ?, ?, ?, 2000)",
                (f"{number:032x}", time.time() - number, f"Question {number}", f"question {number}. " * 40),
            )
    server.start()
    open_list(page, server)
    expect(page.get_by_text("10,000 runs")).to_be_visible()
    expect(page.locator(".ls-run")).to_have_count(25)
    number = page.get_by_label(re.compile("Page of 400"))
    begun = time.monotonic()
    number.fill("400")
    number.press("Enter")
    expect(page.get_by_role("button", name="Question 9999")).to_be_visible()
    paged_s = time.monotonic() - begun
    box = page.get_by_placeholder("Words of the question")
    begun = time.monotonic()
    box.fill("question 7777.")
    box.press("Enter")
    expect(page.get_by_text("1 run", exact=True)).to_be_visible()
    expect(page.get_by_role("button", name="Question 7777")).to_be_visible()
    assert max(paged_s, time.monotonic() - begun) < 5.0
