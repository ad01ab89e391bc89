"""The proof: every way out is tried, and every listener stays silent.

The proof's own process is not sealed: it holds the listeners and a sibling, a
process outside the seal that ways out try to use. The tries are made by the
prover, each in a sealed process of its own.

A way out counts as blocked only if it was refused by what is expected (an errno,
a signal) and nothing was heard; any other end is a failure of the proof, because
a try that breaks for another reason shows nothing. The control leaves the seal
out and must get through, so each check is known to be able to fail; it runs only
where there is no network but loopback.
"""

import fcntl
import os
import secrets
import socket
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, Literal

import msgspec
from msgspec import Struct

import server
from server.seal.level import Level
from server.seal.listeners import Listener, Listeners
from server.seal.prover import Answer, Question
from server.seal.ways_out.catalog import WAYS
from server.seal.ways_out.way import Aim, Role, Way

Verdict = Literal["blocked", "got out", "unclear", "not tried", "failed"]
MIN_WAYS: Final = 40
"""Fewer ways out than that are no proof."""

SEALED_ROLES: Final[tuple[Role, ...]] = ("server", "worker", "filter")
_ROOT: Final = Path(server.__file__).resolve().parent.parent
_SIBLING: Final = """
import ctypes, signal, socket, sys
ctypes.CDLL(None).prctl(0x59616d61, ctypes.c_ulong(-1 & 2**64 - 1), 0, 0, 0)
print(socket.socket(socket.AF_INET, socket.SOCK_DGRAM).detach(), flush=True)
sys.stdin.read()
"""
# Source: linux/sockios.h, linux/if.h.
_SET_FLAGS: Final = 0x8914
_IS_UP: Final = 1
_OK: Final = frozenset({"blocked", "not tried"})


class Row(Struct, frozen=True):
    """A try and its verdict.

    `result` is an errno's or a signal's name; `heard` what its listener got.
    """

    way: str
    role: Role
    tries: str
    verdict: Verdict
    result: str
    detail: str
    listener: str
    heard: bool

    @property
    def is_ok(self) -> bool:
        """Whether it is as it must be."""
        return self.verdict in _OK


class NotIsolated(Exception):
    """The control would run where there is a network."""


@dataclass(frozen=True, slots=True)
class _Try:
    way: Way
    role: Role
    answer: Answer
    listener: Listener | None


def prove(
    level: Level,
    tell: Callable[[Row], None],
    roles: tuple[Role, ...] = SEALED_ROLES,
) -> tuple[Row, ...]:
    """Try every way out in every sealed role.

    Args:
        level: How the server's role is sealed. Below `kernel` only that role is
            tried, and native code gets out: the report says so.
        tell: Told of each row.
        roles: The roles to try.
    """
    ways = WAYS
    if level is not Level.KERNEL:
        roles = ("server",)
        ways = tuple(way for way in WAYS if not way.needs_kernel)
    tries = [(way, role) for role in roles for way in ways if role in way.roles]
    return _run(tries, level, tell)


def control(tell: Callable[[Row], None]) -> tuple[Row, ...]:
    """Try every way out once without a seal; each must get through.

    Raises:
        NotIsolated: This process has a network interface besides loopback.
    """
    interfaces = [name for _, name in socket.if_nameindex()]
    if interfaces != ["lo"]:
        raise NotIsolated(
            "the control leaves the seal out, so it runs only in a network namespace "
            f"that has nothing but lo; here are {', '.join(interfaces)}. Run it by: "
            "unshare --user --map-root-user --net --mount"
        )
    _raise_loopback()
    return _run([(way, "open") for way in WAYS], Level.OFF, tell)


def _raise_loopback() -> None:
    """Switch lo on, which a new namespace has switched off."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("=16sh22x", b"lo", _IS_UP)
        fcntl.ioctl(probe, _SET_FLAGS, request)


def _run(
    tries: list[tuple[Way, Role]], level: Level, tell: Callable[[Row], None]
) -> tuple[Row, ...]:
    with tempfile.TemporaryDirectory(prefix="cloister-proof-") as name:
        folder = Path(name)
        with (
            Listeners(folder) as listeners,
            _start_sibling() as (sibling_pid, sibling_fd),
            _start_prover(folder) as ask,
        ):
            done = []
            for way, role in tries:
                aim = Aim(
                    folder=name,
                    word=f"w{secrets.token_hex(6)}",
                    sibling_pid=sibling_pid,
                    sibling_fd=sibling_fd,
                )
                one = _try(way, role, level, aim, listeners, ask)
                tell(_judge(one))
                done.append(one)
            listeners.settle()
            # Judged again: what came late counts.
            return tuple(_judge(one) for one in done)


Ask = Callable[[Question], Answer]


def _try(
    way: Way, role: Role, level: Level, aim: Aim, listeners: Listeners, ask: Ask
) -> _Try:
    listener = None
    if way.listens is not None:
        try:
            listener = listeners.open(way.listens)
        except OSError as error:
            reason = f"no {way.listens} listener on this machine: {error.strerror}"
            return _Try(way, role, Answer("impossible", detail=reason), None)
        aim = msgspec.structs.replace(
            aim, port=listener.port, path=listener.path, netlink=listener.netlink
        )
    answer = ask(Question(way.name, role, level, aim))
    listeners.settle()
    return _Try(way, role, answer, listener)


def _judge(one: _Try) -> Row:
    way, answer, listener = one.way, one.answer, one.listener
    heard = listener is not None and listener.heard(
        count_connections=not way.connects_before
    )
    return Row(
        way=way.name,
        role=one.role,
        tries=way.tries,
        verdict=judge(way, one.role, answer, heard=heard),
        result=answer.name or answer.outcome,
        detail=answer.detail,
        listener=way.listens or "",
        heard=heard,
    )


def judge(way: Way, role: Role, answer: Answer, *, heard: bool) -> Verdict:
    """Decide what a try shows.

    Returns:
        For a sealed role `blocked`, `got out`, `unclear` or `not tried`; for the
        control `got out`, which it must, `failed` or `not tried`.
    """
    if heard:
        return "got out"
    if answer.outcome == "impossible":
        return "not tried"
    if role == "open":
        # A program that took the try's place has ended well.
        is_over = answer.outcome == "done" or (answer.outcome, answer.name) == (
            "silent",
            "0",
        )
        return "got out" if is_over and not way.listens else "failed"
    if answer.outcome == "done":
        return "got out"
    if answer.outcome in {"refused", "killed"} and answer.name in way.blocked:
        return "blocked"
    return "unclear"


@contextmanager
def _start_sibling() -> Iterator[tuple[int, int]]:
    """Start a process outside the seal that holds a UDP socket."""
    sibling = subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", _SIBLING],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    try:
        yield sibling.pid, int(_pipe(sibling.stdout).readline())
    finally:
        sibling.kill()
        sibling.communicate()


@contextmanager
def _start_prover(folder: Path) -> Iterator[Ask]:
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("CLOISTER_", "HF_")) and "proxy" not in name.lower()
    }
    # Libraries write caches; they shall go with the folder.
    environment |= {"PYTHONPATH": str(_ROOT), "HF_HOME": str(folder / "hf")}
    prover = subprocess.Popen(
        [sys.executable, "-P", "-m", "server.seal.prover"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=environment,
    )

    def ask(question: Question) -> Answer:
        try:
            _pipe(prover.stdin).write(msgspec.json.encode(question) + b"\n")
            _pipe(prover.stdin).flush()
        except BrokenPipeError:
            return Answer("silent", "prover", "the prover itself has ended")
        line = _pipe(prover.stdout).readline()
        if not line:
            return Answer("silent", "prover", "the prover itself has ended")
        return msgspec.json.decode(line, type=Answer)

    try:
        yield ask
    finally:
        with suppress(BrokenPipeError):
            _pipe(prover.stdin).close()
        prover.wait()
        _pipe(prover.stdout).close()


def _pipe(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise ValueError("the process was started without this pipe")
    return stream
