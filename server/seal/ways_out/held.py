"""Ways out by descriptors that were there before the seal.

The server closes what it inherited. Where `keep` names a descriptor, it is left
open on purpose: then the filter alone has to hold.
"""

import array
import ctypes
import errno
import os
import socket
from typing import Final

from server.seal.ways_out.native_calls import call, make_address, make_message
from server.seal.ways_out.way import TRY_S, Ground, NotPossible, Way

_FAST_OPEN: Final = 0x2000_0000  # MSG_FASTOPEN; Source: linux/socket.h


def _keep(ground: Ground, made: socket.socket) -> None:
    made.settimeout(TRY_S)
    ground.keep.append(made.fileno())
    ground.made["socket"] = made


def _make_tcp(ground: Ground) -> None:
    _keep(ground, socket.socket())


def _make_udp(ground: Ground) -> None:
    _keep(ground, socket.socket(socket.AF_INET, socket.SOCK_DGRAM))


def _make_unix_datagram(ground: Ground) -> None:
    _keep(ground, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))


def _make_pair(ground: Ground) -> None:
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    ground.keep.append(right.fileno())
    ground.made["right"] = right
    _keep(ground, left)


def _make_listener(ground: Ground) -> None:
    _keep(ground, socket.create_server(("127.0.0.1", 0)))


def _socket_of(ground: Ground) -> socket.socket:
    made = ground.made["socket"]
    if not isinstance(made, socket.socket):
        raise TypeError("no socket was made")
    return made


def _connect(ground: Ground) -> None:
    _socket_of(ground).connect(ground.host)
    _socket_of(ground).sendall(ground.word)


def _connect_bare(ground: Ground) -> None:
    address = make_address(ground.aim.port)
    number = _socket_of(ground).fileno()
    call("connect", number, ctypes.byref(address), ctypes.sizeof(address))
    os.write(number, ground.word)


def _send_to(ground: Ground) -> None:
    _socket_of(ground).sendto(ground.word, ground.host)


def _send_to_bare(ground: Ground) -> None:
    address, word = make_address(ground.aim.port), ground.word
    call(
        "sendto",
        *(_socket_of(ground).fileno(), ctypes.c_char_p(word), len(word), 0),
        *(ctypes.byref(address), ctypes.sizeof(address)),
    )


def _send_message(ground: Ground) -> None:
    _socket_of(ground).sendmsg([ground.word], [], 0, ground.host)


def _send_message_bare(ground: Ground) -> None:
    message, alive = make_message(ground)
    call("sendmsg", _socket_of(ground).fileno(), ctypes.byref(message), 0)
    alive.clear()


def _send_messages_bare(ground: Ground) -> None:
    message, alive = make_message(ground)
    call("sendmmsg", _socket_of(ground).fileno(), ctypes.byref(message), 1, 0)
    alive.clear()


def _fast_open(ground: Ground) -> None:
    address, word = make_address(ground.aim.port), ground.word
    call(
        "sendto",
        *(_socket_of(ground).fileno(), ctypes.c_char_p(word), len(word), _FAST_OPEN),
        *(ctypes.byref(address), ctypes.sizeof(address)),
    )


def _turn_listener(ground: Ground) -> None:
    """A listening socket that is shut down can connect by its first message."""
    listener = _socket_of(ground)
    listener.shutdown(socket.SHUT_RDWR)
    message, alive = make_message(ground)
    call("sendmsg", listener.fileno(), ctypes.byref(message), _FAST_OPEN)
    alive.clear()


def _send_to_path(ground: Ground) -> None:
    _socket_of(ground).sendto(ground.word, ground.aim.path)


def _message_to_path(ground: Ground) -> None:
    _socket_of(ground).sendmsg([ground.word], [], 0, ground.aim.path)


def _inherit_tcp(ground: Ground) -> None:
    client = socket.create_connection(ground.host, timeout=TRY_S)
    # As if it had come with the process.
    client.set_inheritable(True)
    ground.made["socket"] = client


def _inherit_udp(ground: Ground) -> None:
    client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    client.connect(ground.host)
    ground.made["socket"] = client


def _write(ground: Ground) -> None:
    os.write(_socket_of(ground).fileno(), ground.word)


def _queue_descriptor(ground: Ground) -> None:
    """Leave a descriptor in a pair's queue, as another process would send it."""
    left, right = socket.socketpair()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.connect(ground.host)
        rights = array.array("i", [client.fileno()])
        left.sendmsg([b"x"], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, rights)])
    ground.made["left"] = left
    _keep(ground, right)


def _take_descriptor(ground: Ground) -> None:
    _, ancillary, _, _ = _socket_of(ground).recvmsg(1, socket.CMSG_SPACE(4))
    number = array.array("i", ancillary[0][2])[0]
    os.write(number, ground.word)


def _take_from_sibling(ground: Ground) -> None:
    """Copy a socket out of another process of the same user."""
    if not hasattr(os, "pidfd_open"):
        raise NotPossible("this Python knows no pidfd")
    process = os.pidfd_open(ground.aim.sibling_pid)
    try:
        number = call("pidfd_getfd", process, ground.aim.sibling_fd, 0)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NotPossible("this user may not look into its processes") from error
        raise
    with socket.socket(fileno=number) as client:
        client.sendto(ground.word, ground.host)


WAYS: Final = (
    Way(
        name="held.connect",
        tries="connect on a socket made before the seal",
        before=_make_tcp,
        go=_connect,
        listens="tcp",
    ),
    Way(
        name="held.connect_bare",
        tries="the same by a bare system call",
        before=_make_tcp,
        go=_connect_bare,
        listens="tcp",
    ),
    Way(
        name="held.sendto",
        tries="sendto on a UDP socket made before the seal",
        before=_make_udp,
        go=_send_to,
        listens="udp",
    ),
    Way(
        name="held.sendto_bare",
        tries="the same by a bare system call",
        before=_make_udp,
        go=_send_to_bare,
        listens="udp",
    ),
    Way(
        name="held.sendmsg",
        tries="sendmsg on an unconnected UDP socket made before the seal",
        before=_make_udp,
        go=_send_message,
        listens="udp",
    ),
    Way(
        name="held.sendmsg_bare",
        tries="the same by a bare system call",
        before=_make_udp,
        go=_send_message_bare,
        listens="udp",
    ),
    Way(
        name="held.sendmmsg",
        tries="sendmmsg on an unconnected UDP socket made before the seal",
        before=_make_udp,
        go=_send_messages_bare,
        listens="udp",
    ),
    Way(
        name="held.fast_open",
        tries="TCP fast open by sendto on a socket made before the seal",
        before=_make_tcp,
        go=_fast_open,
        listens="tcp",
    ),
    Way(
        name="held.listener",
        tries="a listening socket shut down, then connected by sendmsg's fast open",
        before=_make_listener,
        go=_turn_listener,
        listens="tcp",
    ),
    Way(
        name="held.unix_sendto",
        tries="sendto a path on an AF_UNIX socket made before the seal",
        before=_make_unix_datagram,
        go=_send_to_path,
        listens="unix-datagram",
    ),
    Way(
        name="held.pair_sendmsg",
        tries="sendmsg to a path on a datagram pair made before the seal",
        before=_make_pair,
        go=_message_to_path,
        listens="unix-datagram",
    ),
    Way(
        name="held.inherited",
        tries="a connection that came with the process",
        before=_inherit_tcp,
        go=_write,
        listens="tcp",
        blocked=("EBADF",),
        roles=("server", "worker"),
        connects_before=True,
    ),
    Way(
        name="held.connected_udp",
        tries="a connected UDP socket that nobody named",
        before=_inherit_udp,
        go=_write,
        listens="udp",
        blocked=("EBADF",),
        roles=("server", "worker"),
    ),
    Way(
        name="held.passed",
        tries="a descriptor that another process passes (SCM_RIGHTS)",
        before=_queue_descriptor,
        go=_take_descriptor,
        listens="udp",
    ),
    Way(
        name="held.pidfd_getfd",
        tries="a socket copied out of another process",
        go=_take_from_sibling,
        listens="udp",
    ),
)
