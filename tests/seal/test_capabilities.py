"""Root loses what the seal must not rest on."""

import os
from pathlib import Path

import pytest

from server.seal.capabilities import KEPT
from tests.seal.sealed_child import run_child

DROP = """
from server.seal.capabilities import drop_capabilities
print(*drop_capabilities())
for line in open("/proc/self/status"):
    if line.startswith(("CapPrm", "CapEff", "CapBnd", "CapAmb", "CapInh")):
        print(int(line.split()[1], 16))
"""


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="needs Linux's /proc"
)
def test_only_those_for_files_are_left():
    names, *masks = run_child(DROP).splitlines()
    allowed = sum(1 << number for number in KEPT.values())
    inherited, permitted, effective, bounding, ambient = map(int, masks)
    assert 0 == permitted & ~allowed
    assert 0 == effective & ~allowed
    assert (0, 0) == (inherited, ambient)
    assert set(names.split()) <= set(KEPT)
    if os.geteuid() == 0:
        assert 0 == bounding & ~allowed


@pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root"
)
def test_a_program_that_root_starts_does_not_get_them_back():
    out = run_child(
        DROP + "import subprocess; print(subprocess.check_output("
        '["grep", "CapEff", "/proc/self/status"], text=True))'
    )
    mask = int(out.split("CapEff:")[1].split()[0], 16)
    assert 0 == mask & ~sum(1 << number for number in KEPT.values())
