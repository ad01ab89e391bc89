"""`/docs` and `/redoc`: everything comes from here, nothing from elsewhere."""

import gzip
import hashlib
import re
import tomllib

import pytest

from server.app import create_app
from server.docs_page import STATIC
from tests.fake_engine import FakeEngine
from tests.live_server import exchange, live_server

SOURCES = tomllib.loads((STATIC / "SOURCES.toml").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def port():
    with live_server(create_app(engine=FakeEngine())) as port:
        yield port


def get(port, path, *headers):
    lines = (f"GET {path} HTTP/1.1", "Host: localhost", "Connection: close", *headers)
    return exchange(port, "\r\n".join(lines).encode() + b"\r\n\r\n")


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_page_and_all_it_loads_come_from_this_server(port, path):
    status, headers, body = get(port, path)
    page = body.decode()
    assert (200, "text/html; charset=utf-8") == (status, headers["content-type"])
    assert "//" not in page
    loaded = re.findall(r'(?:src|href)="(?!data:)([^"]+)"', page)
    assert len(loaded) >= 2
    for name in loaded:
        status, headers, body = get(port, "/" + name)
        assert 200 == status
        assert headers["content-type"].startswith(("text/javascript", "text/css"))
        assert len(body) > 50


@pytest.mark.parametrize("path", ["/docs", "/redoc", "/docs-assets/redoc-start.js"])
def test_the_policy_lets_a_browser_load_nothing_from_elsewhere(port, path):
    policy = get(port, path)[1]["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert "'none'" == rules["default-src"]
    assert "'self'" == rules["script-src"] == rules["connect-src"]
    for sources in rules.values():
        assert set(sources.split()) <= {
            "'none'", "'self'", "'unsafe-inline'", "data:", "blob:",
        }  # fmt: skip
    assert "unsafe" not in rules["script-src"]


@pytest.mark.parametrize("path", ["/docs", "/redoc"])
def test_a_browser_is_told_to_resolve_no_names_of_links(port, path):
    assert "off" == get(port, path)[1]["x-dns-prefetch-control"]


@pytest.mark.parametrize("name", SOURCES)
def test_scripts_are_those_of_the_packages_named(port, name):
    plain = get(port, f"/docs-assets/{name}")[2]
    assert SOURCES[name]["sha256"] == hashlib.sha256(plain).hexdigest()
    _, headers, packed = get(port, f"/docs-assets/{name}", "Accept-Encoding: br, gzip")
    assert "gzip" == headers["content-encoding"]
    assert plain == gzip.decompress(packed)


def test_every_script_has_its_licence_beside_it():
    for name in ("swagger-ui", "redoc"):
        assert "icense" in (STATIC / f"{name}.LICENSE.txt").read_text(encoding="utf-8")
    shipped = {path.name.removesuffix(".gz") for path in STATIC.glob("*.gz")}
    assert set(SOURCES) == shipped


def test_a_browser_asks_once(port):
    path = "/docs-assets/swagger-ui.css"
    tag = get(port, path)[1]["etag"]
    assert (304, b"") == get(port, path, f"If-None-Match: {tag}")[::2]


@pytest.mark.parametrize(
    "name", ["", "SOURCES.toml", "..%2fapp.py", "../app.py", "%2e%2e/app.py", "a.js"]
)
def test_no_other_file_is_sent(port, name):
    assert 404 == get(port, f"/docs-assets/{name}")[0]


def test_the_start_scripts_send_the_description_nowhere():
    text = (STATIC / "swagger-ui-start.js").read_text(encoding="utf-8")
    assert "validatorUrl: null" in text
    for path in STATIC.glob("*-start.js"):
        assert "http" not in path.read_text(encoding="utf-8")


def test_the_description_tells_bodies_and_how_a_token_is_sent(port):
    description = create_app(engine=FakeEngine()).openapi()
    assert {"bearer", "key"} == set(description["components"]["securitySchemes"])
    body = description["paths"]["/v1/chat/completions"]["post"]["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert {"model", "messages"} == set(schema["required"])
    message = schema["properties"]["messages"]["items"]
    assert "role" in message["properties"]
    assert "$defs" not in str(description)
