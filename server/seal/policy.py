"""What is denied, and why: the whole policy of the seal in one table.

It is a list of what is forbidden, over everything that the kernel knows today:
calls newer than the table get ENOSYS (`syscalls.HIGHEST_KNOWN`), so a new kernel
opens nothing. A list of what is allowed would have to follow every release of
Python, libc, OpenMP and GPU drivers, and would fail the user there.

Allowed on purpose in the server: `accept` (clients), `listen` (asyncio calls it
again on the listening sockets), `socketpair` of streams (workers, the event
loop's own wake-up), `send` and `write` on what is connected already, `execve`
(workers are started after the seal; a program that is executed inherits the
filter and can gain no privileges). Workers lose all of these but `send`.
"""

import errno
from typing import Final

from server.seal.bpf import Differs, Equals, HasAny, IsGiven, LacksAll, Rule

_AF_UNIX: Final = 1
_SOCK_STREAM: Final = 1
_SOCK_TYPE_MASK: Final = 0xF
# Source: asm-generic/ioctls.h, linux/if_tun.h.
_TIOCSTI: Final = 0x5412
_TIOCLINUX: Final = 0x541C
_TUNSETIFF: Final = 0x4004_54CA
# Source: linux/sched.h.
_CLONE_THREAD: Final = 0x0001_0000
_CLONE_NEW: Final = (
    0x0002_0000  # NEWNS
    | 0x0200_0000  # NEWCGROUP
    | 0x0400_0000  # NEWUTS
    | 0x0800_0000  # NEWIPC
    | 0x1000_0000  # NEWUSER
    | 0x2000_0000  # NEWPID
    | 0x4000_0000  # NEWNET
)


def _deny(why: str, *calls: str) -> tuple[Rule, ...]:
    return tuple(Rule(call, why, errno.EACCES) for call in calls)


_EVERYWHERE: Final = (
    *_deny("a new socket, of any family", "socket"),
    *_deny("a connection, a datagram's peer, or a local daemon's socket", "connect"),
    *_deny(
        "an address of its own for each message, which a filter cannot see",
        *("sendmsg", "sendmmsg"),
    ),
    *_deny(
        "descriptors from other processes (SCM_RIGHTS)",
        *("recvmsg", "recvmmsg", "pidfd_getfd"),
    ),
    *_deny("a new address to listen on or to send from", "bind"),
    *_deny(
        "network operations behind the filter's back",
        *("io_uring_setup", "io_uring_enter", "io_uring_register"),
    ),
    *_deny(
        "using another process, which is not sealed",
        *("ptrace", "process_vm_readv", "process_vm_writev", "kcmp"),
    ),
    *_deny(
        "code in the kernel",
        *("bpf", "init_module", "finit_module", "delete_module"),
        *("kexec_load", "kexec_file_load", "perf_event_open", "userfaultfd"),
    ),
    *_deny(
        "other namespaces and network file systems",
        *("mount", "umount2", "pivot_root", "chroot", "unshare", "setns"),
        *("fsopen", "fsconfig", "fsmount", "fspick", "move_mount", "open_tree"),
        *("mount_setattr", "open_by_handle_at"),
    ),
    *_deny(
        "the kernel's own helpers, one of which resolves names",
        *("add_key", "request_key", "keyctl"),
    ),
    *_deny(
        "the machine itself",
        *("reboot", "swapon", "swapoff", "acct", "iopl", "ioperm"),
        *("quotactl", "quotactl_fd", "fanotify_init"),
    ),
    *_deny("a program from memory or by descriptor", "execveat"),
    Rule(
        "sendto",
        "a message to an address (send without one stays)",
        errno.EACCES,
        (IsGiven(4),),
    ),
    Rule(
        "ioctl",
        "typing into the terminal of the user's shell, and tunnel interfaces",
        errno.EACCES,
        (Equals(1, _TIOCSTI), Equals(1, _TIOCLINUX), Equals(1, _TUNSETIFF)),
    ),
)

FALLBACK_RULES: Final = (
    Rule("clone3", "flags behind a pointer; libc falls back to clone", errno.ENOSYS),
)
"""A filter of its own that is not logged: libc asks at every new thread."""

SERVER_RULES: Final = (
    *_EVERYWHERE,
    Rule(
        "socketpair",
        "pairs that can send elsewhere: datagrams, other families than AF_UNIX",
        errno.EACCES,
        (Differs(0, _AF_UNIX), Differs(1, _SOCK_STREAM, _SOCK_TYPE_MASK)),
    ),
    Rule("clone", "new namespaces", errno.EACCES, (HasAny(0, _CLONE_NEW),)),
)
"""For the server's process and whatever it starts."""

WORKER_RULES: Final = (
    *_EVERYWHERE,
    *_deny("being reached", "listen", "accept", "accept4", "socketpair"),
    *_deny("other programs", "execve"),
    *_deny("other processes", "fork", "vfork"),
    *_deny(
        "signals to other processes",
        *("kill", "tkill", "rt_sigqueueinfo", "rt_tgsigqueueinfo"),
        "pidfd_send_signal",
    ),
    Rule(
        "clone",
        "other processes and new namespaces (threads stay)",
        errno.EACCES,
        (HasAny(0, _CLONE_NEW), LacksAll(0, _CLONE_THREAD)),
    ),
)
"""For a worker, which reads one model and talks to the server alone."""
