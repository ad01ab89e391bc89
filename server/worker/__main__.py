"""Run a worker: `python -m server.worker --fd N`, started by the API process.

The descriptor is one end of a socket pair; commands come in, reports go out.
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

from server.worker.session import Session

_PR_SET_PDEATHSIG = 1  # Source: linux/prctl.h


def main() -> None:
    """Parse the arguments and serve one model until told to stop."""
    parser = argparse.ArgumentParser(prog="cloister-worker")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--verbose", action="store_true")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    faulthandler.enable()
    # Native code prints to descriptor 1; nothing may read that as a protocol.
    os.dup2(2, 1)
    # Ctrl-C reaches the whole process group; stopping is the server's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _die_with_parent()
    with socket.socket(fileno=arguments.fd) as channel:
        Session(channel, verbose=arguments.verbose).run()
    # Skip interpreter teardown: native threads may still hold the libraries.
    sys.stderr.flush()
    os._exit(0)


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
