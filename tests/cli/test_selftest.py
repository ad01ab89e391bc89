"""`cloister selftest`: what is wrong with its options is told before anything runs."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "server", "selftest", *arguments],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--url", "http://192.0.2.1:1234"], "not the address of a server on this"),
        (["--url", "https://127.0.0.1:1234"], "such as http://127.0.0.1:1234"),
        (["--timeout", "0"], "0.0 is not in the range 1<=x<=3600"),
        (["--ofline"], "No such option '--ofline'"),
    ],
)
def test_a_wrong_option_ends_with_2_and_its_reason(arguments, words):
    done = run(*arguments)
    assert (2, "") == (done.returncode, done.stdout)
    assert words in " ".join(done.stderr.split())


def test_help_says_what_it_does_and_how_to_test_a_running_server():
    shown = " ".join(run("--help").stdout.split())
    assert "Prove that this installation works" in shown
    assert "cloister selftest --url http://127.0.0.1:1234" in shown
