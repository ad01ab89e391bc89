"""Open descriptors: what each is, and why a server or worker has it.

A descriptor that came with the process is a way out that no filter closes: a
socket that is connected already needs no `connect`. So everything inherited but
the three standard ones is closed before the seal, and a standard one must not be
a network socket.

Python marks its own descriptors close-on-exec (PEP 446); whatever has lived
through an exec is not marked, and thereby known as inherited.
"""

import fcntl
import os
import socket
import stat
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final

from msgspec import Struct

from server.seal.level import SealError

_STANDARD: Final = {0: "standard input", 1: "standard output", 2: "standard error"}
_NETWORK_FAMILIES: Final = frozenset({socket.AF_INET, socket.AF_INET6})
_HIGHEST_FALLBACK: Final = 4096


class Descriptor(Struct, frozen=True):
    """An open descriptor and why it is there."""

    number: int
    what: str
    why: str
    is_expected: bool = True


def list_numbers() -> tuple[int, ...]:
    """List the open descriptors of this process, lowest first."""
    for folder in ("/proc/self/fd", "/dev/fd"):
        with suppress(OSError):
            numbers = sorted(int(path.name) for path in Path(folder).iterdir())
            return tuple(number for number in numbers if _is_open(number))
    return tuple(number for number in range(_HIGHEST_FALLBACK) if _is_open(number))


def close_inherited(keep: Collection[int] = ()) -> tuple[str, ...]:
    """Close what came with the process, and check the standard descriptors.

    Args:
        keep: Numbers that stay although they were inherited.

    Returns:
        What was closed, for the log.

    Raises:
        SealError: Standard output or error is a network socket.
    """
    closed = []
    for number in list_numbers():
        if number in _STANDARD:
            _check_standard(number)
        elif number not in keep and (_was_inherited(number) or _is_foreign(number)):
            closed.append(f"{number} ({_read_link(Path('/proc/self/fd'), number)})")
            os.close(number)
    return tuple(closed)


def describe_process(pid: int | str) -> tuple[Descriptor, ...]:
    """Describe all descriptors of a process on Linux.

    Args:
        pid: Of a process of this user; `self` is this one.

    Raises:
        OSError: The process is gone or another user's.
    """
    folder = Path(f"/proc/{pid}/fd")
    sockets = _read_sockets(Path(f"/proc/{pid}/net"))
    found = []
    for number in sorted(int(path.name) for path in folder.iterdir()):
        link = _read_link(folder, number)
        if link:
            found.append(_describe(number, link, sockets))
    return tuple(found)


_LISTENS: Final = "0A"  # TCP_LISTEN; Source: linux/net/tcp_states.h
_UNIX_STREAM: Final = "0001"
_UNIX_CONNECTED: Final = "03"
_UNIX_LISTENS_FLAG: Final = "00010000"  # __SO_ACCEPTCON; Source: linux/net.h
_SERVES: Final = "the socket that clients connect to"
_CLIENT: Final = "the connection of a client"
_PAIR: Final = "one of a pair: a worker's channel, or the event loop's wake-up"


def _read_sockets(folder: Path) -> dict[int, tuple[str, bool]]:
    """Explain the sockets of a network: by inode, why, and whether it may be.

    Source: proc_net(5) for the columns.
    """
    known: dict[int, tuple[str, bool]] = {}
    rows = [row for name in ("tcp", "tcp6") for row in _read_rows(folder / name)]
    served = {row[1].rpartition(":")[2] for row in rows if row[3] == _LISTENS}
    for row in rows:
        port = row[1].rpartition(":")[2]
        if row[3] == _LISTENS:
            known[int(row[9])] = (_SERVES, True)
        elif port in served:
            known[int(row[9])] = (_CLIENT, True)
        else:
            known[int(row[9])] = ("a connection that was made from here", False)
    for name in ("udp", "udp6", "raw", "raw6"):
        for row in _read_rows(folder / name):
            known[int(row[9])] = (f"a socket for {name}", False)
    for row in _read_rows(folder / "unix"):
        kind, state, inode, path = row[4], row[5], int(row[6]), row[7:]
        if row[3] == _UNIX_LISTENS_FLAG:
            known[inode] = (_SERVES, True)
        elif kind == _UNIX_STREAM and state == _UNIX_CONNECTED:
            known[inode] = (_CLIENT if path else _PAIR, True)
        else:
            known[inode] = ("an AF_UNIX socket of another kind", False)
    return known


def _read_rows(path: Path) -> list[list[str]]:
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return []
    return [line.split() for line in lines[1:]]


def _describe(
    number: int, link: str, sockets: Mapping[int, tuple[str, bool]]
) -> Descriptor:
    if link.startswith("socket:["):
        inode = int(link.removeprefix("socket:[").removesuffix("]"))
        why, is_expected = sockets.get(inode, ("a socket of unknown kind", False))
        if number in _STANDARD:
            # A service manager takes the log through a local socket.
            why, is_expected = f"{_STANDARD[number]}, to {why}", why == _PAIR
        return Descriptor(number, link, why, is_expected)
    if number in _STANDARD:
        return Descriptor(number, link, _STANDARD[number])
    for start, why in _REASONS:
        if link.startswith(start):
            return Descriptor(number, link, why)
    return Descriptor(number, link, "a file")


_REASONS: Final = (
    ("anon_inode:[eventpoll]", "the event loop waits on it"),
    ("anon_inode:[pidfd]", "the end of a worker is seen through it"),
    ("anon_inode:[eventfd]", "threads wake each other by it"),
    ("pipe:", "the log of a worker, or a wake-up between threads"),
    ("/dev/null", "nothing is read from or written to it"),
    ("/dev/", "a device"),
)


def _is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def _was_inherited(number: int) -> bool:
    return not fcntl.fcntl(number, fcntl.F_GETFD) & fcntl.FD_CLOEXEC


def _is_foreign(number: int) -> bool:
    """Tell whether it is a socket that is neither listening nor one of a pair."""
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return False
    probe = socket.socket(fileno=number)
    try:
        if probe.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
            return False
        return not (
            probe.family == socket.AF_UNIX
            and probe.type == socket.SOCK_STREAM
            and not probe.getsockname()
            and not probe.getpeername()
        )
    except OSError:
        return True
    finally:
        probe.detach()


def _check_standard(number: int) -> None:
    if not stat.S_ISSOCK(os.fstat(number).st_mode):
        return
    probe = socket.socket(fileno=number)
    try:
        family = probe.family
    finally:
        probe.detach()
    if family not in _NETWORK_FAMILIES:
        return
    if number == 0:
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        return
    raise SealError(
        f"The {_STANDARD[number]} of this process is a network connection, which the "
        "seal cannot close. Send it to a file or a pipe."
    )


def _read_link(folder: Path, number: int) -> str:
    try:
        return str((folder / str(number)).readlink())
    except OSError:  # closed meanwhile
        return ""
