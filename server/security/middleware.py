"""The gate before the routes: pure ASGI, nothing buffered or re-tasked.

Order, for HTTP and WebSocket alike: `Host`, origin, caller, permission, and then
how many requests are being answered. A page that got here by DNS rebinding thus
learns nothing, not even whether a token is needed. The answer to a preflight
comes before the caller is looked at, because browsers send no token with it.
"""

import logging
from dataclasses import dataclass, field

from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.errors import ServerError
from server.dialects.openai.errors import error_response
from server.security.access import ANYBODY, Access
from server.security.errors import TooManyRequests, Unauthorized
from server.security.hosts import Hosts
from server.security.limits import Limits
from server.security.origins import Header, Origins, is_preflight
from server.security.permissions import PUBLIC, required_permission
from server.security.refusal import send_refusal

WEBSOCKET_REFUSED = 1008
"""Source: RFC 6455, section 7.4.1, "policy violation"."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Guard:
    """What a server lets in; by default the programs of its own machine."""

    hosts: Hosts = field(default_factory=Hosts)
    origins: Origins = field(default_factory=Origins)
    access: Access = field(default_factory=Access)
    limits: Limits = field(default_factory=Limits)


class Gate:
    """Lets in whom the guard allows; `scope["state"]["caller"]` says who it is."""

    def __init__(self, app: ASGIApp, *, guard: Guard) -> None:
        self._app = app
        self._guard = guard
        self._n_running = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        more: list[Header] = []
        send_more = _adding(more, send)
        try:
            more += self._check_sender(scope)
            if scope["type"] == "http" and _asks_for_preflight(scope):
                more += self._guard.origins.answer_preflight(scope["headers"])
                await Response(status_code=204)(scope, receive, send_more)
                return
            is_counted = self._check_caller(scope)
        except ServerError as error:
            await self._refuse(error, scope, receive, send_more)
            return
        self._n_running += is_counted
        try:
            await self._app(scope, receive, send_more)
        finally:
            self._n_running -= is_counted

    def _check_sender(self, scope: Scope) -> list[Header]:
        """Check by what name and from which page the server was called."""
        headers = scope["headers"]
        return self._guard.origins.check(
            headers,
            method=scope.get("method", "GET"),
            host=self._guard.hosts.check(headers),
            websocket=scope["type"] == "websocket",
        )

    def _check_caller(self, scope: Scope) -> bool:
        """Find out who asks and whether that is allowed.

        Returns:
            Whether the request counts among those that are being answered.
        """
        needed = required_permission(scope.get("method", "WEBSOCKET"), scope["path"])
        state = scope.setdefault("state", {})
        if needed is PUBLIC:
            state["caller"] = ANYBODY
            return False
        caller = self._guard.access.identify(scope["headers"])
        caller.require(needed)
        state["caller"] = caller
        limit = self._guard.limits.max_concurrent_requests
        if self._n_running >= limit:
            raise TooManyRequests(
                f"The server is answering {limit} requests, the most it takes. "
                "Try again later, or start it with a larger "
                "--max-concurrent-requests."
            )
        return True

    async def _refuse(
        self, error: ServerError, scope: Scope, receive: Receive, send: Send
    ) -> None:
        # The text may quote the Host header; the log makes control characters
        # harmless, and the length was bounded when it was parsed.
        _log.info("refused: %s", error.message)
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": WEBSOCKET_REFUSED})
            return
        headers = {}
        if isinstance(error, Unauthorized):
            headers["www-authenticate"] = "Bearer"
        response = error_response(error.to_info(), headers)
        await send_refusal(response, scope, receive, send)


def _asks_for_preflight(scope: Scope) -> bool:
    headers = scope["headers"]
    return (
        scope["method"] == "OPTIONS"
        and is_preflight(headers)
        and any(name == b"origin" for name, _ in headers)
    )


def _adding(more: list[Header], send: Send) -> Send:
    """Add headers to an answer, whoever gives it."""

    async def send_more(message: Message) -> None:
        if more and message["type"] == "http.response.start":
            message["headers"] = [*message.get("headers", ()), *more]
        await send(message)

    return send_more
