"""Server-sent events: framing, and a response that outlives nobody.

The response reads a `Feed` until it is finished and writes what the dialect's
encoder makes of the events. It sends a comment when nothing was sent for a
while, since proxies and clients give up on silent connections, and it closes
the feed however it ends: completed, failed, the client gone, the server
stopping, or never begun because the headers could not be sent.

sse-starlette brings the response and listens for the client's leaving and for
the server's stop. Its own ping is off: it would also break into a busy stream.

Source: WHATWG HTML, section 9.2.6 "Interpreting an event stream".
"""

import logging
from collections.abc import AsyncGenerator, Sequence
from typing import Protocol

import anyio
import msgspec
from sse_starlette import EventSourceResponse
from starlette.types import Receive, Scope, Send

from server.core.errors import ErrorInfo, ServerError, ShuttingDown
from server.core.events import Event, Failed, Finished
from server.dialects.feed import Feed, no_result

DONE = b"data: [DONE]\n\n"
HEARTBEAT = b": heartbeat\n\n"

POLL_S = 1.0
"""How soon a silent stream notices that the server is stopping."""

CLEANUP_S = 10.0
"""How long the end of a response waits for its generations to clean up."""

FAREWELL_S = 2.0
"""Time for the last frame, after the grace that running streams have."""

_log = logging.getLogger(__name__)


class StreamEncoder(Protocol):
    """What a dialect makes of events. Every answer is whole frames or empty."""

    def encode(self, source: int, event: Event) -> bytes:
        """Encode an event of a source; never `Failed`."""
        ...

    def fail(self, error: ErrorInfo) -> bytes:
        """Encode the error that ends the stream; nothing follows."""
        ...

    def end(self) -> bytes:
        """Encode what follows the last event of the last source."""
        ...


def frame(payload: object, *, event: str | None = None) -> bytes:
    """Frame a JSON value, optionally under an event name.

    JSON text holds no line break, so one `data` line is enough.
    """
    data = msgspec.json.encode(payload)
    if event is None:
        return b"data: %b\n\n" % data
    return b"event: %b\ndata: %b\n\n" % (event.encode(), data)


class EventStream(EventSourceResponse):
    """Streams a feed to the client and closes it in the end.

    Args:
        feed: What to stream; this response owns it from now on.
        first: Events that were already taken from it.
        encoder: The dialect's.
        heartbeat_s: Silence after which a comment is sent.
        shutdown_grace_s: How long the stream may go on once the server stops;
            then it ends with an error.
        request_id: For the log, if something unforeseen happens.
    """

    def __init__(
        self,
        feed: Feed,
        first: Sequence[tuple[int, Event]],
        encoder: StreamEncoder,
        *,
        heartbeat_s: float,
        shutdown_grace_s: float,
        request_id: str,
    ) -> None:
        self._feed = feed
        self._encoder = encoder
        self._heartbeat_s = heartbeat_s
        self._grace_s = shutdown_grace_s
        self._request_id = request_id
        self._stopping = anyio.Event()
        self._n_finished = 0
        super().__init__(
            self._frames(first),
            headers={"Cache-Control": "no-cache"},
            ping=0,
            shutdown_event=self._stopping,
            shutdown_grace_period=shutdown_grace_s + FAREWELL_S,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream; the feed is closed when this returns or raises."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            # A cancelled scope would cancel the clean-up as well.
            with anyio.move_on_after(CLEANUP_S, shield=True):
                await self._feed.aclose()

    async def _frames(
        self, first: Sequence[tuple[int, Event]]
    ) -> AsyncGenerator[bytes]:
        try:
            async for data in self._encoded(first):
                yield data
        except ServerError as error:
            yield self._encoder.fail(error.to_info())
        except Exception:  # noqa: BLE001  the last border before the client
            _log.exception("stream of request %s failed", self._request_id)
            yield self._encoder.fail(unforeseen(self._request_id))

    async def _encoded(
        self, first: Sequence[tuple[int, Event]]
    ) -> AsyncGenerator[bytes]:
        batch = first
        heartbeat_at = anyio.current_time() + self._heartbeat_s
        stop_at: float | None = None
        while True:
            failure = next((e for _, e in batch if isinstance(e, Failed)), None)
            data = self._encode(batch)
            now = anyio.current_time()
            if data or now >= heartbeat_at:
                heartbeat_at = now + self._heartbeat_s
                yield data or HEARTBEAT
            if failure is not None:
                yield self._encoder.fail(failure.error)
                return
            if self._feed.finished:
                break
            if self._stopping.is_set():
                stop_at = now + self._grace_s if stop_at is None else stop_at
                if now >= stop_at:
                    raise ShuttingDown(
                        "The server is stopping, so this answer is incomplete. "
                        "Send the request again once it is back."
                    )
            batch = await self._feed.take(max(0.0, min(heartbeat_at - now, POLL_S)))
        if self._n_finished < self._feed.n_sources:
            raise no_result()
        yield self._encoder.end()

    def _encode(self, batch: Sequence[tuple[int, Event]]) -> bytes:
        frames = []
        for source, event in batch:
            if isinstance(event, Failed):
                break
            if isinstance(event, Finished):
                self._n_finished += 1
            frames.append(self._encoder.encode(source, event))
        return b"".join(frames)


def unforeseen(request_id: str) -> ErrorInfo:
    """Describe an error that nobody foresaw, without its internals."""
    return ErrorInfo(
        code="server_error",
        message="Something unforeseen went wrong in the server. Its log tells "
        f"more under the request id {request_id}.",
    )
