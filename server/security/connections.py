"""Limits of connections, which no application sees.

The HTTP protocol of uvicorn waits for ever for headers, for the end of a body
that nobody reads, and for a client that does not read; and it takes headers of
any size. This one ends such connections. Times run from what a request needs to
come forward, not from the last byte, so bytes that trickle prolong nothing:

    connected ──first byte──▶ headers ──complete──▶ body ──complete──▶ idle
     idle_timeout          header_timeout     (application: body.py)    idle_timeout
                                              answered before: linger

uvicorn may be replaced by an application server that has these limits itself;
nothing else depends on this file.
"""

import asyncio
from typing import Any

import msgspec
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import (
    HttpToolsProtocol,
    RequestResponseCycle,
)
from uvicorn.server import ServerState

from server.core.errors import ErrorInfo
from server.dialects.openai.errors import error_object
from server.security.limits import MAX_HEAD_BYTES, Limits
from server.security.refusal import LINGER_S

_REASONS = {
    400: "Bad Request",
    408: "Request Timeout",
    431: "Request Header Fields Too Large",
    503: "Service Unavailable",
}


class BoundedProtocol(HttpToolsProtocol):
    """uvicorn's HTTP protocol with an end for everything.

    `limits` is set by `bound_protocol`.
    """

    limits = Limits()

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._timer: asyncio.TimerHandle | None = None
        self._write_timer: asyncio.TimerHandle | None = None
        self._head_bytes = 0
        self._is_reading = False  # between a request's first and last byte
        self._has_head = False
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, unless there are too many connections."""
        super().connection_made(transport)
        if len(self.connections) > self.limits.max_connections:
            self._end(503, "too_many_connections", "The server has no connection left.")
            return
        self._arm(self.limits.idle_timeout_s, self._close)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clocks."""
        self._disarm()
        self._stop_write_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Parse, and count what belongs to no body."""
        self._head_bytes += len(data)
        super().data_received(data)
        if self._is_refused or self._head_bytes > MAX_HEAD_BYTES:
            self._end(
                431,
                "headers_too_large",
                f"The request's headers are larger than {MAX_HEAD_BYTES} bytes.",
            )

    def handle_websocket_upgrade(self) -> None:
        """Leave the connection, and its times, to the WebSocket protocol."""
        super().handle_websocket_upgrade()
        self._disarm()
        self._stop_write_timer()

    def send_400_response(self, msg: str) -> None:
        """Refuse what is not HTTP, in the shape of all other errors."""
        self._end(400, "invalid_http", msg)

    def on_message_begin(self) -> None:
        """Give the headers their time."""
        super().on_message_begin()
        self._is_reading, self._has_head = True, False
        self._arm(self.limits.header_timeout_s, self._refuse_slow_head)

    def on_headers_complete(self) -> None:
        """Leave the body's time to the application."""
        self._disarm()
        self._has_head = True
        n_bytes = len(self.url) + sum(len(n) + len(v) + 4 for n, v in self.headers)
        # Nothing after too large headers is looked at either.
        self._is_refused = self._is_refused or n_bytes > MAX_HEAD_BYTES
        if not self._is_refused:
            super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Take a piece of a body."""
        self._head_bytes = 0
        if self._last_cycle() is not None and not self._is_refused:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Note that all of a request has arrived."""
        self._head_bytes = 0
        self._is_reading = False
        if self._last_cycle() is None or self._is_refused:
            return
        super().on_message_complete()
        if self.cycle.response_complete:
            self._arm(self.limits.idle_timeout_s, self._close)

    def on_response_complete(self) -> None:
        """Wait for the next request, or for the rest of this one, not for long."""
        super().on_response_complete()
        if self.transport.is_closing():
            self._arm(self.limits.write_timeout_s, self.transport.abort)
        elif not self.cycle.response_complete:
            return  # the next request is being answered already
        elif not self._is_reading:
            self._arm(self.limits.idle_timeout_s, self._close)
        elif self._has_head:
            self._arm(LINGER_S, self._close)
        # Otherwise the next request's headers have begun, and their time runs.

    def pause_writing(self) -> None:
        """Give a client that does not read some time."""
        super().pause_writing()
        self._stop_write_timer()
        self._write_timer = self.loop.call_later(
            self.limits.write_timeout_s, self.transport.abort
        )

    def resume_writing(self) -> None:
        """Note that the client has read."""
        self._stop_write_timer()
        super().resume_writing()

    def _unsupported_upgrade_warning(self) -> None:
        """Keep quiet: a client could fill the log by asking again and again."""

    def _refuse_slow_head(self) -> None:
        self._end(
            408,
            "header_timeout",
            "The request's headers did not arrive within "
            f"{self.limits.header_timeout_s:g} s.",
        )

    def _end(self, status: int, code: str, message: str) -> None:
        """Answer by hand and close."""
        if self.transport.is_closing():
            return
        info = ErrorInfo(code=code, message=message, http_status=status)
        body = msgspec.json.encode(error_object(info))
        if self._may_answer():
            head = (
                f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
                "content-type: application/json; charset=utf-8\r\n"
                f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
            )
            self.transport.write(head.encode() + body)
        self._close()

    def _may_answer(self) -> bool:
        """Tell whether no other answer is under way that this would break into."""
        cycle = self._last_cycle()
        if cycle is None or cycle.response_complete:
            return True
        return not cycle.response_started and not self.pipeline

    def _last_cycle(self) -> RequestResponseCycle | None:
        """Give the request that was parsed last; its type there denies None."""
        return self.cycle

    def _close(self) -> None:
        """Close; what a client does not read in time is dropped."""
        self.transport.close()
        self._arm(LINGER_S, self.transport.abort)

    def _arm(self, wait_s: float, action: Any) -> None:  # noqa: ANN401 - any callback
        self._disarm()
        self._timer = self.loop.call_later(wait_s, action)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _stop_write_timer(self) -> None:
        if self._write_timer is not None:
            self._write_timer.cancel()
            self._write_timer = None


def bound_protocol(limits: Limits) -> type[BoundedProtocol]:
    """Make the protocol class of a server with these limits."""
    return type("LimitedProtocol", (BoundedProtocol,), {"limits": limits})
