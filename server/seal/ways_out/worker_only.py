"""Ways out that the server has by its purpose and a worker does not."""

import os
import signal
import socket
from pathlib import Path
from typing import Final

from server.seal.ways_out.way import Ground, Way, run_program

_WORKER: Final = ("worker",)


def _make_bound(ground: Ground) -> None:
    server = socket.socket()
    server.bind(("127.0.0.1", 0))
    ground.keep.append(server.fileno())
    ground.made["server"] = server


def _make_listening(ground: Ground) -> None:
    _make_bound(ground)
    ground.made["server"].listen()
    ground.made["server"].setblocking(False)  # noqa: FBT003 - its only form


def _listen(ground: Ground) -> None:
    ground.made["server"].listen()


def _accept(ground: Ground) -> None:
    try:
        ground.made["server"].accept()
    except BlockingIOError:
        return  # nobody is there, but it could be accepted


def _fork(_: Ground) -> None:
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitpid(pid, 0)


def _run(_: Ground) -> None:
    run_program(["true"])


def _replace(_: Ground) -> None:
    os.execv("/bin/true", ["true"])  # noqa: S606 - no shell is wanted


def _signal(ground: Ground) -> None:
    os.kill(ground.aim.sibling_pid, signal.SIGCONT)


def _make_secret(ground: Ground) -> None:
    (ground.folder / "secret").write_text("a token")


def _read_secret(ground: Ground) -> None:
    (ground.folder / "secret").read_text()


def _read_environment(ground: Ground) -> None:
    Path(f"/proc/{ground.aim.sibling_pid}/environ").read_bytes()


def _write_file(ground: Ground) -> None:
    (ground.folder / "written").write_text("for a program that reads it")


def _list_home(_: Ground) -> None:
    list(Path.home().iterdir())


def _pair(_: Ground) -> None:
    for each in socket.socketpair():
        each.close()


WAYS: Final = (
    Way(
        name="worker.listen",
        tries="listening for clients",
        before=_make_bound,
        go=_listen,
        roles=_WORKER,
    ),
    Way(
        name="worker.accept",
        tries="accepting clients",
        before=_make_listening,
        go=_accept,
        roles=_WORKER,
    ),
    Way(name="worker.pair", tries="a pair of sockets", go=_pair, roles=_WORKER),
    Way(name="worker.fork", tries="a process of its own", go=_fork, roles=_WORKER),
    Way(name="worker.run", tries="another program", go=_run, roles=_WORKER),
    Way(
        name="worker.execve",
        tries="another program in its place",
        go=_replace,
        roles=_WORKER,
    ),
    Way(
        name="worker.kill",
        tries="a signal to another process",
        go=_signal,
        roles=_WORKER,
    ),
    Way(
        name="worker.read",
        tries="reading a file that is not its model",
        before=_make_secret,
        go=_read_secret,
        roles=_WORKER,
        needs_landlock=True,
    ),
    Way(
        name="worker.environ",
        tries="reading another process's environment",
        go=_read_environment,
        roles=_WORKER,
        needs_landlock=True,
    ),
    Way(
        name="worker.write",
        tries="writing a file for others to act on",
        go=_write_file,
        roles=_WORKER,
        needs_landlock=True,
    ),
    Way(
        name="worker.home",
        tries="listing the home folder",
        go=_list_home,
        roles=_WORKER,
        needs_landlock=True,
    ),
)
