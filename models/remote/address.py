"""The address of a model on another server, as it stands in `model.name`.

Place in the data's way: the front door asks `is_remote` before it looks for a model on this disk, and hands
the parsed address to `remote_model.connect`.

`openai://HOST:PORT/MODEL` is plain HTTP, `openai+https://HOST/MODEL` is HTTPS. The API is looked for under
`/v1`; where it stands deeper, the address says so: everything up to a `/v1/` in the path belongs to it.

Example:
    >>> address = RemoteAddress.parse("openai+https://llm.example.org/api/v1/Qwen/Qwen2.5-7B-Instruct")
    >>> address.api_url, address.model
    ('https://llm.example.org/api/v1', 'Qwen/Qwen2.5-7B-Instruct')
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from ...core.errors import ConfigError

SCHEMES = {"openai": "http", "openai+https": "https"}
_API = "/v1"
_HINT = 'Write it as "openai://HOST:PORT/MODEL", or "openai+https://HOST/MODEL"; see docs/how-to/outgrow.md.'


@dataclass(frozen=True, slots=True)
class RemoteAddress:
    """Where an OpenAI-compatible server is and which of its models is meant.

    Attributes:
        root_url: The server, without the API's path and without a slash at the end.
        model: The model's name there; "" for the only one it serves.
    """

    root_url: str
    model: str

    @property
    def api_url(self) -> str:
        """The API's address, what OpenAI's clients call `base_url`."""
        return self.root_url + _API

    @classmethod
    def parse(cls, text: str) -> RemoteAddress:
        """Read an address.

        Raises:
            ConfigError: The scheme is unknown, the host is missing, or it carries a key, a query or a port
                that is none.
        """
        parts = urlsplit(text)
        if parts.scheme not in SCHEMES:
            raise ConfigError(f"model.name: {parts.scheme}:// is no kind of model server.", hint=_HINT)
        if "@" in parts.netloc:  # an address is shown and logged; it is not repeated here for that reason
            raise ConfigError(
                "model.name: a user or key in the address would be shown and logged.",
                hint="Take it out and set LOCALSMITH_REMOTE_API_KEY.",
            )
        try:
            is_whole = bool(parts.hostname) and not parts.query and not parts.fragment
            _ = parts.port
        except ValueError as exc:
            raise ConfigError(f"model.name: {text!r} has a port that is none.", hint=_HINT) from exc
        if not is_whole:
            raise ConfigError(f"model.name: {text!r} is not an address and a model.", hint=_HINT)
        before, has_api, after = f"{parts.path}/".partition(f"{_API}/")
        prefix, model = (before, after) if has_api else ("", parts.path.removeprefix("/"))
        root = f"{SCHEMES[parts.scheme]}://{parts.netloc}{prefix}"
        return cls(root, unquote(model.removesuffix("/")))


def is_remote(name: str) -> bool:
    """Whether a model's name is an address rather than a name in the catalog."""
    return "://" in name
