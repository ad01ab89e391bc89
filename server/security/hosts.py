"""Which names a client may have asked for. Pure.

A page on the internet can let its own name point at 127.0.0.1 (DNS rebinding);
its scripts then reach this server as if it were the page's. What gives them away
is the `Host` header: it carries the page's name. So only names that this server
is known by are answered, before anything else is looked at. An IP address in
`Host` cannot come from rebinding, since no name was resolved for it; a server
that is bound to all addresses therefore takes any address, but no other name.

Source: RFC 9112, section 3.2; RFC 3986, section 3.2.2 for the syntax.
"""

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.security.errors import HostNotAllowed, InvalidHost

LOOPBACK_HOSTS = ("localhost", "127.0.0.1", "::1")
MAX_HOST_CHARS = 255

_NAME = re.compile(r"[a-z0-9_](?:[a-z0-9_.-]*[a-z0-9_])?", re.ASCII)
_HOST = re.compile(
    r"(\[[0-9a-f:.]{2,45}\]|[a-z0-9_.-]{1,255})(?::(\d{0,5}))?", re.ASCII
)
_MAX_PORT = 65_535

Headers = Iterable[tuple[bytes, bytes]]


@dataclass(frozen=True, slots=True)
class Hosts:
    """The names this server answers to.

    Args:
        names: In the form that `parse_host_name` gives.
        any_address: Whether every IP address is one of them.
    """

    names: frozenset[str] = frozenset(LOOPBACK_HOSTS)
    any_address: bool = False

    def check(self, headers: Headers) -> str:
        """Check the `Host` header of a request.

        Returns:
            Host and port as they were given, in lower case.

        Raises:
            InvalidHost: It is missing, there are several, or it is no host.
            HostNotAllowed: It names another host.
        """
        found = [value for name, value in headers if name == b"host"]
        if len(found) != 1:
            count = "no Host header" if not found else f"{len(found)} Host headers"
            raise InvalidHost(f"The request has {count}. Send exactly one.")
        given = found[0].decode("latin-1").lower()
        parsed = split_host(given)
        if parsed is None:
            raise InvalidHost(
                "The Host header is not a host name or an IP address with an "
                "optional port. Send one such as 'localhost:1234'."
            )
        if not self.allows(parsed[0]):
            raise HostNotAllowed(
                f"This server does not answer to the host name '{parsed[0]}'. Use "
                "localhost or its address, or start it with "
                f"--allowed-hosts {parsed[0]}."
            )
        return given

    def allows(self, name: str) -> bool:
        """Tell whether a name that `split_host` gave is one of ours."""
        return name in self.names or (self.any_address and _is_address(name))


def make_hosts(bound: str | None, allowed: Sequence[str]) -> Hosts:
    """Collect the names of a server.

    Args:
        bound: The address it listens on; None if that is none of the network.
        allowed: Further names, each a host name or IP address without a port.

    Raises:
        ValueError: An entry of `allowed` is no host; its text is the entry.
    """
    names = set(LOOPBACK_HOSTS)
    for entry in allowed:
        name = parse_host_name(entry)
        if name is None:
            raise ValueError(entry)
        names.add(name)
    any_address = False
    if bound is not None:
        address = parse_host_name(bound)
        names |= {address} if address else set()
        any_address = address is not None and _is_wildcard(address)
    return Hosts(frozenset(names), any_address)


def split_host(text: str) -> tuple[str, int | None] | None:
    """Split the text of a `Host` header, in lower case, into name and port.

    Returns:
        The name in the form of `parse_host_name`, and the port if there is
        one; None if the text is no host.
    """
    match = _HOST.fullmatch(text)
    if match is None:
        return None
    name = parse_host_name(match[1])
    port = int(match[2]) if match[2] else None
    if name is None or (port is not None and not 0 < port <= _MAX_PORT):
        return None
    return name, port


def parse_host_name(text: str) -> str | None:
    """Bring a name or address to the one form that names are compared in.

    Names lose a dot at their end, addresses are written in their short form,
    without brackets.

    Returns:
        None if it is neither.
    """
    text = text.strip().lower()
    bare = text[1:-1] if text.startswith("[") and text.endswith("]") else text
    if ":" in bare:
        try:
            return str(ipaddress.IPv6Address(bare))
        except ValueError:
            return None
    if bare is not text:
        return None  # only IPv6 addresses stand in brackets
    name = bare.removesuffix(".")
    if len(name) > MAX_HOST_CHARS or not _NAME.fullmatch(name) or ".." in name:
        return None
    return name


def is_loopback(address: str) -> bool:
    """Tell whether an IP address reaches this machine alone."""
    try:
        parsed = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(parsed, "ipv4_mapped", None)
    return bool((mapped or parsed).is_loopback)


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


def _is_wildcard(name: str) -> bool:
    return _is_address(name) and ipaddress.ip_address(name).is_unspecified
