"""`localsmith serve` and `localsmith keys`: the HTTP server in OpenAI's form, and who may use it.

Place in the data's way: takes model, embedder and strategies from the front door and hands them to
`serving/`, which knows nothing of the front door.

Example: `localsmith serve --port 8000`
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from .core.contracts import ServedModel
    from .core.settings import Settings
    from .front_door import Localsmith
    from .loading import LoadingState
    from .models.embedding.embedder import EmbedderProcess
    from .serving.keys import ApiKey, KeyStore
    from .serving.parts import ServedParts

ANNOUNCE_POLL_S = 0.2
keys_app = typer.Typer(help="API keys of the HTTP server: create, list, revoke.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Name of the key, for people: whose it is or what for.")]


def serve(
    host: Annotated[
        str | None, typer.Option(help="Address to listen on; not only loopback needs a key.")
    ] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on; 0 for any free one.")] = None,
    model: Annotated[
        str | None, typer.Option(help="Catalog name of the chat model, or openai://HOST:PORT/MODEL.")
    ] = None,
) -> None:
    """Serve models and strategies as OpenAI's API does."""
    from .core.settings import load_settings
    from .front_door import Localsmith
    from .serving.app import create_app
    from .serving.keys import KeyStore
    from .serving.server import HttpServer, check_exposure

    named = {"host": host, "port": port}
    settings = load_settings(serve={key: value for key, value in named.items() if value is not None})
    keys = KeyStore(settings.keys_path)
    check_exposure(settings.serve, keys)
    # The server takes these signals while it runs and hands them on at its end, when all is done already.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: None)
    with Localsmith(model, settings=settings) as ls:
        server = HttpServer(create_app(parts_of(ls), settings.serve, keys), settings.serve)
        ls.warm_up()
        threading.Thread(target=_announce, args=(ls, server.url, keys.exist()), daemon=True).start()
        server.run()
    keys.close()


def parts_of(ls: Localsmith) -> ServedParts:
    """Return what the server serves, from the front door; nothing in it waits for a part to load."""
    from .agents.registry import STRATEGIES
    from .serving.parts import ServedParts
    from .strategies import NamedStrategy

    def model() -> ServedModel:
        state = loading()[0]
        if not state.is_replacing:  # else the request waits for the model that takes over
            _require_ready(state)
        return ls.engine

    def embedder() -> EmbedderProcess:
        _require_ready(loading()[1])
        return ls.embedder

    def loading() -> list[LoadingState]:
        states = ls.loading
        if any(state.error is not None and state.error.retryable for state in states):
            ls.warm_up()  # a model server that was down may be up again
        return states

    def collections() -> list[str]:
        return [info.name for info in ls.library.collections()]

    return ServedParts(
        model=model,
        embedder=embedder,
        strategies={name: NamedStrategy(ls, name) for name in STRATEGIES},
        collections=collections,
        loading=loading,
    )


@keys_app.command()
def create(
    name: Name,
    scope: Annotated[
        list[str] | None,
        typer.Option(
            help="What it is good for: chat, documents, embeddings, python, metrics; repeat for several."
        ),
    ] = None,
) -> None:
    """Make a key and show it, once.

    Without --scope it is good for chat, documents and embeddings.
    """
    from .serving.keys import DEFAULT_SCOPES
    from .terminal import console

    store = _keys()
    key, token = store.create(name, scope or DEFAULT_SCOPES)
    sys.stdout.write(f"{token}\n")
    console.print(
        f"{key.name} is good for {', '.join(sorted(key.scopes))}. The key is not kept: copy it now.\n"
        "From now on every request needs a key, on this machine too.\n"
        f"To revoke it: localsmith keys revoke {key.name}",
        markup=False,
    )


@keys_app.command("list")
def list_keys() -> None:
    """List the keys with their scopes and last use.

    The keys themselves are not kept.
    """
    from rich.table import Table

    from .terminal import console

    table = Table("Name", "Id", "Good for", "Made", "Last used", "State", box=None)
    for key in _keys().all():
        state = "valid" if key.revoked_at is None else f"revoked {_day(key.revoked_at)}"
        scopes = ", ".join(sorted(key.scopes))
        table.add_row(key.name, key.id, scopes, _day(key.created_at), _day(key.last_used_at), state)
    console.print(table)


@keys_app.command()
def revoke(name: Annotated[str, typer.Argument(help="Name or id of the key.")]) -> None:
    """Make a key invalid, for good.

    A running server refuses it from its next request on.
    """
    from .terminal import console

    key: ApiKey = _keys().revoke(name)
    console.print(f"Revoked {key.name} ({key.id}).", markup=False)


def _keys() -> KeyStore:
    from .core.settings import load_settings
    from .serving.keys import KeyStore

    settings: Settings = load_settings()
    return KeyStore(settings.keys_path)


def _require_ready(state: LoadingState) -> None:
    """Refuse while a part loads.

    Raises:
        ModelNotReadyError: It is loading.
        LocalsmithError: It failed.
    """
    from .core.errors import ModelNotReadyError

    if state.error is not None:
        raise state.error
    if state.state != "ready":
        share = "" if state.progress is None else f" ({state.progress:.0%})"
        raise ModelNotReadyError(
            f"The {state.name} is still loading{share}.",
            hint="Ask again in a few seconds; GET /healthz tells how far it is.",
        )


def _announce(ls: Localsmith, url: str, needs_key: bool) -> None:
    """Say where the server listens, and when its model is there."""
    from .terminal import console

    key = ' -H "Authorization: Bearer $LOCALSMITH_API_KEY"' if needs_key else ""
    body = """'{"model": "localsmith", "messages": [{"role": "user", "content": "Hello"}]}'"""
    lines = [
        f"Listening on {url}/v1. Try it:",
        f'  curl {url}/v1/chat/completions{key} -H "Content-Type: application/json" -d {body}',
        "Ctrl-C stops it.",
    ]
    console.print("\n".join(lines), markup=False, soft_wrap=True)
    for i in range(2):
        while (state := ls.loading[i]).state in ("idle", "loading"):
            time.sleep(ANNOUNCE_POLL_S)
        words = f"The {state.name} is ready after {state.elapsed_s:.0f} s."
        if state.error is not None:
            words = f"The {state.name} can't be served: {state.error} {state.error.hint}".rstrip()
        console.print(words, markup=False)


def _day(when: float | None) -> str:
    return "-" if when is None else time.strftime("%Y-%m-%d %H:%M", time.localtime(when))
