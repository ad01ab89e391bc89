"""Ways out by other doors of the kernel: namespaces, other processes, helpers.

None changes anything on the machine: each asks for something of its own or with
arguments that the kernel refuses as invalid.
"""

import ctypes
import errno
import fcntl
import os
import pty
import struct
import termios
from pathlib import Path
from typing import Final

from server.seal.syscalls import find_architecture
from server.seal.ways_out.native_calls import call
from server.seal.ways_out.way import Ground, NotPossible, Way

# Source: linux/sched.h.
_NEW_USER: Final = 0x1000_0000
_NEW_NETWORK: Final = 0x4000_0000
_SIGCHLD: Final = 17
_SEIZE: Final = 0x4206  # PTRACE_SEIZE
_DETACH: Final = 17  # PTRACE_DETACH
_TUNSETIFF: Final = 0x4004_54CA
_TUN: Final = 0x1001  # IFF_TUN | IFF_NO_PI
_PROCESS_KEYRING: Final = -2
_MAP_CREATE: Final = 0
_USER_MODE_ONLY: Final = 1  # UFFD_USER_MODE_ONLY


def _privileged(name: str, *arguments: object) -> int:
    """Make a call that an ordinary user may not make."""
    try:
        return call(name, *arguments)
    except OSError as error:
        if error.errno in {errno.EPERM, errno.ENOSYS}:
            raise NotPossible(f"this user may not: {error.strerror}") from error
        raise


def _unshare_user(_: Ground) -> None:
    call("unshare", _NEW_USER | _NEW_NETWORK)


def _unshare_network(_: Ground) -> None:
    _privileged("unshare", _NEW_NETWORK)


def _open_namespace(ground: Ground) -> None:
    ground.made["namespace"] = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)


def _set_namespace(ground: Ground) -> None:
    _privileged("setns", ground.made["namespace"], _NEW_NETWORK)


def _clone(_: Ground) -> None:
    flags = _NEW_USER | _NEW_NETWORK | _SIGCHLD
    none = ctypes.c_void_p(None)
    pid = call("clone", flags, none, none, none, none)
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _clone3(_: Ground) -> None:
    words = struct.pack("=11Q", _NEW_USER | _NEW_NETWORK, 0, 0, 0, _SIGCHLD, *[0] * 6)
    pid = call("clone3", ctypes.c_char_p(words), len(words))
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _mount(ground: Ground) -> None:
    target = ground.folder / "mounted"
    target.mkdir(exist_ok=True)
    words = (ctypes.c_char_p(text) for text in (b"none", bytes(target), b"tmpfs"))
    _privileged("mount", *words, 0, ctypes.c_void_p(None))
    call("umount2", ctypes.c_char_p(bytes(target)), 0)


def _make_mount_point(ground: Ground) -> None:
    (ground.folder / "mounted").mkdir(exist_ok=True)


def _open_file_system(_: Ground) -> None:
    number = _privileged("fsopen", ctypes.c_char_p(b"tmpfs"), 0)
    os.close(number)


def _trace(ground: Ground) -> None:
    pid = ground.aim.sibling_pid
    null = ctypes.c_void_p(None)
    _privileged("ptrace", _SEIZE, pid, null, null)
    # It must be stopped to be let go; the end of this process does that.


def _write_memory(ground: Ground) -> None:
    """Write nothing into another process; the kernel checks the right first."""
    none = ctypes.c_void_p(None)
    pid = ground.aim.sibling_pid
    _privileged("process_vm_writev", pid, none, 0, none, 0, 0)


def _open_memory(ground: Ground) -> None:
    path = Path(f"/proc/{ground.aim.sibling_pid}/mem")
    path.open("r+b", buffering=0).close()


def _bpf(_: Ground) -> None:
    """Ask for a table, the least that can be asked for."""
    words = struct.pack("=5I", 2, 4, 4, 1, 0)
    number = _privileged("bpf", _MAP_CREATE, ctypes.c_char_p(words), len(words))
    os.close(number)


def _perf(_: Ground) -> None:
    size = 64
    exclude_kernel_and_hypervisor = 0b110_0000
    words = struct.pack("=IIQQQQQ", 1, size, 0, 0, 0, 0, exclude_kernel_and_hypervisor)
    attributes = ctypes.c_char_p(words.ljust(size, b"\0"))
    number = _privileged("perf_event_open", attributes, 0, -1, -1, 0)
    os.close(number)


def _userfaultfd(_: Ground) -> None:
    number = _privileged("userfaultfd", os.O_CLOEXEC | _USER_MODE_ONLY)
    os.close(number)


def _add_key(_: Ground) -> None:
    texts = (ctypes.c_char_p(text) for text in (b"user", b"cloister-proof", b"x"))
    _privileged("add_key", *texts, 1, _PROCESS_KEYRING)


def _request_key(_: Ground) -> None:
    """Search without the text that would start the kernel's helper."""
    texts = (ctypes.c_char_p(text) for text in (b"user", b"cloister-none"))
    try:
        call("request_key", *texts, ctypes.c_void_p(None), 0)
    except OSError as error:
        if error.errno != errno.ENOKEY:
            raise


def _load_module(_: Ground) -> None:
    """Load a module of no bytes, which no kernel takes."""
    try:
        _privileged("init_module", ctypes.c_void_p(None), 0, ctypes.c_char_p(b""))
    except OSError as error:
        if error.errno not in {errno.ENOEXEC, errno.EFAULT, errno.EINVAL}:
            raise


def _load_kernel(_: Ground) -> None:
    """Hand over a kernel under flags that do not exist."""
    flags = 0xFFFF_FFFF
    null = ctypes.c_void_p(None)
    try:
        _privileged("kexec_file_load", -1, -1, 0, null, flags)
    except OSError as error:
        if error.errno != errno.EINVAL:
            raise


def _newest_call(ground: Ground) -> None:
    """Make a call that is newer than the filter's table (file_getattr)."""
    if find_architecture() is None:
        raise NotPossible("there is no table for this processor")
    libc = ctypes.CDLL(None, use_errno=True)
    null = ctypes.c_void_p(None)
    number = ctypes.c_long(468)
    libc.syscall(number, ctypes.c_long(-1), null, null, ctypes.c_long(0), 0)
    if ctypes.get_errno() == errno.ENOSYS:
        if ground.role == "open":
            raise NotPossible("this kernel does not have it")
        raise OSError(errno.ENOSYS, "the kernel or the filter does not know it")


def _open_terminal(ground: Ground) -> None:
    main, other = pty.openpty()
    os.setsid()
    fcntl.ioctl(other, termios.TIOCSCTTY, 0)
    ground.made["terminal"] = (main, other)


def _type(ground: Ground) -> None:
    """Type a letter into the terminal, whose shell would run it."""
    try:
        fcntl.ioctl(ground.made["terminal"][1], termios.TIOCSTI, b"x")
    except OSError as error:
        if error.errno in {errno.EIO, errno.EPERM}:
            raise NotPossible("this kernel lets nobody type for others") from error
        raise


def _open_tunnel(ground: Ground) -> None:
    path = Path("/dev/net/tun")
    if not path.exists():
        raise NotPossible(f"there is no {path}")
    ground.made["tunnel"] = os.open(path, os.O_RDWR | os.O_CLOEXEC)


def _make_tunnel(ground: Ground) -> None:
    request = struct.pack("=16sH22x", b"cloister0", _TUN)
    try:
        fcntl.ioctl(ground.made["tunnel"], _TUNSETIFF, request)
    except OSError as error:
        if error.errno == errno.EPERM:
            raise NotPossible("this user may not make interfaces") from error
        raise


WAYS: Final = (
    Way(
        name="namespace.user",
        tries="user and network namespaces of its own",
        go=_unshare_user,
    ),
    Way(name="namespace.net", tries="a new network namespace", go=_unshare_network),
    Way(
        name="namespace.setns",
        tries="entering a network namespace",
        before=_open_namespace,
        go=_set_namespace,
    ),
    Way(
        name="namespace.clone",
        tries="a child in a new network namespace, by clone",
        go=_clone,
    ),
    Way(
        name="namespace.clone3",
        tries="the same by clone3",
        go=_clone3,
        blocked=("ENOSYS",),
    ),
    Way(
        name="mount",
        tries="a file system mounted",
        before=_make_mount_point,
        go=_mount,
    ),
    Way(name="fsopen", tries="a file system, the new way", go=_open_file_system),
    Way(name="ptrace", tries="tracing a process outside the seal", go=_trace),
    Way(
        name="process_vm_writev",
        tries="writing into a process outside the seal",
        go=_write_memory,
    ),
    Way(
        name="proc_mem",
        tries="the same through /proc",
        go=_open_memory,
        blocked=("EACCES", "EPERM"),
        # The filter cannot see paths.
        roles=("worker",),
        needs_landlock=True,
    ),
    Way(name="bpf", tries="a program or table in the kernel", go=_bpf),
    Way(name="perf_event_open", tries="the kernel's event counters", go=_perf),
    Way(name="userfaultfd", tries="handling another's page faults", go=_userfaultfd),
    Way(name="add_key", tries="the kernel's keyring", go=_add_key),
    Way(
        name="request_key",
        tries="the kernel's helper that resolves names",
        go=_request_key,
    ),
    Way(name="init_module", tries="a kernel module", go=_load_module),
    Way(name="kexec", tries="another kernel", go=_load_kernel),
    Way(
        name="newest_call",
        tries="a system call newer than the filter",
        go=_newest_call,
        blocked=("ENOSYS",),
    ),
    Way(
        name="terminal",
        tries="typing into the terminal of the user's shell",
        before=_open_terminal,
        go=_type,
    ),
    Way(
        name="tunnel",
        tries="a network interface that passes packets to a program",
        before=_open_tunnel,
        go=_make_tunnel,
    ),
)
