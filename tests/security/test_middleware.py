"""`server.security.middleware`: the order of the checks, HTTP and WebSocket alike."""

import asyncio
import json
import logging

import pytest

from server.app import create_app
from server.security.access import Access
from server.security.hosts import make_hosts
from server.security.limits import Limits
from server.security.middleware import Gate, Guard
from server.security.origins import make_origins
from tests.fake_engine import FakeEngine
from tests.live_server import exchange, live_server, open_raw, post_bytes

ORIGIN = "https://app.example"
KEY = "the-fixed-key-of-tests"


def ask(port, method, path, *headers, body=b""):
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def port(engine):
    guard = Guard(access=Access(KEY), origins=make_origins([ORIGIN]))
    with live_server(create_app(engine=engine, guard=guard)) as port:
        yield port


def test_a_preflight_needs_no_token_and_reaches_no_route(port):
    status, headers, body = ask(
        port,
        "OPTIONS",
        "/v1/chat/completions",
        f"Origin: {ORIGIN}",
        "Access-Control-Request-Method: POST",
        "Access-Control-Request-Headers: authorization, content-type",
    )
    assert (204, b"") == (status, body)
    assert ORIGIN == headers["access-control-allow-origin"]
    assert "authorization, content-type" == headers["access-control-allow-headers"]
    assert "Origin" == headers["vary"]


def test_a_preflight_of_a_foreign_page_is_refused_without_cors_headers(port):
    status, headers, _ = ask(
        port,
        "OPTIONS",
        "/v1/chat/completions",
        "Origin: https://evil.example",
        "Access-Control-Request-Method: POST",
    )
    assert 403 == status
    assert not [name for name in headers if name.startswith("access-control")]


@pytest.mark.parametrize(
    ("method", "path", "expected"),
    [("GET", "/v1/models", 401), ("GET", "/health", 200), ("POST", "/nowhere", 401)],
)
def test_an_allowed_page_can_read_every_answer_errors_too(port, method, path, expected):
    status, headers, _ = ask(port, method, path, f"Origin: {ORIGIN}")
    assert (expected, ORIGIN) == (status, headers["access-control-allow-origin"])
    assert "x-request-id" in headers["access-control-expose-headers"]


@pytest.mark.parametrize(
    "content_type",
    ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"],
)
def test_the_requests_that_need_no_preflight_are_refused_for_foreign_pages(
    engine, content_type
):
    chat = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    body = json.dumps(chat).encode()
    with live_server(create_app(engine=engine)) as port:
        before = len(engine.requests)
        status, _, answer = ask(
            port,
            "POST",
            "/v1/chat/completions",
            "Origin: https://evil.example",
            f"Content-Type: {content_type}",
            body=body,
        )
        assert (403, "origin_not_allowed") == (
            status,
            json.loads(answer)["error"]["code"],
        )
        assert before == len(engine.requests)
        own = ask(port, "POST", "/v1/chat/completions", "Origin: http://localhost",
                  body=body)  # fmt: skip
        assert 200 == own[0]


def test_cors_headers_never_allow_credentials_or_come_unasked(port):
    _, headers, _ = ask(port, "GET", "/health")
    assert not [name for name in headers if name.startswith("access-control")]
    _, headers, _ = ask(port, "GET", "/health", f"Origin: {ORIGIN}")
    assert "access-control-allow-credentials" not in headers


def test_one_request_too_many_is_told_to_try_again(caplog):
    caplog.set_level(logging.INFO)
    guard = Guard(limits=Limits(max_concurrent_requests=1))
    engine = FakeEngine([3600.0])
    with live_server(create_app(engine=engine, guard=guard)) as port:
        body = json.dumps({"model": "tiny", "prompt": "x"}).encode()
        first = open_raw(port)
        first.sendall(post_bytes("/v1/completions", body))
        assert engine.started.wait(5)
        status, headers, answer = ask(port, "GET", "/v1/models")
        assert (429, "true", "1") == (
            status,
            headers["x-should-retry"],
            headers["retry-after"],
        )
        error = json.loads(answer)["error"]
        assert ("rate_limit_error", "too_many_requests") == (
            error["type"],
            error["code"],
        )
        assert "answering 1 requests" in error["message"]
        assert 200 == ask(port, "GET", "/health")[0]
        first.close()
        assert engine.cancelled.wait(5)
        for _ in range(100):
            if ask(port, "GET", "/v1/models")[0] == 200:
                break
        assert 200 == ask(port, "GET", "/v1/models")[0]


def test_the_log_tells_who_asked_for_what_and_never_the_key(port, caplog):
    caplog.set_level(logging.DEBUG)
    ask(port, "GET", "/v1/models?secret=1", f"Authorization: Bearer {KEY}",
        "X-Request-Id: abc")  # fmt: skip
    ask(port, "GET", "/v1/models", f"x-api-key: {KEY}-wrong")
    lines = [record.getMessage() for record in caplog.records]
    assert any(line.startswith("GET /v1/models 200 in ") for line in lines)
    assert any(line.startswith("GET /v1/models 401 in ") for line in lines)
    assert not [line for line in lines if KEY in line or "secret" in line]


def open_websocket(guard: Guard, *headers: tuple[bytes, bytes]) -> list[dict]:
    """Let a gate see a WebSocket handshake; give what it or the route sent."""
    sent = []

    async def route(scope, receive, send):
        await send({"type": "websocket.accept"})

    async def send(message):
        sent.append(message)

    async def receive():
        return {"type": "websocket.connect"}

    scope = {"type": "websocket", "path": "/llm", "headers": list(headers)}
    asyncio.run(Gate(route, guard=guard)(scope, receive, send))
    return sent


HOST = (b"host", b"localhost:1234")
REFUSED = [{"type": "websocket.close", "code": 1008}]
ACCEPTED = [{"type": "websocket.accept"}]


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ((HOST,), ACCEPTED),
        ((), REFUSED),
        ((HOST, HOST), REFUSED),
        (((b"host", b"evil.example"),), REFUSED),
        ((HOST, (b"origin", b"https://evil.example")), REFUSED),
        ((HOST, (b"origin", b"null")), REFUSED),
        ((HOST, (b"origin", b"http://localhost:1234")), ACCEPTED),
    ],
)
def test_a_websocket_is_checked_before_it_is_accepted(headers, expected):
    assert expected == open_websocket(Guard(), *headers)


def test_a_websocket_needs_a_token_like_everything_else():
    guard = Guard(access=Access(KEY))
    assert REFUSED == open_websocket(guard, HOST)
    token = (b"authorization", b"Bearer " + KEY.encode())
    assert ACCEPTED == open_websocket(guard, HOST, token)
    foreign = Guard(make_hosts(None, ["a.example"]), access=Access(KEY))
    assert ACCEPTED == open_websocket(foreign, (b"host", b"a.example"), token)
