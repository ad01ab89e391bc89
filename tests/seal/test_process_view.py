"""A process looked at from outside."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.seal.process_view import list_children, view_process
from tests.seal.sealed_child import NEEDS_KERNEL, ROOT

CODE = """
import os, sys
from server.seal.apply import seal_server
from server.seal.level import Level
seal_server(Level(sys.argv[1]))
print(flush=True)
sys.stdin.read()
"""


@NEEDS_KERNEL
@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs Linux's /proc")
@pytest.mark.parametrize(("level", "is_sealed"), [("kernel", True), ("off", False)])
def test_the_kernel_says_whether_a_process_is_sealed(level, is_sealed):
    with subprocess.Popen(
        [sys.executable, "-c", CODE, level],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=ROOT,
    ) as process:
        process.stdout.readline()
        view = view_process(process.pid, "server")
        assert process.pid in list_children(os.getpid())
        process.stdin.close()
    assert is_sealed == view.is_sealed
    assert ((2,) if is_sealed else (0,)) == view.seccomp
    assert is_sealed == view.no_new_privileges


def test_a_process_that_is_gone_is_an_error():
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        process.wait()
    with pytest.raises(OSError, match=str(process.pid)):
        list_children(process.pid)
