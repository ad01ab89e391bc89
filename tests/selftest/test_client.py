"""The client reaches this machine alone, and tells what went wrong."""

from contextlib import contextmanager

import pytest
from fastapi import FastAPI, Request
from starlette.responses import (
    PlainTextResponse,
    RedirectResponse,
    StreamingResponse,
)

from server.selftest.client import LoopbackClient, Reply, parse_loopback_url
from server.selftest.report import CheckFailed
from tests.e2e.server_process import free_port
from tests.live_server import live_server


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("http://127.0.0.1:1234", "http://127.0.0.1:1234"),
        ("http://127.0.0.1:1234/", "http://127.0.0.1:1234"),
        ("http://127.0.0.1:1234/v1", "http://127.0.0.1:1234"),
        ("http://127.8.9.10", "http://127.8.9.10:80"),
        ("http://localhost:5/v1/", "http://127.0.0.1:5"),
        ("HTTP://LOCALHOST:5", "http://127.0.0.1:5"),
        ("http://[::1]:7", "http://[::1]:7"),
    ],
)
def test_an_address_of_this_machine_is_taken(text, expected):
    assert expected == parse_loopback_url(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "127.0.0.1:1234",
        "https://127.0.0.1:1234",
        "http://192.0.2.1:1234",
        "http://0.0.0.0:1234",
        "http://example.com",
        "http://localhost.example.com",
        "http://127.0.0.1.example.com",
        "http://127.0.0.1@192.0.2.1",
        "http://user:word@127.0.0.1",
        "http://127.0.0.1:99999",
        "http://127.0.0.1:1234/other",
        "http://127.0.0.1:1234/?to=192.0.2.1",
        "http://2130706433",
        "http://[::ffff:192.0.2.1]",
        "http://[::1",
        "file:///etc/passwd",
    ],
)
def test_any_other_address_is_refused(text):
    with pytest.raises(ValueError, match="not the address of a server on this"):
        parse_loopback_url(text)


async def _events():
    yield b": comment\n\ndata: 1\n\nevent: x\ndata: 2\n\n"
    yield b"data: [DONE]\n\n"


async def _broken_events():
    yield b"data: 1\n\n"
    raise OSError


def make_app():
    app = FastAPI()

    @app.get("/json")
    async def give_json() -> dict[str, int]:
        return {"a": 1}

    @app.get("/key")
    async def give_key(request: Request) -> dict[str, str | None]:
        return {"key": request.headers.get("authorization")}

    @app.post("/text")
    async def give_text() -> PlainTextResponse:
        return PlainTextResponse("no JSON", 418)

    @app.get("/elsewhere")
    async def redirect() -> RedirectResponse:
        return RedirectResponse("http://192.0.2.1/")

    @app.post("/events")
    async def give_events() -> StreamingResponse:
        return StreamingResponse(_events())

    @app.post("/broken")
    async def give_broken_events() -> StreamingResponse:
        return StreamingResponse(_broken_events())

    return app


@pytest.fixture(scope="module")
def url():
    with live_server(make_app()) as port:
        yield f"http://127.0.0.1:{port}"


@contextmanager
def connect(url):
    with LoopbackClient(url, timeout_s=5) as client:
        yield client


def test_json_is_parsed_and_other_text_is_kept(url):
    with connect(url) as client:
        assert Reply(200, {"a": 1}) == client.get("/json")
        assert Reply(418, "no JSON") == client.post("/text", {})


@pytest.mark.parametrize(("key", "sent"), [(None, None), ("abc", "Bearer abc")])
def test_a_key_is_sent_where_there_is_one(url, key, sent):
    with LoopbackClient(url, timeout_s=5, key=key) as client:
        assert {"key": sent} == client.get("/key").body


def test_a_stream_is_the_data_of_its_events(url):
    with connect(url) as client:
        assert (200, ["1", "2", "[DONE]"]) == client.stream("/events", {})
        assert (418, ["no JSON"]) == client.stream("/text", {})


def test_a_stream_that_breaks_off_is_told(url):
    with connect(url) as client, pytest.raises(CheckFailed) as raised:
        client.stream("/broken", {})
    assert f"an answer from {url}/broken within 5 s" == raised.value.expected
    assert "RemoteProtocolError" in raised.value.actual


def test_a_redirect_is_not_followed(url):
    with connect(url) as client:
        assert 307 == client.get("/elsewhere").status


def test_proxies_of_the_environment_are_not_used(url, monkeypatch):
    proxy = f"http://127.0.0.1:{free_port()}"
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with connect(url) as client:
        assert 200 == client.get("/json").status


@pytest.mark.parametrize("method", ["get", "post", "stream"])
def test_a_server_that_is_not_there_is_told(method):
    url = f"http://127.0.0.1:{free_port()}"
    arguments = ("/x",) if method == "get" else ("/x", {})
    with connect(url) as client, pytest.raises(CheckFailed) as raised:
        getattr(client, method)(*arguments)
    assert "ConnectError" in raised.value.actual
    assert "--timeout" in raised.value.advice


def test_a_long_reply_is_shown_in_part():
    shown = Reply(200, "x" * 1000).show()
    assert "status 200: " + "x" * 400 + "…" == shown
    assert 'status 400: {"a": 1}' == Reply(400, {"a": 1}).show()
