"""`scripts.prove_engine`: a good engine is proven, a crash is told in words."""

import subprocess
import sys
from pathlib import Path

import pytest

from scripts.engine_install import EXIT_ENGINE_BAD
from scripts.prove_engine import describe_failure, run_child

ROOT = Path(__file__).resolve().parents[2]


def test_the_installed_engine_is_proven_in_one_line():
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / "prove_engine.py"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (0, "") == (result.returncode, result.stderr)
    assert 1 == result.stdout.count("\n")
    assert result.stdout.startswith("engine ready: llama-cpp-python ")
    assert ", 32 + 64 tokens in " in result.stdout


def test_a_crash_of_native_code_is_survived_and_told(capsys):
    crash = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    assert EXIT_ENGINE_BAD == run_child([sys.executable, "-c", crash])
    message = capsys.readouterr().err
    assert "the engine crashed with SIGSEGV: this build of llama.cpp is bad" in message
    assert 'CMAKE_ARGS="-DGGML_NATIVE=OFF" make install' in message


def test_an_error_of_the_proof_is_shown(capsys):
    code = "raise RuntimeError('logits that are not finite')"
    assert EXIT_ENGINE_BAD == run_child([sys.executable, "-c", code])
    message = capsys.readouterr().err
    assert "RuntimeError: logits that are not finite" in message
    assert "its proof ended with status 1" in message


def test_an_engine_that_hangs_is_not_waited_for(capsys):
    code = "import time; time.sleep(60)"
    assert EXIT_ENGINE_BAD == run_child([sys.executable, "-c", code], timeout_s=0.5)
    assert "did not finish the proof in 0.5 s" in capsys.readouterr().err


@pytest.mark.parametrize(("status", "expected"), [(-4, "SIGILL"), (-200, "signal 200")])
def test_signals_are_named(status, expected):
    assert f"crashed with {expected}:" in describe_failure(status)
