"""The proof's own listeners: each hears what gets out of one way, or nothing.

One thread serves all of them until the proof is over, so that what comes late is
heard too. They answer HTTP with "204 No Content" and datagrams not at all.
"""

import selectors
import socket
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self, assert_never

from server.seal.ways_out.way import Listens

_HOST: Final = "127.0.0.1"
_HOST6: Final = "::1"
_USERSOCK: Final = 2  # NETLINK_USERSOCK; Source: linux/netlink.h
_POLL_S: Final = 0.005
_SETTLE_S: Final = 0.02
_READ_BYTES: Final = 65_536
_ANSWER: Final = b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n"
_STREAMS: Final = frozenset({"tcp", "tcp6", "unix", "abstract"})


@dataclass(slots=True)
class Listener:
    """A listener and what it heard."""

    kind: Listens
    server: socket.socket
    port: int = 0
    path: str = ""
    netlink: int = 0
    n_connections: int = 0
    n_bytes: int = 0
    clients: list[socket.socket] = field(default_factory=list)

    def heard(self, *, count_connections: bool) -> bool:
        """Tell whether anything arrived."""
        return self.n_bytes > 0 or (count_connections and self.n_connections > 0)


class Listeners:
    """Opens listeners and serves them; leaving the block closes all.

    Args:
        folder: For the paths of AF_UNIX sockets.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lock = threading.Lock()
        self._selector = selectors.DefaultSelector()
        self._opened: list[Listener] = []
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._serve, name="listeners")

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()
        for listener in self._opened:
            for each in (*listener.clients, listener.server):
                each.close()
        self._selector.close()

    def open(self, kind: Listens) -> Listener:
        """Open a listener of its own.

        Raises:
            OSError: This machine does not have that kind.
        """
        listener = _make(kind, self._folder / f"socket-{len(self._opened)}")
        listener.server.setblocking(False)  # noqa: FBT003
        with self._lock:
            self._opened.append(listener)
            self._selector.register(listener.server, selectors.EVENT_READ, listener)
        return listener

    def settle(self) -> None:
        """Wait until what has arrived is counted."""
        time.sleep(_SETTLE_S)

    def _serve(self) -> None:
        while not self._stopped.is_set():
            with self._lock:
                ready = self._selector.select(0)
                for key, _ in ready:
                    self._hear(key.fileobj, key.data)
            if not ready:
                self._stopped.wait(_POLL_S)

    def _hear(self, source: object, listener: Listener) -> None:
        if not isinstance(source, socket.socket):
            return
        try:
            if source is listener.server and listener.kind in _STREAMS:
                client, _ = source.accept()
                client.setblocking(False)  # noqa: FBT003
                listener.n_connections += 1
                listener.clients.append(client)
                self._selector.register(client, selectors.EVENT_READ, listener)
                return
            data = source.recv(_READ_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        listener.n_bytes += len(data)
        if source is listener.server:
            return
        if data:
            _answer(source)
        self._selector.unregister(source)
        source.close()
        listener.clients.remove(source)


def _answer(client: socket.socket) -> None:
    try:
        client.send(_ANSWER)
    except OSError:
        return


def _make(kind: Listens, path: Path) -> Listener:
    match kind:
        case "tcp" | "tcp6":
            is_6 = kind == "tcp6"
            family = socket.AF_INET6 if is_6 else socket.AF_INET
            server = socket.create_server((_HOST6 if is_6 else _HOST, 0), family=family)
            return Listener(kind, server, port=server.getsockname()[1])
        case "udp" | "udp6":
            is_6 = kind == "udp6"
            family = socket.AF_INET6 if is_6 else socket.AF_INET
            server = socket.socket(family, socket.SOCK_DGRAM)
            server.bind((_HOST6 if is_6 else _HOST, 0))
            return Listener(kind, server, port=server.getsockname()[1])
        case "unix" | "unix-datagram":
            is_stream = kind == "unix"
            form = socket.SOCK_STREAM if is_stream else socket.SOCK_DGRAM
            server = socket.socket(socket.AF_UNIX, form)
            server.bind(str(path))
            if is_stream:
                server.listen()
            return Listener(kind, server, path=str(path))
        case "abstract":
            server = socket.socket(socket.AF_UNIX)
            name = f"cloister-proof{path}"
            server.bind("\0" + name)
            server.listen()
            return Listener(kind, server, path=name)
        case "netlink":
            server = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _USERSOCK)
            server.bind((0, 0))
            return Listener(kind, server, netlink=server.getsockname()[0])
        case _:
            assert_never(kind)
