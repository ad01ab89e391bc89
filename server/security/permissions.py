"""What each route needs of whoever asks. Pure.

A request is judged by its method and `scope["path"]`, the very text that the
router matches, never by a URL put together from headers (CVE-2026-48710). What
no rule names needs `admin`: a route that somebody adds is closed until it gets
its row, and `tests/security/test_routes.py` fails until then.
"""

import re
from enum import StrEnum


class Permission(StrEnum):
    """What a token may be used for; `admin` includes all."""

    INFER = "infer"
    MODELS = "models"
    DOWNLOAD = "download"
    ADMIN = "admin"


MEANINGS = {
    Permission.INFER: "run models and list them",
    Permission.MODELS: "load and unload models",
    Permission.DOWNLOAD: "download models",
    Permission.ADMIN: "everything",
}

PUBLIC = None
"""In place of a permission: open to everybody, without a token."""

# Path templates are FastAPI's: {x} is one segment, {x:path} any number.
RULES: tuple[tuple[str, str, Permission | None], ...] = (
    ("GET", "/health", PUBLIC),
    ("GET", "/lmstudio-greeting", PUBLIC),
    ("GET", "/openapi.json", Permission.INFER),
    ("GET", "/docs", Permission.INFER),
    ("GET", "/redoc", Permission.INFER),
    ("GET", "/docs-assets/{name}", Permission.INFER),
    ("GET", "/cloister/seal", Permission.ADMIN),
    ("GET", "/v1/models", Permission.INFER),
    ("GET", "/v1/models/{id:path}", Permission.INFER),
    ("POST", "/v1/chat/completions", Permission.INFER),
    ("POST", "/v1/completions", Permission.INFER),
    ("POST", "/v1/embeddings", Permission.INFER),
    ("POST", "/v1/chat/completions/input_tokens", Permission.INFER),
    ("POST", "/tokenize", Permission.INFER),
    ("POST", "/v1/tokenize", Permission.INFER),
    ("POST", "/detokenize", Permission.INFER),
    ("POST", "/v1/detokenize", Permission.INFER),
    ("POST", "/apply-template", Permission.INFER),
    ("POST", "/v1/apply-template", Permission.INFER),
)

_PARAMETER = re.compile(r"\{\w+(:path)?\}")


def find_rule(method: str, path: str) -> tuple[str, Permission | None] | None:
    """Find the rule for a request.

    Args:
        method: In upper case; HEAD counts as GET.
        path: As the router sees it: decoded, without a query.

    Returns:
        The template and the permission; None if there is no rule.
    """
    wanted = "GET" if method == "HEAD" else method
    for rule_method, template, pattern, permission in _COMPILED:
        if rule_method == wanted and pattern.fullmatch(path):
            return template, permission
    return None


def required_permission(method: str, path: str) -> Permission | None:
    """Tell what a request needs; None means nothing. See `find_rule`."""
    rule = find_rule(method, path)
    return Permission.ADMIN if rule is None else rule[1]


def _compile(template: str) -> re.Pattern[str]:
    pattern, end = "", 0
    for match in _PARAMETER.finditer(template):
        pattern += re.escape(template[end : match.start()])
        pattern += ".+" if match[1] else "[^/]+"
        end = match.end()
    return re.compile(pattern + re.escape(template[end:]), re.DOTALL)


_COMPILED = tuple(
    (method, template, _compile(template), permission)
    for method, template, permission in RULES
)
