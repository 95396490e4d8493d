"""What a server says of itself, and its tokenizer.

Place in the data's way: `remote_model.connect` asks for the facts once; `RemoteModel` counts tokens here for
the budget. vLLM and llama-server count exactly over HTTP, kept for the counts that come again; any other
server's tokens are estimated on the safe side (`remote_estimate`).

Example:
    server = RemoteServer(RemoteAddress.parse("openai://gpu:8000/qwen"), SecretStr(""))
    facts = server.facts()
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TypeAlias

import httpx
from pydantic import SecretStr

from ...core.errors import AccessDenied, GenerationError, ModelNotFoundError
from ...core.types import Message
from .address import RemoteAddress
from .errors import Asked, remote_error
from .estimate import estimate_prompt, estimate_text
from .messages import to_openai

Kind: TypeAlias = Literal["vllm", "llamacpp", "localsmith", "openai", "other"]

OPENAI_HOST = "https://api.openai.com"
NO_KEY = "none"  # OpenAI's client insists on one, and would take another server's from OPENAI_API_KEY
REQUEST_TIMEOUT_S = 30.0
CONNECT_TIMEOUT_S = 5.0
# One answer's budget counts tens of prompts; a strategy's next step counts most of them again.
CACHED_PROMPTS = 256
CACHED_TEXTS = 1024
# llama-server was seen to put one token more into a prompt with tools than /apply-template shows.
TOOLS_MARGIN_TOKENS = 8
_CANNOT = (404, 405, 501)
_OWNERS: dict[str, Kind] = {"vllm": "vllm", "llamacpp": "llamacpp", "localsmith": "localsmith"}
# What servers call the window they run with, in /v1/models; llama-server's `meta.n_ctx_train` is not it.
_WINDOW_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length")


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a server says of itself.

    Attributes:
        model: The model's name there.
        kind: The program, which decides what can be asked of it.
        n_ctx: The window; None where it doesn't tell.
        n_vocab: Tokens in the vocabulary; None where it doesn't tell.
        counts_exactly: Whether it counts tokens.
    """

    model: str
    kind: Kind
    n_ctx: int | None
    n_vocab: int | None
    counts_exactly: bool


class RemoteServer:
    """Asks one server about its model and its tokens; safe to use from several threads.

    Args:
        address: Where it is.
        api_key: The key; empty for none.
    """

    def __init__(self, address: RemoteAddress, api_key: SecretStr) -> None:
        self.address = address
        self.kind: Kind = "other"
        self.counts_exactly = False
        self._model = address.model
        timeout = httpx.Timeout(REQUEST_TIMEOUT_S, connect=CONNECT_TIMEOUT_S)
        key = api_key.get_secret_value() or NO_KEY
        self._http = httpx.Client(headers={"authorization": f"Bearer {key}"}, timeout=timeout)
        self._prompt_tokens = lru_cache(CACHED_PROMPTS)(self._count_prompt)
        self._text_tokens = lru_cache(CACHED_TEXTS)(self._count_text)

    def facts(self) -> ServerFacts | None:
        """Ask the server; None while it still loads its model.

        Raises:
            ModelNotReadyError: It can't be reached.
            AccessDenied: It refuses the key.
            ModelNotFoundError: It doesn't serve the model, or several and none is named.
        """
        models = self._list()
        if models is None:
            return None
        chosen = self._choose(models)
        if chosen is None and self._is_localsmith(models):
            if self._is_loading():
                return None
            models = self._list() or []  # what was loading may have become ready since it was listed
            chosen = self._choose(models)
        if chosen is None:
            raise self._not_served(models)
        self._model = str(chosen.get("id", self.address.model))
        is_openai = self.address.root_url.startswith(OPENAI_HOST)
        self.kind = "openai" if is_openai else _OWNERS.get(str(chosen.get("owned_by")), "other")
        meta = chosen.get("meta") if isinstance(chosen.get("meta"), dict) else {}
        assert isinstance(meta, dict)
        n_ctx = next((chosen[key] for key in _WINDOW_KEYS if isinstance(chosen.get(key), int)), None)
        if self.kind == "llamacpp":
            n_ctx = self._window_of_llama_server() or meta.get("n_ctx")
        self.counts_exactly = self._can_count()
        return ServerFacts(self._model, self.kind, n_ctx, meta.get("n_vocab"), self.counts_exactly)

    def count_text(self, text: str) -> int:
        """Return the tokens of a plain text, or more where the server doesn't count."""
        return self._text_tokens(text, False)

    def count_raw(self, prompt: str) -> int:
        """Return the tokens of a raw prompt, with those that the server puts in front."""
        return self._text_tokens(prompt, True)

    def count_prompt(self, messages: Sequence[Message], tools: Sequence[dict[str, Any]] = ()) -> int:
        """Return the tokens of the rendered chat template, or more where the server doesn't count."""
        return self._prompt_tokens(tuple(messages), json.dumps(list(tools), sort_keys=True))

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    # -- the model

    def _list(self) -> list[dict[str, Any]] | None:
        """Return what the server lists; None while it loads."""
        listed = self._get(f"{self.address.api_url}/models")
        if listed is None:
            return None
        return [model for model in listed.get("data") or () if isinstance(model, dict)]

    def _choose(self, models: Sequence[dict[str, Any]]) -> dict[str, Any] | None:
        """Return the model meant, or None; without a list, what was asked for."""
        wanted = self.address.model
        for model in models:
            if wanted in (model.get("id"), *(model.get("aliases") or ())) or (
                not wanted and len(models) == 1
            ):
                return model
        return {"id": wanted} if wanted and not models else None

    def _not_served(self, models: Sequence[dict[str, Any]]) -> ModelNotFoundError:
        wanted = self.address.model
        what = f"not {wanted}" if wanted else "and the address names none"
        listed = ", ".join(str(model.get("id")) for model in models)
        return ModelNotFoundError(
            f"{self.address.root_url} serves {listed or 'no model'}, {what}.",
            hint="Put one of these names at the end of model.name." if listed else "Put it into model.name.",
        )

    @staticmethod
    def _is_localsmith(models: Sequence[dict[str, Any]]) -> bool:
        return any(model.get("owned_by") == "localsmith" for model in models)

    def _is_loading(self) -> bool:
        return self._get(f"{self.address.root_url}/healthz") is None

    def _window_of_llama_server(self) -> int | None:
        props = self._get(f"{self.address.root_url}/props") or {}
        n_ctx = (props.get("default_generation_settings") or {}).get("n_ctx")  # of one slot
        return n_ctx if isinstance(n_ctx, int) else None

    # -- tokens

    def _can_count(self) -> bool:
        if self.kind not in ("vllm", "llamacpp"):
            return False
        self.counts_exactly = True
        try:
            self._count_prompt((Message("user", "x"),), "[]")
        except (ModelNotFoundError, GenerationError, AccessDenied):  # a gateway that passes on /v1 alone
            return False
        return True

    def _count_text(self, text: str, is_raw: bool) -> int:
        if not self.counts_exactly:
            return estimate_text(text) + (1 if is_raw else 0)
        if self.kind == "vllm":
            body: dict[str, Any] = {"model": self._model, "prompt": text, "add_special_tokens": is_raw}
            return int(self._post("/tokenize", body)["count"])
        body = {"content": text, "add_special": is_raw, "parse_special": is_raw}
        return len(self._post("/tokenize", body)["tokens"])

    def _count_prompt(self, messages: tuple[Message, ...], tools_json: str) -> int:
        tools = json.loads(tools_json)
        if not self.counts_exactly:
            return estimate_prompt(messages, tools)
        body: dict[str, Any] = {"model": self._model, "messages": to_openai(messages)}
        if tools:
            body["tools"] = tools
        if self.kind == "vllm":
            return int(self._post("/tokenize", body | {"add_generation_prompt": True})["count"])
        prompt = self._post("/apply-template", body)["prompt"]
        rendered = {"content": prompt, "add_special": True, "parse_special": True}
        margin = TOOLS_MARGIN_TOKENS if tools else 0
        return len(self._post("/tokenize", rendered)["tokens"]) + margin

    # -- HTTP

    def _get(self, url: str) -> dict[str, Any] | None:
        """Return the JSON object; None where the server is loading, {} where it has no such page."""
        try:
            response = self._http.get(url)
            if response.status_code == 503:
                return None
            if response.status_code in _CANNOT:
                return {}
            value = response.raise_for_status().json()
        except (httpx.HTTPError, ValueError) as exc:
            raise remote_error(exc, self._asked) from exc
        return value if isinstance(value, dict) else {}

    def _post(self, path: str, body: dict[str, Any]) -> dict[str, Any]:
        try:
            response = self._http.post(self.address.root_url + path, json=body).raise_for_status()
            value: dict[str, Any] = response.json()
        except (httpx.HTTPError, ValueError) as exc:
            raise remote_error(exc, self._asked) from exc
        return value

    @property
    def _asked(self) -> Asked:
        return Asked(self.address.api_url, self._model)
