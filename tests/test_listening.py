"""`server.listening`: a socket that is bound, and one that listens."""

import asyncio
import socket
import stat

import pytest

from server.listening import (
    StartError,
    address_of,
    bind,
    describe_endpoint,
    listen,
    remove_unix_socket,
)


@pytest.fixture
def tcp():
    with bind("127.0.0.1", 0) as listener:
        yield listener


def test_a_bound_socket_accepts_nobody_before_it_listens(tcp):
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(tcp.getsockname(), timeout=5)
    listen(tcp)
    socket.create_connection(tcp.getsockname(), timeout=5).close()


def test_what_is_sent_on_its_connections_leaves_at_once(tcp):
    # Otherwise each answer of two parts waits some 40 ms for the client's system.
    found = []

    async def look(_, writer):
        accepted = writer.get_extra_info("socket")
        found.append(accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY))
        writer.close()

    async def connect_once():
        async with await asyncio.start_server(look, sock=tcp):
            reader, writer = await asyncio.open_connection(*tcp.getsockname())
            await reader.read()
            writer.close()
            await writer.wait_closed()

    asyncio.run(connect_once())
    assert [1] == found


def test_a_taken_port_is_named(tcp):
    listen(tcp)
    port = tcp.getsockname()[1]
    with pytest.raises(StartError, match=f"port {port} on 127.0.0.1 is in use"):
        bind("127.0.0.1", port)


def test_an_endpoint_is_told_for_people(tcp, tmp_path):
    port = tcp.getsockname()[1]
    endpoint = describe_endpoint(tcp, tls=False)
    assert f"http://127.0.0.1:{port}" == endpoint.shown == endpoint.url
    assert f"curl https://127.0.0.1:{port}" == describe_endpoint(tcp, tls=True).curl
    path = tmp_path / "s"
    with bind("ignored", 0, path) as listener:
        shown = describe_endpoint(listener, tls=False)
    assert f"the Unix socket {path}" == shown.shown
    assert f"curl --unix-socket {path} http://localhost" == shown.curl


def test_a_unix_socket_is_this_users_alone_from_the_first_moment(tmp_path):
    path = tmp_path / "s"
    with bind("127.0.0.1", 0, path) as listener:
        assert 0o600 == stat.S_IMODE(path.stat().st_mode)
        assert address_of(listener) is None
        with pytest.raises(StartError, match="Choose a path of at most 100"):
            bind("", 0, tmp_path / ("x" * 200))
    remove_unix_socket(path)
    assert not path.exists()
    remove_unix_socket(path)
    remove_unix_socket(None)


def test_no_file_that_is_no_socket_is_removed(tmp_path):
    path = tmp_path / "s"
    path.write_text("precious", encoding="utf-8")
    with pytest.raises(StartError, match="exists and is no socket"):
        bind("", 0, path)
    assert "precious" == path.read_text(encoding="utf-8")


def test_a_dead_socket_is_replaced_and_a_live_one_is_not(tmp_path):
    path = tmp_path / "s"
    bind("", 0, path).close()
    with bind("", 0, path) as listener:
        listen(listener)
        with pytest.raises(StartError, match="another program listens"):
            bind("", 0, path)
