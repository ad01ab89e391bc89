"""Put the engine alone into an environment, with flags decided as `make install` does.

Usage: python3 scripts/engine_into.py VENV      (docker/Dockerfile does)

Images are built in layers: the engine takes minutes, and this step depends on
nothing but `pyproject.toml` and `scripts`. The same variables are honoured as by
`scripts/install.py`.
"""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from scripts.engine_install import install_engine  # noqa: E402
from scripts.install import read_wanted_version  # noqa: E402
from scripts.machine import ask_interpreter  # noqa: E402
from scripts.wheel_cache import InstallError  # noqa: E402


def main(arguments: list[str]) -> int:
    """Build or take the engine and install it; the last line says how it ended."""
    if len(arguments) != 1:
        print("Say into which environment: engine_into.py VENV", file=sys.stderr)
        return 2
    python = Path(arguments[0]).absolute() / "bin" / "python"
    interpreter = ask_interpreter(python)
    if interpreter is None:
        print(
            f"{python} does not run. Make it first: python3 -m venv {arguments[0]}",
            file=sys.stderr,
        )
        return 1
    try:
        wanted = read_wanted_version(ROOT / "pyproject.toml")
        origin, source = install_engine(interpreter, wanted, os.environ)
    except InstallError as error:
        print(f"\n{error}\nThe engine is NOT installed.", file=sys.stderr)
        return 1
    print(f"The engine is in {arguments[0]}: {origin.version}, {source}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
