"""Limits of request bodies: size, time, and memory that all of them take."""

import asyncio

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server.core.errors import BodyTooLarge, ServerError
from server.dialects.openai.errors import error_response
from server.security.errors import BodyTooSlow, TooManyRequests
from server.security.limits import BODY_BYTES_PER_S, BODY_TIMEOUT_S, HELD_BODIES
from server.security.refusal import content_length, send_refusal


class BodyLimit:
    """Refuses request bodies that are too large or too slow.

    What `Content-Length` announces is refused before anything is read; what
    arrives in chunks is counted, so an endless body ends here too. A body that
    trickles ends when its time is over: `timeout_s`, and a second more for every
    `BODY_BYTES_PER_S` that did arrive. All bodies that are held together may
    take `HELD_BODIES` times the limit of one.
    """

    def __init__(
        self, app: ASGIApp, *, limit_bytes: int, timeout_s: float = BODY_TIMEOUT_S
    ) -> None:
        self._app = app
        self._limit_bytes = limit_bytes
        self._timeout_s = timeout_s
        self._held_bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if content_length(scope) > self._limit_bytes:
            too_large = BodyTooLarge(limit_bytes=self._limit_bytes)
            await _refuse(too_large, scope, receive, send)
            return
        body = _Body(self, receive)
        try:
            await self._app(scope, body.receive, send)
        except _LimitReached as reached:
            await _refuse(reached.error, scope, receive, send)
        finally:
            self._held_bytes -= body.n_bytes

    def take(self, n_bytes: int, body: "_Body") -> None:
        """Count what arrived for a body."""
        self._held_bytes += n_bytes
        body.n_bytes += n_bytes
        if body.n_bytes > self._limit_bytes:
            raise _LimitReached(BodyTooLarge(limit_bytes=self._limit_bytes))
        if self._held_bytes > HELD_BODIES * self._limit_bytes:
            raise _LimitReached(
                TooManyRequests(
                    "The server holds so many large request bodies that there is no "
                    "room for this one. Try again later."
                )
            )

    def tell_deadline(self, begun_s: float, n_bytes: int) -> float:
        """Tell when a body must be complete of which some has arrived."""
        return begun_s + self._timeout_s + n_bytes / BODY_BYTES_PER_S


class _Body:
    """The body of one request on its way in."""

    def __init__(self, limit: BodyLimit, receive: Receive) -> None:
        self._limit = limit
        self._receive = receive
        self._begun_s: float | None = None
        self._is_complete = False
        self.n_bytes = 0

    async def receive(self) -> Message:
        """Receive as the application does; afterwards it waits for the end."""
        if self._is_complete:
            return await self._receive()
        now_s = asyncio.get_running_loop().time()
        begun_s = self._begun_s = now_s if self._begun_s is None else self._begun_s
        deadline = asyncio.timeout_at(self._limit.tell_deadline(begun_s, self.n_bytes))
        try:
            async with deadline:
                message = await self._receive()
        except TimeoutError:
            if not deadline.expired():
                raise
            raise _LimitReached(
                BodyTooSlow(
                    "The request body did not arrive in time: "
                    f"{self.n_bytes} bytes in {now_s - begun_s:.0f} s. Send it faster."
                )
            ) from None
        self._is_complete = not message.get("more_body", False)
        self._limit.take(len(message.get("body", b"")), self)
        return message


class _LimitReached(Exception):
    """A body is over a limit; no handler but `BodyLimit` sees it."""

    def __init__(self, error: ServerError) -> None:
        super().__init__(error.message)
        self.error = error


async def _refuse(
    error: ServerError, scope: Scope, receive: Receive, send: Send
) -> None:
    await send_refusal(error_response(error.to_info()), scope, receive, send)
