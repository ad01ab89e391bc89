"""`server.security.hosts`: which names a client may call the server by."""

import pytest

from server.security.errors import HostNotAllowed, InvalidHost
from server.security.hosts import Hosts, is_loopback, make_hosts, split_host


def check(hosts: Hosts, *values: str) -> str:
    headers = [(b"host", value.encode("latin-1")) for value in values]
    return hosts.check([(b"accept", b"*/*"), *headers])


@pytest.mark.parametrize(
    "host",
    [
        "localhost",
        "LocalHost:1234",
        "localhost.",
        "127.0.0.1:80",
        "[::1]",
        "[::1]:1234",
        "[0:0:0:0:0:0:0:1]:5",
        "localhost:",
    ],
)
def test_names_of_this_machine_are_taken(host):
    assert host.lower() == check(Hosts(), host)


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:1234",
        "localhost.evil.example",
        "127.0.0.1.evil.example",
        "127.0.0.2",
        "127.1",
        "2130706433",
        "0x7f.0.0.1",
        "192.168.0.7",
        "[::2]",
        "0.0.0.0",  # noqa: S104
        "sub.localhost",
    ],
)
def test_any_other_name_is_refused_with_what_to_do(host):
    name = split_host(host)[0]
    with pytest.raises(HostNotAllowed, match=f"--allowed-hosts {name}") as raised:
        check(Hosts(), host)
    assert (403, "host_not_allowed") == (
        raised.value.to_info().http_status,
        raised.value.to_info().code,
    )


@pytest.mark.parametrize(
    "host",
    [
        "",
        " ",
        "local host",
        "localhost/",
        "localhost/evil",
        "localhost?x",
        "localhost#x",
        "user@localhost",
        "localhost:1234@evil",
        "localhost:0",
        "localhost:65536",
        "localhost:123456",
        "localhost:1a",
        "localhost:1:2",
        "[::1",
        "::1",
        "[127.0.0.1]",
        "[localhost]",
        "localhost,evil",
        "a..b",
        "-a",
        "lo\xe9",
        "localhost\x00",
        "a" * 256,
    ],
)
def test_what_is_no_host_is_a_400(host):
    with pytest.raises(InvalidHost) as raised:
        check(Hosts(), host)
    assert 400 == raised.value.to_info().http_status


@pytest.mark.parametrize(
    ("values", "text"), [((), "no Host header"), (("localhost",) * 2, "2 Host headers")]
)
def test_there_must_be_exactly_one(values, text):
    with pytest.raises(InvalidHost, match=text):
        check(Hosts(), *values)


def test_the_bound_address_and_named_hosts_are_taken():
    hosts = make_hosts("192.168.0.7", ["Server.Example.ORG.", "[2001:DB8::0:1]"])
    for host in ("192.168.0.7:1234", "server.example.org", "[2001:db8::1]:8"):
        assert host == check(hosts, host)
    with pytest.raises(HostNotAllowed):
        check(hosts, "192.168.0.8")


@pytest.mark.parametrize("bound", ["0.0.0.0", "::"])  # noqa: S104
def test_bound_to_all_addresses_any_address_is_taken_but_no_name(bound):
    hosts = make_hosts(bound, [])
    for host in ("10.1.2.3:1234", "[2001:db8::1]"):
        assert host == check(hosts, host)
    with pytest.raises(HostNotAllowed):
        check(hosts, "rebinding.example")


@pytest.mark.parametrize("entry", ["", "a b", "host:80", "http://host", "*", "a/b"])
def test_an_entry_that_is_no_host_stops_the_start(entry):
    with pytest.raises(ValueError, match="^" + entry.replace("*", r"\*") + "$"):
        make_hosts("127.0.0.1", [entry])


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("fe80::1%eth0", False),
        ("0.0.0.0", False),  # noqa: S104
        ("::", False),
        ("10.0.0.1", False),
        ("localhost", False),
    ],
)
def test_loopback_addresses_are_told_apart(address, expected):
    assert expected == is_loopback(address)
