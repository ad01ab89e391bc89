"""The application: routers, one place for errors, and three plain-ASGI layers.

From the outside in: `RequestIds` names every request and turns what nobody
foresaw into a clean 500; `Gate` lets in whom the guard allows; `BodyLimit`
stops bodies that are too large or too slow; then the routes. No layer buffers
or re-tasks a request, so streams and disconnects pass through them untouched.
"""

import logging
import re
import secrets
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from http import HTTPStatus

from fastapi import FastAPI, Request
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from server import __version__
from server.core.errors import (
    ErrorInfo,
    MethodNotAllowed,
    RouteNotFound,
    ServerError,
)
from server.dialects.cloister.routes import build_router as build_own_router
from server.dialects.feed import ClientGone
from server.dialects.openai.errors import error_response
from server.dialects.openai.routes import build_router
from server.dialects.sse import unforeseen
from server.docs_page import add_docs, describe_security
from server.engine.api import Engine
from server.logs import tag_request
from server.seal.apply import Seal, make_open
from server.security.body import BodyLimit
from server.security.middleware import Gate, Guard
from server.security.permissions import PUBLIC, find_rule

MAX_BODY_BYTES = 128 * 1024 * 1024
HEARTBEAT_S = 10.0
SHUTDOWN_GRACE_S = 5.0

CLIENT_CLOSED_REQUEST = 499

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,128}")

_log = logging.getLogger(__name__)

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_app(  # noqa: PLR0913 - keywords, most with defaults
    *,
    engine: Engine,
    max_body_bytes: int = MAX_BODY_BYTES,
    heartbeat_s: float = HEARTBEAT_S,
    shutdown_grace_s: float = SHUTDOWN_GRACE_S,
    lifespan: Lifespan | None = None,
    guard: Guard | None = None,
    seal: Seal | None = None,
) -> FastAPI:
    """Build the application.

    Args:
        engine: Runs the requests.
        max_body_bytes: Largest request body.
        heartbeat_s: Silence after which a stream sends a comment.
        shutdown_grace_s: How long streams may go on once the server stops.
        lifespan: Runs around the application's life.
        guard: Whom and what to let in; None lets in every program that calls
            this machine by a name of its own, and no web page.
        seal: What is in force in this process; None means nothing.
    """
    guard = guard or Guard()
    # At DEBUG it writes every chunk, and so the model's words, to the log.
    logging.getLogger("sse_starlette.sse").setLevel(logging.INFO)
    app = FastAPI(
        title="Cloister",
        version=__version__,
        docs_url=None,  # FastAPI's pages load their scripts from the internet
        redoc_url=None,
        redirect_slashes=False,
        lifespan=lifespan,
    )
    app.include_router(
        build_router(
            engine,
            heartbeat_s=heartbeat_s,
            shutdown_grace_s=shutdown_grace_s,
            max_json_depth=guard.limits.max_json_depth,
        )
    )
    add_docs(app)
    describe_security(app)
    app.include_router(build_own_router(seal or make_open()))
    app.add_api_route("/lmstudio-greeting", _greeting, methods=["GET"])
    app.add_api_route(
        "/lmstudio-greeting", _greeting, methods=["HEAD"], include_in_schema=False
    )
    app.add_exception_handler(ServerError, _on_server_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(ClientGone, _on_client_gone)
    app.add_exception_handler(ClientDisconnect, _on_client_gone)
    app.add_middleware(
        BodyLimit, limit_bytes=max_body_bytes, timeout_s=guard.limits.body_timeout_s
    )
    app.add_middleware(Gate, guard=guard)
    app.add_middleware(RequestIds)
    return app


class RequestIds:
    """Gives every request an id and a line in the log, and catches what nobody foresaw.

    A client's own `x-request-id` is kept where it is short and plain. The id is
    in every record that is logged while the request is answered.
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
        with tag_request(request_id):
            await self._answer(request_id, scope, receive, send)

    async def _answer(
        self, request_id: str, scope: Scope, receive: Receive, send: Send
    ) -> None:
        begin_s = time.monotonic()
        status = 0

        async def send_named(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                named = (b"x-request-id", request_id.encode())
                message["headers"] = [*message.get("headers", ()), named]
            await send(message)

        try:
            await self._app(scope, receive, send_named)
        except Exception:
            if status:
                raise  # the HTTP server logs it and cuts the connection
            _log.exception("request %s failed", request_id)
            response = error_response(unforeseen(request_id))
            await response(scope, receive, send_named)
        finally:
            _log_request(scope, status, time.monotonic() - begin_s)


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
    method, path = request.method, request.scope["path"]
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


def _log_request(scope: Scope, status: int, took_s: float) -> None:
    """Write what an access log has, but no word that the client chose."""
    method, path = scope["method"], scope["path"]
    rule = find_rule(method, path)
    level = logging.DEBUG if rule and rule[1] is PUBLIC else logging.INFO
    caller = scope["state"].get("caller")
    _log.log(
        level,
        "%s %s %d in %.3f s for %s",
        method if rule else "a request",
        rule[0] if rule else "outside all routes",
        status,
        took_s,
        caller.name if caller else "nobody",
    )


def _request_id(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"x-request-id":
            text: str = value.decode("latin-1")
            if _REQUEST_ID.fullmatch(text):
                return text
    return f"req_{secrets.token_hex(12)}"
