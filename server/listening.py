"""The socket that clients connect to.

It is bound before the seal is put on, so this module imports little. It starts to
listen only when everything else is ready.
"""

import errno
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

_BACKLOG = 2048
_PRIVATE_UMASK = 0o177


class StartError(Exception):
    """The server cannot start; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a server can be reached, for people.

    Args:
        shown: What it listens on.
        url: What the paths of the API are put behind.
        curl: A curl command up to the URL.
    """

    shown: str
    url: str
    curl: str


def bind(host: str, port: int, unix_socket: Path | None = None) -> socket.socket:
    """Bind a socket that does not accept connections yet: see `listen`.

    Args:
        host: Address of this machine.
        port: 0 means any free one.
        unix_socket: Takes the place of address and port.

    Raises:
        StartError: It is taken, not ours, or makes no sense.
    """
    if unix_socket is not None:
        return _bind_unix(unix_socket)
    return _bind_address(host, port)


def listen(listener: socket.socket) -> None:
    """Let a bound socket accept connections.

    Raises:
        StartError: Another program listens there already.
    """
    try:
        listener.listen(_BACKLOG)
    except OSError as error:
        name = listener.getsockname()
        host, port = (name, 0) if isinstance(name, str) else name[:2]
        raise StartError(_explain_bind(host, port, error)) from error


def remove_unix_socket(path: Path | None) -> None:
    """Remove the file of a Unix socket that is no longer wanted; None = none."""
    if path is not None:
        path.unlink(missing_ok=True)


def address_of(listener: socket.socket) -> str | None:
    """Tell the IP address that a socket is bound to; None for a Unix socket."""
    name = listener.getsockname()
    return None if isinstance(name, str) else str(name[0])


def describe_endpoint(listener: socket.socket, *, tls: bool) -> Endpoint:
    """Tell people where a server can be reached."""
    scheme = "https" if tls else "http"
    name = listener.getsockname()
    if isinstance(name, str):
        url = f"{scheme}://localhost"
        return Endpoint(
            f"the Unix socket {name}", url, f"curl --unix-socket {name} {url}"
        )
    host, port = name[:2]
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
    return Endpoint(url, url, f"curl {url}")


def _bind_address(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # Named, since asyncio sends at once (TCP_NODELAY) only where it reads TCP here; it
    # would else wait some 40 ms for the client between the parts of an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
    except OSError as error:
        listener.close()
        raise StartError(_explain_bind(host, port, error)) from error
    listener.setblocking(False)  # noqa: FBT003
    return listener


def _bind_unix(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    # The mode must be right from the first moment; nothing else runs yet.
    before = os.umask(_PRIVATE_UMASK)
    try:
        _remove_dead_socket(path)
        listener.bind(str(path))
    except OSError as error:
        listener.close()
        raise StartError(
            f"cannot listen on the Unix socket {path}: {error.strerror or error}. "
            "Choose a path of at most 100 characters in a folder of yours."
        ) from error
    except StartError:
        listener.close()
        raise
    finally:
        os.umask(before)
    listener.setblocking(False)  # noqa: FBT003
    return listener


def _remove_dead_socket(path: Path) -> None:
    """Remove the socket that a killed server left; a live one stays."""
    try:
        is_socket = stat.S_ISSOCK(path.lstat().st_mode)
    except FileNotFoundError:
        return
    if not is_socket:
        raise StartError(
            f"{path} exists and is no socket. Choose another path for --unix-socket."
        )
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(
        f"another program listens on the Unix socket {path}. Stop it, or choose "
        "another path for --unix-socket."
    )


def _explain_bind(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"port {port} on {host} is in use by another program (LM Studio, or "
            "another cloister?). Stop it, or choose another port with --port."
        )
    if error.errno == errno.EACCES:
        return f"port {port} needs privileges. Choose one above 1023 with --port."
    return (
        f"cannot listen on {host} port {port}: {error.strerror or error}. Give an "
        "address of this machine with --host, such as 127.0.0.1."
    )
