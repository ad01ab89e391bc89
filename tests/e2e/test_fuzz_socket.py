"""Bytes that nobody would send: the server answers, hangs up, and lives."""

import contextlib
import os
import random
import socket
from contextlib import closing

import pytest

from tests.e2e.server_process import wait_until
from tests.live_server import open_raw

IS_LONG = bool(os.environ.get("CLOISTER_TEST_LONG"))
N_SEQUENCES = 2000 if IS_LONG else 200
HANG_S = 20.0

BODY = b'{"model":"tiny-llama","prompt":"the wheel","max_tokens":2}'
HEAD = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"
SEEDS = (
    b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer x\r\n\r\n",
    b"GET /v1/models/acme%2Fllama HTTP/1.0\r\nHost: localhost\r\n\r\n",
    HEAD + b"Content-Length: %d\r\n\r\n" % len(BODY) + BODY,
    HEAD
    + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n" % (len(BODY), BODY),
    (
        b"GET /llm HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n"
        b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    ),
    (
        b"OPTIONS * HTTP/1.1\r\nHost: localhost\r\nOrigin: http://a.example\r\n"
        b"Access-Control-Request-Method: POST\r\n\r\n"
    ),
    b"CONNECT localhost:1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(range(256)),
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x12\x04\x00\x00\x00\x00\x00",
)
PIECES = (
    b"\r\n",
    b"\n",
    b"\0",
    b"\r\n\r\n",
    b"Host: evil.example\r\n",
    b"Content-Length: 99999999999999999999\r\n",
    b"Content-Length: 1\r\n",
    b"Transfer-Encoding: chunked\r\n",
    b"Transfer-Encoding: gzip, chunked\r\n",
    b"Expect: 100-continue\r\n",
    b"Connection: close, upgrade\r\n",
    b"%00%ff%2e%2e/",
    b"\xff\xfe\xf0\x28\x8c\x28",
    b"fffffffffffffffff\r\n",
    b" " * 300,
    b"A" * 70_000,
    b'{"model":' + b"[" * 5000,
    b'"\\ud800"',
    b"1e999",
)


def mutate(draw: random.Random) -> bytes:
    """Spoil one or two requests in a few places."""
    data = bytearray(b"".join(draw.choices(SEEDS, k=draw.choice((1, 1, 1, 2, 3)))))
    for _ in range(draw.randint(1, 6)):
        place = draw.randrange(len(data) + 1)
        match draw.randrange(6):
            case 0:
                data[place:place] = draw.choice(PIECES)
            case 1:
                del data[place : place + draw.randint(1, 40)]
            case 2 if place < len(data):
                data[place] = draw.randrange(256)
            case 3:
                data[place:place] = draw.randbytes(draw.randint(1, 60))
            case 4:
                del data[place:]
            case _:
                data += data[place : place + draw.randint(1, 200)]
        data = data or bytearray(b"\n")
    return bytes(data)


def exchange(port: int, data: bytes, *, hang_up: bool) -> bytes:
    """Send bytes and read until the server hangs up; `TimeoutError` if it does not."""
    received = b""
    hung_up = contextlib.suppress(ConnectionError)
    with closing(open_raw(port, HANG_S)) as client, hung_up:
        client.sendall(data)
        if hang_up:
            client.shutdown(socket.SHUT_WR)
        while piece := client.recv(65536):
            received += piece
    return received


@pytest.mark.timeout(900 if IS_LONG else 150)
def test_no_bytes_stop_the_server_or_hold_a_connection(start_server, made_models):
    server = start_server(
        *("--models-dir", made_models, "--context-length", "256"),
        *("--header-timeout", "1", "--idle-timeout", "1", "--body-timeout", "1"),
    )
    server.complete("tiny-llama", "x", max_tokens=1)
    n_open = server.server.num_fds()
    draw = random.Random(20261122)  # noqa: S311 - must be the same every time
    statuses = set()
    for number in range(N_SEQUENCES):
        data = mutate(draw)
        # Mostly the client closes its side; sometimes only time ends it.
        received = exchange(server.port, data, hang_up=bool(number % 20))
        if received:
            assert received.startswith(b"HTTP/1."), data
            statuses.add(int(received.split()[1]))
    assert {200, 400} <= statuses
    assert [] == [status for status in statuses if status >= 500]
    assert 200 == server.get("/health").status_code
    assert server.complete("tiny-llama", "x", max_tokens=1)["choices"]
    wait_until(lambda: server.server.num_fds() <= n_open + 3, 10, "all is closed")
    assert "Traceback" not in server.log
    assert " ERROR " not in server.log
