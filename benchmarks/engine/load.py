"""The load generator: so many clients at once over HTTP, streaming, in a process of its own.

Place in the data's way: `servers` are up -> `generate_load` starts this file as a process and hands it a
job -> one line of JSON comes back. The same for every server, so that what it costs is the same for all.

Example: `echo '{"url": "http://127.0.0.1:8000", "model": "m", "prompts": ["Hi"], ...}' | python -m
benchmarks.engine.load`
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

_TIMEOUT_S = 900.0
_DATA = "data: "


class LoadFailed(RuntimeError):
    """A server refused or broke a request; the figures would be worth nothing."""


@dataclass(frozen=True, slots=True)
class Reply:
    """One stream as its client saw it.

    Attributes:
        first_token_s: From sending the request to the first text.
        seconds: From sending the request to the end of the stream.
        completion_tokens: Tokens produced; see `count_tokens`.
        prompt_tokens: As the server counted them; 0 where it doesn't say.
        finish_reason: Why it ended.
    """

    first_token_s: float
    seconds: float
    completion_tokens: int
    prompt_tokens: int
    finish_reason: str


def generate_load(url: str, model: str, prompts: Sequence[str], max_tokens: int) -> tuple[float, list[Reply]]:
    """Send all prompts at once, wait for all streams.

    Args:
        url: Where the server listens.
        model: Model to name in the requests.
        prompts: One a client.
        max_tokens: Longest completion.

    Returns:
        Seconds from the first request to the end of the last stream, and the replies.

    Raises:
        LoadFailed: A request did not end as it should.
    """
    job = {"url": url, "model": model, "prompts": list(prompts), "max_tokens": max_tokens}
    done = subprocess.run(
        [sys.executable, "-m", f"{__package__}.load"],
        input=json.dumps(job),
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise LoadFailed(done.stderr.strip()[-2000:])
    answer = json.loads(done.stdout)
    return answer["seconds"], [Reply(**reply) for reply in answer["replies"]]


def count_tokens(usage: dict[str, Any] | None, finish_reason: str, max_tokens: int, num_pieces: int) -> int:
    """Return how many tokens a stream produced, as well as it can be known.

    llama-cpp-python's server sends no usage in a stream: there a completion that ended by length has as many
    as were asked for, and another as many as pieces came, which are single tokens.
    """
    if usage and usage.get("completion_tokens") is not None:
        return int(usage["completion_tokens"])
    return max_tokens if finish_reason == "length" else num_pieces


class StreamReader:
    """Puts together what the lines of a server-sent event stream say."""

    def __init__(self, begun: float, max_tokens: int) -> None:
        self._begun = begun
        self._max_tokens = max_tokens
        self._first_s = 0.0
        self._num_pieces = 0
        self._usage: dict[str, Any] | None = None
        self._finish_reason = ""

    def read(self, line: str) -> None:
        """Take a line of the stream.

        Raises:
            LoadFailed: The server reports an error in the stream.
        """
        if not line.startswith(_DATA) or line == f"{_DATA}[DONE]":
            return
        chunk = json.loads(line[len(_DATA) :])
        if "error" in chunk:
            raise LoadFailed(str(chunk["error"]))
        self._usage = chunk.get("usage") or self._usage
        for choice in chunk.get("choices", ()):
            self._finish_reason = choice.get("finish_reason") or self._finish_reason
            if (choice.get("delta") or {}).get("content"):
                self._num_pieces += 1
                self._first_s = self._first_s or time.perf_counter() - self._begun

    def reply(self) -> Reply:
        """Return the reply, the stream having ended.

        Raises:
            LoadFailed: It ended before its end, or without a token.
        """
        if self._finish_reason not in {"stop", "length"}:
            raise LoadFailed(f"A stream ended with finish_reason {self._finish_reason!r}.")
        seconds = time.perf_counter() - self._begun
        count = count_tokens(self._usage, self._finish_reason, self._max_tokens, self._num_pieces)
        if not count:
            raise LoadFailed("A stream ended without a token.")
        prompt = int((self._usage or {}).get("prompt_tokens", 0))
        return Reply(self._first_s, seconds, count, prompt, self._finish_reason)


async def _run(job: dict[str, Any]) -> dict[str, Any]:
    import httpx

    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=job["url"], timeout=_TIMEOUT_S, limits=limits) as client:
        await client.get("/v1/models")  # imports, name look-up and the first connection are not the server's
        begun = time.perf_counter()
        tasks = [_stream(client, job, prompt) for prompt in job["prompts"]]
        replies = await asyncio.gather(*tasks)
        seconds = time.perf_counter() - begun
    return {"seconds": seconds, "replies": [asdict(reply) for reply in replies]}


async def _stream(client: Any, job: dict[str, Any], prompt: str) -> Reply:
    body = {
        "model": job["model"],
        "messages": [{"role": "user", "content": prompt}],
        "max_tokens": job["max_tokens"],
        "temperature": 0,
        "seed": 7,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    reader = StreamReader(time.perf_counter(), job["max_tokens"])
    async with client.stream("POST", "/v1/chat/completions", json=body) as response:
        if response.status_code != 200:
            raise LoadFailed(f"HTTP {response.status_code}: {(await response.aread())[:500]!r}")
        async for line in response.aiter_lines():
            reader.read(line)
    return reader.reply()


if __name__ == "__main__":
    json.dump(asyncio.run(_run(json.load(sys.stdin))), sys.stdout)
