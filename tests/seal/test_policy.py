"""What the policy denies and what it leaves, call by call."""

import errno
import socket

import pytest

from server.seal.bpf import assemble
from server.seal.policy import FALLBACK_RULES, SERVER_RULES, WORKER_RULES
from server.seal.syscalls import AARCH64, X86_64
from tests.seal.bpf_interpreter import ALLOW, run

MACHINES = pytest.mark.parametrize("machine", [X86_64, AARCH64], ids=lambda m: m.name)
POLICIES = {"server": SERVER_RULES, "worker": WORKER_RULES}
EVERYWHERE = """
    socket connect sendmsg sendmmsg recvmsg recvmmsg pidfd_getfd bind
    io_uring_setup io_uring_enter io_uring_register ptrace process_vm_readv
    process_vm_writev bpf init_module finit_module delete_module kexec_load
    kexec_file_load perf_event_open userfaultfd mount umount2 pivot_root chroot
    unshare setns fsopen fsmount move_mount open_tree mount_setattr
    open_by_handle_at add_key request_key keyctl execveat
""".split()  # noqa: SIM905 - read more easily so
THREAD = 0x3D0F00  # what libc's pthread_create passes to clone
FORK = 0x1200011  # what libc's fork passes to clone


def ask(machine, policy, call, *args):
    code, _ = assemble(machine, POLICIES.get(policy, FALLBACK_RULES))
    return run(code, arch=machine.audit, number=machine.numbers[call], args=args)


@MACHINES
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("call", EVERYWHERE)
def test_these_are_denied_everywhere_whatever_they_ask(machine, policy, call):
    for args in ((), (2, 1, 0), (1, 2, 3, 4, 5, 6)):
        assert errno.EACCES == ask(machine, policy, call, *args)


@MACHINES
def test_a_server_keeps_what_it_lives_by(machine):
    for call in ("accept", "accept4", "listen", "execve", "kill"):
        assert ALLOW == ask(machine, "server", call)
    pair = (socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC, 0)
    assert ALLOW == ask(machine, "server", "socketpair", *pair)
    assert ALLOW == ask(machine, "server", "clone", FORK)
    assert ALLOW == ask(machine, "server", "clone", THREAD)


@MACHINES
@pytest.mark.parametrize(
    "call",
    [
        *("accept", "accept4", "listen", "execve", "kill", "tkill", "socketpair"),
        *("pidfd_send_signal", "rt_sigqueueinfo"),
    ],
)
def test_a_worker_loses_it(machine, call):
    assert errno.EACCES == ask(machine, "worker", call, 1, 1, 1)


@MACHINES
def test_a_worker_starts_threads_and_no_processes(machine):
    assert ALLOW == ask(machine, "worker", "clone", THREAD)
    assert errno.EACCES == ask(machine, "worker", "clone", FORK)


@MACHINES
@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("bit", [17, 25, 26, 27, 28, 29, 30])
def test_no_child_gets_a_namespace(machine, policy, bit):
    for flags in (1 << bit, 1 << bit | THREAD):
        assert errno.EACCES == ask(machine, policy, "clone", flags)


@MACHINES
def test_pairs_are_streams_of_af_unix_alone(machine):
    for family in range(46):
        for kind in (1, 2, 3, 5):
            expected = ALLOW if (family, kind) == (1, 1) else errno.EACCES
            assert expected == ask(machine, "server", "socketpair", family, kind, 0)


@MACHINES
@pytest.mark.parametrize("policy", POLICIES)
def test_sending_needs_a_peer_that_is_there(machine, policy):
    assert ALLOW == ask(machine, policy, "sendto", 3, 4096, 5, 0x4000, 0, 0)
    assert errno.EACCES == ask(machine, policy, "sendto", 3, 4096, 5, 0, 4096, 16)


@MACHINES
@pytest.mark.parametrize("policy", POLICIES)
def test_terminals_and_tunnels_are_denied_and_other_controls_are_not(machine, policy):
    for request in (0x5412, 0x541C, 0x400454CA):
        assert errno.EACCES == ask(machine, policy, "ioctl", 0, request)
    for request in (0x5401, 0x5413, 0xC0E04649):  # terminal modes, size, a GPU's
        assert ALLOW == ask(machine, policy, "ioctl", 0, request)


@MACHINES
def test_clone3_is_unknown_so_that_libc_falls_back(machine):
    assert errno.ENOSYS == ask(machine, "fallback", "clone3")


def test_every_rule_says_why():
    for rules in (*POLICIES.values(), FALLBACK_RULES):
        assert all(rule.why for rule in rules)


def test_every_rule_names_a_call_of_a_table():
    known = X86_64.numbers.keys() | AARCH64.numbers.keys()
    named = {rule.call for rules in POLICIES.values() for rule in rules}
    assert set() == named - known
