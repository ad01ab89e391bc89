"""Landlock: which files a process may open, where the kernel has it.

A ruleset names rights that are taken away everywhere and given back below some
paths. It holds for the calling thread and all threads and children it starts
later, so it goes on before any other thread exists. Where the kernel has no
Landlock the seal goes on without it and says so by name.

Versions of the interface (ABI): 1 files, 2 moving files, 3 truncation, 4 TCP,
5 device controls, 6 abstract AF_UNIX sockets and signals.

Source: Linux, Documentation/userspace-api/landlock.rst and linux/landlock.h.
"""

import ctypes
import os
import stat
import struct
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from server.seal.native import PR_SET_NO_NEW_PRIVS, prctl, syscall
from server.seal.syscalls import find_architecture

_QUERY_VERSION: Final = 1
_PATH_BENEATH: Final = 1

_READ_FILE: Final = 1 << 2
_READ_FOLDER: Final = 1 << 3
_WRITE_FILE: Final = 1 << 1
_CONTROL_DEVICE: Final = 1 << 15
_N_FILE_RIGHTS: Final = {1: 13, 2: 14, 3: 15, 4: 15}
_ALL_FILE_RIGHTS: Final = 16
_TCP_ABI: Final = 4
_DEVICE_ABI: Final = 5
_SCOPE_ABI: Final = 6
_ALL_TCP: Final = 0b11
_ALL_SCOPES: Final = 0b11
_ABSTRACT_SOCKETS: Final = 0b01

_GPU_DEVICES: Final = ("/dev/nvidia*", "/dev/dri/*", "/dev/kfd")
_SYSTEM_FILES: Final = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/version",
    "/proc/driver/nvidia",
    "/proc/sys/vm",
    "/sys/devices",
    "/sys/fs/cgroup",
    "/sys/kernel/mm/transparent_hugepage",
    "/sys/class/drm",
    "/sys/class/kfd",
    "/sys/bus/pci",
    "/sys/module/amdgpu",
    "/dev/null",
    "/dev/zero",
    "/dev/random",
    "/dev/urandom",
    "/usr/share/zoneinfo",
    "/usr/share/locale",
    "/usr/lib/locale",
    "/lib",
    "/lib64",
    "/usr/lib",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/cuda",
    "/usr/share/vulkan",
    "/etc/vulkan",
    "/opt/rocm",
    "/nix/store",
    "/gnu/store",
)
_LIBRARY_VARIABLES: Final = ("LD_LIBRARY_PATH", "LLAMA_CPP_LIB_PATH")


class Grant(Struct, frozen=True):
    """A right that is left: below a folder, or for one file."""

    path: str
    rights: int


def find_abi() -> int:
    """Tell the version of Landlock's interface; 0 where the kernel has none."""
    architecture = find_architecture()
    if sys.platform != "linux" or architecture is None:
        return 0
    try:
        return syscall(
            architecture.numbers["landlock_create_ruleset"],
            ctypes.c_void_p(None),
            0,
            _QUERY_VERSION,
        )
    except OSError:
        return 0


def grant_worker(files: Iterable[bytes], package: Path) -> tuple[Grant, ...]:
    """List what a worker may open: its model, Python, libraries, GPU devices.

    Args:
        files: The model's.
        package: The folder that holds the packages `server` and `model_store`.
    """
    reading = _READ_FILE | _READ_FOLDER
    grants = [Grant(os.fsdecode(path), reading) for path in files]
    grants += [Grant(path, reading) for path in _SYSTEM_FILES]
    grants += [Grant(path, reading) for path in _list_python(package)]
    grants += [Grant(path, reading) for path in _list_libraries(os.environ)]
    grants += [Grant(str(package / "server"), reading)]
    # Python lists a folder to find a package in it.
    grants += [Grant(str(package), _READ_FOLDER)]
    for pattern in _GPU_DEVICES:
        grants += [
            Grant(str(path), reading | _WRITE_FILE | _CONTROL_DEVICE)
            for path in Path("/").glob(pattern.removeprefix("/"))
        ]
    return tuple(grants)


def restrict_files(abi: int, grants: Sequence[Grant]) -> None:
    """Take every right on files, TCP, signals and sockets away but the grants.

    Args:
        abi: What `find_abi` told, at least 1.
        grants: Paths that do not exist are left out.

    Raises:
        OSError: The kernel refused.
    """
    handled = (1 << _N_FILE_RIGHTS.get(abi, _ALL_FILE_RIGHTS)) - 1
    ruleset = _create_ruleset(
        abi,
        handled,
        _ALL_TCP if abi >= _TCP_ABI else 0,
        _ALL_SCOPES if abi >= _SCOPE_ABI else 0,
    )
    try:
        for grant in grants:
            _add_rule(ruleset, grant, handled)
        _restrict(ruleset)
    finally:
        os.close(ruleset)


def restrict_network(abi: int) -> bool:
    """Take TCP's bind and connect and abstract AF_UNIX sockets away.

    Returns:
        Whether the kernel's Landlock knows networks (ABI 4); if not, nothing
        was done.

    Raises:
        OSError: The kernel refused.
    """
    if abi < _TCP_ABI:
        return False
    scopes = _ABSTRACT_SOCKETS if abi >= _SCOPE_ABI else 0
    ruleset = _create_ruleset(abi, 0, _ALL_TCP, scopes)
    try:
        _restrict(ruleset)
    finally:
        os.close(ruleset)
    return True


def _list_libraries(environment: Mapping[str, str]) -> tuple[str, ...]:
    """List the folders where the loader is told to look for libraries."""
    values = (environment.get(name, "") for name in _LIBRARY_VARIABLES)
    return tuple(path for value in values for path in value.split(":") if path)


def _list_python(package: Path) -> tuple[str, ...]:
    """List the folders that this Python imports from."""
    prefixes = {sys.prefix, sys.base_prefix, sys.exec_prefix, sys.base_exec_prefix}
    folders = {str(Path(entry).resolve()) for entry in sys.path if entry}
    # Not the checkout: other things lie there, too.
    if package.name not in {"site-packages", "dist-packages"}:
        folders.discard(str(package))
    # Where Python is the system's, its prefix is /usr, of which this is enough.
    inside = {str(Path(prefix) / "lib") for prefix in prefixes}
    return tuple(sorted(folders | inside | {f"{sys.prefix}/pyvenv.cfg"}))


def _create_ruleset(abi: int, files: int, network: int, scopes: int) -> int:
    words = [files]
    if abi >= _TCP_ABI:
        words.append(network)
    if abi >= _SCOPE_ABI:
        words.append(scopes)
    attributes = struct.pack(f"={len(words)}Q", *words)
    return syscall(
        _number("landlock_create_ruleset"),
        ctypes.c_char_p(attributes),
        len(attributes),
        0,
    )


def _add_rule(ruleset: int, grant: Grant, handled: int) -> None:
    try:
        parent = os.open(grant.path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        rights = grant.rights & handled
        if not stat.S_ISDIR(os.fstat(parent).st_mode):
            rights &= ~_READ_FOLDER
        attributes = struct.pack("=Qi", rights, parent)
        if rights:
            syscall(
                _number("landlock_add_rule"),
                ruleset,
                _PATH_BENEATH,
                ctypes.c_char_p(attributes),
                0,
            )
    finally:
        os.close(parent)


def _restrict(ruleset: int) -> None:
    prctl(PR_SET_NO_NEW_PRIVS, 1)
    syscall(_number("landlock_restrict_self"), ruleset, 0)


def _number(call: str) -> int:
    architecture = find_architecture()
    if architecture is None:
        raise OSError(f"no number is known for {call} on this processor")
    return architecture.numbers[call]
