"""System call numbers, one table for each architecture.

Sources: x86-64 from Linux `asm/unistd_64.h`; aarch64 from Linux
`asm-generic/unistd.h`, which it uses unchanged. A call that an architecture does
not have (aarch64 has no fork) is absent from its table.
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

X32_BIT: Final = 0x4000_0000
"""Set in the number of every x32 call. Source: asm/unistd.h, __X32_SYSCALL_BIT."""

HIGHEST_KNOWN: Final = 462
"""mseal, Linux 6.10; what came later was not looked at and is answered ENOSYS.
Source: scripts/syscall.tbl; from 424 on all architectures count alike."""

_SHARED: Final = {
    "pidfd_send_signal": 424,
    "io_uring_setup": 425,
    "io_uring_enter": 426,
    "io_uring_register": 427,
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "fspick": 433,
    "clone3": 435,
    "pidfd_getfd": 438,
    "mount_setattr": 442,
    "quotactl_fd": 443,
    "landlock_create_ruleset": 444,
    "landlock_add_rule": 445,
    "landlock_restrict_self": 446,
}

_X86_64: Final = {
    **_SHARED,
    "ioctl": 16,
    "socket": 41,
    "connect": 42,
    "accept": 43,
    "sendto": 44,
    "sendmsg": 46,
    "recvmsg": 47,
    "bind": 49,
    "listen": 50,
    "socketpair": 53,
    "clone": 56,
    "fork": 57,
    "vfork": 58,
    "execve": 59,
    "kill": 62,
    "ptrace": 101,
    "rt_sigqueueinfo": 129,
    "pivot_root": 155,
    "chroot": 161,
    "acct": 163,
    "mount": 165,
    "umount2": 166,
    "swapon": 167,
    "swapoff": 168,
    "reboot": 169,
    "iopl": 172,
    "ioperm": 173,
    "init_module": 175,
    "delete_module": 176,
    "quotactl": 179,
    "tkill": 200,
    "kexec_load": 246,
    "add_key": 248,
    "request_key": 249,
    "keyctl": 250,
    "unshare": 272,
    "accept4": 288,
    "rt_tgsigqueueinfo": 297,
    "perf_event_open": 298,
    "recvmmsg": 299,
    "fanotify_init": 300,
    "open_by_handle_at": 304,
    "sendmmsg": 307,
    "setns": 308,
    "process_vm_readv": 310,
    "process_vm_writev": 311,
    "kcmp": 312,
    "finit_module": 313,
    "seccomp": 317,
    "kexec_file_load": 320,
    "bpf": 321,
    "execveat": 322,
    "userfaultfd": 323,
}

_AARCH64: Final = {
    **_SHARED,
    "ioctl": 29,
    "umount2": 39,
    "mount": 40,
    "pivot_root": 41,
    "chroot": 51,
    "quotactl": 60,
    "acct": 89,
    "unshare": 97,
    "kexec_load": 104,
    "init_module": 105,
    "delete_module": 106,
    "ptrace": 117,
    "kill": 129,
    "tkill": 130,
    "rt_sigqueueinfo": 138,
    "reboot": 142,
    "socket": 198,
    "socketpair": 199,
    "bind": 200,
    "listen": 201,
    "accept": 202,
    "connect": 203,
    "sendto": 206,
    "sendmsg": 211,
    "recvmsg": 212,
    "add_key": 217,
    "request_key": 218,
    "keyctl": 219,
    "clone": 220,
    "execve": 221,
    "swapon": 224,
    "swapoff": 225,
    "rt_tgsigqueueinfo": 240,
    "perf_event_open": 241,
    "accept4": 242,
    "recvmmsg": 243,
    "fanotify_init": 262,
    "open_by_handle_at": 265,
    "setns": 268,
    "sendmmsg": 269,
    "process_vm_readv": 270,
    "process_vm_writev": 271,
    "kcmp": 272,
    "finit_module": 273,
    "seccomp": 277,
    "bpf": 280,
    "execveat": 281,
    "userfaultfd": 282,
    "kexec_file_load": 294,
}


@dataclass(frozen=True, slots=True, eq=False)
class Architecture:
    """What a filter must know of a machine.

    Args:
        name: As `uname -m` says it.
        audit: The number that seccomp sees. Source: linux/audit.h.
        numbers: System call numbers by name.
        has_x32: Whether the kernel may know a second set of numbers.
    """

    name: str
    audit: int
    numbers: Mapping[str, int]
    has_x32: bool


X86_64: Final = Architecture("x86_64", 0xC000_003E, _X86_64, has_x32=True)
AARCH64: Final = Architecture("aarch64", 0xC000_00B7, _AARCH64, has_x32=False)


def find_architecture(machine: str | None = None) -> Architecture | None:
    """Find the table for a machine.

    Args:
        machine: As `uname -m` says it; None means this one.

    Returns:
        None for machines without a table.
    """
    name = (machine or platform.machine()).lower()
    return {
        "x86_64": X86_64,
        "amd64": X86_64,
        "aarch64": AARCH64,
        "arm64": AARCH64,
    }.get(name)
