"""How much a client may ask for: every limit with its name and default."""

from dataclasses import dataclass

MAX_CONCURRENT_REQUESTS = 512
MAX_CONNECTIONS = 512
MAX_JSON_DEPTH = 128
HEADER_TIMEOUT_S = 10.0
IDLE_TIMEOUT_S = 60.0
BODY_TIMEOUT_S = 30.0
WRITE_TIMEOUT_S = 120.0

MAX_HEAD_BYTES = 64 * 1024
"""Request line and headers together."""

BODY_BYTES_PER_S = 16 * 1024
"""A body may take `body_timeout_s`, and a second more for so many bytes."""

HELD_BODIES = 4
"""Bodies of the largest size that may be in memory together."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """What one server bears. Times are in seconds.

    Args:
        max_concurrent_requests: Requests that are being answered.
        max_connections: Open connections; a further one is closed at once.
        max_json_depth: Levels of nesting in a request body.
        header_timeout_s: From a request's first byte to the end of its headers.
        idle_timeout_s: How long a connection may stay open between requests.
        body_timeout_s: How long a body may take to arrive; see
            `BODY_BYTES_PER_S` for large ones.
        write_timeout_s: How long a client may leave an answer unread.
    """

    max_concurrent_requests: int = MAX_CONCURRENT_REQUESTS
    max_connections: int = MAX_CONNECTIONS
    max_json_depth: int = MAX_JSON_DEPTH
    header_timeout_s: float = HEADER_TIMEOUT_S
    idle_timeout_s: float = IDLE_TIMEOUT_S
    body_timeout_s: float = BODY_TIMEOUT_S
    write_timeout_s: float = WRITE_TIMEOUT_S
