"""The tables are those of the kernel's own headers."""

import re
from pathlib import Path

import pytest

from server.seal.syscalls import AARCH64, X86_64, find_architecture

HEADERS = {
    X86_64: (
        Path("/usr/include/x86_64-linux-gnu/asm/unistd_64.h"),
        Path("/usr/include/asm/unistd_64.h"),
    ),
    AARCH64: (Path("/usr/include/asm-generic/unistd.h"),),
}


@pytest.mark.parametrize("machine", HEADERS, ids=lambda machine: machine.name)
def test_every_number_is_the_headers(machine):
    header = next((path for path in HEADERS[machine] if path.exists()), None)
    if header is None:
        pytest.skip(f"none of {HEADERS[machine]} is installed: linux-libc-dev has them")
    found = dict(
        re.findall(
            r"^#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text(), re.MULTILINE
        )
    )
    expected = {name: int(found[name]) for name in machine.numbers}
    assert expected == dict(machine.numbers)


def test_machines_are_known_by_any_of_their_names():
    for name in ("x86_64", "AMD64"):
        assert X86_64 is find_architecture(name)
    for name in ("aarch64", "arm64"):
        assert AARCH64 is find_architecture(name)
    assert find_architecture("riscv64") is None
