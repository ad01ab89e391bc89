"""A server under measurement, and a client that costs it little.

Server and client share the machine's cores, so the client reads Server-Sent
Events from the bare socket and stamps each piece of text, no more.
"""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 15.0
HTTP_OK = 200
BUSY_LOAD = 1.0


def free_port() -> int:
    """Return a port of the loopback address that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def warn_if_busy() -> None:
    """Say on stderr if other programs use the cores that are to be measured."""
    load = os.getloadavg()[0]
    if load > BUSY_LOAD:
        sys.stderr.write(
            f"Other programs keep the machine busy (load {load:.1f}): these numbers "
            "will not hold. Measure again when it is quiet.\n"
        )


def exit_on_terminate() -> None:
    """Turn SIGTERM into an exit, so that `with` ends the server first."""
    signal.signal(signal.SIGTERM, lambda number, _frame: sys.exit(128 + number))


class Server:
    """A server process; started by entering `with`, ended by leaving it.

    Args:
        command: The command line; `{port}` is replaced by a free port.
        env: Added to the environment.
    """

    def __init__(self, command: Sequence[str], env: dict[str, str]) -> None:
        self.port = free_port()
        self._command = [part.replace("{port}", str(self.port)) for part in command]
        self._env = os.environ | env
        self._process: subprocess.Popen[bytes] | None = None
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - closed in __exit__

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command,
            env=self._env,
            stdin=subprocess.DEVNULL,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            self._wait_until_healthy(self._process)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_exc: object) -> None:
        if self._process is not None:
            # Its workers end by themselves; whoever is left goes with the group.
            self._process.terminate()
            try:
                self._process.wait(STOP_TIMEOUT_S)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
        self._log.close()

    def _wait_until_healthy(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while time.monotonic() < deadline:
            if process.poll() is not None:
                raise RuntimeError(
                    f"{self._command[0]} ended with status {process.returncode} "
                    f"instead of listening:\n{self.log_tail()}"
                )
            try:
                if asyncio.run(get(self.port, "/health"))[0] == HTTP_OK:
                    return
            except OSError:
                pass
            time.sleep(0.1)
        raise RuntimeError(
            f"{self._command[0]} was not healthy after {START_TIMEOUT_S:.0f} s:\n"
            f"{self.log_tail()}"
        )

    def log_tail(self) -> str:
        """Return the end of what the server printed, and whether it has ended."""
        size = os.fstat(self._log.fileno()).st_size
        tail = os.pread(self._log.fileno(), 4000, max(0, size - 4000))
        status = self._process.poll() if self._process is not None else None
        end = "still running" if status is None else f"ended with status {status}"
        return f"{tail.decode(errors='replace')}\n[the server: {end}]"


def cloister(
    model: Path, folder: Path, *, parallel: int, n_ctx: int, n_threads: int
) -> Server:
    """Describe our server with one model, linked into `folder`."""
    home = folder / "bench" / "model"
    home.mkdir(parents=True, exist_ok=True)
    link = home / model.name
    if not link.exists():
        link.symlink_to(model.resolve())
    program = Path(__file__).resolve().parent.parent / ".venv/bin/cloister"
    command = [str(program), "serve", "--port", "{port}", "--models-dir", str(folder)]
    command += ["--parallel", str(parallel), "--context-length", str(n_ctx)]
    command += ["--threads", str(n_threads)]
    return Server(command, {"CLOISTER_HOME": str(folder / "home")})


@dataclass
class Stream:
    """One streamed answer while it arrives. Times are of `perf_counter`."""

    started: float = 0.0
    ended: float = 0.0
    stamps: list[float] = field(default_factory=list)
    usage: dict[str, Any] = field(default_factory=dict)

    @property
    def ttft_s(self) -> float:
        """Seconds from the request to the first text."""
        return self.stamps[0] - self.started

    @property
    def n_tokens(self) -> int:
        """Tokens generated, as the server counted them."""
        return int(self.usage["completion_tokens"])

    def tokens_between(self, start: float, end: float) -> float:
        """Estimate the tokens of a span of time.

        Each stamp counts for as many tokens as a stamp of this stream did on
        average: one, unless characters were split over tokens.
        """
        n = sum(start < stamp <= end for stamp in self.stamps)
        return n * self.n_tokens / len(self.stamps)


async def get(port: int, path: str) -> tuple[int, bytes]:
    """Fetch a small resource: status and body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Connection: close\r\n\r\n".encode()
        )
        status, is_chunked = await _read_head(reader)
        return status, b"".join([part async for part in _body(reader, is_chunked)])
    finally:
        writer.close()


async def complete(port: int, body: dict[str, Any], stream: Stream) -> None:
    """Stream `/v1/completions` and fill `stream` as the answer arrives.

    Raises:
        RuntimeError: The server answered with an error, or the stream broke off.
    """
    payload = json.dumps(
        body | {"stream": True, "stream_options": {"include_usage": True}}
    ).encode()
    stream.started = time.perf_counter()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            f"POST /v1/completions HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n"
            "Content-Type: application/json\r\nConnection: close\r\n"
            f"Content-Length: {len(payload)}\r\n\r\n".encode()
            + payload
        )
        status, is_chunked = await _read_head(reader)
        parts = _body(reader, is_chunked)
        if status != HTTP_OK:
            text = b"".join([part async for part in parts])
            raise RuntimeError(f"The server answered {status}: {text[:500]!r}")
        await _read_events(parts, stream)
    finally:
        writer.close()
    stream.ended = time.perf_counter()
    if not stream.usage:
        raise RuntimeError("The stream ended without a usage chunk.")


async def _read_events(parts: AsyncIterator[bytes], stream: Stream) -> None:
    rest = b""
    async for part in parts:
        now = time.perf_counter()
        *lines, rest = (rest + part).split(b"\n")
        for line in lines:
            data = line.removeprefix(b"data:").strip()
            if data == line.strip() or not data.startswith(b"{"):
                continue
            event = json.loads(data)
            if "error" in event:
                raise RuntimeError(f"The stream failed: {event['error']}")
            stream.usage = event.get("usage") or stream.usage
            if any(choice.get("text") for choice in event.get("choices", ())):
                stream.stamps.append(now)


async def _read_head(reader: asyncio.StreamReader) -> tuple[int, bool]:
    """Read status line and headers: status, and whether the body is chunked."""
    head = await reader.readuntil(b"\r\n\r\n")
    status = int(head.split(b" ", 2)[1])
    return status, b"transfer-encoding: chunked" in head.lower()


async def _body(
    reader: asyncio.StreamReader,
    is_chunked: bool,  # noqa: FBT001 - private
) -> AsyncIterator[bytes]:
    """Yield the parts of a body in the order of their arrival."""
    if not is_chunked:
        while part := await reader.read(65536):
            yield part
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        yield (await reader.readexactly(size + 2))[:-2]
