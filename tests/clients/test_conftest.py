"""The gate that the tests of clients stand behind."""

import sys

import pytest


# The events are raised by hand, so that nothing would leave without the gate either.
@pytest.mark.parametrize(
    ("event", "arguments", "told"),
    [
        ("socket.connect", (None, ("192.0.2.1", 80)), "('192.0.2.1', 80)"),
        ("socket.connect", (None, ("2001:db8::1", 80)), "('2001:db8::1', 80)"),
        ("socket.sendto", (None, ("192.0.2.1", 53)), "('192.0.2.1', 53)"),
        ("socket.getaddrinfo", ("api.example", 443, 0), "('api.example', 443)"),
    ],
)
def test_what_would_leave_the_machine_is_refused_and_told(gate, event, arguments, told):
    with pytest.raises(PermissionError) as refusal:
        sys.audit(event, *arguments)
    assert f"the tests do not leave the machine: {told}" == str(refusal.value)
    assert [f"{event} {told}"] == gate.refused
    gate.refused.clear()


@pytest.mark.parametrize("host", ["127.0.0.1", "::1", "localhost"])
def test_this_machine_can_be_reached(gate, host):
    sys.audit("socket.getaddrinfo", host, 80)
    sys.audit("socket.connect", None, (host, 80))
    assert [] == gate.refused


def test_the_server_is_reached_through_the_gate(gate, server):
    assert [] != server.tokenize("Who are you?")
    assert [] == gate.refused
