"""A filter put on for real, each in a process of its own."""

import pytest

from server.seal.install import explain_absence
from tests.seal.sealed_child import NEEDS_KERNEL, run_child

DENY_ALL = """
import errno
from server.seal.bpf import Rule
from server.seal.install import install_filter
"""


@NEEDS_KERNEL
def test_a_filter_holds_and_adds_up():
    out = run_child(
        DENY_ALL
        + """
import ctypes, socket
libc = ctypes.CDLL(None, use_errno=True)
install_filter([Rule("socket", "", errno.EACCES)])
install_filter([Rule("socketpair", "", errno.EPERM)], log=False)
for call in (lambda: libc.socket(2, 1, 0), lambda: libc.socketpair(1, 1, 0, None)):
    print(call(), errno.errorcode[ctypes.get_errno()])
"""
    )
    assert ["-1 EACCES", "-1 EPERM"] == out.splitlines()


@NEEDS_KERNEL
def test_threads_that_were_there_before_are_held():
    out = run_child(
        DENY_ALL
        + """
import socket, threading
go = threading.Event()
def work():
    go.wait()
    try:
        socket.socket()
    except PermissionError as error:
        print(error.strerror)
thread = threading.Thread(target=work)
thread.start()
install_filter([Rule("socket", "", errno.EACCES)])
go.set()
thread.join()
"""
    )
    assert "Permission denied" == out


@NEEDS_KERNEL
def test_a_kernel_that_refuses_filters_is_named_with_the_weaker_level():
    out = run_child(
        DENY_ALL
        + """
from server.seal.apply import seal_server
from server.seal.level import Level, SealError
install_filter([Rule("seccomp", "", errno.EINVAL)])
try:
    seal_server(Level.KERNEL)
except SealError as error:
    print(error)
"""
    )
    assert "--offline cannot be kept on this machine: this kernel has no seccomp" in out
    assert "Start with --offline=process" in out


@pytest.mark.parametrize("platform", ["darwin", "win32"])
def test_other_systems_are_named(monkeypatch, platform):
    monkeypatch.setattr("sys.platform", platform)
    assert f"this system ({platform}) has no seccomp" == explain_absence()
