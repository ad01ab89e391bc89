"""Ways out by io_uring, which does its system calls behind the filter's back.

A ring is two queues in shared memory. `_Ring` is as little of it as a socket and
a message take: one entry at a time, waited for.

Source: io_uring(7), linux/io_uring.h.
"""

import ctypes
import mmap
import os
import socket
import struct
from typing import Final

from server.seal.ways_out.native_calls import call, make_message
from server.seal.ways_out.way import Ground, Way, fail

_SUBMISSIONS_AT: Final = 0
_COMPLETIONS_AT: Final = 0x0800_0000
_ENTRIES_AT: Final = 0x1000_0000
_WAIT: Final = 1  # IORING_ENTER_GETEVENTS
_SEND_MESSAGE: Final = 9  # IORING_OP_SENDMSG
_SOCKET: Final = 45  # IORING_OP_SOCKET, Linux 5.19
_N_ENTRIES: Final = 4
_N_WORDS: Final = 30
"""Of `struct io_uring_params`: ten, then the offsets of both queues."""


class _Ring:
    """A ring with room for a few entries."""

    def __init__(self) -> None:
        self._words = (ctypes.c_uint32 * _N_WORDS)()
        self.number = call("io_uring_setup", _N_ENTRIES, ctypes.byref(self._words))

    def map(self) -> None:
        """Map the queues into memory."""
        shared = mmap.MAP_SHARED | mmap.MAP_POPULATE
        size = mmap.PAGESIZE

        def at(offset: int) -> mmap.mmap:
            return mmap.mmap(self.number, size, flags=shared, offset=offset)

        self._submissions, self._entries = at(_SUBMISSIONS_AT), at(_ENTRIES_AT)
        self._completions = at(_COMPLETIONS_AT)

    def run(self, entry: bytes) -> int:
        """Submit one entry, wait for it, and return its result."""
        tail_at, array_at = self._words[11], self._words[16]
        head_at, completions_at = self._words[20], self._words[25]
        tail = struct.unpack_from("=I", self._submissions, tail_at)[0]
        index = tail % self._words[0]
        self._entries[64 * index : 64 * index + 64] = entry.ljust(64, b"\0")
        struct.pack_into("=I", self._submissions, array_at + 4 * index, index)
        struct.pack_into("=I", self._submissions, tail_at, tail + 1)
        call("io_uring_enter", self.number, 1, 1, _WAIT, ctypes.c_void_p(None), 0)
        head = struct.unpack_from("=I", self._completions, head_at)[0]
        at = completions_at + 16 * (head % self._words[1])
        result: int = struct.unpack_from("=Qi", self._completions, at)[1]
        struct.pack_into("=I", self._completions, head_at, head + 1)
        if result < 0:
            raise fail(-result, "the ring's entry")
        return result


def _set_up(_: Ground) -> None:
    os.close(_Ring().number)


def _make_ring(ground: Ground) -> None:
    ring = _Ring()
    ring.map()
    ground.keep.append(ring.number)
    ground.made["ring"] = ring


def _send_through_new(ground: Ground) -> None:
    _make_ring(ground)
    _send_through(ground)


def _send_through(ground: Ground) -> None:
    """Make a socket and send a datagram, neither by a call of its own."""
    ring = ground.made["ring"]
    if not isinstance(ring, _Ring):
        raise TypeError("no ring was made")
    entry = struct.pack(
        "=BBHiQQI", _SOCKET, 0, 0, socket.AF_INET, socket.SOCK_DGRAM, 0, 0
    )
    number = ring.run(entry)
    message, alive = make_message(ground)
    address = ctypes.addressof(message)
    ring.run(struct.pack("=BBHiQQI", _SEND_MESSAGE, 0, 0, number, 0, address, 1))
    alive.clear()


WAYS: Final = (
    Way(name="io_uring.setup", tries="an io_uring", go=_set_up),
    Way(
        name="io_uring.send",
        tries="a socket and a datagram through an io_uring",
        go=_send_through_new,
        listens="udp",
    ),
    Way(
        name="io_uring.held",
        tries="the same through a ring made before the seal",
        before=_make_ring,
        go=_send_through,
        listens="udp",
    ),
)
