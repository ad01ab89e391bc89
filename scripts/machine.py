"""What this machine is: its CPU and the compilers a build would take."""

import json
import platform
import shlex
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scripts.engine_flags import Compiler, Machine, find_definition, read_macros
from scripts.wheel_cache import InstallError

_QUESTION = """
import importlib.metadata as m, json, sys, sysconfig
try:
    engine = m.version("llama-cpp-python")
except m.PackageNotFoundError:
    engine = None
print(json.dumps({
    "version": list(sys.version_info[:2]),
    "abi": f"{sys.implementation.cache_tag}-{sysconfig.get_platform()}",
    "cc": sysconfig.get_config_var("CC") or "",
    "cxx": sysconfig.get_config_var("CXX") or "",
    "engine": engine,
}))
"""


@dataclass(frozen=True)
class Interpreter:
    """A Python: `engine` is the installed version of llama-cpp-python."""

    path: Path
    version: tuple[int, int]
    abi: str
    cc: str
    cxx: str
    engine: str | None


def ask_interpreter(path: Path) -> Interpreter | None:
    """Ask a Python about itself; None if it does not run."""
    try:
        answer = subprocess.run(
            [path, "-c", _QUESTION], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    facts = json.loads(answer.stdout)
    major, minor = facts.pop("version")
    return Interpreter(path=path, version=(major, minor), **facts)


def inspect_machine(interpreter: Interpreter, env: Mapping[str, str]) -> Machine:
    """Look at the CPU and at the compilers that CMake will take.

    Raises:
        InstallError: The user named a compiler that does not exist.
    """
    return Machine(
        arch=platform.machine(),
        cpu_features=read_cpu_features(),
        c=_find_compiler(env, ("C", "CC", "c"), (interpreter.cc, "cc", "gcc", "clang")),
        cxx=_find_compiler(
            env, ("CXX", "CXX", "c++"), (interpreter.cxx, "c++", "g++", "clang++")
        ),
    )


def read_cpu_features(cpuinfo: Path = Path("/proc/cpuinfo")) -> frozenset[str]:
    """Return the CPU's feature flags; its name where the system lists none."""
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return frozenset({platform.processor()})
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in {"flags", "Features"}:
            return frozenset(value.split())
    return frozenset()


def _find_compiler(
    env: Mapping[str, str], language: tuple[str, str, str], usual: tuple[str, ...]
) -> Compiler:
    """Find a compiler in the order of the build.

    CMAKE_ARGS, then CC or CXX, then what the interpreter was built with (the
    build backend prefers that), then CMake's own search.

    Raises:
        InstallError: The user named a program that does not exist.
    """
    cmake_name, variable, dialect = language
    definition = f"CMAKE_{cmake_name}_COMPILER"
    in_args = find_definition(env.get("CMAKE_ARGS", ""), definition)
    named = in_args or env.get(variable)
    for candidate in (named,) if named else usual:
        words = shlex.split(candidate)
        if words and shutil.which(words[0]):
            probe = [*words, "-dM", "-E", "-x", dialect, "/dev/null"]
            answer = subprocess.run(probe, capture_output=True, text=True, check=False)
            return read_macros(answer.stdout, candidate)
    if named:
        source = definition if in_args else variable
        raise InstallError(
            f"{source} names the compiler '{named}', which is not there."
        )
    return Compiler("unknown", "")
