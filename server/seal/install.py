"""Installs a seccomp filter on all threads of this process, for good.

`no_new_privs` lets an ordinary user do this and takes from setuid programs what
they would add. The filter cannot be removed and passes to threads and children.

Source: seccomp(2), prctl(2); linux/seccomp.h, linux/filter.h.
"""

import ctypes
import sys
from collections.abc import Iterable
from typing import Final

from server.seal.bpf import Rule, assemble
from server.seal.level import SealError
from server.seal.native import PR_SET_NO_NEW_PRIVS, prctl, syscall
from server.seal.syscalls import find_architecture

_SECCOMP_SET_MODE_FILTER: Final = 1
_SECCOMP_GET_ACTION_AVAIL: Final = 2
_FLAG_TSYNC: Final = 1 << 0
_FLAG_LOG: Final = 1 << 1
_RET_KILL_PROCESS: Final = 0x8000_0000

NEXT_STEP: Final = (
    "Start with --offline=process to accept the weaker level by name, which holds "
    "Python code alone."
)


class _Program(ctypes.Structure):
    """`struct sock_fprog`."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def explain_absence() -> str | None:
    """Say why this machine cannot have a filter; None if it can."""
    if sys.platform != "linux":
        return f"this system ({sys.platform}) has no seccomp"
    architecture = find_architecture()
    if architecture is None or sys.maxsize < 2**32:
        return "there is no table of system calls for this processor"
    try:
        syscall(
            architecture.numbers["seccomp"],
            _SECCOMP_GET_ACTION_AVAIL,
            0,
            ctypes.byref(ctypes.c_uint32(_RET_KILL_PROCESS)),
        )
    except OSError as error:
        return f"this kernel has no seccomp filters ({error.strerror})"
    return None


def install_filter(rules: Iterable[Rule], *, log: bool = True) -> int:
    """Put a filter on every thread of this process; several add up.

    Args:
        rules: What it denies.
        log: Whether denied calls go to the kernel's audit log, if one is kept.

    Returns:
        The number of its instructions.

    Raises:
        SealError: The machine has no such filters, or refused this one.
    """
    reason = explain_absence()
    architecture = find_architecture()
    if reason is not None or architecture is None:
        raise SealError(f"The kernel's seal is not to be had: {reason}. {NEXT_STEP}")
    code, n_instructions = assemble(architecture, rules)
    kept = ctypes.create_string_buffer(code, len(code))
    program = _Program(n_instructions, ctypes.addressof(kept))
    try:
        prctl(PR_SET_NO_NEW_PRIVS, 1)
        thread = syscall(
            architecture.numbers["seccomp"],
            _SECCOMP_SET_MODE_FILTER,
            _FLAG_TSYNC | (_FLAG_LOG if log else 0),
            ctypes.byref(program),
        )
    except OSError as error:
        raise SealError(
            f"The kernel refused the seal: {error.strerror}. {NEXT_STEP}"
        ) from error
    if thread:  # TSYNC tells a thread that could not follow
        raise SealError(
            f"The kernel's seal does not reach thread {thread}. {NEXT_STEP}"
        )
    return n_instructions
