"""All ways out, in the order of the report."""

from typing import Final

from server.seal.ways_out import (
    held,
    kernel_doors,
    libraries,
    native_calls,
    programs,
    python_sockets,
    rings,
    worker_only,
)
from server.seal.ways_out.way import Way

WAYS: Final[tuple[Way, ...]] = (
    *python_sockets.WAYS,
    *libraries.WAYS,
    *native_calls.WAYS,
    *held.WAYS,
    *rings.WAYS,
    *programs.WAYS,
    *kernel_doors.WAYS,
    *worker_only.WAYS,
)


def find_way(name: str) -> Way:
    """Find a way out by its name.

    Raises:
        KeyError: There is none.
    """
    return {way.name: way for way in WAYS}[name]
