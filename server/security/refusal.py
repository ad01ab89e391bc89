"""How a request is refused whose body nobody is going to read."""

import anyio
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

LINGER_S = 2.0
"""How long the rest of a refused body is read and dropped. Closing at once
would reset the connection and could destroy the answer on its way."""

MAX_LENGTH_DIGITS = 18
"""Of `Content-Length`; the first so many already exceed any limit."""


async def send_refusal(
    response: Response, scope: Scope, receive: Receive, send: Send
) -> None:
    """Send an answer, drop the request's body and close the connection.

    A request without a body keeps its connection.
    """
    if not has_body(scope):
        await response(scope, receive, send)
        return
    response.headers["connection"] = "close"
    await send(
        {
            "type": "http.response.start",
            "status": response.status_code,
            "headers": response.raw_headers,
        }
    )
    await send({"type": "http.response.body", "body": response.body, "more_body": True})
    with anyio.move_on_after(LINGER_S):
        while (await receive()).get("more_body", False):
            pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def has_body(scope: Scope) -> bool:
    """Tell whether a request announces a body."""
    return content_length(scope) > 0 or any(
        name == b"transfer-encoding" for name, _ in scope["headers"]
    )


def content_length(scope: Scope) -> int:
    """Read the announced length of a body; 0 if there is none."""
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value[:MAX_LENGTH_DIGITS])
    return 0
