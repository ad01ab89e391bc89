"""`cloister doctor`: the short form; the proof itself is in tests/e2e/test_seal.py."""

import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "server", "doctor", *arguments],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=50,
    )


def test_it_says_what_the_machine_has_and_what_to_do_next():
    done = run()
    assert 0 == done.returncode
    first, *rest = done.stdout.splitlines()
    assert first.startswith("tightest seal here: ")
    assert ["seccomp", "Landlock"] == [line.partition(":")[0] for line in rest[:2]]
    assert "next: cloister doctor --prove-offline" == rest[2]


@pytest.mark.parametrize("option", [["--json"], ["--pid", "1"], ["--report", "x"]])
def test_options_of_the_proof_go_with_the_proof(option):
    done = run(*option)
    assert 2 == done.returncode
    assert "go with --prove-offline" in done.stderr


@pytest.mark.skipif(
    [name for _, name in socket.if_nameindex()] == ["lo"], reason="no network here"
)
def test_the_control_is_refused_where_there_is_a_network():
    done = run("--control")
    assert 2 == done.returncode
    assert "nothing but lo" in done.stderr
