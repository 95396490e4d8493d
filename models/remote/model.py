"""A model on another server, where the local engine stands otherwise.

Place in the data's way: `Localsmith(model="openai://gpu:8000/qwen")` makes the strategies, the pages and
`localsmith serve` talk to this class instead of `Engine`; nothing of the chat model is loaded here. Requests
run on one event loop of their own thread, so hundreds at once cost no thread each, and cancelling one closes
its connection at once.

Example:
    model = connect("openai://127.0.0.1:8000/qwen2.5", api_key=SecretStr(""))
    for part in model.submit([Message("user", "Name a prime.")]):
        ...
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import aclosing
from typing import TYPE_CHECKING, Any

import httpx
import structlog
from pydantic import SecretStr

from ...core.errors import (
    ConfigError,
    GenerationError,
    LocalsmithError,
    ModelNotReadyError,
)
from ...core.types import (
    Delta,
    EngineStats,
    FinishReason,
    Message,
    Prefill,
    Priority,
    SamplingParams,
    Usage,
)
from ..generation import EngineGeneration
from .address import RemoteAddress
from .chat import Piece, chat_pieces, open_chat, require_library, text_pieces, timeout
from .errors import Asked, overflow, remote_error
from .messages import to_openai, to_request, tool_request
from .server import NO_KEY, RemoteServer, ServerFacts

if TYPE_CHECKING:
    from langchain_openai import ChatOpenAI

log = structlog.get_logger(__name__)

LOADING_WAIT_S = 900.0
"""How long a server may load its model before we give up; large ones take minutes."""

_POLL_S = 1.0
_KEPT_CONNECTIONS = 100
_ANY_TOKEN = 2**31 - 1


def connect(
    name: str,
    *,
    api_key: SecretStr,
    n_ctx: int | None = None,
    on_wait: Callable[[str], None] = lambda words: None,
    stop: threading.Event | None = None,
) -> RemoteModel:
    """Return the model at an address, once its server has loaded it.

    Args:
        name: The address; see `remote_address`.
        api_key: The key; empty for none.
        n_ctx: The window where the server tells none, and the most that is used of a larger one; None for
            the server's own.
        on_wait: Called with a few words for people while the server is loading.
        stop: Setting it ends the wait.

    Raises:
        ConfigError: The address is none, or the server doesn't tell its window and neither does `n_ctx`.
        ModelLoadError: langchain-openai is not installed.
        ModelNotFoundError: The server doesn't have the model.
        ModelNotReadyError: It can't be reached, or hasn't loaded its model in time.
        AccessDenied: It refuses the key.
    """
    address = RemoteAddress.parse(name)
    require_library()
    server = RemoteServer(address, api_key)
    try:
        facts = _wait_for(server, on_wait, stop or threading.Event())
        return RemoteModel(server, facts, api_key, n_ctx)
    except BaseException:
        server.close()
        raise


class RemoteModel:
    """A chat model behind an OpenAI-compatible API; fulfils `core.contracts.ServedModel`.

    Reading a prompt counts as free (`prompt_tokens_per_s` is infinite), so that only the window bounds it.
    `priority` is passed on to `localsmith serve` alone, `user` to none: there is no common way to say them.

    Args:
        server: Its server, open; closed with this.
        facts: What the server said of itself.
        api_key: The key; empty for none.
        n_ctx: The window where the server tells none, and the most that is used of a larger one.
    """

    prompt_tokens_per_s = math.inf

    def __init__(
        self, server: RemoteServer, facts: ServerFacts, api_key: SecretStr, n_ctx: int | None
    ) -> None:
        windows = [tokens for tokens in (facts.n_ctx, n_ctx) if tokens is not None]
        if not windows:
            raise ConfigError(
                f"{server.address.root_url} doesn't tell the context window of {facts.model}.",
                hint="Set model.n_ctx to what the server was started with.",
            )
        self._n_ctx = min(windows)
        self._server = server
        self._facts = facts
        self._key = SecretStr(api_key.get_secret_value() or NO_KEY)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=_KEPT_CONNECTIONS)
        self._http = httpx.AsyncClient(timeout=timeout(), limits=limits)
        self._chat = open_chat(server.address.api_url, facts.model, self._key, {}, self._http)
        self._lock = threading.Lock()
        self._running: dict[EngineGeneration, Future[FinishReason]] = {}
        self._finished: Counter[str] = Counter()
        self._total = Usage()
        self._closed = False
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="localsmith-remote", daemon=True)
        self._thread.start()
        log.info(
            "remote_model",
            url=server.address.api_url,
            model=facts.model,
            kind=facts.kind,
            n_ctx=self._n_ctx,
            counts_exactly=facts.counts_exactly,
        )

    # -- core.contracts.ServedModel

    @property
    def name(self) -> str:
        """Name of the model on its server."""
        return self._facts.model

    @property
    def n_ctx(self) -> int:
        """The context window, in tokens."""
        return self._n_ctx

    @property
    def n_vocab(self) -> int:
        """Number of tokens in the vocabulary; a number beyond any where the server tells none."""
        return self._facts.n_vocab or _ANY_TOKEN

    @property
    def counts_exactly(self) -> bool:
        """Whether counts are the server's own; else they are estimates on the safe side."""
        return self._facts.counts_exactly

    def count_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return the tokens of the rendered chat template, or more; see `counts_exactly`."""
        return self._server.count_prompt(messages, tools)

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text, or more; see `counts_exactly`."""
        return self._server.count_text(text)

    def cached_prefix_tokens(self, messages: Sequence[Message]) -> int:
        """Return 0: what a server has in its cache, nobody can ask."""
        return 0

    def submit(
        self,
        messages: Sequence[Message],
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        tools: Sequence[dict[str, Any]] = (),
        priority: Priority = "interactive",
        user: str = "",
    ) -> EngineGeneration:
        """Send a completion's request; see `core.contracts.LanguageModel.submit`.

        Raises:
            ContextOverflow: Prompt plus `max_tokens` exceed the window.
            ModelNotReadyError: The model has been closed, or its server can't be reached.
            ModelError: A grammar is asked of a server that isn't known to keep one.
        """
        offered: dict[str, Any] = {}
        sampling = sampling or SamplingParams()
        if tools:
            offered, sampling = tool_request(tools, sampling)
        request = offered | to_request(sampling, self._facts.kind)
        if sampling.num_logprobs is not None:
            request |= {"logprobs": True, "top_logprobs": sampling.num_logprobs}
        if self._facts.kind == "localsmith":
            request["extra_body"]["priority"] = priority
        asked = self._asked(self.count_prompt(messages, tools), sampling)
        pieces = chat_pieces(self._chat, to_openai(messages), request)
        return self._start(pieces, asked, sampling, deadline_s, cancel)

    def submit_text(
        self,
        prompt: str,
        sampling: SamplingParams | None = None,
        *,
        deadline_s: float | None = None,
        cancel: threading.Event | None = None,
        priority: Priority = "interactive",
        user: str = "",
    ) -> EngineGeneration:
        """Send the request for a raw text's continuation; see `submit`."""
        sampling = sampling or SamplingParams()
        request = to_request(sampling, self._facts.kind)
        if "max_completion_tokens" in request:
            request["max_tokens"] = request.pop("max_completion_tokens")  # its name in this older API
        if sampling.num_logprobs is not None:
            request["logprobs"] = sampling.num_logprobs
        if self._facts.kind == "localsmith":
            request["extra_body"]["priority"] = priority
        asked = self._asked(self._server.count_raw(prompt), sampling)
        pieces = text_pieces(self._chat, prompt, request)
        return self._start(pieces, asked, sampling, deadline_s, cancel)

    def stats(self) -> EngineStats:
        """Return what was sent from here; what else the server does, it tells itself."""
        with self._lock:
            return EngineStats(
                num_running=len(self._running),
                prompt_tokens=self._total.prompt_tokens,
                cached_tokens=self._total.cached_tokens,
                completion_tokens=self._total.completion_tokens,
                finished=tuple(sorted(self._finished.items())),
            )

    def chat_model(self, sampling: SamplingParams) -> ChatOpenAI:
        """Return the model as langchain-openai's chat model, with these parameters for every call."""
        request = to_request(sampling, self._facts.kind)
        extra = dict(request.pop("extra_body", {}))
        max_tokens = extra.pop("max_tokens", sampling.max_tokens)
        request |= {"max_tokens": max_tokens} | ({"extra_body": extra} if extra else {})
        request.pop("max_completion_tokens", None)
        return open_chat(self._server.address.api_url, self._facts.model, self._key, request)

    def close(self) -> None:
        """Cancel what runs and close the connections; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            running = list(self._running.values())
        for future in running:
            future.cancel()
        asyncio.run_coroutine_threadsafe(_wind_up(self._http), self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self._server.close()

    # -- one request

    def _asked(self, prompt_tokens: int, sampling: SamplingParams) -> Asked:
        """Refuse what doesn't fit; a server might cut it without a word."""
        if prompt_tokens + sampling.max_tokens > self._n_ctx:
            error = overflow(prompt_tokens, sampling.max_tokens, self._n_ctx)
            if not self.counts_exactly:
                error.hint = (
                    "This server doesn't count tokens, so the prompt's are estimated, on the safe side. "
                    "Shorten it, or use vLLM or llama-server, which count."
                )
            raise error
        url = self._server.address.api_url
        return Asked(url, self._facts.model, prompt_tokens, sampling.max_tokens, self._n_ctx)

    def _start(
        self,
        pieces: AsyncGenerator[Piece, None],
        asked: Asked,
        sampling: SamplingParams,
        deadline_s: float | None,
        cancel: threading.Event | None,
    ) -> EngineGeneration:
        generation = EngineGeneration(
            (),  # the tokens are the server's
            sampling,
            deadline_s=deadline_s,
            cancel=cancel,
            priority="interactive",
            user="",
            on_cancel=self._cancel,
        )
        generation.update(Usage(prompt_tokens=asked.prompt_tokens))
        with self._lock:
            if self._closed:
                raise ModelNotReadyError(f"{self.name} has been closed.", hint="Start Localsmith again.")
            future = asyncio.run_coroutine_threadsafe(_read(generation, pieces, deadline_s), self._loop)
            self._running[generation] = future
        future.add_done_callback(lambda done: self._end(generation, done, asked))
        return generation

    def _cancel(self, generation: EngineGeneration) -> None:
        with self._lock:
            future = self._running.get(generation)
        if future is not None:
            future.cancel()

    def _end(self, generation: EngineGeneration, future: Future[FinishReason], asked: Asked) -> None:
        """Tell the reader how it ended; runs as soon as it is cancelled, while the connection closes."""
        reason: FinishReason | None = None
        error: LocalsmithError | None = None
        try:
            reason = future.result()
        except CancelledError:
            reason = "cancelled"
        except Exception as exc:  # noqa: BLE001 - whatever fails must reach the reader
            error = remote_error(exc, asked)
            error.__cause__ = None if error is exc else exc
        with self._lock:
            self._running.pop(generation, None)
            self._total += generation.usage
            self._finished[reason or "failed"] += 1
        if reason is not None:
            generation.finish(reason)
        elif error is not None:
            generation.fail(error)


async def _read(
    generation: EngineGeneration, pieces: AsyncGenerator[Piece, None], deadline_s: float | None
) -> FinishReason:
    """Hand a stream's pieces to the reader; return why it ended."""
    began = time.perf_counter()
    first = 0.0
    num_tokens = 0
    reason = ""
    usage: tuple[int, int, int] | None = None
    total = generation.usage.prompt_tokens
    generation.put(Prefill(0, total, 0))
    try:
        async with asyncio.timeout(deadline_s) as limit, aclosing(pieces):
            async for piece in pieces:
                now = time.perf_counter() - began
                if piece.text and not first:
                    first = now
                    generation.put(Prefill(total, total, 0))
                num_tokens += bool(piece.text)  # servers send a token a piece; the last word is theirs
                usage = piece.usage or usage
                counts = usage or (total, 0, num_tokens)
                generation.update(Usage(*counts, first, first, now - first if first else 0.0))
                if piece.text or piece.logprobs:
                    generation.put(Delta(piece.text, piece.logprobs))
                reason = piece.reason or reason
    except TimeoutError:
        if limit.expired():
            return "deadline"
        raise
    if not reason:
        raise GenerationError("The server ended the answer in the middle.", hint="Look into its log.")
    return "length" if reason == "length" else "stop"


async def _wind_up(http: httpx.AsyncClient) -> None:
    """Wait for the connections of what was cancelled, then close them all."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    await asyncio.gather(*others, return_exceptions=True)
    await http.aclose()


def _wait_for(server: RemoteServer, on_wait: Callable[[str], None], stop: threading.Event) -> ServerFacts:
    url = server.address.root_url
    deadline = time.monotonic() + LOADING_WAIT_S
    on_wait(f"asking {url}")
    while (facts := server.facts()) is None:
        on_wait(f"{url} is loading its model")
        if stop.wait(_POLL_S) or time.monotonic() > deadline:
            raise ModelNotReadyError(
                f"{url} is still loading its model.", hint="Look into its log, or try again later."
            )
    return facts
