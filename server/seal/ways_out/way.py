"""What a way out is, and what it may use."""

import errno
import os
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

from msgspec import Struct

Listens = Literal[
    "tcp", "tcp6", "udp", "udp6", "unix", "unix-datagram", "abstract", "netlink"
]
"""The kind of listener that a way out is aimed at."""

Role = Literal["server", "worker", "filter", "open"]
"""How the process is sealed that tries: as the server, as a worker, by the
server's filter without the audit hook, or not at all (the control)."""

TRY_S: Final = 2.0
"""How long a library may wait for an answer."""


class Aim(Struct, frozen=True):
    """Where a way out leads, and what it may use.

    Args:
        port: Of 127.0.0.1 or ::1, for listeners that have one.
        path: Of an AF_UNIX listener; of an abstract one without the zero byte.
        netlink: The listener's netlink number.
        word: What to send; the listener knows it by that.
        folder: Where files may be written.
        sibling_pid: A process of the same user, outside the seal.
        sibling_fd: The number of a UDP socket in it.
    """

    port: int = 0
    path: str = ""
    netlink: int = 0
    word: str = ""
    folder: str = ""
    sibling_pid: int = 0
    sibling_fd: int = 0


@dataclass(slots=True)
class Ground:
    """What a way out works with: the aim, and what it made before the seal.

    `keep` are descriptors that the seal must leave open, so that what holds is
    the filter; `made` is for `before` to leave things to `go`.
    """

    aim: Aim
    role: Role = "open"
    keep: list[int] = field(default_factory=list)
    made: dict[str, Any] = field(default_factory=dict)

    @property
    def host(self) -> tuple[str, int]:
        """The listener's address."""
        return ("127.0.0.1", self.aim.port)

    @property
    def url(self) -> str:
        """The listener's address, for HTTP."""
        return f"http://127.0.0.1:{self.aim.port}/{self.aim.word}"

    @property
    def word(self) -> bytes:
        """What to send."""
        return self.aim.word.encode()

    @property
    def folder(self) -> Path:
        """Where files may be written."""
        return Path(self.aim.folder)


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A way out.

    Args:
        name: Short, with a dot.
        tries: What it tries, in words.
        go: Does it, behind the seal; raises what stopped it.
        before: Prepares it before the seal.
        listens: The listener it is aimed at; None where opening alone counts.
        blocked: Results that count as blocked, by name.
        roles: Where it makes sense.
        connects_before: The connection is made before the seal, so only bytes
            tell that it got out.
        needs_landlock: Nothing else stops it.
        needs_kernel: It is not tried from a process that the kernel does not hold
            and that is not alone in its network namespace.
    """

    name: str
    tries: str
    go: Callable[[Ground], object]
    before: Callable[[Ground], object] | None = None
    listens: Listens | None = None
    blocked: tuple[str, ...] = ("EACCES",)
    roles: tuple[Role, ...] = ("server", "worker", "filter")
    connects_before: bool = False
    needs_landlock: bool = False
    needs_kernel: bool = False


class NotPossible(Exception):
    """This machine does not have what the way out needs; the text says what."""


class Refused(Exception):
    """It was refused in a way that has no errno; the text starts with a name."""


def fail(number: int, what: str) -> OSError:
    """Make the error for a C function that failed."""
    return OSError(number, f"{what}: {os.strerror(number)}")


def run_program(arguments: Sequence[str], *, timeout_s: float = TRY_S) -> None:
    """Run a program that must succeed.

    Raises:
        NotPossible: There is no such program.
        OSError: It was denied, as it says itself.
        Refused: It failed otherwise.
    """
    try:
        done = subprocess.run(
            arguments,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=timeout_s + 1,
        )
    except FileNotFoundError as error:
        raise NotPossible(f"there is no {arguments[0]}") from error
    if done.returncode == 0:
        return
    said = done.stderr.decode("utf-8", "replace").strip()
    if "ermission denied" in said:
        raise PermissionError(errno.EACCES, said.splitlines()[-1])
    raise Refused(f"exit {done.returncode}: {said[-200:]}")
