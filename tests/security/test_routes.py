"""Every route of the application, as each kind of caller finds it."""

import json

import pytest
from fastapi.routing import iter_route_contexts

from server.app import create_app
from server.security.access import Access
from server.security.middleware import Guard
from server.security.permissions import PUBLIC, Permission, find_rule
from server.security.tokens import TokenReader, TokenStore
from tests.fake_engine import FakeEngine
from tests.live_server import exchange, live_server

WRONG = "sk-lm-AAAAAAAA:AAAAAAAAAAAAAAAAAAAA"


def list_routes():
    """List (method, path template) of everything that the application serves."""
    app = create_app(engine=FakeEngine())
    found = set()
    for context in iter_route_contexts(app.routes):
        for method in context.methods or ["WEBSOCKET"]:
            found.add((method, context.path))
    return sorted(found)


ROUTES = list_routes()


def fill(template: str) -> str:
    return template.replace("{model_id:path}", "tiny").replace("{name}", "x.js")


@pytest.fixture(scope="module")
def tokens(tmp_path_factory):
    store = TokenStore(tmp_path_factory.mktemp("home") / "state.db")
    made = {p: store.create(str(p), {p})[0] for p in Permission}
    made["revoked"] = store.create("gone", {Permission.ADMIN})[0]
    store.revoke("gone")
    made["expired"] = store.create("old", {Permission.ADMIN}, expires_s=1)[0]
    made["path"] = store._path
    return made


@pytest.fixture(scope="module")
def port(tokens):
    guard = Guard(access=Access("the-fixed-key", TokenReader(tokens["path"])))
    with live_server(create_app(engine=FakeEngine(), guard=guard)) as port:
        yield port


def ask(port, method, path, token=None, host="localhost"):
    lines = [f"{method} {path} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if token is not None:
        lines.append(f"Authorization: Bearer {token}")
    body = b"{}" if method in ("POST", "PUT", "PATCH") else b""
    lines.append(f"Content-Length: {len(body)}")
    return exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n" + body)


def test_the_walk_sees_the_routes():
    assert ("POST", "/v1/chat/completions") in ROUTES
    assert ("GET", "/openapi.json") in ROUTES
    assert ("GET", "/v1/models/{model_id:path}") in ROUTES
    assert len(ROUTES) >= 12


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_every_route_has_a_rule_of_its_own(method, template):
    assert find_rule(method, fill(template)) is not None, (
        "add a row to RULES in server/security/permissions.py"
    )


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_a_route_opens_to_a_right_token_and_to_nothing_else(
    port, tokens, method, template
):
    path = fill(template)
    _, needed = find_rule(method, path)
    nothing = [None, WRONG, "", tokens["revoked"], tokens["expired"]]
    statuses = [ask(port, method, path, token)[0] for token in nothing]
    if needed is PUBLIC:
        assert [200] * len(nothing) == statuses
        return
    assert [401] * len(nothing) == statuses
    for permission in Permission:
        status = ask(port, method, path, tokens[permission])[0]
        is_right = permission in (needed, Permission.ADMIN)
        assert is_right == (status not in (401, 403)), permission
        assert is_right or status == 403
    assert ask(port, method, path, "the-fixed-key")[0] not in (401, 403)


@pytest.mark.parametrize(("method", "template"), ROUTES)
def test_the_host_is_checked_first_on_every_route(port, method, template):
    for token in (None, "the-fixed-key"):
        status, _, body = ask(port, method, fill(template), token, host="evil.example")
        assert 403 == status
        if method != "HEAD":
            assert "host_not_allowed" == json.loads(body)["error"]["code"]


@pytest.mark.parametrize(
    "path",
    [
        "/nowhere",
        "/v1/models/../../health",
        "//health",
        "/health/",
        "/health%2f",
        "/health%00",
        "/lmstudio-greeting/x",
        "/v1//chat/completions",
        "http://localhost/v1/models",
        "http://evil.example/health/../v1/models",
        "/v1/models?x=/health",
        "/v1/models#/health",
        "/%76%31/models",
    ],
)
def test_no_spelling_of_a_path_gets_around_the_token(port, path):
    assert 401 == ask(port, "GET", path)[0]


@pytest.mark.parametrize("host", ["localhost/health?", "localhost/health#", "a@b"])
def test_no_host_changes_the_path_that_is_judged(port, host):
    assert 400 == ask(port, "GET", "/v1/models", host=host)[0]


def test_a_refusal_is_an_error_of_openais_shape(port, tokens):
    status, headers, body = ask(port, "GET", "/v1/models")
    assert (401, "Bearer") == (status, headers["www-authenticate"])
    error = json.loads(body)["error"]
    assert ("authentication_error", "invalid_api_key") == (error["type"], error["code"])
    assert "Authorization: Bearer" in error["message"]
    status, _, body = ask(port, "GET", "/v1/models", tokens[Permission.DOWNLOAD])
    error = json.loads(body)["error"]
    assert (403, "permission_error") == (status, error["type"])
    assert "'infer'" in error["message"]
