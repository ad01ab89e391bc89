"""Puts the seal on: a server's process, or a worker's.

Order: environment, inherited descriptors, limits, capabilities, Landlock, the
audit hook, the filter. The filter comes last, since it denies what the others
need; after it nothing can be undone.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Final

from msgspec import Struct

from server.seal import landlock
from server.seal.attempts import Attempt, AttemptLog, Snapshot
from server.seal.audit import install_hook
from server.seal.capabilities import drop_capabilities
from server.seal.descriptors import close_inherited
from server.seal.environment import pin_environment
from server.seal.install import NEXT_STEP, explain_absence, install_filter
from server.seal.layers import Layers, WorkerSeal
from server.seal.level import Level, SealError
from server.seal.limits import limit_core, limit_files
from server.seal.policy import FALLBACK_RULES, SERVER_RULES, WORKER_RULES

_log = logging.getLogger(__name__)


class SealStatus(Struct, frozen=True):
    """The seal of the server as it stands.

    `installed_at` is ISO 8601 in UTC; None where there is no seal.
    """

    level: Level
    meaning: str
    installed_at: str | None
    layers: Layers
    blocked: Snapshot


class Seal:
    """The seal of this server; asked for its state, told of attempts.

    Args:
        layers: What is in force.
        log: Counts the attempts.
        installed_at: When it was put on.
    """

    def __init__(
        self, layers: Layers, log: AttemptLog, installed_at: str | None
    ) -> None:
        self.layers = layers
        self.log = log
        self._installed_at = installed_at

    @property
    def level(self) -> Level:
        """The level in force."""
        return self.layers.level

    def status(self) -> SealStatus:
        """Describe the seal and what it blocked."""
        return SealStatus(
            self.level,
            self.level.meaning,
            self._installed_at,
            self.layers,
            self.log.snapshot(),
        )


def check_wanted(level: Level) -> None:
    """Check that a level is to be had on this machine.

    Raises:
        SealError: It is not; the text names the weaker level.
    """
    if level is Level.KERNEL and (reason := explain_absence()) is not None:
        raise SealError(
            f"--offline cannot be kept on this machine: {reason}. {NEXT_STEP}"
        )


def make_open() -> Seal:
    """Make the seal of a server that runs without one."""
    return Seal(Layers(Level.OFF), AttemptLog(_log_attempt), None)


def seal_server(level: Level, keep: Collection[int] = ()) -> Seal:
    """Seal this process, its threads and all its children, for good.

    Args:
        level: `process` or `kernel`; nothing is done for `off`.
        keep: Descriptors that stay, such as those of the listening sockets.

    Raises:
        SealError: The level is not to be had.
    """
    if level is Level.OFF:
        return make_open()
    check_wanted(level)
    log = AttemptLog(_log_attempt)
    pin_environment(os.environ)
    closed = close_inherited(keep)
    for what in closed:
        _log.warning("closed an inherited descriptor: %s", what)
    limit_core()
    avoid_sendmsg()
    is_kernel = level is Level.KERNEL
    missing: list[str] = []
    capabilities, abi = _restrict_server(missing) if is_kernel else ((), 0)
    install_hook(log.record)
    n_instructions = 0
    if is_kernel:
        n_instructions = install_filter(SERVER_RULES)
        install_filter(FALLBACK_RULES, log=False)
    layers = Layers(level, n_instructions, abi, capabilities, closed, tuple(missing))
    return Seal(layers, log, _now())


def seal_worker(
    how: WorkerSeal,
    files: Sequence[bytes],
    report: Callable[[Attempt], None],
    *,
    keep: Collection[int],
) -> Layers:
    """Seal a worker's process; call it before any other thread runs.

    Args:
        how: What must be had.
        files: The model's files, all that is left to read of the user's.
        report: Told of attempts that the audit hook blocked.
        keep: The descriptor of the channel.

    Raises:
        SealError: It is required, and the machine does not have it.
    """
    if how == "off":
        return Layers(Level.OFF)
    absence = explain_absence()
    if absence is not None and how == "required":
        raise SealError(f"The worker cannot be sealed: {absence}. {NEXT_STEP}")
    closed = close_inherited(keep)
    limit_core()
    limit_files()
    install_hook(report, "worker")
    if absence is not None:
        return Layers(Level.PROCESS, closed=closed, missing=(absence,))
    missing: list[str] = []
    try:
        capabilities = drop_capabilities()
    except OSError as error:
        capabilities = ()
        missing.append(f"capabilities could not be dropped ({error})")
    abi = _restrict_worker(files, missing)
    n_instructions = install_filter(WORKER_RULES)
    install_filter(FALLBACK_RULES, log=False)
    return Layers(
        Level.KERNEL, n_instructions, abi, capabilities, closed, tuple(missing)
    )


_NO_LANDLOCK: Final = "Landlock: this kernel has none"
_PACKAGE_ROOT: Final = Path(__file__).resolve().parents[2]
_TRANSPORT: Final = "_SelectorSocketTransport"


def avoid_sendmsg() -> None:
    """Let asyncio send by `send` alone; since Python 3.12 it would use sendmsg.

    The filter denies sendmsg, because it cannot see the address in it. asyncio
    has the other way for systems that lack the limit of sendmsg's parts.

    Source: Lib/asyncio/selector_events.py.

    Raises:
        SealError: This Python has no such switch.
    """
    # A worker has no event loop and need not wait for the import.
    from asyncio import selector_events as module  # noqa: PLC0415

    if hasattr(module, "_HAS_SENDMSG"):
        module._HAS_SENDMSG = False  # noqa: SLF001 - there is no public way
    elif hasattr(getattr(module, _TRANSPORT, None), "_write_sendmsg"):
        raise SealError(
            "This version of Python sends in a way that the seal denies: "
            f"{sys.version.split()[0]} is not known to this program. Use Python 3.11 "
            f"to 3.14. {NEXT_STEP}"
        )


def _restrict_worker(files: Sequence[bytes], missing: list[str]) -> int:
    """Leave a worker its model; returns the version of Landlock in use, or 0.

    Raises:
        OSError: The kernel has Landlock and refused it: then the worker must not run.
    """
    abi = landlock.find_abi()
    if abi:
        landlock.restrict_files(abi, landlock.grant_worker(files, _PACKAGE_ROOT))
    else:
        missing.append(_NO_LANDLOCK)
    return abi


def _restrict_server(missing: list[str]) -> tuple[tuple[str, ...], int]:
    """Drop capabilities and TCP; what cannot be done is noted by name."""
    capabilities: tuple[str, ...] = ()
    try:
        capabilities = drop_capabilities()
    except OSError as error:
        missing.append(f"capabilities could not be dropped ({error})")
    abi = landlock.find_abi()
    if not landlock.restrict_network(abi):
        missing.append(
            f"Landlock: its version {abi} knows no networks" if abi else _NO_LANDLOCK
        )
        abi = 0
    return capabilities, abi


def _log_attempt(attempt: Attempt) -> None:
    _log.warning(
        "blocked, offline by policy: in %s, %s (this place is logged once)",
        attempt.process,
        attempt.describe(),
    )


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
