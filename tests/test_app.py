import json
import logging
import socket
import threading
from contextlib import closing

import pytest

from server.app import create_app
from server.core.errors import InvalidRequest, QueueFull
from server.core.events import Failed
from tests.fake_engine import FOREVER_S, FakeEngine
from tests.live_server import (
    exchange,
    live_server,
    open_raw,
    post_bytes,
    post_json,
    read_all,
    read_until,
    split_response,
)

CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
LIMIT_BYTES = 64 * 1024


@pytest.fixture(scope="module")
def engine():
    return FakeEngine()


@pytest.fixture(scope="module")
def port(engine):
    app = create_app(engine=engine, max_body_bytes=LIMIT_BYTES)
    with live_server(app) as port:
        yield port


def get(port: int, path: str, *headers: str, method: str = "GET"):
    lines = (
        f"{method} {path} HTTP/1.1",
        "Host: localhost",
        "Connection: close",
        *headers,
    )
    return exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n")


def test_health_and_greeting_answer(port):
    status, _, body = get(port, "/health")
    assert (200, {"status": "ok", "seal": "off"}) == (status, json.loads(body))
    status, _, body = get(port, "/lmstudio-greeting")
    assert (200, {"lmstudio": True}) == (status, json.loads(body))
    assert (200, b"") == get(port, "/health", method="HEAD")[::2]


def test_the_api_is_described(port):
    status, _, body = get(port, "/openapi.json")
    assert 200 == status
    assert "/v1/chat/completions" in json.loads(body)["paths"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", "/chat/completions", "//v1/models", "/v1/models/"]
)
def test_an_unknown_route_is_404(port, path):
    status, _, body = get(port, path)
    error = json.loads(body)["error"]
    assert (404, "unknown_url") == (status, error["code"])
    assert "invalid_request_error" == error["type"]
    assert ["message", "type", "param", "code"] == list(error)


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [
        ("GET", "/v1/chat/completions", "POST"),
        ("DELETE", "/v1/models/acme/tiny-1b", "GET"),
        ("POST", "/v1/models", "GET"),
    ],
)
def test_a_wrong_method_is_405_and_names_the_right_one(port, method, path, allow):
    status, headers, body = get(port, path, method=method)
    assert (405, allow) == (status, headers["allow"])
    assert {
        "error": {
            "message": f"The endpoint {path} does not take {method}. "
            f"It takes: {allow}.",
            "type": "invalid_request_error",
            "param": None,
            "code": "method_not_allowed",
        }
    } == json.loads(body)


def test_query_strings_are_ignored(port):
    assert 200 == post_json(port, "/v1/chat/completions?beta=true", CHAT)[0]


def test_every_answer_has_a_request_id(port):
    for path in ("/health", "/nowhere", "/v1/models"):
        assert get(port, path)[1]["x-request-id"].startswith("req_")


def test_a_plain_request_id_of_the_client_is_kept(port):
    assert "abc-1" == get(port, "/health", "X-Request-Id: abc-1")[1]["x-request-id"]
    odd = get(port, "/health", "X-Request-Id: a b\tc")[1]["x-request-id"]
    assert odd.startswith("req_")


def test_an_announced_body_over_the_limit_is_refused_unread(port):
    head = post_bytes("/v1/chat/completions", b"").replace(
        b"Content-Length: 0", b"Content-Length: 99999999999"
    )
    with closing(open_raw(port)) as client:
        client.sendall(head)
        response = read_until(client, b"--max-body-bytes")
    status, headers, body = split_response(response)
    assert (413, "close") == (status, headers["connection"])
    assert f"The request body is larger than {LIMIT_BYTES} bytes." in body.decode()


def test_a_body_of_exactly_the_limit_is_read(port):
    body = json.dumps(CHAT).encode().ljust(LIMIT_BYTES)
    assert 200 == exchange(port, post_bytes("/v1/chat/completions", body))[0]
    status, _, answer = exchange(port, post_bytes("/v1/chat/completions", body + b" "))
    assert (413, "body_too_large") == (status, json.loads(answer)["error"]["code"])


def test_an_endless_chunked_body_is_cut_off(port):
    head = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
    chunk = b"4000\r\n" + b" " * 0x4000 + b"\r\n"
    stop = threading.Event()
    with closing(open_raw(port)) as client:
        client.sendall(head + b"Transfer-Encoding: chunked\r\n\r\n")

        def send_on() -> None:
            try:
                while not stop.wait(0.002):
                    client.sendall(chunk)
            except OSError:
                pass  # the server has closed the connection: what we wait for

        sender = threading.Thread(target=send_on)
        sender.start()
        response = read_until(client, b"--max-body-bytes")
        sender.join(5.0)
        cut_off = not sender.is_alive()
        stop.set()
    assert 413 == split_response(response)[0]
    assert cut_off


def test_a_full_queue_tells_clients_to_try_again():
    error = QueueFull("The queue is full: 8 requests wait.").to_info()
    engine = FakeEngine([Failed(error)])
    with live_server(create_app(engine=engine)) as port:
        status, headers, body = post_json(port, "/v1/chat/completions", CHAT)
    assert (429, "true", "1") == (
        status,
        headers["x-should-retry"],
        headers["retry-after"],
    )
    assert ("rate_limit_error", "queue_full") == (
        body["error"]["type"],
        body["error"]["code"],
    )


def test_what_nobody_foresaw_is_a_500_without_internals(caplog):
    engine = FakeEngine([RuntimeError("secret /etc/path")])
    with live_server(create_app(engine=engine)) as port:
        status, headers, body = post_json(port, "/v1/chat/completions", CHAT)
    assert (500, "false") == (status, headers["x-should-retry"])
    assert {
        "message": "Something unforeseen went wrong in the server. Its log tells "
        f"more under the request id {headers['x-request-id']}.",
        "type": "server_error",
        "param": None,
        "code": "server_error",
    } == body["error"]
    (record,) = [r for r in caplog.records if r.name == "server.app"]
    assert headers["x-request-id"] in record.getMessage()
    assert record.exc_info is not None


def test_prompts_and_answers_stay_out_of_the_log(caplog):
    caplog.set_level(logging.DEBUG)
    engine = FakeEngine()
    stream = CHAT | {
        "messages": [{"role": "user", "content": "SECRET-PROMPT"}],
        "stream": True,
    }
    bad = stream | {"temperature": "SECRET-PROMPT"}
    with live_server(create_app(engine=engine)) as port:
        for body in (stream, bad):
            request = post_bytes("/v1/chat/completions", json.dumps(body).encode())
            exchange(port, request)
    assert caplog.records
    for record in caplog.records:
        assert "SECRET-PROMPT" not in record.getMessage()
        assert "Hello" not in record.getMessage()


def test_a_client_that_leaves_while_uploading_harms_nobody(port, caplog):
    with closing(open_raw(port)) as client:
        client.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
            b"Content-Length: 100\r\n\r\n{"
        )
    assert 200 == post_json(port, "/v1/chat/completions", CHAT)[0]
    assert [] == [r for r in caplog.records if r.levelno >= logging.WARNING]


def test_pipelined_requests_are_answered_in_order(port):
    one = b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n"
    last = b"GET /v1/nope HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    with closing(open_raw(port)) as client:
        client.sendall(one + last)
        answer = read_all(client)
    assert answer.index(b"200 OK") < answer.index(b"404 Not Found")


def test_the_error_of_an_engine_keeps_its_status_and_param():
    error = InvalidRequest("No.", param="seed").to_info()
    with live_server(create_app(engine=FakeEngine([Failed(error)]))) as port:
        status, headers, body = post_json(port, "/v1/chat/completions", CHAT)
    assert (400, "seed") == (status, body["error"]["param"])
    assert "x-should-retry" not in headers


@pytest.mark.parametrize("stream", [False, True])
def test_a_client_that_leaves_before_the_start_cancels_the_work(stream):
    engine = FakeEngine([FOREVER_S])
    body = json.dumps(CHAT | {"stream": stream}).encode()
    with live_server(create_app(engine=engine)) as port:
        client = open_raw(port)
        client.sendall(post_bytes("/v1/chat/completions", body))
        assert engine.started.wait(5.0)
        client.shutdown(socket.SHUT_RDWR)
        client.close()
        assert engine.cancelled.wait(1.0)
    assert 0 == engine.n_running
