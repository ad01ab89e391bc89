"""Takes from root what the seal must not rest on.

A server that runs as root keeps what reading and writing files needs and loses,
for itself and all its children, what could set up networks, load code into the
kernel or look into other processes.

Source: linux/capability.h, capset(2), capabilities(7).
"""

import ctypes
from typing import Final

from server.seal.native import (
    PR_CAP_AMBIENT,
    PR_CAP_AMBIENT_CLEAR_ALL,
    PR_CAPBSET_DROP,
    PR_CAPBSET_READ,
    load_libc,
    prctl,
)

KEPT: Final = {
    "CAP_CHOWN": 0,
    "CAP_DAC_OVERRIDE": 1,
    "CAP_FOWNER": 3,
    "CAP_IPC_LOCK": 14,
    "CAP_SYS_NICE": 23,
}
_VERSION_3: Final = 0x2008_0522
_HIGHEST: Final = 63
_N_WORDS: Final = 2


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Words(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


def drop_capabilities() -> tuple[str, ...]:
    """Drop all capabilities of this thread but the kept ones.

    Call it before other threads start: each has its own set.

    Returns:
        The names of those that remain, of those that were there.

    Raises:
        OSError: The kernel refused.
    """
    for number in range(_HIGHEST + 1):
        if number not in KEPT.values():
            _drop_from_bounding_set(number)
    prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL)
    libc = load_libc()
    header = _Header(_VERSION_3, 0)
    words = (_Words * _N_WORDS)()
    if libc.capget(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capget failed")
    mask = sum(1 << number for number in KEPT.values())
    for index in range(_N_WORDS):
        part = (mask >> (32 * index)) & 0xFFFF_FFFF
        words[index].effective &= part
        words[index].permitted &= part
        words[index].inheritable = 0
    if libc.capset(ctypes.byref(header), words):
        raise OSError(ctypes.get_errno(), "capset failed")
    return tuple(
        name
        for name, number in KEPT.items()
        if words[number // 32].permitted >> (number % 32) & 1
    )


def _drop_from_bounding_set(number: int) -> None:
    """Children could get it back from there; an ordinary user has no leave to."""
    try:
        if prctl(PR_CAPBSET_READ, number):
            prctl(PR_CAPBSET_DROP, number)
    except OSError:
        return
