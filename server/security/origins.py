"""Which web pages may use this server from a browser. Pure.

A browser sends requests of any page to any address, localhost included, and
tells the page's origin beside them. Without a look at it, a page on the internet
could let a local server compute, load and unload. So:

* a request that names a foreign origin is refused unless it only reads (its
  answer stays unreadable for the page, since no CORS header comes with it);
* `Sec-Fetch-Site` says the same where a browser leaves `Origin` out;
* a WebSocket handshake reads by its method, but browsers put no fence around it:
  a foreign origin is refused there as well;
* origins that the operator named get CORS headers. Never with credentials:
  the server knows no cookies, and tokens travel in a header of their own.

A page's origin is its own when host and port are those of the `Host` header,
which was checked before. Programs that are no browser send no origin.

Source: Fetch Standard, "CORS protocol" and "Origin header"; RFC 6454; W3C Fetch
Metadata, section 2; Private Network Access, section 3.
"""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from server.security.errors import OriginNotAllowed
from server.security.hosts import split_host

ANY_ORIGIN = "*"
PREFLIGHT_MAX_AGE_S = 600
METHODS = "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
EXPOSED = "x-request-id, retry-after, x-should-retry"

MAX_ORIGIN_CHARS = 512
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]{0,31})://([a-z0-9._:\[\]-]{1,300})", re.ASCII)
_HEADER_LIST = re.compile(r"[A-Za-z0-9_, -]{1,2000}", re.ASCII)
_PORTS = {"http": 80, "https": 443}
_READING = frozenset({"GET", "HEAD", "OPTIONS"})
_FOREIGN_SITES = frozenset({b"cross-site", b"same-site"})

Header = tuple[bytes, bytes]


@dataclass(frozen=True, slots=True)
class Origins:
    """The foreign origins that may use this server; `*` stands for all."""

    allowed: frozenset[str] = frozenset()

    def check(
        self, headers: Sequence[Header], *, method: str, host: str, websocket: bool
    ) -> list[Header]:
        """Check where a request comes from.

        Args:
            headers: Of the request, names in lower case.
            method: Of the request.
            host: Its checked `Host` header.
            websocket: Whether it opens a WebSocket.

        Returns:
            The CORS headers of the answer; none for clients that need none.

        Raises:
            OriginNotAllowed: A foreign page wants more than to read.
        """
        reads = method in _READING and not websocket and not is_preflight(headers)
        given = [value for name, value in headers if name == b"origin"]
        if not given:
            site = [value for name, value in headers if name == b"sec-fetch-site"]
            if not reads and _FOREIGN_SITES & set(site) and not self._allows_any():
                raise _refuse("another site")
            return []
        origin = given[0].decode("latin-1").lower()
        if len(given) > 1 or len(origin) > MAX_ORIGIN_CHARS:
            raise _refuse("")
        if origin in self.allowed or self._allows_any():
            return self._allow(origin)
        if is_own(origin, host) or reads:
            return []
        raise _refuse(origin)

    def answer_preflight(self, headers: Sequence[Header]) -> list[Header]:
        """Give the further headers for a preflight that `check` let through."""
        asked = dict(headers)
        more = [
            (b"access-control-allow-methods", METHODS.encode()),
            (b"access-control-max-age", str(PREFLIGHT_MAX_AGE_S).encode()),
        ]
        wanted = asked.get(b"access-control-request-headers", b"").decode("latin-1")
        if _HEADER_LIST.fullmatch(wanted):
            more.append((b"access-control-allow-headers", wanted.encode()))
        if asked.get(b"access-control-request-private-network") == b"true":
            more.append((b"access-control-allow-private-network", b"true"))
        return more

    def _allows_any(self) -> bool:
        return ANY_ORIGIN in self.allowed

    def _allow(self, origin: str) -> list[Header]:
        shown = ANY_ORIGIN if self._allows_any() else origin
        return [
            (b"access-control-allow-origin", shown.encode("latin-1")),
            (b"access-control-expose-headers", EXPOSED.encode()),
            (b"vary", b"Origin"),
        ]


def make_origins(entries: Iterable[str]) -> Origins:
    """Collect allowed origins.

    Args:
        entries: Each `*` or like `https://example.org` or `http://localhost:3000`.

    Raises:
        ValueError: An entry is neither; its text is the entry.
    """
    allowed = set()
    for entry in entries:
        origin = entry.strip().lower().removesuffix("/")
        if origin != ANY_ORIGIN and not _ORIGIN.fullmatch(origin):
            raise ValueError(entry)
        allowed.add(origin)
    return Origins(frozenset(allowed))


def is_preflight(headers: Iterable[Header]) -> bool:
    """Tell whether a browser asks what it may send, by its own header."""
    return any(name == b"access-control-request-method" for name, _ in headers)


def is_own(origin: str, host: str) -> bool:
    """Tell whether an origin is the server itself as the client named it."""
    match = _ORIGIN.fullmatch(origin)
    if match is None or match[1] not in _PORTS:
        return False
    theirs, ours = split_host(match[2]), split_host(host)
    if theirs is None or ours is None:
        return False
    default = _PORTS[match[1]]
    return (theirs[0], theirs[1] or default) == (ours[0], ours[1] or default)


def _refuse(origin: str) -> OriginNotAllowed:
    shown = origin if _ORIGIN.fullmatch(origin) else "an unknown origin"
    return OriginNotAllowed(
        f"A web page of {shown} may not use this server. To allow it, start the "
        "server with --cors and the page's origin, such as "
        "--cors https://example.org."
    )
