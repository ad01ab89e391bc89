"""Errors in OpenAI's shape.

`x-should-retry` overrules the official clients, which would otherwise repeat
every 408, 409, 429 and 5xx twice.

Source: OpenAI API reference, "Error codes"; `_should_retry` of the official
Python client.
"""

from collections.abc import Mapping

import msgspec
from starlette.responses import Response

from server.core.errors import ErrorInfo
from server.dialects.openai.encode import Json

JSON_MEDIA_TYPE = "application/json; charset=utf-8"

RETRY_AFTER_S = 1

_RETRIED = frozenset({408, 409, 429})
_FIRST_SERVER_STATUS = 500
_TYPES = {
    401: "authentication_error",
    403: "permission_error",
    429: "rate_limit_error",
}


def error_object(info: ErrorInfo) -> Json:
    """Show an error as the body of a response or of an `error` event."""
    return {
        "error": {
            "message": info.message,
            "type": error_type(info.http_status),
            "param": info.param,
            "code": info.code,
        }
    }


def error_type(http_status: int) -> str:
    """Name the class of errors that a status belongs to."""
    if http_status >= _FIRST_SERVER_STATUS:
        return "server_error"
    return _TYPES.get(http_status, "invalid_request_error")


def error_headers(info: ErrorInfo) -> dict[str, str]:
    """Tell official clients whether to send the same request again."""
    if info.retryable:
        return {"x-should-retry": "true", "retry-after": str(RETRY_AFTER_S)}
    if info.http_status >= _FIRST_SERVER_STATUS or info.http_status in _RETRIED:
        return {"x-should-retry": "false"}
    return {}


def error_response(
    info: ErrorInfo, headers: Mapping[str, str] | None = None
) -> Response:
    """Answer a request with an error.

    Args:
        info: The error.
        headers: Further headers, such as `Allow`.
    """
    return Response(
        msgspec.json.encode(error_object(info)),
        status_code=info.http_status,
        headers={**error_headers(info), **(headers or {})},
        media_type=JSON_MEDIA_TYPE,
    )
