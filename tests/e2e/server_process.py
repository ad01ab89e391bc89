"""`cloister serve` as a user starts it: a process with its own home.

The server leads a session of its own, so that a Ctrl-C can be sent to its
whole process group, and writes to files, so that a full pipe cannot stop it.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any

import httpx
import psutil

from tests.live_server import open_raw, post_bytes

ROOT = Path(__file__).resolve().parents[2]
START_S = 30.0
END_S = 20.0
POLL_S = 0.01
REQUEST_S = 50.0

_URL = re.compile(r"Cloister listens on (https?://\S+)")
_WORKER = "server.worker"


class StartFailed(Exception):
    """The server ended, or said nothing, before it listened."""


def wait_until(condition: Callable[[], object], timeout_s: float, what: str) -> None:
    """Wait for a condition; the error names what did not come true."""
    give_up_s = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > give_up_s:
            raise TimeoutError(f"not within {timeout_s:g} s: {what}")
        time.sleep(POLL_S)


def make_environment(home: Path, **more: str) -> dict[str, str]:
    """Build a server's environment: no settings of whoever runs the tests."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith("CLOISTER_")}
    return {
        **kept,
        "CLOISTER_HOME": str(home),
        # Tests say which models there are; those of the built-in one ask for it.
        "CLOISTER_BUILTIN": "0",
        # Idle compute threads that spin would take the few cores of others.
        "GOMP_SPINCOUNT": "0",
        "OMP_WAIT_POLICY": "passive",
        **more,
    }


class Server:
    """A running `cloister serve`.

    Args:
        folder: Where home, output and log lie; made if absent.
        arguments: Further arguments of `cloister serve`.
        before: A command that runs the server, such as a tracer.
        environment: Further variables.
    """

    def __init__(
        self,
        folder: Path,
        arguments: Sequence[str | Path],
        *,
        before: Sequence[str | Path] = (),
        environment: dict[str, str] | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        # No TLS here: reading certificates would cost more than a request.
        self._http = httpx.Client(timeout=REQUEST_S, verify=False)  # noqa: S501
        self._is_wrapped = bool(before)
        self.home = folder / "home"
        self._output = folder / "stdout"
        self._log = folder / "stderr"
        with self._output.open("wb") as output, self._log.open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *before,
                    *(sys.executable, "-m", "server", "serve"),
                    *("--port", "0", "--threads", "1"),
                    *arguments,
                ],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=log,
                cwd=folder,
                env=make_environment(
                    self.home, PYTHONPATH=str(ROOT), **(environment or {})
                ),
                start_new_session=True,
            )
        try:
            wait_until(self._listens, START_S, "the server listens")
        except BaseException:
            self.kill()
            raise
        self.url = _URL.findall(self.banner)[0]
        self.port = int(self.url.rpartition(":")[2])
        self._http.base_url = self.url

    @property
    def banner(self) -> str:
        """What the server printed for a person."""
        return self._output.read_text(encoding="utf-8")

    @property
    def log(self) -> str:
        """What the server logged."""
        return self._log.read_text(encoding="utf-8")

    @property
    def pid(self) -> int:
        return self.server.pid

    @property
    def server(self) -> psutil.Process:
        """The server itself, behind a tracer too."""
        first = psutil.Process(self.process.pid)
        return first.children()[0] if self._is_wrapped else first

    def workers(self) -> list[psutil.Process]:
        """List the workers that live, oldest first."""
        with suppress(psutil.NoSuchProcess):
            found = [c for c in self.server.children() if is_worker(c)]
            return sorted(found, key=lambda c: c.create_time())
        return []

    def post(self, path: str, **body: Any) -> httpx.Response:
        """POST a JSON object."""
        return self._http.post(path, json=body)

    def get(self, path: str) -> httpx.Response:
        """GET a path that is sent as it is written."""
        return self._http.get(path)

    def complete(self, model: str, prompt: Any, **more: Any) -> dict[str, Any]:
        """Complete a text greedily; the request must succeed."""
        body = {"model": model, "prompt": prompt, **GREEDY, **more}
        response = self.post("/v1/completions", **body)
        if response.status_code != 200:
            raise AssertionError(response.text)
        answer: dict[str, Any] = response.json()
        return answer

    @contextmanager
    def stream(self, path: str, **body: Any) -> Iterator["Stream"]:
        """Open a stream; leaving the block closes the connection."""
        with self._http.stream("POST", path, json={**body, "stream": True}) as response:
            yield Stream(response)

    @contextmanager
    def ask_raw(self, path: str, **body: Any) -> Iterator[socket.socket]:
        """Send a request over a socket of its own, closed after the block."""
        with closing(open_raw(self.port)) as client:
            client.sendall(post_bytes(path, json.dumps(body).encode()))
            yield client

    def signal(self, number: int, *, group: bool = False) -> None:
        """Send a signal to the server, or to its whole process group."""
        if group:
            os.killpg(self.process.pid, number)
        else:
            self.process.send_signal(number)

    def wait(self, timeout_s: float = END_S) -> int:
        """Wait for the end and return the exit code."""
        return self.process.wait(timeout_s)

    def stop(self) -> int:
        """Stop in order and return the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return self.wait()

    def kill(self) -> None:
        """End at once whatever still runs."""
        self._http.close()
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(END_S)

    def _listens(self) -> bool:
        if self.process.poll() is not None:
            raise StartFailed(
                f"exit code {self.process.returncode}: {self.banner}{self.log}"
            )
        # The last line of the banner is a request to try, or a next step.
        if _URL.search(self.banner) is None or not self.banner.endswith("\n"):
            return False
        url = _URL.findall(self.banner)[0]
        with suppress(httpx.TransportError):
            return self._http.get(url + "/health").status_code == 200
        return False


GREEDY = {"temperature": 0, "repeat_penalty": 1}


class Stream:
    """The events of an answer, as the bytes say them."""

    def __init__(self, response: httpx.Response) -> None:
        self.response = response
        self._lines = response.iter_lines()

    def __iter__(self) -> Iterator[tuple[str, Any]]:
        """Yield (event name, parsed data); `[DONE]` stays text."""
        name = "message"
        for line in self._lines:
            if line.startswith("event: "):
                name = line.removeprefix("event: ")
            elif line.startswith("data: "):
                data = line.removeprefix("data: ")
                yield name, data if data == "[DONE]" else json.loads(data)
                name = "message"

    def read(self) -> None:
        """Read the body of an answer that is no stream."""
        self.response.read()


def texts_of(events: Sequence[tuple[str, Any]]) -> str:
    """Join the text of all choices numbered 0 of a stream."""
    return "".join(
        choice.get("text") or choice.get("delta", {}).get("content") or ""
        for name, data in events
        if name == "message" and data != "[DONE]"
        for choice in data["choices"]
        if choice["index"] == 0
    )


def is_worker(process: psutil.Process) -> bool:
    """Tell whether a process is a worker of some server."""
    with suppress(psutil.NoSuchProcess, psutil.ZombieProcess):
        return _WORKER in process.cmdline() and process.status() != psutil.STATUS_ZOMBIE
    return False


def lives(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that nobody waited for does not."""
    with suppress(psutil.NoSuchProcess):
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    return False


def free_port() -> int:
    """Find a port that nobody listens on."""
    with closing(socket.create_server(("127.0.0.1", 0))) as listener:
        return int(listener.getsockname()[1])


def run_serve(
    folder: Path, *arguments: str | Path, home: Path | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `cloister serve` where it is expected to end by itself."""
    return subprocess.run(
        [sys.executable, "-m", "server", "serve", *arguments],
        capture_output=True,
        check=False,
        cwd=folder,
        env=make_environment(home or folder / "home", PYTHONPATH=str(ROOT)),
        text=True,
        timeout=START_S,
    )
