"""The audit hook: Python code that reaches for a network gets a clear error.

Python announces what it is about to do (PEP 578), and a hook that raises stops
it. The hook cannot be removed, but native code does not announce anything: it is
the kernel's filter that holds. The hook comes first, so that an attempt is known
by its place in the code and answered at once, without a time-out.

A new Python object for a descriptor that exists (`accept`, `socketpair`, a
worker's channel) is announced like a new socket. They differ by the argument
`fileno` of the constructor, which is looked up in the caller's frame.

Source: Python's table of audit events; Lib/socket.py, class socket.
"""

import errno
import socket
import sys
import sysconfig
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from server.seal.attempts import MAX_ADDRESS_CHARS, Attempt

_KINDS: Final = {
    "socket.__new__": "socket",
    "socket.connect": "connect",
    "socket.bind": "bind",
    "socket.sendto": "send",
    "socket.sendmsg": "send",
    "socket.getaddrinfo": "resolve",
    "socket.gethostbyname": "resolve",
    "socket.gethostbyaddr": "resolve",
    "socket.getnameinfo": "resolve",
    "urllib.Request": "fetch",
    "http.client.connect": "connect",
    "ftplib.connect": "connect",
    "imaplib.open": "connect",
    "nntplib.connect": "connect",
    "poplib.connect": "connect",
    "smtplib.connect": "connect",
    "telnetlib.Telnet.open": "connect",
}
_LOCAL_SCHEMES: Final = ("file:", "data:")
_N_HOST_PORT: Final = 2


class OfflineByPolicy(PermissionError):
    """The seal does not allow what Python code was about to do."""

    def __init__(self, what: str) -> None:
        super().__init__(
            errno.EACCES,
            f"offline by policy: {what}. This server is sealed (--offline). Fetch "
            "files on another machine and carry them in: cloister import FILE",
        )


Hook = Callable[[str, tuple[Any, ...]], None]


def install_hook(report: Callable[[Attempt], None], process: str = "server") -> None:
    """Block the network for Python code of this process, for good.

    Args:
        report: Told of every blocked attempt; must not raise.
        process: Who this is, for reports.
    """
    sys.addaudithook(make_hook(report, process))


def make_hook(report: Callable[[Attempt], None], process: str) -> Hook:
    """Make the hook without installing it."""

    def hook(event: str, args: tuple[Any, ...]) -> None:
        kind = _KINDS.get(event)
        if kind is None:
            return
        frame = sys._getframe(1)  # noqa: SLF001 - the only way to the caller
        if _is_harmless(event, args, frame):
            return
        module, line = _find_place(frame)
        attempt = Attempt(
            kind=kind,
            call=event,
            address=_describe_address(event, args),
            module=module,
            line=line,
            process=process,
        )
        report(attempt)
        raise OfflineByPolicy(attempt.describe())

    return hook


def _is_harmless(event: str, args: tuple[Any, ...], frame: FrameType) -> bool:
    match event:
        case "socket.__new__":
            return _wraps_descriptor(args, frame)
        case "urllib.Request":
            return str(args[0]).lower().startswith(_LOCAL_SCHEMES)
        case "socket.sendmsg":
            # Without an address it goes to a peer that is connected already.
            return len(args) > 1 and args[1] is None
        case _:
            return False


def _wraps_descriptor(args: tuple[Any, ...], frame: FrameType) -> bool:
    """Tell whether a socket object is made for a descriptor that exists."""
    if frame.f_code is socket.socket.__init__.__code__:
        return frame.f_locals.get("fileno") is not None
    # `_socket.socket(fileno=…)` finds family and type out by itself.
    return len(args) > 1 and args[1] == -1


_STANDARD_LIBRARY: Final = tuple(
    sysconfig.get_path(name) for name in ("stdlib", "platstdlib")
)


def _find_place(frame: FrameType) -> tuple[str, int]:
    """Name the innermost code outside the standard library."""
    innermost: FrameType = frame
    found: FrameType | None = frame
    while found is not None:
        if not _is_standard(found):
            break
        found = found.f_back
    chosen = found or innermost
    name = chosen.f_globals.get("__name__", "?")
    return str(name), chosen.f_lineno


def _is_standard(frame: FrameType) -> bool:
    path = frame.f_code.co_filename
    if path.startswith("<frozen"):
        return True
    return path.startswith(_STANDARD_LIBRARY) and "site-packages" not in path


def _describe_address(event: str, args: tuple[Any, ...]) -> str:
    match event:
        case "socket.__new__":
            text = _name_family(args[1] if len(args) > 1 else None)
        case "socket.connect" | "socket.bind" | "socket.sendto" | "socket.sendmsg":
            text = _write(args[1]) if len(args) > 1 else ""
        case "socket.getaddrinfo" | "http.client.connect":
            start = 1 if event == "http.client.connect" else 0
            text = ":".join(_write(part) for part in args[start : start + 2])
        case _:
            text = _write(args[-1] if event.startswith("socket") else args[0])
    cut = text[:MAX_ADDRESS_CHARS] + ("…" if len(text) > MAX_ADDRESS_CHARS else "")
    return "".join(c if c.isprintable() else "?" for c in cut)


def _name_family(family: object) -> str:
    try:
        return socket.AddressFamily(int(str(family))).name
    except ValueError:
        return f"family {family}"


def _write(part: object) -> str:
    if isinstance(part, tuple) and len(part) >= _N_HOST_PORT:
        host, port = part[:_N_HOST_PORT]
        return f"{_write(host)}:{port}"
    if isinstance(part, bytes):
        return part.decode("utf-8", "replace")
    return str(part)
