"""Landlock, put on for real."""

import pytest

from server.seal.landlock import find_abi
from tests.seal.sealed_child import run_child

pytestmark = pytest.mark.skipif(find_abi() < 1, reason="this kernel has no Landlock")

RESTRICT = """
import os, sys
from pathlib import Path
from server.seal.landlock import find_abi, grant_worker, restrict_files
model, other = Path(sys.argv[1]), Path(sys.argv[2])
restrict_files(find_abi(), grant_worker([os.fsencode(model)], Path.cwd()))
def attempt(name, do):
    try:
        print(name, do())
    except PermissionError:
        print(name, "denied")
"""


def test_a_worker_reads_its_model_and_nothing_else_of_the_users(tmp_path):
    model, other = tmp_path / "model.gguf", tmp_path / "other.gguf"
    model.write_text("weights")
    other.write_text("secret")
    out = run_child(
        RESTRICT
        + """
attempt("model", model.read_text)
attempt("other", other.read_text)
attempt("folder", lambda: list(other.parent.iterdir()))
attempt("write", lambda: model.write_text("changed"))
attempt("make", lambda: (other.parent / "new").write_text("x"))
attempt("remove", other.unlink)
attempt("home", lambda: list(Path.home().iterdir()))
attempt("parent", lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes())
attempt("run", lambda: os.posix_spawn("/bin/true", ["true"], {}))
""",
        model,
        other,
    )
    denied = ("other", "folder", "write", "make", "remove", "home", "parent", "run")
    assert ["model weights", *(f"{what} denied" for what in denied)] == out.splitlines()
    assert "weights" == model.read_text()
    assert "secret" == other.read_text()


def test_a_worker_still_imports_and_starts_threads(tmp_path):
    model = tmp_path / "model.gguf"
    model.write_text("weights")
    out = run_child(
        RESTRICT
        + """
import numpy, threading, server.worker.session
threading.Thread(target=lambda: print(numpy.ones(3).sum())).start()
""",
        model,
        model,
    )
    assert "3.0" == out


def test_a_model_behind_a_link_is_read(tmp_path):
    model, link = tmp_path / "model.gguf", tmp_path / "link.gguf"
    model.write_text("weights")
    link.symlink_to(model)
    code = RESTRICT + 'attempt("model", model.read_text)'
    assert "model weights" == run_child(code, link, model)


@pytest.mark.skipif(find_abi() < 4, reason="this kernel's Landlock knows no networks")
def test_tcp_is_denied_to_sockets_that_are_there():
    out = run_child(
        """
import socket
from server.seal.landlock import find_abi, restrict_network
server = socket.create_server(("127.0.0.1", 0))
client = socket.socket()
print(restrict_network(find_abi()))
try:
    client.connect(server.getsockname())
except PermissionError:
    print("denied")
"""
    )
    assert ["True", "denied"] == out.splitlines()
