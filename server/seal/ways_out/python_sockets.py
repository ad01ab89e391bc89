"""Ways out by Python's socket module."""

import asyncio
import ctypes
import errno
import socket
import struct
from typing import Final

from server.seal.ways_out.way import TRY_S, Ground, NotPossible, Way, fail

_LOOPBACK: Final = "127.0.0.1"
_NO_FAMILY: Final = frozenset(
    {
        errno.EAFNOSUPPORT,
        errno.EPROTONOSUPPORT,
        errno.ESOCKTNOSUPPORT,
        errno.EPERM,
        errno.EINVAL,
        errno.ENOPROTOOPT,
    }
)
_N_FAMILIES: Final = 46
"""Families that Linux numbers. Source: linux/socket.h, AF_MAX."""
_UDP: Final = 17
_IPV6_FRAME: Final = 0x86DD  # ETH_P_IPV6; Source: linux/if_ether.h


def _tcp(ground: Ground) -> None:
    with socket.socket() as client:
        client.settimeout(TRY_S)
        client.connect(ground.host)
        client.sendall(ground.word)


def _create_connection(ground: Ground) -> None:
    with socket.create_connection(ground.host, timeout=TRY_S) as client:
        client.sendall(ground.word)


def _tcp6(ground: Ground) -> None:
    with socket.socket(socket.AF_INET6) as client:
        client.settimeout(TRY_S)
        client.connect(("::1", ground.aim.port))
        client.sendall(ground.word)


def _udp(ground: Ground) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(ground.word, ground.host)


def _udp6(ground: Ground) -> None:
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as client:
        client.sendto(ground.word, ("::1", ground.aim.port))


def _dns_by_hand(ground: Ground) -> None:
    """Ask for an address as RFC 1035 writes it, in the listener's direction."""
    label = ground.word
    query = struct.pack("!6H", 1, 0x0100, 1, 0, 0, 0)
    query += bytes([len(label)]) + label + b"\0" + struct.pack("!2H", 1, 1)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.sendto(query, ground.host)


def _getaddrinfo(_: Ground) -> None:
    socket.getaddrinfo("localhost", 80)


def _gethostbyname(_: Ground) -> None:
    socket.gethostbyname("localhost")


def _raw(ground: Ground) -> None:
    packet = _write_ip_packet(ground)
    with _open(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as client:
        client.sendto(packet, ground.host)


def _packet(ground: Ground) -> None:
    # IPv6, since the kernel takes no frame from 127.0.0.1.
    ethernet = bytes(12) + _IPV6_FRAME.to_bytes(2, "big")
    with _open(socket.AF_PACKET, socket.SOCK_RAW, 0) as client:
        client.bind(("lo", _IPV6_FRAME))
        client.send(ethernet + _write_ip6_packet(ground))


def _icmp(ground: Ground) -> None:
    try:
        _open(socket.AF_INET, socket.SOCK_DGRAM, socket.IPPROTO_ICMP).close()
    except PermissionError as error:
        # Without a seal this is what net.ipv4.ping_group_range says.
        if ground.role == "open":
            raise NotPossible("this user may not ping") from error
        raise


def _netlink(ground: Ground) -> None:
    usersock = 2
    with _open(socket.AF_NETLINK, socket.SOCK_RAW, usersock) as client:
        client.bind((0, 0))
        length = 16 + len(ground.word)
        header = struct.pack("=IHHII", length, 1, 0, 1, 0)
        client.sendto(header + ground.word, (ground.aim.netlink, 0))


def _vsock(_: Ground) -> None:
    # Asked for and closed: its packets would leave a virtual machine.
    _open(socket.AF_VSOCK, socket.SOCK_STREAM, 0).close()


def _bluetooth(_: Ground) -> None:
    _open(31, socket.SOCK_RAW, 1).close()


def _crypto(_: Ground) -> None:
    _open(socket.AF_ALG, socket.SOCK_SEQPACKET, 0).close()


def _every_family(_: Ground) -> None:
    denied = 0
    for family in range(1, _N_FAMILIES):
        for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM, socket.SOCK_RAW):
            try:
                socket.socket(family, kind, 0).close()
            except OSError as error:
                denied += error.errno == errno.EACCES
            else:
                return
    if denied == 3 * (_N_FAMILIES - 1):
        raise fail(errno.EACCES, f"all of {denied} kinds of sockets")
    raise fail(errno.EAFNOSUPPORT, "some kinds are not known here")


def _unix(ground: Ground) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(ground.aim.path)
        client.sendall(ground.word)


def _unix_datagram(ground: Ground) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
        client.sendto(ground.word, ground.aim.path)


def _docker(ground: Ground) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(ground.aim.path)
        client.sendall(b"POST /containers/create?" + ground.word + b" HTTP/1.0\r\n\r\n")


def _abstract(ground: Ground) -> None:
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("\0" + ground.aim.path)
        client.sendall(ground.word)


def _datagram_pair(ground: Ground) -> None:
    """A pair of datagram sockets can send to any path."""
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with left, right:
        left.sendmsg([ground.word], [], 0, ground.aim.path)


def _asyncio_tcp(ground: Ground) -> None:
    async def connect() -> None:
        _, writer = await asyncio.open_connection(*ground.host)
        writer.write(ground.word)
        await writer.drain()
        writer.close()

    asyncio.run(connect())


def _asyncio_udp(ground: Ground) -> None:
    async def send() -> None:
        loop = asyncio.get_running_loop()
        transport, _ = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, remote_addr=ground.host
        )
        transport.sendto(ground.word)
        transport.close()

    asyncio.run(send())


def _bind(_: Ground) -> None:
    with socket.socket() as server:
        server.bind((_LOOPBACK, 0))


def _ctypes_wrapped(ground: Ground) -> None:
    """Open by libc, then wrap for Python, which the hook takes for harmless."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    if number < 0:
        raise fail(ctypes.get_errno(), "socket")
    with socket.socket(fileno=number) as client:
        client.connect(ground.host)
        client.sendall(ground.word)


def _open(family: int, kind: int, protocol: int) -> socket.socket:
    try:
        return socket.socket(family, kind, protocol)
    except OSError as error:
        if error.errno in _NO_FAMILY:
            raise NotPossible(f"not here, without a seal: {error.strerror}") from error
        raise


def _write_ip6_packet(ground: Ground) -> bytes:
    """Write IPv6 and UDP headers by hand; source and target are ::1.

    Source: RFC 8200, sections 3 and 8.1; RFC 768.
    """
    data = ground.word + b"\0" * (len(ground.word) % 2)
    length = 8 + len(data)
    address = socket.inet_pton(socket.AF_INET6, "::1")
    ports = struct.pack("!2H", 9, ground.aim.port)
    pseudo = address + address + struct.pack("!I3xB", length, _UDP)
    checksum = _sum_up(pseudo + ports + struct.pack("!2H", length, 0) + data)
    head = struct.pack("!IHBB", 0x6000_0000, length, _UDP, 64) + address + address
    return head + ports + struct.pack("!2H", length, checksum) + data


def _sum_up(data: bytes) -> int:
    """Compute the internet checksum of an even number of bytes (RFC 1071)."""
    total: int = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def _write_ip_packet(ground: Ground) -> bytes:
    """Write IPv4 and UDP headers by hand; source and target are 127.0.0.1.

    Source: RFC 791, RFC 768; a UDP checksum of 0 means none.
    """
    data = ground.word
    udp = struct.pack("!4H", 9, ground.aim.port, 8 + len(data), 0) + data
    address = socket.inet_aton(_LOOPBACK)
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, _UDP, 0)
    head += address + address
    return head[:10] + struct.pack("!H", _sum_up(head)) + head[12:] + udp


WAYS: Final = (
    Way(name="tcp.connect", tries="TCP", go=_tcp, listens="tcp"),
    Way(
        name="tcp.create_connection",
        tries="TCP by socket.create_connection",
        go=_create_connection,
        listens="tcp",
    ),
    Way(name="tcp6.connect", tries="TCP over IPv6", go=_tcp6, listens="tcp6"),
    Way(name="udp.sendto", tries="UDP", go=_udp, listens="udp"),
    Way(name="udp6.sendto", tries="UDP over IPv6", go=_udp6, listens="udp6"),
    Way(
        name="dns.by_hand",
        tries="a DNS query written by hand",
        go=_dns_by_hand,
        listens="udp",
    ),
    Way(
        name="dns.getaddrinfo",
        tries="name resolution by Python",
        go=_getaddrinfo,
        roles=("server", "worker"),
    ),
    Way(
        name="dns.gethostbyname",
        tries="name resolution by Python, the old call",
        go=_gethostbyname,
        roles=("server", "worker"),
    ),
    Way(name="raw.ip", tries="a raw IP packet", go=_raw, listens="udp"),
    Way(name="raw.packet", tries="a raw frame on lo", go=_packet, listens="udp6"),
    Way(name="raw.icmp", tries="a ping socket", go=_icmp),
    Way(
        name="netlink",
        tries="netlink to another process",
        go=_netlink,
        listens="netlink",
    ),
    Way(name="vsock", tries="a socket to the virtual machine's host", go=_vsock),
    Way(name="bluetooth", tries="a Bluetooth socket", go=_bluetooth),
    Way(name="alg", tries="a socket to the kernel's cryptography", go=_crypto),
    Way(name="families", tries="sockets of all 45 families", go=_every_family),
    Way(
        name="unix.stream",
        tries="a local resolver's AF_UNIX socket",
        go=_unix,
        listens="unix",
    ),
    Way(
        name="unix.datagram",
        tries="a local daemon's AF_UNIX datagram socket",
        go=_unix_datagram,
        listens="unix-datagram",
    ),
    Way(
        name="unix.docker",
        tries="a container to be created through a docker.sock",
        go=_docker,
        listens="unix",
    ),
    Way(
        name="unix.abstract",
        tries="an abstract AF_UNIX socket",
        go=_abstract,
        listens="abstract",
    ),
    Way(
        name="unix.pair",
        tries="a pair of datagram sockets, one sending elsewhere",
        go=_datagram_pair,
        listens="unix-datagram",
    ),
    Way(
        name="asyncio.tcp",
        tries="asyncio.open_connection",
        go=_asyncio_tcp,
        listens="tcp",
    ),
    Way(
        name="asyncio.udp",
        tries="asyncio's datagram endpoint",
        go=_asyncio_udp,
        listens="udp",
    ),
    Way(name="tcp.bind", tries="another address to listen on", go=_bind),
    Way(
        name="ctypes.wrapped",
        tries="libc's socket wrapped for Python",
        go=_ctypes_wrapped,
        listens="tcp",
    ),
)
