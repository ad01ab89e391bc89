"""The few C functions that the seal calls; each call says what failed."""

import ctypes
import os
from functools import cache
from typing import Final

# Source: linux/prctl.h.
PR_SET_NO_NEW_PRIVS: Final = 38
PR_CAPBSET_READ: Final = 23
PR_CAPBSET_DROP: Final = 24
PR_CAP_AMBIENT: Final = 47
PR_CAP_AMBIENT_CLEAR_ALL: Final = 4


@cache
def load_libc() -> ctypes.CDLL:
    """Name the C library, which every process has loaded already."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


def prctl(operation: int, *values: int) -> int:
    """Ask the kernel to change this process.

    Source: prctl(2).

    Raises:
        OSError: The kernel refused.
    """
    libc = load_libc()
    words = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    result: int = libc.prctl(ctypes.c_int(operation), *words)
    return _check(result, f"prctl {operation}")


def syscall(number: int, *arguments: object) -> int:
    """Make a system call by its number.

    Args:
        number: Of this architecture.
        arguments: ctypes values, or integers, which are passed as 64 bits.

    Raises:
        OSError: The kernel refused.
    """
    libc = load_libc()
    words = [
        ctypes.c_long(value) if isinstance(value, int) else value for value in arguments
    ]
    result: int = libc.syscall(ctypes.c_long(number), *words)
    return _check(result, f"system call {number}")


def _check(result: int, what: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
    return result
