"""The contenders without HTTP, each in a process of its own: our `Engine`, and `Llama` called in turn.

Place in the data's way: `workloads` -> `Worker.ask` -> a line of JSON -> this file in the child process -> a
line of JSON back. A child loads its model once and stays; it costs nothing while the other one runs.

Example:
    with Worker("ours", setup) as ours:
        ours.ask("samples", prompt="…", num=8, max_tokens=128)
"""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from .setup import OMP, Setup

if TYPE_CHECKING:
    from localsmith.models.engine import Engine

TEMPERATURE = 0.8
TOP_K, TOP_P, MIN_P = 40, 0.95, 0.05


class WorkerFailed(RuntimeError):
    """The child process reports an error or has died."""


class Worker:
    """The parent's side.

    Args:
        kind: "ours" for the engine, "llama" for llama-cpp-python's class.
        setup: What to load and how.
        log: File for what the child writes to stderr.
    """

    def __init__(self, kind: Literal["ours", "llama"], setup: Setup, log: Path) -> None:
        self._kind = kind
        self._setup = setup
        self._log = log

    def __enter__(self) -> Worker:
        """Start the child and wait for its model."""
        described = json.dumps(asdict(self._setup) | {"path": str(self._setup.path)})
        with self._log.open("w") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", f"{__package__}.worker", self._kind, described],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env=os.environ | OMP,
            )
        self.ask("ready")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the child."""
        if self._process.stdin:
            self._process.stdin.close()
        try:
            self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The child's process id."""
        return self._process.pid

    def ask(self, what: str, **arguments: Any) -> Any:
        """Let the child do something.

        Raises:
            WorkerFailed: It can't.
        """
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps({"what": what, **arguments}) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        if not line:
            raise WorkerFailed(f"{self._kind} died:\n{self._log.read_text(errors='replace')[-2000:]}")
        answer = json.loads(line)
        if "error" in answer:
            raise WorkerFailed(f"{self._kind}: {answer['error']}")
        return answer["result"]


class Ours:
    """What the child does with our engine; any `ServedModel` does for all but `stall`."""

    def __init__(self, model: Engine) -> None:
        self._model = model

    def ready(self) -> str:
        """Return the model's name."""
        return self._model.name

    def fit(self, text: str, tokens: int) -> str:
        """Return the text's beginning that has so many tokens, to the word."""
        words = text.split()
        low, high = 0, len(words)
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high)
                if self._model.count_text(" ".join(words[:middle])) <= tokens
                else (low, middle - 1)
            )
        return " ".join(words[:low])

    def samples(self, prompt: str, num: int, max_tokens: int) -> dict[str, Any]:
        """Sample one prompt so many times at once."""
        return self._together([prompt] * num, max_tokens, TEMPERATURE)

    def batch(self, prompts: list[str], max_tokens: int) -> dict[str, Any]:
        """Answer several prompts at once, greedily."""
        return self._together(prompts, max_tokens, 0.0)

    def turns(self, turns: list[list[str]], max_tokens: int) -> dict[str, Any]:
        """Answer a conversation of [role, content] turns."""
        from localsmith.core.types import Message, SamplingParams

        messages = [Message(role, content) for role, content in turns]  # type: ignore[arg-type]
        generation = self._model.submit(messages, SamplingParams(max_tokens=max_tokens))
        for _ in generation:
            pass
        return asdict(generation.usage)

    def stall(self, prompt: str, long: str, alone: int) -> dict[str, Any]:
        """Stream an answer; once it has `alone` tokens, read a long prompt beside it, then end both.

        Returns:
            Seconds between two tokens before and beside the long prompt, and what its reading took.
        """
        from localsmith.core.types import Delta, Message, SamplingParams

        room = self._model.n_ctx - self._model.count_text(long) - 1000
        endless = tuple((token, -100.0) for token in self._model.end_tokens)
        stream = self._model.submit(
            [Message("user", prompt)], SamplingParams(max_tokens=room, logit_bias=endless)
        )
        reading, begun, times = None, 0.0, []
        num_before = 0
        for event in stream:
            if not isinstance(event, Delta):
                continue
            times.append(time.perf_counter())
            if reading is None and len(times) > alone:
                num_before, begun = len(times), time.perf_counter()
                reading = self._model.submit([Message("user", long)], SamplingParams(max_tokens=1))
            if reading is not None and reading.finish_reason is not None:
                break
        gaps = [later - earlier for earlier, later in itertools.pairwise(times)]
        return {
            "alone_s": gaps[: num_before - 1],
            "beside_s": gaps[num_before:],
            "reading_s": time.perf_counter() - begun,
        }

    def _together(self, prompts: list[str], max_tokens: int, temperature: float) -> dict[str, Any]:
        from localsmith.core.types import Message, SamplingParams

        before = self._model.stats()
        begun = time.perf_counter()
        generations = [
            self._model.submit(
                [Message("user", prompt)],
                SamplingParams(max_tokens, temperature, TOP_K, TOP_P, MIN_P, seed=seed),
            )
            for seed, prompt in enumerate(prompts)
        ]
        for generation in generations:
            for _ in generation:
                pass
        seconds = time.perf_counter() - begun
        after = self._model.stats()
        spent = {
            name: getattr(after, name) - getattr(before, name)
            for name in ("decode_s", "sampling_s", "busy_s", "num_steps", "cached_tokens", "prompt_tokens")
        }
        tokens = [generation.usage.completion_tokens for generation in generations]
        return {"seconds": seconds, "completion_tokens": tokens} | spent


class LlamaInTurn:
    """What the child does with llama-cpp-python's own class."""

    def __init__(self, setup: Setup) -> None:
        from llama_cpp import Llama

        self._llama = Llama(
            str(setup.path),
            n_ctx=setup.n_ctx,
            n_batch=setup.n_batch,
            n_ubatch=setup.n_batch,
            n_threads=setup.n_threads,
            n_threads_batch=setup.n_threads,
            flash_attn=setup.flash_attention,
            verbose=False,
        )

    def ready(self) -> str:
        """Return the class's name."""
        return "Llama"

    def samples(self, prompt: str, num: int, max_tokens: int) -> dict[str, Any]:
        """Sample one prompt so many times, one after the other; it keeps the prompt's prefix by itself."""
        begun = time.perf_counter()
        tokens, prompt_tokens = [], 0
        for seed in range(num):
            answer: Any = self._llama.create_chat_completion(
                [{"role": "user", "content": prompt}],
                max_tokens=max_tokens,
                temperature=TEMPERATURE,
                top_k=TOP_K,
                top_p=TOP_P,
                min_p=MIN_P,
                seed=seed,
            )
            tokens.append(answer["usage"]["completion_tokens"])
            prompt_tokens += answer["usage"]["prompt_tokens"]
        seconds = time.perf_counter() - begun
        return {"seconds": seconds, "completion_tokens": tokens, "prompt_tokens": prompt_tokens}


def serve(target: Any, requests: Any, answers: Any) -> None:
    """Answer requests, a line of JSON each, until there are no more."""
    for line in requests:
        request = json.loads(line)
        try:
            answer = {"result": getattr(target, request.pop("what"))(**request)}
        except Exception as exc:  # noqa: BLE001 - the parent decides what an error means
            answer = {"error": f"{type(exc).__name__}: {exc}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def _load(kind: str, setup: Setup) -> Any:
    if kind == "llama":
        return LlamaInTurn(setup)
    from localsmith.core.settings import ModelSettings
    from localsmith.models.engine import Engine

    settings = ModelSettings.model_validate(our_settings(setup))
    return Ours(Engine(setup.path, name=setup.name, settings=settings))


def our_settings(setup: Setup) -> dict[str, Any]:
    """Return the settings of `[model]` that give our engine what its peers are given."""
    return {
        "n_ctx": setup.n_ctx,
        "kv_cells": setup.n_ctx,
        "n_batch": setup.n_batch,
        "n_threads": setup.n_threads,
        "max_running": setup.num_parallel,
        "draft_tokens": setup.draft_tokens,
        "flash_attention": "on" if setup.flash_attention else "off",
    }


def main() -> None:
    """Serve the parent; whatever the libraries print goes to stderr, for stdout carries the answers."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    described = json.loads(sys.argv[2])
    setup = Setup(**described | {"path": Path(described["path"])})
    serve(_load(sys.argv[1], setup), sys.stdin, answers)
    os._exit(0)  # the models' memory goes back at once; nothing is left to save


if __name__ == "__main__":
    main()
