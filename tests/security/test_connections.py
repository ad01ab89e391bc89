"""`server.security.connections` and `body` on a real socket: nothing is held long."""

import contextlib
import json
import socket
import time
from contextlib import closing

import pytest

from server.app import create_app
from server.security.connections import bound_protocol
from server.security.limits import MAX_HEAD_BYTES, Limits
from server.security.middleware import Guard
from tests.fake_engine import FakeEngine, answer
from tests.live_server import (
    live_server,
    open_raw,
    post_bytes,
    read_all,
    read_until,
    split_response,
)

LIMITS = Limits(
    max_connections=8,
    header_timeout_s=0.6,
    idle_timeout_s=0.8,
    body_timeout_s=0.6,
    write_timeout_s=0.6,
)
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
GET = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"


@pytest.fixture(scope="module")
def port():
    app = create_app(engine=FakeEngine(), guard=Guard(limits=LIMITS))
    with live_server(app, http=bound_protocol(LIMITS)) as port:
        yield port


@pytest.fixture
def client(port):
    with closing(open_raw(port)) as client:
        yield client


def trickle(
    client: socket.socket, piece: bytes, *, every_s=0.05
) -> tuple[bytes, float]:
    """Send a piece again and again until the server hangs up.

    Returns:
        What it sent, and how long it took.
    """
    begin_s = time.monotonic()
    client.settimeout(every_s)
    received = b""
    while time.monotonic() - begin_s < 8:
        try:
            data = client.recv(65536)
            if not data:
                break
            received += data
        except TimeoutError:
            with contextlib.suppress(OSError):
                client.sendall(piece)
        except ConnectionError:
            break
    return received, time.monotonic() - begin_s


def code_of(response: bytes) -> tuple[int, str]:
    status, headers, body = split_response(response)
    assert "close" == headers["connection"]
    return status, json.loads(body)["error"]["code"]


def test_a_connection_that_says_nothing_is_closed(client):
    received, took_s = trickle(client, b"")
    assert b"" == received
    assert 0.7 < took_s < 2


def test_line_breaks_are_no_request_and_keep_nothing_open(client):
    received, took_s = trickle(client, b"\r\n")
    assert b"" == received
    assert 0.7 < took_s < 2


@pytest.mark.parametrize("start", [b"GET /", HEAD, HEAD + b"X-Slow: "])
def test_headers_that_trickle_end_in_a_408(client, start):
    client.sendall(start)
    received, took_s = trickle(client, b"a")
    assert (408, "header_timeout") == code_of(received)
    assert 0.5 < took_s < 2


def test_a_second_request_has_the_same_time_for_its_headers(client):
    client.sendall(GET)
    assert 200 == split_response(read_until(client, b"}"))[0]
    client.sendall(b"GET /he")
    received, took_s = trickle(client, b"a")
    assert (408, "header_timeout") == code_of(received)
    assert took_s < 2


@pytest.mark.parametrize("piece", [b"X-A: " + b"b" * 4000 + b"\r\n", b"c" * 4000])
def test_headers_without_an_end_are_cut_off(client, piece):
    client.sendall(HEAD)
    received, _ = trickle(client, piece, every_s=0.001)
    assert (431, "headers_too_large") == code_of(received)


def test_headers_that_arrive_at_once_have_the_same_limit(client):
    small = b"X-A: " + b"b" * (MAX_HEAD_BYTES - 1000) + b"\r\n"
    head = b"GET /health HTTP/1.1\r\nHost: localhost\r\n"
    client.sendall(head + small + b"\r\n")
    assert 200 == split_response(read_until(client, b"}"))[0]
    client.sendall(head + b"X-B: " + b"b" * MAX_HEAD_BYTES + b"\r\n\r\n" + GET)
    received = read_all(client)
    assert (431, "headers_too_large") == code_of(received)
    assert 1 == received.count(b"HTTP/1.1")


@pytest.mark.parametrize(
    "start", [b"1\r\n \r\n0\r\nX-T: ", b"1;x="], ids=["trailers", "chunk-extension"]
)
def test_no_part_of_a_chunked_body_grows_without_end(client, start):
    client.sendall(HEAD + b"Transfer-Encoding: chunked\r\n\r\n" + start)
    received, took_s = trickle(client, b"e" * 4000, every_s=0.001)
    assert took_s < 3
    assert b" 200 " not in received


def test_a_body_that_trickles_ends_in_a_408(client):
    client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
    received, took_s = trickle(client, b" ")
    status, _, body = split_response(received)
    error = json.loads(body)["error"]
    assert (408, "body_timeout") == (status, error["code"])
    assert "bytes in" in error["message"]
    assert took_s < 6  # its time, and 2 s in which the rest is dropped


def test_a_body_that_never_comes_ends_in_a_408(client):
    client.sendall(HEAD + b"Content-Length: 1000\r\nExpect: 100-continue\r\n\r\n")
    received, _ = trickle(client, b"")
    assert received.startswith(b"HTTP/1.1 100 Continue")
    assert b" 408 " in received


def test_a_half_closed_connection_is_closed(client):
    client.sendall(HEAD + b"Content-Length: 1000\r\n\r\n{")
    client.shutdown(socket.SHUT_WR)
    begin_s = time.monotonic()
    read_all(client)
    assert time.monotonic() - begin_s < 1


def test_a_body_behind_an_answer_is_dropped_for_a_moment_only(client):
    client.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\n")
    client.sendall(b"Transfer-Encoding: chunked\r\n\r\n")
    received, took_s = trickle(client, b"1\r\na\r\n", every_s=0.01)
    assert received.startswith(b"HTTP/1.1 200 OK")
    assert took_s < 4


def test_a_client_that_does_not_read_ends_its_own_answer():
    engine = FakeEngine(answer(*["x" * 20_000] * 5000))
    app = create_app(engine=engine, guard=Guard(limits=LIMITS))
    with (
        live_server(app, http=bound_protocol(LIMITS)) as port,
        closing(open_raw(port)) as client,
    ):
        body = json.dumps(CHAT | {"stream": True}).encode()
        client.sendall(post_bytes("/v1/chat/completions", body))
        assert engine.cancelled.wait(8)
        assert 0 == engine.n_running


def test_one_connection_too_many_is_told_so(port):
    time.sleep(0.1)
    clients = [open_raw(port) for _ in range(LIMITS.max_connections)]
    try:
        time.sleep(0.1)
        with closing(open_raw(port)) as late:
            assert (503, "too_many_connections") == code_of(read_all(late))
        clients[0].sendall(GET)
        assert 200 == split_response(read_until(clients[0], b"}"))[0]
    finally:
        for client in clients:
            client.close()


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"GET\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
        HEAD + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n",
        HEAD + b"Content-Length: -1\r\n\r\n",
        HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_a_400_in_the_shape_of_all_errors(client, garbage):
    client.sendall(garbage)
    received = read_all(client)
    assert (400, "invalid_http") == code_of(received)


def test_a_connection_in_use_stays_open(client):
    for _ in range(4):
        client.sendall(GET)
        assert 200 == split_response(read_until(client, b"}"))[0]
        time.sleep(0.3)


def test_a_request_for_a_websocket_that_is_none_is_quiet(client, caplog):
    client.sendall(
        b"GET /llm HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    assert 404 == split_response(read_until(client, b"}}"))[0]
    assert [] == [r for r in caplog.records if r.name.startswith("uvicorn")]
