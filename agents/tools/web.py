"""One web page as a tool: off unless hosts are named, never inside of the person's own network.

Place in the data's way: the model's URL -> allow-list -> address check -> the page's text, which is data like
any other. Redirects are followed here, one by one, each checked like the first request. A person agrees to
each fetch unless it is said otherwise, because a URL can carry out what the model has read.

Example:
    tool = web_fetch(["docs.python.org"])
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin, urlsplit, urlunsplit

from ...core.errors import LocalsmithError, ToolArgumentError, ToolExecutionError
from ...retrieval.loaders.encoding import decode
from ...retrieval.loaders.html import html_blocks
from .addresses import Resolve, checked_address, is_listed, is_public, resolve
from .tool import FunctionTool, Observation, ToolContext

if TYPE_CHECKING:
    import httpx

MAX_BYTES = 2_000_000
MAX_REDIRECTS = 4
TIMEOUT_S = 15.0
_PORTS = {"http": 80, "https": 443}
_TEXT_TYPES = ("text/", "application/json", "application/xml", "application/xhtml+xml", "application/ld+json")


@dataclass(frozen=True, slots=True)
class WebRules:
    """What may be fetched.

    Attributes:
        allowed_hosts: Names, "*.example.org" for all below; with ":port" where it is not the usual one.
        max_bytes: A page that is longer is refused.
        timeout_s: Time for a page with all its redirects, in seconds.
        look_up: Tells the addresses of a host.
        may_connect: Tells whether an address may be connected to.
    """

    allowed_hosts: tuple[str, ...] = ()
    max_bytes: int = MAX_BYTES
    timeout_s: float = TIMEOUT_S
    look_up: Resolve = resolve
    may_connect: Callable[[str], bool] = is_public


def web_fetch(allowed: Sequence[str] | WebRules, *, needs_approval: bool = True) -> FunctionTool:
    """Return the tool.

    Args:
        allowed: Hosts that may be fetched from, or all the rules; with no host every fetch is refused.
        needs_approval: Whether a person agrees to each fetch.
    """
    rules = allowed if isinstance(allowed, WebRules) else WebRules(tuple(allowed))

    def run(arguments: Mapping[str, Any], context: ToolContext) -> Observation:
        return Observation(fetch(str(arguments["url"]), rules, context.cancel.is_set))

    hosts = ", ".join(rules.allowed_hosts) or "none"
    return FunctionTool(
        name="fetch_page",
        description=f"Read the text of one web page. Allowed hosts: {hosts}.",
        parameters={
            "type": "object",
            "properties": {"url": {"type": "string", "minLength": 8, "maxLength": 300}},
            "required": ["url"],
        },
        function=run,
        timeout_s=rules.timeout_s + 5,
        needs_approval=needs_approval,
    )


def fetch(url: str, rules: WebRules, is_cancelled: Callable[[], bool] = lambda: False) -> str:
    """Return the text of a page.

    Args:
        url: Its address.
        rules: What may be fetched.
        is_cancelled: Asked between pieces; True ends the fetch.

    Raises:
        ToolArgumentError: The URL is malformed, or its host is not allowed.
        ToolExecutionError: It leads into a private network, or the page can't be had, is too long or no text.
    """
    import httpx

    ends = time.monotonic() + rules.timeout_s
    # trust_env=False: a proxy from the environment would do the connecting, to whatever address it likes.
    with httpx.Client(trust_env=False, follow_redirects=False) as client:
        for _ in range(MAX_REDIRECTS + 1):
            try:
                with _opened(client, url, rules, ends) as response:
                    if response.is_redirect:
                        url = urljoin(url, response.headers.get("location", ""))
                        continue
                    return _text(response, url, rules, ends, is_cancelled)
            except httpx.HTTPError as exc:
                raise ToolExecutionError(f"The page can't be fetched: {type(exc).__name__}.") from exc
    raise ToolExecutionError(f"The page redirects more than {MAX_REDIRECTS} times.")


def _opened(client: httpx.Client, url: str, rules: WebRules, ends: float) -> Any:
    """Return the open response to a request that went to an address that was checked."""
    parts = urlsplit(url.strip())
    host, port = _host_and_port(url, parts, rules)
    address = checked_address(host, port, rules.look_up, rules.may_connect)
    literal = f"[{address}]" if ":" in address else address
    target = urlunsplit((parts.scheme, f"{literal}:{port}", parts.path or "/", parts.query, ""))
    usual = port == _PORTS[parts.scheme]
    headers = {
        "Host": host if usual else f"{host}:{port}",
        "User-Agent": "Localsmith",
        "Accept": "text/html, text/plain, application/json;q=0.9",
        "Accept-Encoding": "identity",
    }
    timeout = max(0.05, ends - time.monotonic())
    # The certificate is checked against the name, though the address is dialled.
    request = {"headers": headers, "timeout": timeout, "extensions": {"sni_hostname": host}}
    return client.stream("GET", target, **request)  # type: ignore[arg-type]


def _host_and_port(url: str, parts: Any, rules: WebRules) -> tuple[str, int]:
    """Return where a URL leads.

    Raises:
        ToolArgumentError: It is malformed, or not allowed.
    """
    try:
        host, port = parts.hostname, parts.port
        host = host.encode("idna").decode("ascii") if host and not host.isascii() else host
    except (ValueError, UnicodeError) as exc:
        raise ToolArgumentError(f"{url[:200]!r} is no address of a page.") from exc
    if parts.scheme not in _PORTS or not host:
        raise ToolArgumentError(f"{url[:200]!r} is no address of a page: it must begin with https://.")
    if parts.username is not None or parts.password is not None:
        raise ToolArgumentError("An address with a user name or a password is not fetched.")
    usual = port is None or port == _PORTS[parts.scheme]
    is_allowed = is_listed(host, rules.allowed_hosts) if usual else f"{host}:{port}" in rules.allowed_hosts
    if not is_allowed:
        known = ", ".join(rules.allowed_hosts) or "none"
        raise ToolArgumentError(f"{host} is not among the hosts that may be fetched from: {known}.")
    return host, port or _PORTS[parts.scheme]


def _text(
    response: httpx.Response, url: str, rules: WebRules, ends: float, is_cancelled: Callable[[], bool]
) -> str:
    if response.status_code != 200:
        raise ToolExecutionError(f"The server answered {response.status_code} for {url[:200]}.")
    media_type = response.headers.get("content-type", "text/plain").partition(";")[0].strip().lower()
    if not media_type.startswith(_TEXT_TYPES):
        raise ToolExecutionError(f"The page is {media_type[:80]}, no text.")
    content = b"".join(_pieces(response, rules, ends, is_cancelled))
    try:
        text = decode(content, "The page").text
    except LocalsmithError as exc:
        raise ToolExecutionError("The page is no text.") from exc
    if "html" in media_type:
        text = "\n".join(block.text for block in html_blocks(text))
    return text.strip() or "The page has no text."


def _pieces(
    response: httpx.Response, rules: WebRules, ends: float, is_cancelled: Callable[[], bool]
) -> Iterator[bytes]:
    size = 0
    for piece in response.iter_bytes():
        size += len(piece)
        if size > rules.max_bytes:
            raise ToolExecutionError(f"The page is longer than {rules.max_bytes} bytes.")
        if time.monotonic() > ends:
            raise ToolExecutionError(f"The page took longer than {rules.timeout_s:g} s.")
        if is_cancelled():
            raise ToolExecutionError("The fetch was cancelled.")
        yield piece
