"""Install Cloister into .venv of this checkout; any Python from 3.11 on runs it.

The order: the environment, llama.cpp with flags that suit this machine, the
project with its tools, a proof that the engine computes. What is in place and
proven is left alone, so a second run takes seconds and needs no network.

Usage: python3 scripts/install.py      (or: make install)

CMAKE_ARGS, CC, CXX, CFLAGS and CXXFLAGS are honoured in a build, PIP_* by pip.
CLOISTER_ENGINE_WHEEL names a ready wheel of llama-cpp-python, and
CLOISTER_WHEEL_CACHE the folder in which built ones are kept.
"""

import hashlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

OLDEST_PYTHON = (3, 11)
if sys.version_info < OLDEST_PYTHON:
    sys.exit(
        f"Cloister needs Python 3.11 or newer, but this is {sys.version.split()[0]}. "
        "Name a newer one: make install PYTHON=python3.12"
    )

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import tomllib  # noqa: E402 - not in older versions, which were sent away above

from scripts.engine_build import PACKAGE  # noqa: E402
from scripts.engine_install import (  # noqa: E402
    EXIT_ENGINE_BAD,
    Origin,
    Source,
    forget_engine,
    install_engine,
    needs_engine,
)
from scripts.machine import Interpreter, ask_interpreter  # noqa: E402
from scripts.wheel_cache import InstallError, hold_lock  # noqa: E402

_STAMP = "cloister-install.json"


@dataclass(frozen=True)
class Stamp:
    """What the last complete installation was made from; `project` is a digest."""

    project: str = ""
    engine: Origin = field(default_factory=Origin)


def main() -> int:
    """Install; the last line says how it ended."""
    try:
        with hold_lock(ROOT / ".install.lock"):
            print(install(ROOT, os.environ))
    except InstallError as error:
        print(f"\n{error}\nCloister is NOT installed.", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("\ninterrupted; Cloister is NOT installed.", file=sys.stderr)
        return 130
    return 0


def install(root: Path, env: Mapping[str, str]) -> str:
    """Bring .venv up to date.

    Returns:
        The closing line.

    Raises:
        InstallError: A step failed.
    """
    interpreter = ensure_venv(root / ".venv")
    stamp_path = root / ".venv" / _STAMP
    stamp = read_stamp(stamp_path)
    wanted = read_wanted_version(root / "pyproject.toml")
    project = digest_project(root, interpreter)
    origin, source = stamp.engine, Source.FOUND
    # Gone until all is done: a broken installation must not pass for a good one.
    stamp_path.unlink(missing_ok=True)
    if needs_engine(interpreter.engine, wanted, origin, env):
        origin, source = install_engine(interpreter, wanted, env)
    if stamp.project != project:
        install_project(root, interpreter)
    while not prove_engine(root, interpreter):
        if source in {Source.BUILT, Source.HANDED}:
            forget_engine(origin, env)
            raise InstallError("This engine does not work on this machine; see above.")
        print(f"the engine that was {source} does not work; replacing it", flush=True)
        if source is Source.CACHED:
            forget_engine(origin, env)
        origin, source = install_engine(interpreter, wanted, env)
    stamp_path.write_text(json.dumps(asdict(Stamp(project, origin))), encoding="utf-8")
    note = f", AMX off because {origin.amx_off}" if origin.amx_off else ""
    return (
        'Cloister is installed: run "make run" '
        f"(engine: {PACKAGE} {origin.version or interpreter.engine}{note})"
    )


def ensure_venv(venv: Path) -> Interpreter:
    """Make the environment unless it is there.

    Raises:
        InstallError: It cannot be made, or what is there cannot be used.
    """
    python = venv / "bin" / "python"
    if not python.exists():
        print(f"making {venv}", flush=True)
        made = subprocess.run(
            [sys.executable, "-m", "venv", venv],
            capture_output=True,
            text=True,
            check=False,
        )
        if made.returncode != 0:
            raise InstallError(
                f"{made.stdout}{made.stderr}\nThe environment {venv} could not be "
                "made. On Debian: apt install python3-venv"
            )
    interpreter = ask_interpreter(python)
    if interpreter is None or interpreter.version < OLDEST_PYTHON:
        raise InstallError(
            f"{python} does not run or is older than 3.11. "
            "Start anew: make clean && make install"
        )
    return interpreter


def read_stamp(path: Path) -> Stamp:
    """Read what the last installation left; an empty stamp where it left nothing."""
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
        return Stamp(facts["project"], Origin(**facts["engine"]))
    except (OSError, ValueError, TypeError, KeyError):
        return Stamp()


def digest_project(root: Path, interpreter: Interpreter) -> str:
    """Digest what the installed packages depend on.

    The checkout's path belongs to it: the scripts of .venv point there.
    """
    digest = hashlib.sha256((root / "pyproject.toml").read_bytes())
    digest.update(f"\0{root}\0{interpreter.abi}".encode())
    return digest.hexdigest()


def read_wanted_version(pyproject: Path) -> str:
    """Read the lower bound of llama-cpp-python: the version that is built."""
    project = tomllib.loads(pyproject.read_text(encoding="utf-8"))["project"]
    for requirement in project["dependencies"]:
        match = re.fullmatch(rf"{PACKAGE}\s*>=\s*([\d.]+)\s*", requirement)
        if match:
            return match[1]
    raise InstallError(f"{pyproject} has no '{PACKAGE}>=' dependency.")


def install_project(root: Path, interpreter: Interpreter) -> None:
    """Install the project itself, editable, with all that it and its tests need.

    Raises:
        InstallError: pip failed; it has said why.
    """
    print("installing the project and its tools", flush=True)
    command = [str(interpreter.path), "-m", "pip", "install", "-qq"]
    # Were the engine missing here, pip would compile it with flags of its own.
    command += ["--only-binary", PACKAGE, "--editable", f"{root}[dev]"]
    if subprocess.run(command, check=False).returncode != 0:
        raise InstallError(
            "pip could not install the project; its reason is above. It needs a "
            "package index, or wheels: PIP_NO_INDEX=1 PIP_FIND_LINKS=DIR make install"
        )


def prove_engine(root: Path, interpreter: Interpreter) -> bool:
    """Let the engine compute; False if it cannot, which has been told.

    Raises:
        InstallError: The proof itself could not run.
    """
    proof = root / "scripts" / "prove_engine.py"
    status = subprocess.run([interpreter.path, proof], check=False).returncode
    if status not in {0, EXIT_ENGINE_BAD}:
        raise InstallError(
            "The proof of the engine could not run; its reason is above. "
            "If a package is broken, start anew: make clean && make install"
        )
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
