"""Starts the child process of a worker, and the socket that leads to it."""

import asyncio
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec

import server
from server.core.errors import EngineFailed
from server.seal.attempts import Attempt
from server.seal.environment import select_worker_environment
from server.seal.layers import WorkerSeal

_PACKAGE_ROOT = Path(server.__file__).resolve().parent.parent


class Sealing(msgspec.Struct, frozen=True):
    """How a worker is sealed.

    Args:
        how: Whether the kernel's seal is required.
        files: What the worker may read of the user's: its model.
        on_blocked: Told of attempts that were blocked.
    """

    how: WorkerSeal = "off"
    files: tuple[bytes, ...] = ()
    on_blocked: Callable[[Attempt], None] | None = None


async def start_child(
    sealing: Sealing,
) -> tuple[asyncio.subprocess.Process, socket.socket]:
    """Start a worker with nothing loaded.

    Returns:
        The child, and our end of the socket pair.

    Raises:
        EngineFailed: The operating system refused a new process.
    """
    ours, theirs = socket.socketpair()
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-P",
            "-m",
            "server.worker",
            "--fd",
            str(theirs.fileno()),
            "--seal",
            sealing.how,
            *(part for path in sealing.files for part in (b"--read", path)),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            pass_fds=(theirs.fileno(),),
            env=_make_environment(),
        )
    except OSError as error:
        ours.close()
        raise EngineFailed(
            f"No worker process could be started: {error}. Free some processes "
            "or memory and try again."
        ) from error
    finally:
        theirs.close()
    return child, ours


def _make_environment() -> dict[str, str]:
    """Keep only what native code needs: a worker gets no secrets."""
    kept = select_worker_environment(os.environ)
    # The worker must run the same code as this process, installed or not.
    kept["PYTHONPATH"] = str(_PACKAGE_ROOT)
    kept["PYTHONNOUSERSITE"] = "1"
    # On an abort ggml would run a debugger, which may look for symbols online.
    kept["GGML_NO_BACKTRACE"] = "1"
    return kept
