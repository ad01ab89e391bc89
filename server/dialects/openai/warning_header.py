"""Warnings, as headers of an answer. Pure.

OpenAI's answers have no field for them, and a header is there before the first
word of a stream. Each warning is a header of its own, in ASCII.
"""

from collections.abc import Sequence
from typing import TypeVar

from starlette.responses import Response

HEADER = "x-cloister-warning"

MAX_WARNINGS = 8
MAX_CHARS = 300
"""Of one warning. Clients and proxies give up on a few kilobytes of headers."""

R = TypeVar("R", bound=Response)


def warn(response: R, warnings: Sequence[str]) -> R:
    """Put warnings into the headers of a response; each only once.

    Where there are too many, the last says how many more there are.
    """
    distinct = list(dict.fromkeys(warnings))
    for text in distinct[:MAX_WARNINGS]:
        response.headers.append(HEADER, _printable(text))
    if len(distinct) > MAX_WARNINGS:
        rest = len(distinct) - MAX_WARNINGS
        response.headers.append(HEADER, f"There are {rest} more warnings.")
    return response


def _printable(text: str) -> str:
    """Escape whatever a header cannot hold."""
    escaped = "".join(char if " " <= char <= "~" else _escape(char) for char in text)
    return escaped if len(escaped) <= MAX_CHARS else f"{escaped[: MAX_CHARS - 3]}..."


def _escape(char: str) -> str:
    return char.encode("unicode_escape").decode("ascii")
