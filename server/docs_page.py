"""`/docs` and `/redoc`: the description of the API, shown without a network.

The scripts come from this package (`static/`, their licences beside them), and a
content security policy tells the browser to load nothing from anywhere else: one
of them would fetch a logo. They are kept compressed, since browsers take them so.
"""

import gzip
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.requests import Request
from starlette.responses import Response

from server.core.errors import RouteNotFound

STATIC = Path(__file__).parent / "static"
ASSETS_PATH = "/docs-assets/{name}"

# Everything from the page's own origin and nothing else; both libraries set
# styles in elements, and one works in a worker that it makes of text.
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; font-src 'self' data:; connect-src 'self'; "
    "worker-src blob:; base-uri 'none'; form-action 'self'; frame-ancestors 'none'"
)
_HEADERS = {
    "content-security-policy": POLICY,
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # redoc's page has a link to its makers, and browsers resolve the names of links
    # ahead of any click.
    "x-dns-prefetch-control": "off",
}

_TYPES = {".css": "text/css", ".js": "text/javascript"}
_NAMES = (
    "redoc.standalone.js",
    "redoc-start.js",
    "swagger-ui-bundle.js",
    "swagger-ui.css",
    "swagger-ui-start.js",
)

_SWAGGER_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cloister: API</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="docs-assets/swagger-ui.css">
<div id="page"></div>
<script src="docs-assets/swagger-ui-bundle.js"></script>
<script src="docs-assets/swagger-ui-start.js"></script>
</html>
"""
_REDOC_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Cloister: API</title>
<link rel="icon" href="data:,">
<div id="page"></div>
<script src="docs-assets/redoc.standalone.js"></script>
<script src="docs-assets/redoc-start.js"></script>
</html>
"""


def add_docs(app: FastAPI) -> None:
    """Add the two pages and what they load."""
    for path, page in (("/docs", _SWAGGER_PAGE), ("/redoc", _REDOC_PAGE)):
        app.add_api_route(path, _Page(page).show, include_in_schema=False)
    app.add_api_route(ASSETS_PATH, _show_asset, include_in_schema=False)


def describe_security(app: FastAPI) -> None:
    """Add to the OpenAPI description how a token is sent."""
    describe = app.openapi

    def describe_all() -> dict[str, Any]:
        description = describe()
        components = description.setdefault("components", {})
        components["securitySchemes"] = {
            "bearer": {"type": "http", "scheme": "bearer"},
            "key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
        }
        description["security"] = [{}, {"bearer": []}, {"key": []}]
        return description

    app.openapi = describe_all  # type: ignore[method-assign]


class _Page:
    def __init__(self, text: str) -> None:
        self._text = text

    async def show(self) -> Response:
        """Show the page."""
        return Response(self._text, media_type="text/html", headers=_HEADERS)


async def _show_asset(name: str, request: Request) -> Response:
    """Send a file of the pages."""
    if name not in _NAMES:
        raise RouteNotFound("There is no such file of the documentation pages.")
    return _read_asset(name, request.headers)


def _read_asset(name: str, headers: Mapping[str, str]) -> Response:
    path = STATIC / f"{name}.gz"
    answer = {**_HEADERS, "vary": "accept-encoding", "cache-control": "no-cache"}
    if path.is_file():
        body = path.read_bytes()
        if "gzip" in headers.get("accept-encoding", ""):
            answer["content-encoding"] = "gzip"
        else:
            body = gzip.decompress(body)
    else:
        body = (STATIC / name).read_bytes()
    tag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    if headers.get("if-none-match") == tag:
        return Response(status_code=304, headers={"etag": tag})
    return Response(
        body,
        media_type=_TYPES[Path(name).suffix],
        headers={**answer, "etag": tag},
    )
