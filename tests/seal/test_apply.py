"""The whole seal, as the server and a worker put it on."""

import json

import pytest

from server.seal.apply import make_open, seal_server, seal_worker
from server.seal.landlock import find_abi
from server.seal.level import Level
from server.seal.limits import WORKER_FILES
from tests.seal.sealed_child import NEEDS_KERNEL, run_child

SERVER = """
import json, sys
from server.seal.apply import seal_server
from server.seal.level import Level
seal = seal_server(Level(sys.argv[1]))
"""


def test_off_does_nothing_and_says_so():
    seal = seal_server(Level.OFF)
    status = seal.status()
    assert (Level.OFF, None) == (status.level, status.installed_at)
    assert "off: nothing stops an outgoing connection" in status.meaning
    assert Level.OFF is make_open().level
    assert Level.OFF is seal_worker("off", (), print, keep=()).level


@NEEDS_KERNEL
def test_a_sealed_server_serves_starts_programs_and_reaches_nothing():
    out = run_child(
        """
import asyncio, socket, subprocess, sys
from server.seal.apply import seal_server
from server.seal.level import Level
listener = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(listener.getsockname())
listener.setblocking(False)
seal = seal_server(Level.KERNEL, (listener.fileno(), client.fileno()))

async def work():
    async def serve(reader, writer):
        data = await reader.readexactly(4)
        writer.writelines([data] * 1000 * 1000)
        await writer.drain()
        writer.close()
    server = await asyncio.start_server(serve, sock=listener)
    client.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_sendall(client, b"ping")
    n_bytes = 0
    while data := await loop.sock_recv(client, 1 << 20):
        n_bytes += len(data)
    program = await asyncio.create_subprocess_exec(sys.executable, "-c", "print(5)")
    print(n_bytes, await program.wait())
    try:
        await asyncio.open_connection("127.0.0.1", 9)
    except PermissionError as error:
        print("offline by policy" in str(error))

asyncio.run(work())
print(seal.status().blocked.counts)
""",
    )
    lines = [line for line in out.splitlines() if line != "5"]
    assert ["4000000 0", "True"] == lines[:2]
    assert "{'resolve': 1}" == lines[2] or "{'socket': 1}" == lines[2]


@NEEDS_KERNEL
def test_the_status_names_every_layer():
    out = run_child(
        SERVER + "import msgspec; print(msgspec.json.encode(seal.status()).decode())",
        "kernel",
    )
    status = json.loads(out)
    assert "kernel" == status["level"]
    assert status["layers"]["filter_instructions"] > 100
    assert status["installed_at"].endswith("Z")
    assert {"counts": {}, "last": []} == status["blocked"]


def test_the_weaker_level_holds_python_and_says_that_it_holds_no_more():
    out = run_child(
        SERVER
        + """
import socket, ctypes
try:
    socket.socket()
except PermissionError:
    print("Python is held")
number = ctypes.CDLL(None).socket(socket.AF_UNIX, 1, 0)
print("native code is not" if number >= 0 else "?")
print(seal.level.meaning)
""",
        "process",
    )
    expected = "process: Python code cannot connect; native code is not held"
    assert ["Python is held", "native code is not", expected] == out.splitlines()


@NEEDS_KERNEL
def test_attempts_are_logged_once_a_place():
    code = (
        SERVER
        + """
import io, logging, socket
kept = io.StringIO()
logging.basicConfig(stream=kept, level="INFO")
for _ in range(5):
    try:
        socket.create_connection(("127.0.0.1", 9))
    except PermissionError:
        pass
print(kept.getvalue().count("blocked, offline by policy"))
print(seal.status().blocked.counts["resolve"])
print(kept.getvalue())
"""
    )
    lines = run_child(code, "kernel").splitlines()
    assert ["1", "5"] == lines[:2]
    assert "__main__:12 tried to look up 127.0.0.1:9" in lines[2]


@NEEDS_KERNEL
def test_a_sealed_worker_reports_and_has_no_way_to_others():
    out = run_child(
        """
import ctypes, os, socket
from server.seal.apply import seal_worker
told = []
left, right = socket.socketpair()
keep = (left.fileno(), right.fileno())
layers = seal_worker("required", [], told.append, keep=keep)
left.sendall(b"report")
print(layers.level, right.recv(9))
for call in (socket.socket, os.fork, lambda: os.execv("/bin/true", ["true"]),
             lambda: os.kill(os.getppid(), 0), socket.socketpair):
    try:
        call()
        print("?")
    except PermissionError:
        print("denied")
print([(each.kind, each.process) for each in told])
"""
    )
    assert "kernel b'report'" == out.splitlines()[0]
    assert ["denied"] * 5 == out.splitlines()[1:6]
    assert "[('socket', 'worker')]" == out.splitlines()[6]


LIMITS = """
import os, resource
left, right = os.pipe()
os.set_inheritable(left, True)
{seal}
try:
    os.fstat(left)
    print("open")
except OSError:
    print("closed")
print(resource.getrlimit(resource.RLIMIT_CORE)[1] in (0, 1))
print(resource.getrlimit(resource.RLIMIT_NOFILE)[1])
"""


@NEEDS_KERNEL
def test_a_server_loses_what_came_with_it_and_dumps_no_memory():
    code = LIMITS.format(
        seal="from server.seal.apply import seal_server; "
        "from server.seal.level import Level; seal_server(Level.KERNEL)"
    )
    assert ["closed", "True"] == run_child(code).splitlines()[:2]


@NEEDS_KERNEL
def test_a_worker_does_so_too_and_may_open_few_files():
    code = LIMITS.format(
        seal="from server.seal.apply import seal_worker; "
        "seal_worker('required', [], print, keep=())"
    )
    lines = run_child(code).splitlines()
    assert ["closed", "True"] == lines[:2]
    assert int(lines[2]) <= WORKER_FILES


@NEEDS_KERNEL
@pytest.mark.skipif(not find_abi(), reason="this kernel has no Landlock")
def test_a_worker_can_read_its_model_and_no_other_file(tmp_path):
    for name in ("model", "other"):
        (tmp_path / name).write_text(name, encoding="utf-8")
    code = """
import os, sys
from server.seal.apply import seal_worker
mine, other = map(os.fsencode, sys.argv[1:])
print(seal_worker("required", [mine], print, keep=()).landlock_abi > 0)
print(open(mine).read())
for path in (other, os.path.dirname(other)):
    try:
        os.open(path, os.O_RDONLY)
        print("?")
    except PermissionError:
        print("denied")
"""
    out = run_child(code, tmp_path / "model", tmp_path / "other")
    assert ["True", "model", "denied", "denied"] == out.splitlines()


def test_a_worker_that_must_be_sealed_and_cannot_does_not_start():
    out = run_child(
        """
import sys
from server.seal.apply import seal_worker
from server.seal.level import SealError
sys.platform = "darwin"
try:
    seal_worker("required", [], print, keep=())
except SealError as error:
    print(error)
"""
    )
    assert "The worker cannot be sealed: this system (darwin) has no seccomp" in out


def test_asyncio_is_kept_from_what_the_filter_denies():
    out = run_child(
        """
from asyncio import selector_events
from server.seal.apply import avoid_sendmsg
avoid_sendmsg()
print(getattr(selector_events, "_HAS_SENDMSG", False))
"""
    )
    assert "False" == out
