"""The audit hook: what it blocks, what it leaves, and what it tells."""

import socket
from contextlib import closing

import pytest

from server.seal.audit import OfflineByPolicy, make_hook
from tests.seal.sealed_child import run_child


@pytest.fixture
def told():
    return []


@pytest.fixture
def hook(told):
    return make_hook(told.append, "server")


@pytest.mark.parametrize(
    ("event", "args", "kind", "address"),
    [
        ("socket.connect", (None, ("192.0.2.1", 80)), "connect", "192.0.2.1:80"),
        (
            "socket.connect",
            (None, ("2001:db8::1", 80, 0, 0)),
            "connect",
            "2001:db8::1:80",
        ),
        ("socket.connect", (None, "/run/x.sock"), "connect", "/run/x.sock"),
        ("socket.connect", (None, b"\0name"), "connect", "?name"),
        ("socket.bind", (None, ("", 1)), "bind", ":1"),
        ("socket.sendto", (None, ("192.0.2.1", 53)), "send", "192.0.2.1:53"),
        ("socket.sendmsg", (None, ("192.0.2.1", 53)), "send", "192.0.2.1:53"),
        (
            "socket.getaddrinfo",
            ("example.org", 443, 0, 0, 0),
            "resolve",
            "example.org:443",
        ),
        ("socket.gethostbyname", ("example.org",), "resolve", "example.org"),
        (
            "urllib.Request",
            ("http://example.org/a", None, {}, "GET"),
            "fetch",
            "http://example.org/a",
        ),
        ("http.client.connect", (None, "example.org", 80), "connect", "example.org:80"),
        ("socket.__new__", (None, 2, 1, 0), "socket", "AF_INET"),
    ],
)
def test_what_reaches_for_a_network_is_blocked_and_told(
    hook, told, event, args, kind, address
):
    with pytest.raises(OfflineByPolicy, match="offline by policy: ") as caught:
        hook(event, args)
    (attempt,) = told
    assert (kind, event, address) == (attempt.kind, attempt.call, attempt.address)
    assert __name__.rpartition(".")[2] == attempt.module.rpartition(".")[2]
    assert isinstance(caught.value, PermissionError)
    assert "cloister import FILE" in str(caught.value)


@pytest.mark.parametrize(
    ("event", "args"),
    [
        ("open", ("/etc/hosts", "r", 0)),
        ("subprocess.Popen", ("curl", ["curl"], None, None)),
        ("urllib.Request", ("file:///etc/hosts", None, {}, "GET")),
        ("urllib.Request", ("data:,x", None, {}, "GET")),
        ("socket.sendmsg", (None, None)),
        ("socket.gethostname", ()),
        ("socket.__new__", (None, -1, -1, -1)),
    ],
)
def test_what_does_not_is_left_alone(hook, told, event, args):
    hook(event, args)
    assert [] == told


def test_a_long_address_is_cut(hook, told):
    with pytest.raises(OfflineByPolicy):
        hook("socket.gethostbyname", ("a" * 5000,))
    assert 121 == len(told[0].address)


def test_a_new_object_for_a_descriptor_that_exists_is_no_new_socket():
    out = run_child(
        """
import socket
from server.seal.audit import install_hook
server = socket.create_server(("127.0.0.1", 0))
client = socket.create_connection(server.getsockname())
told = []
install_hook(told.append)
peer, _ = server.accept()
client.sendall(b"in")
print(peer.recv(9))
left, right = socket.socketpair()
left.sendall(b"pair")
print(right.recv(9))
copy = socket.socket(fileno=left.detach())
print(copy.family.name, told)
try:
    socket.socket()
except PermissionError as error:
    print(error.strerror.partition(".")[0], [each.kind for each in told])
"""
    )
    line = "offline by policy: __main__:17 tried to open a socket of AF_INET ['socket']"
    assert ["b'in'", "b'pair'", "AF_UNIX []", line] == out.splitlines()


def test_the_place_is_outside_the_standard_library():
    out = run_child(
        """
import urllib.request
from server.seal.audit import install_hook
told = []
install_hook(told.append)
def fetch():
    urllib.request.urlopen("http://127.0.0.1:9/")
try:
    fetch()
except PermissionError:
    print(told[0].module, told[0].line)
"""
    )
    assert "__main__ 7" == out


def test_the_answer_comes_at_once():
    out = run_child(
        """
import socket, time
from server.seal.audit import install_hook
install_hook(lambda attempt: None)
begin_s = time.monotonic()
for _ in range(100):
    try:
        socket.create_connection(("localhost", 9), timeout=30)
    except PermissionError:
        pass
print(time.monotonic() - begin_s < 1)
"""
    )
    assert "True" == out


def test_without_the_hook_the_same_code_connects():
    # So the tests above can fail.
    with closing(socket.create_server(("127.0.0.1", 0))) as server:
        socket.create_connection(server.getsockname()).close()
