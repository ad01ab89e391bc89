"""Run a worker: `python -m server.worker --fd N`, started by the API process.

The descriptor is one end of a socket pair; commands come in, reports go out.
The process is sealed before anything else: before the engine or numpy, which
start threads, and before a byte of the model is read.
Two threads: this one loads the model and then runs the loop; the command
thread reads, renders templates and tokenizes. When the other end closes, for
whatever reason, the process ends at once, so no worker outlives its server.
"""

import argparse
import ctypes
import faulthandler
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable

from server.seal.apply import seal_worker
from server.seal.attempts import Attempt
from server.seal.level import SealError

_PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h


def main() -> None:
    """Parse the arguments and serve one model until told to stop."""
    parser = argparse.ArgumentParser(prog="cloister-worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--seal", choices=("required", "best", "off"), default="off")
    parser.add_argument("--read", action="append", default=[], type=os.fsencode)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    faulthandler.enable()
    # Native code prints to descriptor 1; nothing may read that as a protocol.
    os.dup2(2, 1)
    # Ctrl-C reaches the whole process group; stopping is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    outbox = _Outbox()
    try:
        layers = seal_worker(
            arguments.seal, arguments.read, outbox.put, keep=(arguments.fd,)
        )
    except (OSError, SealError) as error:
        sys.exit(f"the worker is not sealed and does not start: {error}")
    from server.worker.session import Session  # noqa: PLC0415 - starts threads

    with socket.socket(fileno=arguments.fd) as channel:
        session = Session(channel, verbose=arguments.verbose, seal=layers)
        outbox.open(session.send)
        session.run()
    # Skip interpreter teardown: native threads may still hold the libraries.
    sys.stderr.flush()
    os._exit(0)


class _Outbox:
    """Keeps what was blocked until there is somebody to tell."""

    def __init__(self) -> None:
        self._kept: list[Attempt] = []
        self._send: Callable[[Attempt], None] = self._kept.append

    def put(self, attempt: Attempt) -> None:
        """Report an attempt, now or later."""
        self._send(attempt)

    def open(self, send: Callable[[Attempt], None]) -> None:
        """Report what was kept, and everything else from now on."""
        self._send = send
        for attempt in self._kept:
            send(attempt)


def _die_with_parent() -> None:
    """Ask Linux to kill this process when the server's process is gone.

    The end of the socket says the same, on every system; this also works
    while the command thread cannot run.
    """
    if sys.platform == "linux":
        libc = ctypes.CDLL(None)
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


if __name__ == "__main__":
    main()
