"""The proof's listeners hear what reaches them, and nothing else."""

import http.client
import socket
import sys

import pytest

from server.seal.listeners import Listeners


@pytest.fixture
def listeners(tmp_path):
    with Listeners(tmp_path) as opened:
        yield opened


def send(kind, listener):
    match kind:
        case "tcp":
            with socket.create_connection(("127.0.0.1", listener.port)) as client:
                client.sendall(b"word")
        case "udp":
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
                client.sendto(b"word", ("127.0.0.1", listener.port))
        case "unix" | "abstract":
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(("\0" if kind == "abstract" else "") + listener.path)
                client.sendall(b"word")
        case "unix-datagram":
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as client:
                client.sendto(b"word", listener.path)


@pytest.mark.parametrize("kind", ["tcp", "udp", "unix", "abstract", "unix-datagram"])
def test_each_kind_hears_its_own_and_others_stay_silent(listeners, kind):
    if kind == "abstract" and sys.platform != "linux":
        pytest.skip("abstract sockets are Linux's")
    listener, other = listeners.open(kind), listeners.open(kind)
    send(kind, listener)
    listeners.settle()
    assert 4 == listener.n_bytes
    assert listener.heard(count_connections=True)
    assert not other.heard(count_connections=True)


def test_a_connection_without_a_byte_counts_where_it_is_to_count(listeners):
    listener = listeners.open("tcp")
    socket.create_connection(("127.0.0.1", listener.port)).close()
    listeners.settle()
    assert listener.heard(count_connections=True)
    assert not listener.heard(count_connections=False)


def test_http_clients_get_an_answer(listeners):
    listener = listeners.open("tcp")
    connection = http.client.HTTPConnection("127.0.0.1", listener.port, timeout=5)
    connection.request("GET", "/")
    assert 204 == connection.getresponse().status
    connection.close()
