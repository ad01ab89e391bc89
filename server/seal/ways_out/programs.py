"""Ways out by other programs and processes."""

import ctypes
import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Final

from server.seal.ways_out.native_calls import connect_by_libc
from server.seal.ways_out.way import Ground, NotPossible, Way, fail, run_program

_EMPTY_PATH: Final = 0x1000  # AT_EMPTY_PATH; Source: linux/fcntl.h
_PYTHON: Final = """
import socket, sys
try:
    client = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)
    client.sendall(sys.argv[2].encode())
except OSError as error:
    sys.exit(f"{error}")
"""
_C: Final = """
#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
int get_out(int port, const char *word) {
    struct sockaddr_in to = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0) return errno;
    to.sin_family = AF_INET;
    to.sin_port = htons(port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to)) return errno;
    return send(fd, word, strlen(word), 0) < 0 ? errno : 0;
}
"""


def _python_arguments(ground: Ground) -> list[str]:
    return [
        *(sys.executable, "-I", "-S", "-c", _PYTHON),
        *(str(ground.aim.port), ground.aim.word),
    ]


def _python(ground: Ground) -> None:
    run_program(_python_arguments(ground))


def _curl(ground: Ground) -> None:
    _find("curl")
    run_program(["curl", "-sv", "--noproxy", "*", "--max-time", "2", ground.url])


def _find(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        raise NotPossible(f"there is no {name}")
    return path


def _bash(ground: Ground) -> None:
    port, word = ground.aim.port, ground.aim.word
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo {word} >&3"
    run_program([_find("bash"), "-c", script])


def _shell(ground: Ground) -> None:
    """A shell that starts the program, as a tool call or `os.system` would."""
    script = f'"$0" -sv --noproxy "*" --max-time 2 {ground.url}'
    run_program([_find("sh"), "-c", script, _find("curl")])


def _posix_spawn(ground: Ground) -> None:
    arguments = _python_arguments(ground)
    with Path(os.devnull).open("r+b") as null:
        said = ground.folder / "said"
        actions = [(os.POSIX_SPAWN_DUP2, null.fileno(), 1)]
        actions.append((os.POSIX_SPAWN_DUP2, null.fileno(), 2))
        del said
        pid = os.posix_spawn(
            sys.executable, arguments, dict(os.environ), file_actions=actions
        )
    _, status = os.waitpid(pid, 0)
    if os.waitstatus_to_exitcode(status):
        raise fail(errno.EACCES, "the spawned program could not connect")


def _setuid(ground: Ground) -> None:
    """A program with privileges of its own: it gets none and has the filter."""
    del ground
    ping = _find("ping")
    run_program([ping, "-n", "-c", "1", "-W", "1", "127.0.0.1"])


def _memory_program(ground: Ground) -> None:
    """Run a program that lies in no file; it takes this process's place."""
    bash = Path(_find("bash"))
    number = os.memfd_create("program")
    os.write(number, bash.read_bytes())
    port, word = ground.aim.port, ground.aim.word
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo {word} >&3"
    words = (ctypes.c_char_p * 4)(b"bash", b"-c", script.encode(), None)
    libc = ctypes.CDLL(None, use_errno=True)
    numbers = {"x86_64": 322, "aarch64": 281}
    call = numbers.get(os.uname().machine)
    if call is None:
        raise NotPossible("no number is known for execveat")
    libc.syscall(
        ctypes.c_long(call),
        ctypes.c_long(number),
        ctypes.c_char_p(b""),
        words,
        ctypes.c_void_p(None),
        ctypes.c_long(_EMPTY_PATH),
    )
    raise fail(ctypes.get_errno(), "execveat")


def _prepare_memory_program(ground: Ground) -> None:
    # Behind Landlock a worker could not read the program at all.
    bash = Path(_find("bash"))
    number = os.memfd_create("program")
    os.write(number, bash.read_bytes())
    ground.made["program"] = number


def _memory_program_made(ground: Ground) -> None:
    number: int = ground.made["program"]
    port, word = ground.aim.port, ground.aim.word
    script = f"exec 3<>/dev/tcp/127.0.0.1/{port} && echo {word} >&3"
    os.execve(number, ["bash", "-c", script], dict(os.environ))  # noqa: S606


def _compile(ground: Ground) -> None:
    library = ground.folder / "get_out.so"
    if not library.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise NotPossible("there is no C compiler")
        source = ground.folder / "get_out.c"
        source.write_text(_C)
        subprocess.run(
            [compiler, "-shared", "-fPIC", "-o", str(library), str(source)],
            check=True,
            capture_output=True,
        )
    ground.made["library"] = ctypes.CDLL(str(library))


def _c_extension(ground: Ground) -> None:
    number = ground.made["library"].get_out(ground.aim.port, ground.word)
    if number:
        raise fail(number, "the C extension")


def _thread(ground: Ground) -> None:
    _raise_what(_run_in_thread(ground))


def _run_in_thread(ground: Ground) -> list[BaseException]:
    errors: list[BaseException] = []

    def work() -> None:
        try:
            connect_by_libc(ground)
        except OSError as error:
            errors.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    return errors


def _raise_what(errors: list[BaseException]) -> None:
    if errors:
        raise errors[0]


def _start_old_thread(ground: Ground) -> None:
    start, end = threading.Event(), threading.Event()
    errors: list[BaseException] = []

    def work() -> None:
        start.wait()
        try:
            connect_by_libc(ground)
        except OSError as error:
            errors.append(error)
        end.set()

    threading.Thread(target=work, daemon=True).start()
    ground.made["thread"] = (start, end, errors)


def _old_thread(ground: Ground) -> None:
    thread: tuple[threading.Event, threading.Event, list[Any]] = ground.made["thread"]
    start, end, errors = thread
    start.set()
    end.wait()
    _raise_what(errors)


def _fork(ground: Ground) -> None:
    pid = os.fork()
    if pid == 0:
        try:
            connect_by_libc(ground)
        except OSError as error:
            os._exit(error.errno or 1)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    number = os.waitstatus_to_exitcode(status)
    if number:
        raise fail(number, "in the child")


WAYS: Final = (
    Way(
        name="program.python",
        tries="another Python, by subprocess",
        go=_python,
        listens="tcp",
    ),
    Way(
        name="program.curl",
        tries="curl, by subprocess",
        go=_curl,
        listens="tcp",
        blocked=("EACCES", "exit 7"),
    ),
    Way(
        name="program.shell",
        tries="a shell that starts curl",
        go=_shell,
        listens="tcp",
        blocked=("EACCES", "exit 7"),
    ),
    Way(
        name="program.bash",
        tries="/dev/tcp of bash",
        go=_bash,
        listens="tcp",
    ),
    Way(
        name="program.posix_spawn",
        tries="another Python, by os.posix_spawn",
        go=_posix_spawn,
        listens="tcp",
    ),
    Way(
        name="program.ping",
        tries="ping, with privileges of its own",
        go=_setuid,
        blocked=("EACCES", "exit 2", "exit 126"),
    ),
    Way(
        name="program.memory",
        tries="a program in memory, by execveat",
        go=_memory_program,
        listens="tcp",
        roles=("server", "filter"),
    ),
    Way(
        name="program.descriptor",
        tries="a program in memory, by its descriptor",
        before=_prepare_memory_program,
        go=_memory_program_made,
        listens="tcp",
        # libc tries by the path in /proc where execveat is not there.
        blocked=("EACCES", "ENOENT"),
    ),
    Way(
        name="c_extension",
        tries="a C library compiled for it",
        before=_compile,
        go=_c_extension,
        listens="tcp",
    ),
    Way(name="thread.new", tries="a new thread, by libc", go=_thread, listens="tcp"),
    Way(
        name="thread.old",
        tries="a thread that was there before the seal, by libc",
        before=_start_old_thread,
        go=_old_thread,
        listens="tcp",
    ),
    Way(name="fork", tries="a child process, by libc", go=_fork, listens="tcp"),
)
