"""The proof: what it counts as blocked, and that it can fail.

The whole proof and its control are run by tests/e2e/test_seal.py.
"""

import shutil
import socket
import subprocess
import sys

import pytest

from server.seal.proof import MIN_WAYS, NotIsolated, control, judge
from server.seal.prover import Answer
from server.seal.ways_out.catalog import WAYS, find_way
from server.seal.ways_out.way import Way
from tests.seal.sealed_child import ROOT

TCP = Way(name="a", tries="b", go=print, listens="tcp")
ALONE = Way(name="a", tries="b", go=print, blocked=("SIGSYS",))
EACCES = Answer("refused", "EACCES")


@pytest.mark.parametrize(
    ("way", "answer", "heard", "verdict"),
    [
        (TCP, EACCES, False, "blocked"),
        (TCP, EACCES, True, "got out"),
        (TCP, Answer("done"), False, "got out"),
        (TCP, Answer("impossible"), False, "not tried"),
        # It broke for another reason, so it shows nothing.
        (TCP, Answer("refused", "ECONNREFUSED"), False, "unclear"),
        (TCP, Answer("refused", "TypeError"), False, "unclear"),
        (TCP, Answer("silent", "0"), False, "unclear"),
        (TCP, Answer("stuck"), False, "unclear"),
        (ALONE, Answer("killed", "SIGSYS"), False, "blocked"),
        (ALONE, Answer("killed", "SIGSEGV"), False, "unclear"),
    ],
)
def test_a_sealed_try_is_blocked_only_as_expected(way, answer, heard, verdict):
    assert verdict == judge(way, "server", answer, heard=heard)


@pytest.mark.parametrize(
    ("way", "answer", "heard", "verdict"),
    [
        (TCP, Answer("done"), True, "got out"),
        (TCP, Answer("refused", "EIO"), True, "got out"),
        (TCP, Answer("done"), False, "failed"),
        (TCP, EACCES, False, "failed"),
        (ALONE, Answer("done"), False, "got out"),
        (ALONE, Answer("silent", "0"), False, "got out"),
        (ALONE, Answer("silent", "1"), False, "failed"),
        (TCP, Answer("impossible"), False, "not tried"),
    ],
)
def test_a_control_must_be_heard(way, answer, heard, verdict):
    assert verdict == judge(way, "open", answer, heard=heard)


@pytest.mark.skipif(
    [name for _, name in socket.if_nameindex()] == ["lo"], reason="no network here"
)
def test_the_control_runs_nowhere_but_alone_with_loopback():
    with pytest.raises(NotIsolated, match="nothing but lo"):
        control(print)


def test_there_are_many_ways_and_each_has_its_own_name():
    names = [way.name for way in WAYS]
    assert len(names) == len(set(names))
    assert len(names) >= 2 * MIN_WAYS
    assert WAYS[3] is find_way(WAYS[3].name)


ALONE_WITH_LOOPBACK = ["unshare", "--user", "--map-root-user", "--net", "--mount"]
WEAKER = """
import sys
from server.seal.level import Level
from server.seal.proof import _raise_loopback, prove
_raise_loopback()
for row in prove(Level.PROCESS, lambda row: None):
    print(row.way, row.verdict, row.heard)
"""


def can_isolate():
    if shutil.which("unshare") is None:
        return False
    command = [*ALONE_WITH_LOOPBACK, "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


@pytest.mark.skipif(not can_isolate(), reason="needs unshare and leave for namespaces")
@pytest.mark.timeout(120)
def test_the_weaker_level_is_no_proof():
    # Native code gets out to the proof's own listeners, and the proof says so.
    done = subprocess.run(
        [*ALONE_WITH_LOOPBACK, sys.executable, "-c", WEAKER],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
        timeout=110,
    )
    rows = done.stdout.splitlines()
    assert "tcp.connect blocked False" in rows
    assert "libc.tcp got out True" in rows
    assert not any(row.startswith("libc.resolver") for row in rows)
