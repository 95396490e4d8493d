"""What the browser costs: an answer's speed in the chat beside the same answer from Python.

Each round asks one new question of the welcome documents three times: from Python, in the chat, and in a chat
with Streamlit's own default of a full garbage collection after every run of a page's script (a page that
shows an answer runs several times a second, in the process of the engine). Prefill and decode speeds are the
engine's own, from the answer and from the chat's trace. The chats are looked at by a real browser on the same
machine. Writes `benchmarks/results/chat_speed.json` and `chat_speed.png`.

Example: `python -m benchmarks.chat_speed --model qwen2.5-coder-1.5b --rounds 5`
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from localsmith.core.settings import Settings, load_settings
from localsmith.core.traces import TraceStore
from localsmith.core.types import Usage
from localsmith.evaluation.results import write_results
from localsmith.ui.launch import command
from localsmith.ui.welcome_documents import COLLECTION, welcome_files
from playwright.sync_api import Browser, Page, sync_playwright

from localsmith import Localsmith

from .start import PATIENCE_S, free_port, wait_for

RESULTS = Path(__file__).parent / "results"
QUESTIONS = (
    "What does Localsmith do with a question, from the search to the answer?",
    "Which kinds of files can be added, and what happens with a scanned page?",
    "What leaves this machine, and what stays on it?",
    "What does the small bar under each answer show, part by part?",
    "What happens with a document that was removed by mistake?",
    "How is a citation checked, and what is done with one that is wrong?",
    "How does the time allowed for reading change what is read?",
)
ANSWER_PATIENCE_S = 300.0
OURS, PEER, FLOOR = "chat", "chat with collections", "Python"
COLLECTING = ("--runner.postScriptGC=false", "--runner.postScriptGC=true")


@dataclass(frozen=True, slots=True)
class Speed:
    """Tokens a second of one answer."""

    prefill: float
    decode: float

    @classmethod
    def of(cls, usage: Usage) -> Speed:
        """Take it from what an answer cost."""
        return cls(
            (usage.prompt_tokens - usage.cached_tokens) / usage.prefill_s,
            usage.completion_tokens / usage.decode_s,
        )


class Chat:
    """A chat in a browser, with the traces of its runs."""

    def __init__(self, settings: Settings, page: Page) -> None:
        """Keep the open page and where its runs are noted."""
        self._page = page
        self._traces = settings.traces_path

    def ask(self, question: str) -> Speed:
        """Ask in a new conversation and wait for the whole answer."""
        self._page.get_by_role("button", name="New conversation").click()
        self._page.locator(".ls-meta").wait_for(state="detached", timeout=PATIENCE_S * 1000)
        begun_at = time.time()
        box = self._page.get_by_test_id("stChatInputTextArea")
        box.fill(question)
        box.press("Enter")
        self._page.locator(".ls-meta", has_text="tokens/s").wait_for(timeout=ANSWER_PATIENCE_S * 1000)
        with closing(TraceStore(self._traces)) as store:
            newest = store.list(since=begun_at, limit=1).traces[0]
            trace = store.get(newest.id)
        assert trace is not None and trace.question.text == question
        return Speed.of(trace.answer.usage)


@contextmanager
def open_chat(settings: Settings, browser: Browser, *, is_collecting: bool) -> Iterator[Chat]:
    """Start a chat, wait until its model is loaded, and end it afterwards."""
    port = free_port()
    settings = settings.model_copy(update={"ui": settings.ui.model_copy(update={"port": port})})
    arguments = command(settings, open_browser=False)
    if is_collecting:
        arguments[arguments.index(COLLECTING[0])] = COLLECTING[1]
    environment = os.environ | {
        "LOCALSMITH_HOME": str(settings.home),
        "LOCALSMITH_MODEL__NAME": settings.model.name,
        "LOCALSMITH_MEMORY__IS_ON": "false",
    }
    server = subprocess.Popen(
        arguments, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    page = browser.new_page()
    try:
        wait_for(server, port)
        page.goto(f"http://127.0.0.1:{port}")
        page.get_by_test_id("stChatInputTextArea").wait_for(timeout=PATIENCE_S * 1000)
        page.locator(".ls-loading").wait_for(state="hidden", timeout=PATIENCE_S * 1000)
        yield Chat(settings, page)
    finally:
        page.close()
        server.terminate()
        server.wait(PATIENCE_S)


def measure(settings: Settings, browser: Browser, rounds: int) -> dict[str, list[Speed]]:
    """Ask every contender once a round, in turn, after one question that warms up.

    Returns:
        The speeds of every round, by contender.
    """
    taken: dict[str, list[Speed]] = {FLOOR: [], OURS: [], PEER: []}
    with ExitStack() as stack:
        ls = stack.enter_context(Localsmith(settings=settings))
        ls.library.create_collection(COLLECTION)
        for _ in ls.library.ingest(welcome_files(), COLLECTION):
            pass
        chat = stack.enter_context(open_chat(settings, browser, is_collecting=False))
        peer = stack.enter_context(open_chat(settings, browser, is_collecting=True))
        for index, question in enumerate(QUESTIONS[: rounds + 1]):
            contenders = [
                (FLOOR, lambda text: Speed.of(ls.ask(text, collection=COLLECTION).usage)),
                (OURS, chat.ask),
                (PEER, peer.ask),
            ]
            for name, ask in contenders[index % 3 :] + contenders[: index % 3]:
                speed = ask(question)
                if index:
                    taken[name].append(speed)
                    print(f"{name:22} reads {speed.prefill:6.1f}, writes {speed.decode:5.1f} tokens/s")
    return taken


def draw(taken: dict[str, list[Speed]], path: Path) -> None:
    """Draw the medians of both speeds, with the least and the most."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    figure, both = plt.subplots(1, 2, figsize=(8, 2.6), sharey=True)
    for axes, kind, words in zip(both, ("prefill", "decode"), ("reads", "writes"), strict=True):
        values = [[getattr(speed, kind) for speed in taken[name]] for name in taken]
        medians = [median(v) for v in values]
        spread = [
            [m - min(v) for m, v in zip(medians, values, strict=True)],
            [max(v) - m for m, v in zip(medians, values, strict=True)],
        ]
        axes.barh(list(taken), medians, xerr=spread, color=["#8a918d", "#2f6f6a", "#c9a227"], capsize=3)
        axes.set_xlabel(f"{words}, tokens a second")
    both[0].invert_yaxis()
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write and draw."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="qwen2.5-coder-1.5b")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, len(QUESTIONS)))
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as playwright:
        home = Path(folder)
        (home / "models").symlink_to(load_settings().home / "models")
        settings = load_settings(home=home, model={"name": arguments.model}, memory={"is_on": False})
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=flags)
        taken = measure(settings, browser, arguments.rounds)
        browser.close()
    figures: dict[str, float] = {}
    for kind in ("prefill", "decode"):
        of = {name: median(getattr(speed, kind) for speed in speeds) for name, speeds in taken.items()}
        figures |= {f"{kind}_{name.replace(' ', '_').lower()}": value for name, value in of.items()}
        figures[f"{kind}_chat_vs_python"] = of[OURS] / of[FLOOR]
        figures[f"{kind}_chat_vs_collecting"] = of[OURS] / of[PEER]
    for key, value in figures.items():
        print(f"{key:36} {value:8.3f}")
    call = f"python -m benchmarks.chat_speed --model {arguments.model} --rounds {arguments.rounds}"
    write_results(RESULTS / "chat_speed.json", figures, command=call)
    draw(taken, RESULTS / "chat_speed.png")


if __name__ == "__main__":
    main()
