"""`server.security.origins`: which web pages may use the server."""

import pytest

from server.security.errors import OriginNotAllowed
from server.security.origins import Origins, is_own, make_origins

EVIL = "https://evil.example"


def check(
    origins: Origins,
    *,
    method="POST",
    host="localhost:1234",
    websocket=False,
    **headers,
):
    given = [
        (name.replace("_", "-").encode(), value.encode())
        for name, value in headers.items()
    ]
    return dict(origins.check(given, method=method, host=host, websocket=websocket))


def test_a_program_that_is_no_browser_needs_nothing():
    assert {} == check(Origins())
    assert {} == check(Origins(), content_type="text/plain")


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE", "ODD"])
@pytest.mark.parametrize(
    "origin",
    [EVIL, "null", "http://localhost:3000", "http://localhost.evil:1234", "x", ""],
)
def test_a_foreign_page_may_change_nothing(method, origin):
    with pytest.raises(OriginNotAllowed, match="--cors") as raised:
        check(Origins(), method=method, origin=origin)
    assert 403 == raised.value.to_info().http_status


def test_a_foreign_page_may_ask_but_gets_no_header_to_read_the_answer():
    assert {} == check(Origins(), method="GET", origin=EVIL)
    assert {} == check(Origins(), method="HEAD", origin=EVIL)


def test_a_foreign_page_may_open_no_websocket():
    with pytest.raises(OriginNotAllowed):
        check(Origins(), method="GET", origin=EVIL, websocket=True)


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_fetch_metadata_stands_in_for_a_missing_origin(site):
    with pytest.raises(OriginNotAllowed):
        check(Origins(), sec_fetch_site=site)
    assert {} == check(Origins(), method="GET", sec_fetch_site=site)
    assert {} == check(Origins(), sec_fetch_site="same-origin")
    assert {} == check(make_origins(["*"]), sec_fetch_site=site)


@pytest.mark.parametrize(
    ("origin", "host", "expected"),
    [
        ("http://localhost:1234", "localhost:1234", True),
        ("https://localhost:1234", "localhost:1234", True),
        ("http://localhost", "localhost:80", True),
        ("https://localhost", "localhost", True),
        ("http://[::1]:5", "[::1]:5", True),
        ("http://localhost:1235", "localhost:1234", False),
        ("http://localhost", "localhost:1234", False),
        ("http://127.0.0.1:1234", "localhost:1234", False),
        ("null", "localhost", False),
        ("file://localhost", "localhost", False),
        ("ext://localhost", "localhost", False),
    ],
)
def test_a_page_of_the_servers_own_is_known_by_host_and_port(origin, host, expected):
    assert expected == is_own(origin, host)


def test_the_own_page_may_do_everything_without_cors_headers():
    assert {} == check(Origins(), origin="http://localhost:1234")


def test_an_allowed_origin_gets_exactly_its_own_name_and_no_credentials():
    origins = make_origins(["https://App.example/", "http://localhost:3000"])
    answer = check(origins, origin="https://app.example")
    assert b"https://app.example" == answer[b"access-control-allow-origin"]
    assert b"Origin" == answer[b"vary"]
    assert b"access-control-allow-credentials" not in answer
    with pytest.raises(OriginNotAllowed):
        check(origins, origin="https://app.example.evil")
    with pytest.raises(OriginNotAllowed):
        check(origins, origin="http://app.example")


def test_a_star_is_answered_by_a_star_never_by_a_reflection():
    answer = check(make_origins(["*"]), origin=EVIL)
    assert b"*" == answer[b"access-control-allow-origin"]
    assert b"access-control-allow-credentials" not in answer


def test_two_origins_are_refused():
    headers = [(b"origin", b"http://localhost:1234"), (b"origin", EVIL.encode())]
    with pytest.raises(OriginNotAllowed, match="an unknown origin"):
        Origins().check(headers, method="POST", host="localhost:1234", websocket=False)


def test_a_preflight_is_answered_with_what_was_asked():
    headers = [
        (b"access-control-request-method", b"POST"),
        (b"access-control-request-headers", b"authorization,x-stainless-os"),
        (b"access-control-request-private-network", b"true"),
    ]
    answer = dict(Origins().answer_preflight(headers))
    assert b"authorization,x-stainless-os" == answer[b"access-control-allow-headers"]
    assert b"true" == answer[b"access-control-allow-private-network"]
    assert b"POST" in answer[b"access-control-allow-methods"]


@pytest.mark.parametrize("wanted", [b"a\xe9", b"a;b", b"", b"a" * 3000])
def test_odd_lists_of_headers_are_not_repeated(wanted):
    headers = [(b"access-control-request-headers", wanted)]
    answer = dict(Origins().answer_preflight(headers))
    assert b"access-control-allow-headers" not in answer


@pytest.mark.parametrize(
    "entry", ["example.org", "null", "https://", "https://a/b", "https://*.a", "a b"]
)
def test_an_entry_that_is_no_origin_stops_the_start(entry):
    with pytest.raises(ValueError, match="^" + entry.replace("*", r"\*") + "$"):
        make_origins([entry])
