"""A server of the self-test's own: a child with a temporary home, gone afterwards.

It leads a process group of its own, so that a Ctrl-C reaches the self-test alone,
which then ends the whole group. Output goes to files: a full pipe would stop it.
"""

import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

import psutil

import server
from server.selftest.report import CheckFailed

PARALLEL: Final = 8

_STOP_S: Final = 15.0
_POLL_S: Final = 0.02
_SHOWN_LINES: Final = 3
_LISTENS: Final = re.compile(r"Cloister listens on (http://\S+)")
_SECCOMP: Final = re.compile(r"^Seccomp:\s*(\d)$", re.MULTILINE)
_FILTERED: Final = "2"
_ROOT: Final = Path(server.__file__).resolve().parent.parent


class ServerProcess:
    """A `cloister serve`; leaving the block kills whatever is left of it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._child: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        folder = tempfile.TemporaryDirectory(
            prefix="cloister-selftest-", ignore_cleanup_errors=True
        )
        self._folder = Path(self._stack.enter_context(folder))
        return self

    def __exit__(self, *_: object) -> None:
        if self._child is not None:
            # Its workers too, should it have died before them.
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
            self._child.wait()
        self._stack.close()

    def start(self, *arguments: str, timeout_s: float) -> str:
        """Start it on a free port, with more arguments of `cloister serve`.

        Returns:
            Its URL.

        Raises:
            CheckFailed: It ended, or did not listen in time.
        """
        output, log = self._folder / "output", self._folder / "log"
        with output.open("wb") as stdout, log.open("wb") as stderr:
            self._child = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "server", "serve"),
                    *("--host", "127.0.0.1", "--port", "0"),
                    *("--parallel", str(PARALLEL)),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=stdout,
                stderr=stderr,
                cwd=self._folder,
                env=self._make_environment(),
                start_new_session=True,
            )
        give_up_s = time.monotonic() + timeout_s
        while time.monotonic() < give_up_s:
            exit_code = self._child.poll()
            found = _LISTENS.search(output.read_text(encoding="utf-8"))
            if found is not None:
                return found[1]
            if exit_code is not None:
                raise self._failed(f"it ended with exit code {exit_code}")
            time.sleep(_POLL_S)
        raise self._failed(f"it did not within {timeout_s:g} s")

    def check_filters(self) -> str:
        """Check that the kernel has a filter on the server and all its workers.

        Source: Linux, Documentation/filesystems/proc.rst, `Seccomp` of status.

        Raises:
            CheckFailed: A process has none, or this is no Linux.
        """
        if self._child is None:
            raise ValueError("the server was not started")
        first = psutil.Process(self._child.pid)
        processes = [first, *first.children(recursive=True)]
        for process in processes:
            mode = _read_seccomp_mode(process.pid)
            if mode != _FILTERED:
                raise CheckFailed(
                    expected=f"Seccomp: {_FILTERED} in /proc/{process.pid}/status",
                    actual=f"{mode}, of {' '.join(process.cmdline())}",
                    advice="Do not rely on the seal of this installation; report this.",
                )
        return f"the kernel filters all {len(processes)} processes"

    @property
    def pid(self) -> int:
        """Its process.

        Raises:
            ValueError: It was not started.
        """
        if self._child is None:
            raise ValueError("the server was not started")
        return self._child.pid

    def stop(self) -> str:
        """Stop it as Ctrl-C would.

        Returns:
            What happened.

        Raises:
            CheckFailed: It did not end, or not with exit code 0.
        """
        if self._child is None:
            raise ValueError("the server was not started")
        self._child.terminate()
        try:
            exit_code = self._child.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            exit_code = None
        if exit_code == 0:
            return "ended with exit code 0"
        ended = "it still runs" if exit_code is None else f"exit code {exit_code}"
        raise CheckFailed(
            expected=f"the server ends with exit code 0 in {_STOP_S:g} s after SIGTERM",
            actual=f"{ended}; its log ends: {self._read_log_end()}",
            advice="Report this; the self-test has killed the server.",
        )

    def _make_environment(self) -> dict[str, str]:
        """Keep what is not a setting: the user's own must not matter here."""
        kept = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("CLOISTER_")
        }
        # Compute threads that wait by spinning make this tiny model many times
        # slower wherever another program keeps a core busy.
        waiting = {"GOMP_SPINCOUNT": "0", "OMP_WAIT_POLICY": "passive"}
        home = str(self._folder / "home")
        own = {"CLOISTER_HOME": home, "PYTHONPATH": str(_ROOT)}
        return {**waiting, **kept, **own}

    def _failed(self, what: str) -> CheckFailed:
        return CheckFailed(
            expected="`cloister serve` listens on a free port of 127.0.0.1",
            actual=f"{what}; its log ends: {self._read_log_end()}",
            advice="Start `cloister serve --port 0` by hand to see more; if Python "
            "names something missing, install again: make clean && make install",
        )

    def _read_log_end(self) -> str:
        text = (self._folder / "log").read_text(encoding="utf-8", errors="replace")
        return " / ".join(text.splitlines()[-_SHOWN_LINES:]) or "(empty)"


def _read_seccomp_mode(pid: int) -> str:
    try:
        status = Path(f"/proc/{pid}/status").read_text(encoding="ascii")
    except OSError as error:
        return error.strerror or str(error)
    found = _SECCOMP.search(status)
    return "nothing" if found is None else found[1]
