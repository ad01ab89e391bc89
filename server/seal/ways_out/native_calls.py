"""Ways out by libc and by bare system calls, which no audit hook sees."""

import ctypes
import errno
import mmap
import os
import socket
import struct
from typing import Final

from server.seal.native import syscall
from server.seal.syscalls import X32_BIT, X86_64, find_architecture
from server.seal.ways_out.way import Ground, NotPossible, Way, fail

_I386_SOCKET: Final = 359  # Source: asm/unistd_32.h


class SocketAddress(ctypes.Structure):
    """`struct sockaddr_in`."""

    _fields_ = (
        ("family", ctypes.c_uint16),
        ("port", ctypes.c_uint16),
        ("address", ctypes.c_uint32),
        ("rest", ctypes.c_char * 8),
    )


class Part(ctypes.Structure):
    """`struct iovec`."""

    _fields_ = (("base", ctypes.c_char_p), ("length", ctypes.c_size_t))


class Message(ctypes.Structure):
    """`struct msghdr`, and behind it the length of `struct mmsghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint32),
        ("parts", ctypes.c_void_p),
        ("n_parts", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
        ("sent", ctypes.c_uint),
    )


def make_address(port: int) -> SocketAddress:
    """Make the address 127.0.0.1 with a port."""
    loopback = struct.unpack("=I", socket.inet_aton("127.0.0.1"))[0]
    return SocketAddress(socket.AF_INET, socket.htons(port), loopback, b"")


def make_message(ground: Ground) -> tuple[Message, list[object]]:
    """Make a message to the listener, and what must live as long as it."""
    address, part = make_address(ground.aim.port), Part(ground.word, len(ground.word))
    message = Message(
        ctypes.addressof(address),
        ctypes.sizeof(address),
        ctypes.addressof(part),
        1,
        None,
        0,
        0,
        0,
    )
    return message, [address, part]


def connect_by_libc(ground: Ground) -> None:
    """Connect and send by libc's own functions."""
    libc = ctypes.CDLL(None, use_errno=True)
    number = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
    if number < 0:
        raise fail(ctypes.get_errno(), "socket")
    address = make_address(ground.aim.port)
    if libc.connect(number, ctypes.byref(address), ctypes.sizeof(address)):
        raise fail(ctypes.get_errno(), "connect")
    if libc.send(number, ground.word, len(ground.word), 0) < 0:
        raise fail(ctypes.get_errno(), "send")


def call(name: str, *arguments: object) -> int:
    """Make a system call by its name.

    Raises:
        NotPossible: This architecture does not have it.
        OSError: It failed.
    """
    architecture = find_architecture()
    if architecture is None or name not in architecture.numbers:
        raise NotPossible(f"this processor's table has no {name}")
    return syscall(architecture.numbers[name], *arguments)


def _bare(ground: Ground) -> None:
    number = call("socket", socket.AF_INET, socket.SOCK_STREAM, 0)
    address = make_address(ground.aim.port)
    call("connect", number, ctypes.byref(address), ctypes.sizeof(address))
    os.write(number, ground.word)


def _x32(_: Ground) -> None:
    """The same call under its x32 number, which filters often forget."""
    if find_architecture() is not X86_64:
        raise NotPossible("only x86-64 has x32 numbers")
    try:
        number = syscall(X32_BIT | 41, socket.AF_INET, socket.SOCK_STREAM, 0)
    except OSError as error:
        if error.errno == errno.ENOSYS:
            raise NotPossible("this kernel has no x32 numbers") from error
        raise
    os.close(number)


def _int80(_: Ground) -> None:
    """The 32-bit entry, where calls have other numbers.

    push rbx; mov eax, 359; mov ebx, AF_INET; mov ecx, SOCK_DGRAM; xor edx, edx;
    int 0x80; pop rbx; ret
    """
    if find_architecture() is not X86_64:
        raise NotPossible("only x86-64 has this entry")
    code = (
        b"\x53\xb8"
        + struct.pack("<I", _I386_SOCKET)
        + b"\xbb\x02\0\0\0\xb9\x02\0\0\0\x31\xd2\xcd\x80\x5b\xc3"
    )
    page = mmap.mmap(
        -1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC
    )
    page.write(code)
    start = ctypes.addressof(ctypes.c_char.from_buffer(page))
    number = ctypes.CFUNCTYPE(ctypes.c_int)(start)()
    if number in {-errno.ENOSYS, -errno.EFAULT}:
        raise NotPossible("this kernel has no 32-bit entry")
    if number < 0:
        raise fail(-number, "int 0x80")
    os.close(number)


def _resolve_by_libc(ground: Ground) -> None:
    _query(ground, use_tcp=False)


def _resolve_by_libc_tcp(ground: Ground) -> None:
    _query(ground, use_tcp=True)


class _Resolver(ctypes.Structure):
    """The head of `struct __res_state`. Source: glibc, resolv.h."""

    _fields_ = (
        ("retransmit_s", ctypes.c_int),
        ("retries", ctypes.c_int),
        ("options", ctypes.c_ulong),
        ("n_servers", ctypes.c_int),
        ("servers", SocketAddress * 3),
    )


_USE_TCP: Final = 0x8  # RES_USEVC
_INITIALIZED: Final = 0x1  # RES_INIT


def _query(ground: Ground, *, use_tcp: bool) -> None:
    """Let libc's resolver ask the listener, as if that were the name server.

    Its list of servers is replaced as a whole, so none of /etc/resolv.conf is asked.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        # Functions of glibc whose names begin with underscores.
        init, find, query = libc["__res_init"], libc["__res_state"], libc["res_query"]
    except AttributeError:
        raise NotPossible("this libc has no resolver of that kind") from None
    find.restype = ctypes.POINTER(_Resolver)
    init()
    state = find().contents
    is_known = 0 <= state.n_servers <= len(state.servers)
    if not state.options & _INITIALIZED or not is_known:
        raise NotPossible("this libc keeps its name servers elsewhere")
    state.retransmit_s, state.retries, state.n_servers = 1, 1, 1
    state.options |= _USE_TCP if use_tcp else 0
    for index in range(len(state.servers)):
        state.servers[index] = make_address(ground.aim.port)
    answer = ctypes.create_string_buffer(512)
    ctypes.set_errno(0)
    name = ground.word + b".invalid"
    if query(ctypes.c_char_p(name), 1, 1, answer, len(answer)) < 0:
        raise fail(ctypes.get_errno() or errno.EIO, "res_query")


_NO_ANSWER: Final = ("EACCES", "ECONNREFUSED", "ETIMEDOUT", "EIO")
"""libc does not pass on why it could not ask; the listener's silence counts."""

WAYS: Final = (
    Way(name="libc.tcp", tries="TCP by libc", go=connect_by_libc, listens="tcp"),
    Way(name="syscall.tcp", tries="TCP by bare system calls", go=_bare, listens="tcp"),
    Way(
        name="libc.resolver",
        tries="libc's resolver over UDP",
        go=_resolve_by_libc,
        listens="udp",
        blocked=_NO_ANSWER,
        needs_kernel=True,
    ),
    Way(
        name="libc.resolver_tcp",
        tries="libc's resolver over TCP",
        go=_resolve_by_libc_tcp,
        listens="tcp",
        blocked=_NO_ANSWER,
        needs_kernel=True,
    ),
    Way(name="x32", tries="x32's number of socket", go=_x32, blocked=("SIGSYS",)),
    Way(
        name="int80",
        tries="socket through the 32-bit entry",
        go=_int80,
        blocked=("SIGSYS",),
    ),
)
