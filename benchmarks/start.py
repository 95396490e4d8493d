"""How long a person waits before anything can be typed: `--help`, `import`, and the chat page in a browser.

Each round takes every measurement once, ours beside a peer of the same kind: `hf --help` (the hub's command
line, also on Typer) beside `localsmith --help`, and a bare Streamlit page with one question box beside the
chat. Wall time, from the start of the process; the page until its question box can be typed into. The first
round warms the disk's cache and is left out. Writes `benchmarks/results/start.json` and `start.png`.

Example: `python -m benchmarks.start --rounds 5 --chromium /usr/bin/chromium`
"""

from __future__ import annotations

import argparse
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from statistics import median

from localsmith.core.settings import load_settings
from localsmith.evaluation.results import write_results
from localsmith.ui.launch import command
from playwright.sync_api import Browser, sync_playwright

RESULTS = Path(__file__).parent / "results"
BIN = Path(sys.executable).parent
BARE_PAGE = "import streamlit as st\nst.chat_input('Ask')\n"
LIMITS_S = {"localsmith --help": 0.5, "chat page": 3.0}
PATIENCE_S = 60.0


def time_command(arguments: list[str]) -> float:
    """Return the seconds that a command takes."""
    begun = time.perf_counter()
    subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - begun


def free_port() -> int:
    """Return a port of loopback that nobody listens on."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(server: subprocess.Popen[bytes], port: int) -> None:
    """Wait until a server listens.

    Raises:
        RuntimeError: It has ended, or takes longer than `PATIENCE_S`.
    """
    begun = time.perf_counter()
    while True:
        with closing(socket.socket()) as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        if time.perf_counter() - begun > PATIENCE_S or server.poll() is not None:
            raise RuntimeError(f"This server did not start: {server.args!r}")
        time.sleep(0.02)


def time_page(arguments: list[str], port: int, browser: Browser) -> float:
    """Return the seconds from the start of a page's server until its question box can be used."""
    page = browser.new_page()
    begun = time.perf_counter()
    server = subprocess.Popen(
        arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True
    )
    try:
        wait_for(server, port)
        page.goto(f"http://127.0.0.1:{port}")
        box = page.get_by_test_id("stChatInputTextArea")
        box.wait_for(timeout=PATIENCE_S * 1000)
        box.fill("x")
        return time.perf_counter() - begun
    finally:
        page.close()
        server.send_signal(signal.SIGINT)
        server.wait(PATIENCE_S)


def chat_page(browser: Browser) -> float:
    """Time the chat with the models and documents of this machine."""
    port = free_port()
    settings = load_settings(ui={"port": port})
    return time_page(command(settings, open_browser=False), port, browser)


def bare_page(browser: Browser, script: Path) -> float:
    """Time the peer."""
    port = free_port()
    arguments = [sys.executable, "-m", "streamlit", "run", str(script), f"--server.port={port}"]
    options = ["--server.address=127.0.0.1", "--server.headless=true", "--browser.gatherUsageStats=false"]
    return time_page([*arguments, *options], port, browser)


def measure(rounds: int, browser: Browser) -> dict[str, list[float]]:
    """Take every measurement once a round, in turn; a first round is thrown away.

    Returns:
        The seconds of every round, by measurement.
    """
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "bare.py"
        script.write_text(BARE_PAGE)
        kinds: dict[str, Callable[[], float]] = {
            "localsmith --help": lambda: time_command([str(BIN / "localsmith"), "--help"]),
            "hf --help": lambda: time_command([str(BIN / "hf"), "--help"]),
            "import localsmith": lambda: time_command([sys.executable, "-c", "import localsmith"]),
            "chat page": lambda: chat_page(browser),
            "bare Streamlit page": lambda: bare_page(browser, script),
        }
        taken: dict[str, list[float]] = {name: [] for name in kinds}
        for index in range(rounds + 1):
            for name, take in kinds.items():
                seconds = take()
                if index:
                    taken[name].append(seconds)
    return taken


def draw(taken: dict[str, list[float]], path: Path) -> None:
    """Draw the medians with the least and the most."""
    import matplotlib

    matplotlib.use("agg")
    import matplotlib.pyplot as plt

    names = list(taken)
    medians = [median(taken[name]) for name in names]
    below = [middle - min(taken[name]) for name, middle in zip(names, medians, strict=True)]
    above = [max(taken[name]) - middle for name, middle in zip(names, medians, strict=True)]
    figure, axes = plt.subplots(figsize=(7, 3))
    colors = ["#2f6f6a" if "localsmith" in name or "chat" in name else "#c9a227" for name in names]
    bars = axes.barh(names, medians, xerr=[below, above], color=colors, capsize=3)
    axes.bar_label(bars, [f"{value:.2f} s" for value in medians], label_type="center", color="white")
    axes.set_xlim(right=1.25 * max(max(values) for values in taken.values()))
    axes.invert_yaxis()
    axes.set_xlabel("seconds until it can be used, medians")
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measure, print, write and draw; exit with 1 where a limit is missed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--chromium", default=shutil.which("chromium"))
    arguments = parser.parse_args()
    with sync_playwright() as playwright:
        flags = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        browser = playwright.chromium.launch(executable_path=arguments.chromium, args=flags)
        taken = measure(arguments.rounds, browser)
        browser.close()
    seconds = {name: median(values) for name, values in taken.items()}
    figures = {name.replace(" --", "_").replace(" ", "_") + "_s": s for name, s in seconds.items()}
    figures["help_vs_hf"] = seconds["localsmith --help"] / seconds["hf --help"]
    figures["page_vs_bare_streamlit"] = seconds["chat page"] / seconds["bare Streamlit page"]
    for key, value in figures.items():
        print(f"{key:28} {value:8.3f}")
    write_results(
        RESULTS / "start.json", figures, command=f"python -m benchmarks.start --rounds {arguments.rounds}"
    )
    draw(taken, RESULTS / "start.png")
    sys.exit(any(seconds[name] > limit for name, limit in LIMITS_S.items()))


if __name__ == "__main__":
    main()
