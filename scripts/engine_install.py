"""Putting llama-cpp-python into the environment: which one, and from where."""

import hashlib
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from scripts.engine_build import PACKAGE, build_wheel
from scripts.engine_flags import decide_flags, wheel_key
from scripts.machine import Interpreter, inspect_machine
from scripts.wheel_cache import (
    InstallError,
    drop_wheel,
    find_cache,
    find_wheel,
    hold_lock,
    store_wheel,
)

# How scripts/prove_engine.py says that it ran and the engine failed.
EXIT_ENGINE_BAD = 3

# What make tells its children about itself is not for the build inside.
_MAKE_ENV = frozenset({"MAKEFLAGS", "MAKELEVEL", "MFLAGS", "MAKEOVERRIDES"})


class Source(StrEnum):
    """Where the engine of an installation came from."""

    FOUND = "found in .venv"
    HANDED = "handed over"
    CACHED = "in the cache"
    BUILT = "built"


@dataclass(frozen=True)
class Origin:
    """What an engine was made from; empty where it was found in place.

    `key` is its place in the cache, `cmake_args` the user's own part, `wheel`
    names the one that the user handed over, `amx_off` says why AMX is off.
    """

    version: str = ""
    key: str = ""
    cmake_args: str = ""
    wheel: str = ""
    amx_off: str | None = None


def needs_engine(
    installed: str | None, wanted: str, origin: Origin, env: Mapping[str, str]
) -> bool:
    """Decide whether another engine must be put in.

    One that is new enough stays, unless the user asks for another: a plain
    second run must not undo a build for a GPU that was asked for by CMAKE_ARGS.

    Raises:
        InstallError: CLOISTER_ENGINE_WHEEL names no file.
    """
    if installed is None or _numbers(installed) < _numbers(wanted):
        return True
    handed = env.get("CLOISTER_ENGINE_WHEEL", "")
    if handed:
        return _identify(_find_handed(handed)) != origin.wheel
    users = env.get("CMAKE_ARGS", "").strip()
    return bool(users) and users != origin.cmake_args


def install_engine(
    interpreter: Interpreter, version: str, env: Mapping[str, str]
) -> tuple[Origin, Source]:
    """Put llama-cpp-python in: the user's wheel, a cached one, or a new build.

    Raises:
        InstallError: It could not be built or installed.
    """
    handed = env.get("CLOISTER_ENGINE_WHEEL", "")
    if handed:
        wheel = _find_handed(handed)
        _install_wheel(interpreter, wheel)
        return Origin(version=_read_version(wheel), wheel=_identify(wheel)), (
            Source.HANDED
        )
    machine = inspect_machine(interpreter, env)
    decision = decide_flags(machine, env)
    origin = Origin(
        version=version,
        key=wheel_key(version, interpreter.abi, machine, env),
        cmake_args=env.get("CMAKE_ARGS", "").strip(),
        amx_off=decision.amx_off,
    )
    compilers = {"CC": machine.c.command, "CXX": machine.cxx.command}
    build_env = {k: v for k, v in env.items() if k not in _MAKE_ENV}
    build_env |= {k: v for k, v in compilers.items() if v}
    build_env["CMAKE_ARGS"] = decision.cmake_args
    cache = find_cache(env)
    with hold_lock(cache / ".lock"):
        cached = find_wheel(cache, origin.key)
        if cached is None:
            print(
                f"building {PACKAGE} {version} with {machine.cxx}; this takes minutes, "
                f"once\nCMAKE_ARGS: {decision.cmake_args or 'none'}",
                flush=True,
            )
            cached = _build_into(cache, origin, interpreter, build_env)
            source = Source.BUILT
        else:
            print(f"taking {PACKAGE} {version} from {cached}", flush=True)
            source = Source.CACHED
    _install_wheel(interpreter, cached)
    return origin, source


def forget_engine(origin: Origin, env: Mapping[str, str]) -> None:
    """Drop a bad engine from the cache, if it came from there."""
    if origin.key:
        drop_wheel(find_cache(env), origin.key)


def _build_into(
    cache: Path, origin: Origin, interpreter: Interpreter, env: Mapping[str, str]
) -> Path:
    # Kept if the build fails, because its log is named to the user.
    folder = Path(tempfile.mkdtemp(prefix="cloister-build-"))
    wheel = build_wheel(interpreter.path, origin.version, env, folder)
    stored = store_wheel(cache, origin.key, wheel)
    shutil.rmtree(folder)
    return stored


def _install_wheel(interpreter: Interpreter, wheel: Path) -> None:
    command = [str(interpreter.path), "-m", "pip", "install", "-qq", "--no-deps"]
    command += ["--force-reinstall", str(wheel)]
    if subprocess.run(command, check=False).returncode != 0:
        raise InstallError(f"pip could not install {wheel}; its reason is above.")


def _find_handed(handed: str) -> Path:
    wheel = Path(handed).expanduser().absolute()
    if not wheel.is_file() or wheel.suffix != ".whl":
        raise InstallError(f"CLOISTER_ENGINE_WHEEL: {wheel} is not a wheel file.")
    return wheel


def _identify(wheel: Path) -> str:
    return f"{wheel.name} {hashlib.sha256(wheel.read_bytes()).hexdigest()}"


def _read_version(wheel: Path) -> str:
    """Read the version from a wheel's name: name-version-tags.whl."""
    return wheel.name.split("-")[1] if "-" in wheel.name else ""


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version))
