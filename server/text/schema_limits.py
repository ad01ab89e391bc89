"""How large a JSON Schema may be.

A schema is a program that a client sends: it is measured before anything walks
it, since every later step takes time and memory in proportion.
"""

import json
from collections import deque
from typing import Any

from server.core.errors import InvalidRequest

MAX_SCHEMA_BYTES = 512 * 1024
"""Length of one schema written as compact JSON."""

MAX_SCHEMA_DEPTH = 64
"""Levels of nested objects and arrays; the compiler's own reader allows 128."""

MAX_SCHEMA_VALUES = 20_000
"""Objects and arrays in one schema, at all levels together."""


def check_size(schema: object, *, param: str) -> None:
    """Refuse a schema that is too large, too deep or has too many parts.

    Raises:
        InvalidRequest: One of the limits is exceeded; the text has both numbers.
    """
    _check_shape(schema, param)
    n_bytes = len(json.dumps(schema, separators=(",", ":")))
    if n_bytes > MAX_SCHEMA_BYTES:
        raise InvalidRequest(
            f"The schema has {n_bytes} bytes, but at most {MAX_SCHEMA_BYTES} are "
            "allowed. Make it smaller.",
            param=param,
        )


def _check_shape(schema: object, param: str) -> None:
    """Count without recursion: the depth is what is in question."""
    n_values = 0
    waiting: deque[tuple[Any, int]] = deque([(schema, 1)])
    while waiting:
        value, depth = waiting.popleft()
        if not isinstance(value, dict | list):
            continue
        n_values += 1
        if depth > MAX_SCHEMA_DEPTH:
            raise InvalidRequest(
                f"The schema is nested more than {MAX_SCHEMA_DEPTH} levels deep. "
                "Make it flatter.",
                param=param,
            )
        if n_values > MAX_SCHEMA_VALUES:
            raise InvalidRequest(
                f"The schema has more than {MAX_SCHEMA_VALUES} objects and arrays. "
                "Make it smaller.",
                param=param,
            )
        parts = value.values() if isinstance(value, dict) else value
        waiting.extend((part, depth + 1) for part in parts)
