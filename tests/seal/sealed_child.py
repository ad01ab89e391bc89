"""Runs code in a process of its own, since a seal cannot be taken off."""

import subprocess
import sys
from pathlib import Path

import pytest

from server.seal.install import explain_absence

ROOT = Path(__file__).resolve().parents[2]
NEEDS_KERNEL = pytest.mark.skipif(
    explain_absence() is not None, reason=f"no kernel seal here: {explain_absence()}"
)


def run_child(code: str, *arguments: object, **options: object) -> str:
    """Run code that must end well, and return what it printed.

    It may log, but not fail in a thread.
    """
    done = subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
        timeout=30,
        **options,
    )
    assert 0 == done.returncode, done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return done.stdout.strip()
