"""The application: routers, one place for errors, and two plain-ASGI layers.

From the outside in: `RequestIds` names every request and turns what nobody
foresaw into a clean 500; `BodyLimit` stops bodies that are too large; then
the routes. Neither layer buffers or re-tasks a request, so streams and
disconnects pass through them untouched.
"""

import logging
import re
import secrets
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

import anyio
from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import __version__
from server.core.errors import (
    BodyTooLarge,
    ErrorInfo,
    MethodNotAllowed,
    RouteNotFound,
    ServerError,
)
from server.dialects.feed import ClientGone
from server.dialects.openai.errors import error_response
from server.dialects.openai.routes import build_router
from server.dialects.sse import unforeseen
from server.engine.api import Engine

MAX_BODY_BYTES = 128 * 1024 * 1024
HEARTBEAT_S = 10.0
SHUTDOWN_GRACE_S = 5.0

LINGER_S = 2.0
"""How long the rest of a refused body is read and dropped. Closing at once
would reset the connection and could destroy the answer on its way."""

MAX_LENGTH_DIGITS = 18
"""Of `Content-Length`; the first so many already exceed any limit."""

CLIENT_CLOSED_REQUEST = 499

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(
    *,
    engine: Engine,
    max_body_bytes: int = MAX_BODY_BYTES,
    heartbeat_s: float = HEARTBEAT_S,
    shutdown_grace_s: float = SHUTDOWN_GRACE_S,
    lifespan: Lifespan | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        engine: Runs the requests.
        max_body_bytes: Largest request body.
        heartbeat_s: Silence after which a stream sends a comment.
        shutdown_grace_s: How long streams may go on once the server stops.
        lifespan: Runs around the application's life.
    """
    # At DEBUG it writes every chunk, and so the model's words, to the log.
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    app = FastAPI(
        title="Cloister",
        version=__version__,
        docs_url=None,  # these pages load their scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.include_router(
        build_router(engine, heartbeat_s=heartbeat_s, shutdown_grace_s=shutdown_grace_s)
    )
    for path, handler in (("/health", _health), ("/lmstudio-greeting", _greeting)):
        app.add_api_route(path, handler, methods=["GET"])
        app.add_api_route(path, handler, methods=["HEAD"], include_in_schema=False)
    app.add_exception_handler(ServerError, _on_server_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_middleware(BodyLimit, limit_bytes=max_body_bytes)
    app.add_middleware(RequestIds)
    return app


class RequestIds:
    """Gives every request an id and catches what nobody foresaw.

    A client's own `x-request-id` is kept where it is short and plain.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        scope.setdefault("state", {})["request_id"] = request_id
        started = False

        async def send_named(message: Message) -> None:
            nonlocal started
            if message["type"] == "http.response.start":
                started = True
                named = (b"x-request-id", request_id.encode())
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            if started:
                raise  # the HTTP server logs it and cuts the connection
            _log.exception("request %s failed", request_id)
            response = error_response(unforeseen(request_id))
            await response(scope, receive, send_named)


class BodyLimit:
    """Refuses request bodies that are larger than a limit.

    What `Content-Length` announces is refused before anything is read; what
    arrives in chunks is counted, so an endless body ends here too.
    """

    def __init__(self, app: ASGIApp, *, limit_bytes: int) -> None:
        self._app = app
        self._limit_bytes = limit_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        if _content_length(scope) > self._limit_bytes:
            await self._refuse(receive, send)
            return
        n_bytes = 0

        async def receive_counted() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._limit_bytes:
                raise _LimitReached
            return message

        try:
            await self._app(scope, receive_counted, send)
        except _LimitReached:
            await self._refuse(receive, send)

    async def _refuse(self, receive: Receive, send: Send) -> None:
        info = BodyTooLarge(limit_bytes=self._limit_bytes).to_info()
        response = error_response(info, {"connection": "close"})
        await send(
            {
                "type": "http.response.start",
                "status": response.status_code,
                "headers": response.raw_headers,
            }
        )
        await send(
            {"type": "http.response.body", "body": response.body, "more_body": True}
        )
        await _drop_body(receive)
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class _LimitReached(Exception):
    """The body has grown over the limit; no handler but `BodyLimit` sees it."""


async def _health() -> Response:
    return JSONResponse({"status": "ok"})


async def _greeting() -> Response:
    return JSONResponse({"lmstudio": True})


async def _on_server_error(request: Request, error: Exception) -> Response:  # noqa: ARG001
    if not isinstance(error, ServerError):
        raise error
    return error_response(error.to_info())


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """Show what the router itself refused."""
    if not isinstance(error, HTTPException):
        raise error
    method, path = request.method, request.url.path
    headers = dict(error.headers or {})
    match error.status_code:
        case HTTPStatus.NOT_FOUND:
            info = RouteNotFound(
                f"There is no endpoint {method} {path}. "
                "GET /openapi.json lists all of them."
            ).to_info()
        case HTTPStatus.METHOD_NOT_ALLOWED:
            allowed = headers.get("Allow", "none")
            info = MethodNotAllowed(
                f"The endpoint {path} does not take {method}. It takes: {allowed}."
            ).to_info()
        case status:
            info = ErrorInfo(
                code="http_error", message=str(error.detail), http_status=status
            )
    return error_response(info, headers)


async def _on_client_gone(request: Request, error: Exception) -> Response:  # noqa: ARG001
    # Nobody reads it, but the access log shows the status.
    return Response(status_code=CLIENT_CLOSED_REQUEST)


def _content_length(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:MAX_LENGTH_DIGITS])
    return 0


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return f"req_{secrets.token_hex(12)}"


async def _drop_body(receive: Receive) -> None:
    with anyio.move_on_after(LINGER_S):
        while (await receive()).get("more_body", False):
            pass
