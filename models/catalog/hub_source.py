"""Model files from a hub repository over HTTPS, resumed where a connection was cut.

Place in the data's way: `pull` -> `fetch_from_hub` -> bytes in a `.partial` file, which `pull` verifies.
Reads the variables that every hub client honours: HF_ENDPOINT, HF_TOKEN, HF_HUB_OFFLINE.

Example:
    >>> describe_hub_file(HubSource("owner/repo"), "model.gguf").sha256  # doctest: +SKIP
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from ...core.errors import ModelDownloadError
from .catalog import HubSource, ModelFile
from .sources import SourceFailed, Transfer

if TYPE_CHECKING:
    import httpx

DEFAULT_ENDPOINT = "https://huggingface.co"
_CONNECT_TIMEOUT_S = 4.0  # a machine without the hub moves on to the next source after this
_READ_TIMEOUT_S = 30.0
_MAX_TRIES_WITHOUT_A_BYTE = 4
_FIRST_PAUSE_S = 0.5
_SHA256_CHARS = 64
_REFUSALS = {
    401: "it asks for an account: set HF_TOKEN",
    403: "access is refused: accept the licence on the repository's page and set HF_TOKEN",
    404: "there is no such file or repository",
    410: "the file was withdrawn",
}
_RANGE_NOT_SATISFIABLE = 416


def describe_hub_file(source: HubSource, path: str) -> ModelFile:
    """Ask the hub for a file's size and SHA-256.

    Raises:
        ModelDownloadError: The hub can't be reached, refuses, or states no SHA-256 for the file.
    """
    import httpx

    try:
        with _client() as client:
            response = client.head(_url(source, path), follow_redirects=True)
            _check_status(response)
            answers = [*response.history, response]
    except httpx.HTTPError as exc:
        raise ModelDownloadError(
            f"{source} can't be asked for {path}: {_cause(exc)}.", _OFFLINE_HINT
        ) from exc
    except SourceFailed as exc:
        raise ModelDownloadError(f"{source} does not deliver {path}: {exc}.", _OFFLINE_HINT) from exc
    etags = [a.headers.get("x-linked-etag", "").strip('"') for a in answers]
    sizes = [int(a.headers.get("x-linked-size", 0)) for a in answers]
    sha256 = next((etag for etag in etags if len(etag) == _SHA256_CHARS), "")
    if not sha256 or not any(sizes):
        raise ModelDownloadError(
            f"{source} states no SHA-256 for {path}, so it could not be verified.",
            "Download it yourself and run: localsmith models pull /path/to/model.gguf",
        )
    return ModelFile(path.rsplit("/", 1)[-1], max(sizes), sha256)


def fetch_from_hub(source: HubSource, path: str, size_bytes: int, partial: Path, transfer: Transfer) -> None:
    """Bring `partial` to the file's full size, going on from what is there.

    Args:
        source: The repository.
        path: Path of the file in it.
        size_bytes: The file's size.
        partial: The file to write; what it holds is taken for the beginning.
        transfer: Told about every block; its present count is taken for bytes of other files.

    Raises:
        SourceFailed: The hub can't be reached, refuses, or cuts the connection again and again.
        PullCancelled: The person stopped it.
    """
    import httpx

    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise SourceFailed("HF_HUB_OFFLINE is set")
    others = transfer.done_bytes
    tries = 0
    with _client() as client:
        while (have := _size(partial)) != size_bytes:
            if have > size_bytes:
                partial.unlink()
                continue
            try:
                _stream(client, _url(source, path), size_bytes, partial, transfer, others)
                cause = "the connection ended early"
            except httpx.HTTPError as exc:
                cause = _cause(exc)
                if (
                    isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout)
                    and transfer.done_bytes <= others
                ):
                    raise SourceFailed(cause) from exc
            tries = tries + 1 if _size(partial) <= have else 0
            if tries >= _MAX_TRIES_WITHOUT_A_BYTE:
                raise SourceFailed(f"{cause}, {tries} times in a row")
            if _size(partial) != size_bytes:
                transfer.sleep(_FIRST_PAUSE_S * 2**tries)
    transfer.update(others + size_bytes)


_OFFLINE_HINT = "Check the name and the connection, or pull a file from this disk instead."


def _stream(
    client: httpx.Client, url: str, size_bytes: int, partial: Path, transfer: Transfer, others: int
) -> None:
    have = _size(partial)
    headers = {"Range": f"bytes={have}-"} if have else {}
    with client.stream("GET", url, headers=headers, follow_redirects=True) as response:
        if response.status_code == _RANGE_NOT_SATISFIABLE:
            partial.unlink()
            return
        _check_status(response)
        if have and not response.headers.get("content-range", "").startswith(f"bytes {have}-"):
            have = 0  # the server sends the whole file again
            transfer.rewind(others)
        with partial.open("r+b" if partial.exists() else "wb") as file:
            file.truncate(have)
            file.seek(have)
            for block in response.iter_raw():
                have += len(block)
                if have > size_bytes:
                    raise SourceFailed(f"the file is longer than the {size_bytes} bytes expected")
                file.write(block)
                transfer.update(others + have)
            file.flush()
            os.fsync(file.fileno())


def _check_status(response: httpx.Response) -> None:
    if response.status_code in _REFUSALS:
        raise SourceFailed(_REFUSALS[response.status_code])
    response.raise_for_status()


def _client() -> httpx.Client:
    import httpx

    token = os.environ.get("HF_TOKEN", "").strip()
    headers = {"User-Agent": "localsmith", "Accept-Encoding": "identity"}
    if token:  # httpx drops it where a redirect leads to another host
        headers["Authorization"] = f"Bearer {token}"
    return httpx.Client(headers=headers, timeout=httpx.Timeout(_READ_TIMEOUT_S, connect=_CONNECT_TIMEOUT_S))


def _url(source: HubSource, path: str) -> str:
    endpoint = (os.environ.get("HF_ENDPOINT") or DEFAULT_ENDPOINT).rstrip("/")
    return f"{endpoint}/{source.repo}/resolve/{source.revision}/{path}"


def _cause(exc: httpx.HTTPError) -> str:
    import httpx

    if isinstance(exc, httpx.HTTPStatusError):
        return f"the hub answers {exc.response.status_code}"
    if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
        return "the hub can't be reached"
    return str(exc) or type(exc).__name__


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0
