"""Which hosts a fetch may name, and which addresses it may connect to.

Place in the data's way: `web.py` asks before every request, redirects included. A name that is allowed but
leads to an address inside of the person's own network is refused; the address that was checked is the one
that is connected to, so that a second answer of the name server changes nothing.

Source:
    RFC 6890 and the IANA special-purpose address registries, as Python's `ipaddress` keeps them.

Example:
    >>> is_public("93.184.216.34"), is_public("127.0.0.1"), is_public("::ffff:10.0.0.1")
    (True, False, False)
    >>> is_listed("docs.python.org", ["*.python.org"])
    True
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Sequence

from ...core.errors import ToolExecutionError

Resolve = Callable[[str, int], Sequence[str]]
"""Called with a host and a port; returns its addresses."""

_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Tell whether an address belongs to the public internet: not private, loopback, link-local, reserved, ….

    Addresses of IPv6 that carry one of IPv4 count as that one.
    """
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        inner = ip.ipv4_mapped or ip.sixtofour or (ip.teredo[1] if ip.teredo else None)
        if inner is None and ip in _NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner is None and int(ip) >> 32 == 0:  # IPv4-compatible, deprecated
            return False
        if inner is not None:
            ip = inner
    return ip.is_global and not (ip.is_multicast or ip.is_reserved or ip.is_unspecified)


def is_listed(host: str, allowed: Sequence[str]) -> bool:
    """Tell whether a host is on a list of names; "*.example.org" names all hosts below example.org."""
    host = host.lower().rstrip(".")
    for name in allowed:
        name = name.lower().rstrip(".")
        if host == name or (name.startswith("*.") and host.endswith(name[1:]) and host != name[2:]):
            return True
    return False


def resolve(host: str, port: int) -> list[str]:
    """Return the addresses of a host, as the system resolves it.

    Raises:
        ToolExecutionError: There is no such host.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as exc:
        raise ToolExecutionError(f"The host {host} is not known.") from exc
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def checked_address(
    host: str, port: int, look_up: Resolve = resolve, may_connect: Callable[[str], bool] = is_public
) -> str:
    """Return the address to connect to.

    Args:
        host: The host.
        port: The port.
        look_up: Tells its addresses.
        may_connect: Tells whether an address may be connected to.

    Raises:
        ToolExecutionError: The host has no address, or one that may not be connected to: then none is used.
    """
    addresses = look_up(host, port)
    if not addresses:
        raise ToolExecutionError(f"The host {host} is not known.")
    if not all(may_connect(address) for address in addresses):
        raise ToolExecutionError(f"{host} lies inside of a private network; only public pages are fetched.")
    return addresses[0]
