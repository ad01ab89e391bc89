r"""Logging: one line a record, on stderr, and no text of prompts or answers.

    2026-01-02T03:04:05.678Z INFO engine.pool: loaded qwen in 1.2 s [r-17]

A line break inside a message is written as `\n`, so that a record is always one
line and a client cannot forge another one by a name it chose; other control
characters become `?`. Only a traceback adds lines of its own.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TextIO

_REQUEST_ID: ContextVar[str | None] = ContextVar("request_id", default=None)
_PACKAGE_PREFIX = "server."
_ESCAPES = dict.fromkeys((*range(32), 127), "?") | {10: "\\n", 13: "\\r", 9: " "}


class LineFormatter(logging.Formatter):
    """Time in UTC with ms, level, short logger name, message, request id."""

    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - theirs
        """Format the line itself, without a traceback."""
        name = record.name.removeprefix(_PACKAGE_PREFIX)
        request_id = _REQUEST_ID.get()
        message = record.message + (f" [{request_id}]" if request_id else "")
        return (
            f"{self.formatTime(record)} {record.levelname} {name}: "
            f"{message.translate(_ESCAPES)}"
        )

    def usesTime(self) -> bool:  # noqa: N802 - theirs
        """Say that the time is wanted."""
        return True


def configure_logging(level: str, stream: TextIO | None = None) -> None:
    """Send all records of the process to one stream.

    Args:
        level: debug, info, warning or error.
        stream: None means stderr.
    """
    handler = logging.StreamHandler(sys.stderr if stream is None else stream)
    handler.setFormatter(LineFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    # uvicorn's own lines pass through the root; its access log stays off, and
    # libraries that chat at INFO are held to warnings.
    for name in ("uvicorn", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers.clear()
        logger.propagate = True
    logging.getLogger("uvicorn.access").disabled = True
    for name in ("asyncio", "sse_starlette", "uvicorn.error"):
        logging.getLogger(name).setLevel(max(root.level, logging.WARNING))


@contextmanager
def tag_request(request_id: str) -> Iterator[None]:
    """Add a request's id to all records inside, also of tasks started there."""
    token = _REQUEST_ID.set(request_id)
    try:
        yield
    finally:
        _REQUEST_ID.reset(token)
