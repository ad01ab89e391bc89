"""The application on a real loopback socket, and a raw client for it."""

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from typing import Any

import uvicorn
from starlette.types import ASGIApp

START_S = 10.0


@contextmanager
def live_server(app: ASGIApp, **options: Any) -> Iterator[int]:
    """Serve `app` on a free port of 127.0.0.1 in a thread; give the port.

    Args:
        app: What to serve.
        options: Further ones of `uvicorn.Config`.
    """
    listener = socket.create_server(("127.0.0.1", 0))
    config = uvicorn.Config(
        app,
        log_level="critical",
        timeout_graceful_shutdown=1,
        lifespan="on",
        **options,
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(
        target=lambda: asyncio.run(server.serve(sockets=[listener])), daemon=True
    )
    thread.start()
    give_up = time.monotonic() + START_S
    while not server.started:
        if time.monotonic() > give_up or not thread.is_alive():
            raise RuntimeError("the test server did not start")
        time.sleep(0.005)
    try:
        yield listener.getsockname()[1]
    finally:
        server.should_exit = True
        thread.join(START_S)
        listener.close()


def open_raw(port: int, timeout_s: float = 10.0) -> socket.socket:
    """Connect to the server."""
    return socket.create_connection(("127.0.0.1", port), timeout=timeout_s)


def post_bytes(path: str, body: bytes, *headers: str) -> bytes:
    """Write a POST request as bytes; the server closes after the answer."""
    lines = (
        f"POST {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        f"Content-Length: {len(body)}",
        *headers,
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


def read_until(client: socket.socket, end: bytes) -> bytes:
    """Read up to and including `end`, or to the end of the stream."""
    data = b""
    while end not in data:
        piece = client.recv(65536)
        if not piece:
            break
        data += piece
    return data


def read_all(client: socket.socket) -> bytes:
    """Read to the end of the stream."""
    data = b""
    while piece := client.recv(65536):
        data += piece
    return data


def exchange(port: int, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send a request, read to the end, and give status, headers and body.

    Names of headers are in lower case; a chunked body is put together.
    """
    with closing(open_raw(port)) as client:
        client.sendall(request)
        return split_response(read_all(client))


def split_response(response: bytes) -> tuple[int, dict[str, str], bytes]:
    """Take a response apart into status, headers and body."""
    head, _, body = response.partition(b"\r\n\r\n")
    status_line, *lines = head.decode("latin-1").split("\r\n")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if headers.get("transfer-encoding") == "chunked":
        body = b"".join(_chunks(body))
    return int(status_line.split()[1]), headers, body


def _chunks(body: bytes) -> Iterator[bytes]:
    while body:
        size, _, rest = body.partition(b"\r\n")
        n_bytes = int(size, 16)
        yield rest[:n_bytes]
        body = rest[n_bytes + 2 :]


def post_json(port: int, path: str, value: Any) -> tuple[int, dict[str, str], Any]:
    """POST a JSON value and give status, headers and the parsed answer."""
    request = post_bytes(path, json.dumps(value).encode())
    status, headers, body = exchange(port, request)
    return status, headers, json.loads(body)
