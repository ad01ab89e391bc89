"""Blocked attempts are counted each, and told once a place."""

from server.seal.attempts import (
    KEPT_ATTEMPTS,
    MAX_ADDRESS_CHARS,
    Attempt,
    AttemptLog,
)


def attempt(**changes):
    values = {
        "kind": "connect",
        "call": "socket.connect",
        "address": "192.0.2.1:80",
        "module": "m",
        "line": 7,
    }
    return Attempt(**(values | changes))


def test_each_is_counted_and_each_place_told_once():
    told = []
    log = AttemptLog(told.append)
    for _ in range(3):
        log.record(attempt())
    log.record(attempt(line=8))
    log.record(attempt(kind="resolve", call="socket.getaddrinfo"))
    assert {"connect": 4, "resolve": 1} == log.snapshot().counts
    assert [7, 8, 7] == [each.line for each in told]


def test_the_last_ones_are_kept():
    log = AttemptLog(lambda _: None)
    for line in range(KEPT_ATTEMPTS + 5):
        log.record(attempt(line=line))
    lines = [each.line for each in log.snapshot().last]
    assert list(range(5, KEPT_ATTEMPTS + 5)) == lines


def test_a_worker_can_neither_fill_the_counts_nor_write_at_length():
    log = AttemptLog(lambda _: None)
    for number in range(50):
        log.record(
            attempt(kind=f"kind {number}", address="a" * 10_000, module="m" * 999)
        )
    assert {"other": 50} == log.snapshot().counts
    last = log.snapshot().last[-1]
    assert MAX_ADDRESS_CHARS + 1 == len(last.address)
    assert MAX_ADDRESS_CHARS == len(last.module)


def test_a_flood_of_places_is_not_a_flood_of_lines():
    told = []
    log = AttemptLog(told.append)
    for line in range(3000):
        log.record(attempt(line=line))
    assert 1000 == len(told)
    assert {"connect": 3000} == log.snapshot().counts


def test_an_attempt_says_who_tried_what():
    assert "m:7 tried to connect to 192.0.2.1:80" == attempt().describe()
    assert "m:7 tried to open a socket of AF_INET" == (
        attempt(kind="socket", address="AF_INET").describe()
    )
