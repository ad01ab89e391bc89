"""`server.security.permissions`: closed unless a rule opens it."""

import pytest

from server.security.permissions import (
    PUBLIC,
    RULES,
    Permission,
    find_rule,
    required_permission,
)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/nowhere"),
        ("POST", "/health"),
        ("DELETE", "/v1/models"),
        ("GET", "/v1/models/"),
        ("GET", "/health/"),
        ("GET", "//health"),
        ("GET", "/HEALTH"),
        ("GET", "/health\n"),
        ("GET", "/health?"),
        ("GET", "/x/health"),
        ("POST", "/v1/chat/completions/x"),
        ("WEBSOCKET", "/llm"),
        ("GET", ""),
    ],
)
def test_what_no_rule_names_needs_admin(method, path):
    assert find_rule(method, path) is None
    assert Permission.ADMIN is required_permission(method, path)


def test_only_health_and_greeting_are_public():
    public = [(method, path) for method, path, needed in RULES if needed is PUBLIC]
    assert [("GET", "/health"), ("GET", "/lmstudio-greeting")] == public
    assert required_permission("HEAD", "/health") is PUBLIC


def test_what_tells_of_the_server_itself_needs_admin():
    assert Permission.ADMIN is required_permission("GET", "/cloister/seal")


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/v1/models/a", True),
        ("/v1/models/acme/tiny@q4:2", True),
        ("/v1/models/a\nb", True),
        ("/docs-assets/a.js", True),
        ("/docs-assets/a/b.js", False),
    ],
)
def test_parameters_of_a_path_are_matched_as_the_router_does(path, expected):
    assert expected == (find_rule("GET", path) is not None)
