"""Visitors of the soak: what people and programs do to a server, well-behaved and not.

Place in the data's way: `soak` lets a dozen of these run side by side for half an hour -> each deed becomes
an `Outcome` -> `soak` counts what should not have been.

Example:
    outcome = await visitors.deed("stream")
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Literal

import httpx

How = Literal["ended", "left", "refused", "broken"]

OVERLOADED = frozenset({429, 503})
BURST = 96
_TIMEOUT_S = 300.0
_TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "Tells the weather of a town.",
        "parameters": {
            "type": "object",
            "properties": {"town": {"type": "string", "maxLength": 20}},
            "required": ["town"],
            "additionalProperties": False,
        },
    },
}
_SCHEMA = {
    "type": "json_schema",
    "json_schema": {
        "name": "town",
        "schema": {
            "type": "object",
            "properties": {"town": {"type": "string", "maxLength": 12}, "people": {"type": "integer"}},
            "required": ["town", "people"],
            "additionalProperties": False,
        },
    },
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request.

    Attributes:
        deed: The behaviour it belongs to.
        how: It ended as it should, the visitor left, the server refused it, or it broke.
        status: HTTP status; 0 where there was none.
        is_stream: Whether the server had begun a stream.
        seconds: Wall time.
        detail: What broke, in words; "" otherwise.
    """

    deed: str
    how: How
    status: int
    is_stream: bool
    seconds: float
    detail: str = ""


class Visitors:
    """Sends requests of every kind.

    Args:
        client: Client with the server's address and a valid key.
        model: Chat model to name.
        embedder: Embedding model to name; "" to leave embeddings out.
        n_ctx: The server's window, in tokens, to be able to exceed it.
        max_body_bytes: Longest body that the server reads.
        rng: Decides what happens next.
    """

    def __init__(
        self,
        client: httpx.AsyncClient,
        model: str,
        embedder: str,
        n_ctx: int,
        max_body_bytes: int,
        rng: random.Random,
    ) -> None:
        self._client = client
        self._model = model
        self._embedder = embedder
        self._n_ctx = n_ctx
        self._max_body_bytes = max_body_bytes
        self._rng = rng
        self._deeds: dict[str, tuple[int, Callable[[], Awaitable[Outcome | list[Outcome]]]]] = {
            "stream": (30, self._stream),
            "slow reader": (4, self._slow),
            "disconnect": (16, self._disconnect),
            "leave at once": (8, self._leave),
            "samples": (8, self._samples),
            "tool call": (6, self._tool),
            "schema": (6, self._schema),
            "oversize prompt": (6, self._oversize),
            "oversize body": (2, self._large_body),
            "bad json": (6, self._bad_json),
            "wrong key": (4, self._wrong_key),
            "completion": (6, self._completion),
            "burst": (1, self._burst),
        }
        if embedder:
            self._deeds["embeddings"] = (8, self._embeddings)

    @property
    def deeds(self) -> list[str]:
        """The names of all behaviours."""
        return list(self._deeds)

    def choose(self) -> str:
        """Return what to do next."""
        weights = [weight for weight, _ in self._deeds.values()]
        return self._rng.choices(self.deeds, weights)[0]

    async def deed(self, name: str) -> list[Outcome]:
        """Do one thing; whatever goes wrong becomes an outcome."""
        begun = time.perf_counter()
        try:
            found = await self._deeds[name][1]()
        except (httpx.HTTPError, ValueError, KeyError) as exc:
            broken = Outcome(name, "broken", 0, False, time.perf_counter() - begun, f"{exc!r}")
            return [broken]
        return found if isinstance(found, list) else [found]

    # -- streams

    async def _stream(self) -> Outcome:
        return await self._read_stream("stream", self._chat(stream=True))

    async def _slow(self) -> Outcome:
        return await self._read_stream("slow reader", self._chat(stream=True), pause_s=0.3)

    async def _disconnect(self) -> Outcome:
        pieces = self._rng.randint(1, 20)
        return await self._read_stream(
            "disconnect", self._chat(stream=True, max_tokens=200), leave_after=pieces
        )

    async def _read_stream(
        self, deed: str, body: dict[str, Any], pause_s: float = 0.0, leave_after: int = 0
    ) -> Outcome:
        begun = time.perf_counter()
        async with self._client.stream("POST", "/v1/chat/completions", json=body) as response:
            if response.status_code != 200:
                await response.aread()
                return _refused(deed, response, begun)
            is_done, reason, pieces = False, "", 0
            async for line in response.aiter_lines():
                if line == "data: [DONE]":
                    is_done = True
                elif line.startswith("data: "):
                    pieces += 1
                    chunk = json.loads(line[6:])
                    if "error" in chunk:
                        seconds = time.perf_counter() - begun
                        return Outcome(deed, "broken", 200, True, seconds, str(chunk["error"]))
                    for choice in chunk.get("choices", ()):
                        reason = choice.get("finish_reason") or reason
                    if leave_after and pieces >= leave_after:
                        return Outcome(deed, "left", 200, True, time.perf_counter() - begun)
                    await asyncio.sleep(pause_s)
        seconds = time.perf_counter() - begun
        if is_done and reason:
            return Outcome(deed, "ended", 200, True, seconds)
        return Outcome(deed, "broken", 200, True, seconds, f"stream without an end (reason {reason!r})")

    async def _leave(self) -> Outcome:
        begun = time.perf_counter()
        task = asyncio.ensure_future(
            self._client.post("/v1/chat/completions", json=self._chat(max_tokens=300))
        )
        await asyncio.wait([task], timeout=self._rng.uniform(0.01, 1.5))
        if task.done():
            return _checked("leave at once", task.result(), begun)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        return Outcome("leave at once", "left", 0, False, time.perf_counter() - begun)

    # -- whole answers

    async def _samples(self) -> Outcome:
        return await self._post("samples", self._chat(n=4, temperature=0.8))

    async def _tool(self) -> Outcome:
        body = self._chat(tools=[_TOOL], tool_choice="required", max_tokens=60)
        return await self._post("tool call", body)

    async def _schema(self) -> Outcome:
        return await self._post("schema", self._chat(response_format=_SCHEMA, max_tokens=60))

    async def _completion(self) -> Outcome:
        body = {"model": self._model, "prompt": self._text(30), "max_tokens": 16, "temperature": 0}
        return await self._post("completion", body, path="/v1/completions")

    async def _embeddings(self) -> Outcome:
        body = {"model": self._embedder, "input": [self._text(40) for _ in range(self._rng.randint(1, 8))]}
        return await self._post("embeddings", body, path="/v1/embeddings")

    async def _burst(self) -> list[Outcome]:
        bodies = [self._chat(max_tokens=4, words=5) for _ in range(BURST)]
        return list(await asyncio.gather(*(self._post("burst", body) for body in bodies)))

    # -- what must be refused

    async def _oversize(self) -> Outcome:
        return await self._post("oversize prompt", self._chat(words=2 * self._n_ctx), expected=(400,))

    async def _large_body(self) -> Outcome:
        body = self._chat()
        body["messages"][0]["content"] = "x" * (self._max_body_bytes + 1)
        begun = time.perf_counter()
        try:
            return await self._post("oversize body", body, expected=(400, 413))
        except (httpx.ReadError, httpx.WriteError):
            # A server may hang up on a body that it won't read; whoever is still sending may miss the answer.
            return Outcome("oversize body", "refused", 0, False, time.perf_counter() - begun)

    async def _bad_json(self) -> Outcome:
        begun = time.perf_counter()
        content = self._rng.choice(
            [
                b'{"model": ',
                b"[]",
                b"\xff\xfe",
                b"null",
                b'{"messages": 3}',
                b"{" * 5000,
                b'{"max_tokens": NaN}',
            ]
        )
        response = await self._client.post(
            "/v1/chat/completions", content=content, headers={"Content-Type": "application/json"}
        )
        return _checked("bad json", response, begun, (400, 422))

    async def _wrong_key(self) -> Outcome:
        headers = {"Authorization": f"Bearer ls-{self._rng.randrange(16**8):08x}-wrong"}
        return await self._post("wrong key", self._chat(), expected=(401,), headers=headers)

    async def _post(
        self,
        deed: str,
        body: dict[str, Any],
        *,
        path: str = "/v1/chat/completions",
        expected: tuple[int, ...] = (200,),
        headers: dict[str, str] | None = None,
    ) -> Outcome:
        begun = time.perf_counter()
        response = await self._client.post(path, json=body, headers=headers)
        return _checked(deed, response, begun, expected)

    def _chat(self, words: int = 40, max_tokens: int = 40, **more: Any) -> dict[str, Any]:
        messages = [{"role": "user", "content": self._text(words)}]
        return {"model": self._model, "messages": messages, "max_tokens": max_tokens} | more

    def _text(self, words: int) -> str:
        """Return words of which no two requests share more than the first."""
        return "Tell me about " + " ".join(f"{self._rng.randrange(10**4)}" for _ in range(words))


def _refused(deed: str, response: httpx.Response, begun: float) -> Outcome:
    return _checked(deed, response, begun, ())


def _checked(
    deed: str, response: httpx.Response, begun: float, expected: tuple[int, ...] = (200,)
) -> Outcome:
    status, seconds = response.status_code, time.perf_counter() - begun
    if status in expected:
        return Outcome(deed, "ended" if status == 200 else "refused", status, False, seconds)
    if status in OVERLOADED:
        return Outcome(deed, "refused", status, False, seconds)
    return Outcome(deed, "broken", status, False, seconds, response.text[:300])


def make_client(url: str, key: str) -> httpx.AsyncClient:
    """Return a client that may open as many connections as a burst needs."""
    limits = httpx.Limits(max_connections=4 * BURST, max_keepalive_connections=20)
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.AsyncClient(base_url=url, timeout=_TIMEOUT_S, limits=limits, headers=headers)
