import json

import pytest

from server.core.errors import ErrorInfo
from server.dialects.openai.errors import error_response


def shown(status, *, retryable=False):
    info = ErrorInfo(
        code="c", message="What to do.", http_status=status, retryable=retryable
    )
    response = error_response(info, {"allow": "GET"})
    assert status == response.status_code
    assert "GET" == response.headers["allow"]
    return json.loads(response.body)["error"], response.headers


@pytest.mark.parametrize(
    ("status", "kind", "retry"),
    [
        (400, "invalid_request_error", None),
        (401, "authentication_error", None),
        (403, "permission_error", None),
        (404, "invalid_request_error", None),
        (408, "invalid_request_error", "false"),
        (409, "invalid_request_error", "false"),
        (413, "invalid_request_error", None),
        (429, "rate_limit_error", "false"),
        (500, "server_error", "false"),
        (503, "server_error", "false"),
    ],
)
def test_a_status_has_a_type_and_clients_do_not_repeat_in_vain(status, kind, retry):
    error, headers = shown(status)
    expected = {"message": "What to do.", "type": kind, "param": None, "code": "c"}
    assert expected == error
    assert retry == headers.get("x-should-retry")
    assert "retry-after" not in headers


@pytest.mark.parametrize("status", [429, 500, 503])
def test_what_may_succeed_later_says_when(status):
    _, headers = shown(status, retryable=True)
    assert ("true", "1") == (headers["x-should-retry"], headers["retry-after"])
