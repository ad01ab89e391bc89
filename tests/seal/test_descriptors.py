"""Inherited descriptors are closed, and every open one is explained."""

import os
import socket
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest

from server.seal.descriptors import describe_process
from tests.seal.sealed_child import ROOT, run_child

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/fd").exists(), reason="needs Linux's /proc"
)


def test_what_came_with_the_process_is_closed_and_what_it_made_stays():
    reader, writer = os.pipe()
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        client = socket.create_connection(server.getsockname())
        given = (reader, client.fileno())
        out = run_child(
            """
import os, socket, sys
from server.seal.descriptors import close_inherited, list_numbers
own = os.open("/dev/null", os.O_RDONLY)
pair = socket.socketpair()
listener = socket.create_server(("127.0.0.1", 0))
datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
fresh = {own, listener.fileno(), *(each.fileno() for each in pair)}
number = datagram.detach()
closed = close_inherited()
left = set(list_numbers())
print(fresh <= left, number in left, {int(n) for n in sys.argv[1:]} & left, len(closed))
""",
            *given,
            pass_fds=given,
        )
        client.close()
    os.close(reader)
    os.close(writer)
    assert out.startswith("True False set() ")
    assert int(out.split()[-1]) >= 3


def test_what_is_named_is_kept():
    reader, writer = os.pipe()
    out = run_child(
        """
import sys
from server.seal.descriptors import close_inherited, list_numbers
close_inherited(keep=(int(sys.argv[1]),))
print(int(sys.argv[1]) in list_numbers())
""",
        reader,
        pass_fds=(reader,),
    )
    os.close(reader)
    os.close(writer)
    assert "True" == out


def test_a_network_connection_as_output_is_refused():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        client = socket.create_connection(server.getsockname())
        code = "from server.seal.descriptors import close_inherited; close_inherited()"
        done = subprocess.run(
            [sys.executable, "-c", code],
            stdout=client,
            stderr=subprocess.PIPE,
            check=False,
            cwd=ROOT,
            text=True,
        )
        client.close()
    assert 1 == done.returncode
    assert "The standard output of this process is a network connection" in done.stderr


def test_a_network_connection_as_input_is_replaced():
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        client = socket.create_connection(server.getsockname())
        out = run_child(
            """
import os
from server.seal.descriptors import close_inherited
close_inherited()
print(os.readlink("/proc/self/fd/0"))
""",
            stdin=client,
        )
        client.close()
    assert "/dev/null" == out


def test_every_kind_of_socket_is_told_apart(tmp_path):
    made = []
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        outside = socket.create_connection(server.getsockname())
        inside, _ = server.accept()
        left, right = socket.socketpair()
        datagram = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        datagram.bind(("127.0.0.1", 0))
        local = socket.socket(socket.AF_UNIX)
        local.bind(str(tmp_path / "socket"))
        local.listen()
        made = [outside, inside, left, right, datagram, local]
        found = {each.number: each for each in describe_process("self")}
        expected = {
            server: ("the socket that clients connect to", True),
            inside: ("the connection of a client", True),
            outside: ("a connection that was made from here", False),
            left: (
                "one of a pair: a worker's channel, or the event loop's wake-up",
                True,
            ),
            datagram: ("a socket for udp", False),
            local: ("the socket that clients connect to", True),
        }
        actual = {
            each: (found[each.fileno()].why, found[each.fileno()].is_expected)
            for each in expected
        }
    for each in made:
        each.close()
    assert expected == actual
