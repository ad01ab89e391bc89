"""Tries ways out: `python -m server.seal.prover`, asked line by line by the proof.

Every try is a process of its own, forked from this one: it prepares the way out,
seals itself as its role says, by the very functions that seal a server and a
worker, goes, and says through a pipe what happened. A try that is killed says
nothing; its signal does.
"""

import errno
import os
import select
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Final, Literal

import msgspec
from msgspec import Struct

from server.seal import landlock
from server.seal.apply import seal_server, seal_worker
from server.seal.attempts import Attempt
from server.seal.install import install_filter
from server.seal.level import Level
from server.seal.policy import FALLBACK_RULES, SERVER_RULES
from server.seal.ways_out.catalog import find_way
from server.seal.ways_out.way import Aim, Ground, NotPossible, Refused, Role, Way

TIMEOUT_S: Final = 8.0
"""How long one try may take."""

_EXIT_BROKEN: Final = 3
"""Of a try that broke before it could go: no result at all."""

_MAX_DETAIL: Final = 300
_MAX_CAUSES: Final = 12
_READ_BYTES: Final = 65_536

Outcome = Literal["done", "refused", "impossible", "killed", "silent", "stuck"]


class Question(Struct, frozen=True):
    """A way out to try, in a role."""

    way: str
    role: Role
    level: Level
    aim: Aim


class Answer(Struct, frozen=True):
    """What happened.

    Args:
        outcome: done = it went through; refused = `name` says by what;
            impossible = not on this machine; killed = by the signal `name`;
            silent = the process ended with exit code `name`; stuck = it took too
            long.
        name: An errno's, a signal's, or the start of another error.
        detail: For a person.
    """

    outcome: Outcome
    name: str = ""
    detail: str = ""


def main() -> None:
    """Answer questions until standard input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for line in sys.stdin.buffer:
        question = msgspec.json.decode(line, type=Question)
        answer = try_way(question)
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


def try_way(question: Question) -> Answer:
    """Try a way out in a process of its own."""
    way = find_way(question.way)
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(reader)
        _run_child(way, question, writer)
    os.close(writer)
    try:
        return _await_child(pid, reader)
    finally:
        os.close(reader)


def _run_child(way: Way, question: Question, writer: int) -> None:
    """Try it and leave; never returns."""
    exit_code = _EXIT_BROKEN
    try:
        # Programs that are started write there; nothing of it is an answer.
        null = os.open(os.devnull, os.O_RDWR)
        for number in (0, 1, 2):
            os.dup2(null, number)
        answer = _go(way, Ground(question.aim, question.role), question)
        os.write(writer, msgspec.json.encode(answer))
        exit_code = 0
    finally:
        os._exit(exit_code)


def _go(way: Way, ground: Ground, question: Question) -> Answer:
    if question.role == "worker" and way.needs_landlock and not landlock.find_abi():
        return Answer("impossible", detail="this kernel has no Landlock")
    try:
        if way.before is not None:
            way.before(ground)
    except (NotPossible, OSError) as error:
        return Answer("impossible", detail=f"it cannot be prepared: {error}")
    _seal(question, ground)
    try:
        way.go(ground)
    except NotPossible as error:
        return Answer("impossible", detail=str(error))
    except Exception as error:  # noqa: BLE001 - any error may be how it was refused
        name, detail = _name_error(error)
        return Answer("refused", name, detail[:_MAX_DETAIL])
    return Answer("done")


def _seal(question: Question, ground: Ground) -> None:
    match question.role:
        case "server":
            seal_server(question.level, ground.keep)
        case "worker":
            seal_worker("required", (), _forget, keep=ground.keep)
        case "filter":
            install_filter(SERVER_RULES)
            install_filter(FALLBACK_RULES, log=False)
        case "open":
            return


def _forget(_attempt: Attempt) -> None:
    """Take a report; the try's own result says the same."""


def _name_error(error: BaseException) -> tuple[str, str]:
    """Name what stopped a try: the errno that lies deepest, or the error."""
    for cause in reversed(list(_list_causes(error))):
        if isinstance(cause, OSError) and cause.errno is not None:
            return errno.errorcode.get(cause.errno, "errno ?"), str(cause)
    if isinstance(error, Refused):
        return str(error).partition(":")[0], str(error)
    return type(error).__name__, f"{type(error).__name__}: {error}"


def _list_causes(error: BaseException) -> Iterator[BaseException]:
    cause: BaseException | None = error
    for _ in range(_MAX_CAUSES):
        if cause is None:
            return
        yield cause
        cause = cause.__cause__ or cause.__context__


def _await_child(pid: int, reader: int) -> Answer:
    deadline_s = time.monotonic() + TIMEOUT_S
    data = b""
    while (left_s := deadline_s - time.monotonic()) > 0:
        if not select.select([reader], [], [], left_s)[0]:
            break
        piece = os.read(reader, _READ_BYTES)
        if not piece:
            return _read_answer(data, _reap(pid))
        data += piece
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _reap(pid)
    return Answer("stuck", detail=f"not over after {TIMEOUT_S:g} s")


def _reap(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _read_answer(data: bytes, exit_code: int) -> Answer:
    if data:
        return msgspec.json.decode(data, type=Answer)
    if exit_code < 0:
        name = signal.Signals(-exit_code).name
        return Answer("killed", name, f"ended by {name}")
    # Another program took the process's place, or it could not even report.
    return Answer("silent", str(exit_code), f"ended with exit code {exit_code}")


if __name__ == "__main__":
    main()
