"""Building llama-cpp-python from source: minutes, so it shows how far it is."""

import re
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TextIO

from scripts.wheel_cache import InstallError

PACKAGE = "llama-cpp-python"
_LAST_LINES = 20
_STEP = re.compile(r"\s*\[(\d{1,5})/(\d{1,5})\]")
_BAR_WIDTH = 30


def build_wheel(
    python: Path, version: str, env: Mapping[str, str], folder: Path
) -> Path:
    """Compile the engine.

    Args:
        python: The interpreter whose pip builds.
        version: Of llama-cpp-python.
        env: The whole environment of the build, CMAKE_ARGS in it.
        folder: Receives the wheel and `build.log`.

    Returns:
        The wheel.

    Raises:
        InstallError: The build failed; the text has the end of the log.
    """
    command = [str(python), "-m", "pip", "wheel", "--verbose", "--no-deps"]
    # No cache, because pip's is not keyed by CMAKE_ARGS; from source, because a
    # ready wheel was not built with them either.
    command += ["--no-cache-dir", "--no-binary", PACKAGE]
    command += ["--wheel-dir", str(folder), f"{PACKAGE}=={version}"]
    log = folder / "build.log"
    status = run_logged(command, env, log, Progress(sys.stdout))
    if status < 0:
        raise InstallError(
            f"The build was ended by signal {-status}, from outside or for want of "
            f"memory; its log is {log}. Try again: make install"
        )
    if status != 0:
        tail = log.read_text(errors="replace").splitlines()[-_LAST_LINES:]
        raise InstallError(
            "\n".join(tail) + "\n\nllama.cpp could not be built; the whole log is "
            f"{log}. It needs a compiler for C and C++ (Debian: apt install "
            "build-essential) and a package index that pip can reach. With a ready "
            "wheel neither: CLOISTER_ENGINE_WHEEL=FILE.whl make install"
        )
    wheel = next(iter(folder.glob("llama_cpp_python-*.whl")), None)
    if wheel is None:
        raise InstallError(f"pip reported success but built no wheel; its log: {log}")
    return wheel


class Progress:
    """Shows how far a build is: a bar on a terminal, else a line now and then."""

    def __init__(self, stream: TextIO, *, every_s: float = 20.0) -> None:
        self._stream = stream
        self._every_s = every_s
        self._next_s = 0.0
        self._is_terminal = stream.isatty()

    def show(self, elapsed_s: float, step: tuple[int, int] | None) -> None:
        """Report `(done, total)` steps; None while the number is not known."""
        if self._is_terminal:
            self._stream.write("\r\x1b[K" + format_progress(elapsed_s, step))
        elif elapsed_s >= self._next_s:
            self._next_s = elapsed_s + self._every_s
            self._stream.write(format_progress(elapsed_s, step) + "\n")
        self._stream.flush()

    def close(self) -> None:
        """Leave the line of the bar."""
        if self._is_terminal:
            self._stream.write("\n")
            self._stream.flush()


def format_progress(elapsed_s: float, step: tuple[int, int] | None) -> str:
    """Write one line, such as `building llama.cpp [###...] 12/193, 31 s`."""
    if step is None:
        return f"building llama.cpp: preparing, {elapsed_s:.0f} s"
    done, total = step
    filled = _BAR_WIDTH * done // max(total, 1)
    bar = "#" * filled + "." * (_BAR_WIDTH - filled)
    return f"building llama.cpp [{bar}] {done}/{total}, {elapsed_s:.0f} s"


def run_logged(
    command: Sequence[str], env: Mapping[str, str], log: Path, progress: Progress
) -> int:
    """Run a command with its output in a file and its `[3/12]` steps shown.

    Returns:
        Its exit code.
    """
    started_s = time.monotonic()
    step: tuple[int, int] | None = None
    with (
        log.open("w", encoding="utf-8") as file,
        subprocess.Popen(
            command,
            env=env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
        ) as process,
    ):

        def pump() -> None:
            nonlocal step
            for line in process.stdout or ():
                file.write(line)
                if match := _STEP.match(line):
                    step = int(match[1]), int(match[2])

        reader = threading.Thread(target=pump)
        reader.start()
        try:
            while reader.is_alive():
                progress.show(time.monotonic() - started_s, step)
                reader.join(timeout=1.0)
        except BaseException:  # Ctrl-C: do not leave a compiler running
            process.terminate()
            raise
        finally:
            reader.join()
            progress.close()
        return process.wait()
