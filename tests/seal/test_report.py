"""The report judges: what must be there, and what must not."""

import json

from server.seal.descriptors import Descriptor
from server.seal.level import Level
from server.seal.proof import MIN_WAYS, Row
from server.seal.report import (
    ProcessView,
    encode_report,
    format_report,
    make_report,
)


def row(number=0, verdict="blocked", **changes):
    values = {
        "way": f"way.{number}",
        "role": "server",
        "tries": "TCP",
        "verdict": verdict,
        "result": "EACCES",
        "detail": "denied",
        "listener": "tcp",
        "heard": False,
    }
    return Row(**(values | changes))


def view(**changes):
    values = {
        "pid": 7,
        "what": "server",
        "no_new_privileges": True,
        "seccomp": (2, 2),
        "n_filters": 2,
        "capabilities": "0",
        "descriptors": (Descriptor(0, "/dev/null", "standard input"),),
    }
    return ProcessView(**(values | changes))


ROWS = tuple(row(number) for number in range(MIN_WAYS))


def test_all_blocked_is_ok():
    report = make_report(Level.KERNEL, ROWS, [view()])
    assert report.ok
    assert MIN_WAYS == report.n_ways
    assert format_report(report).endswith(
        f"OK: every try was blocked, every listener silent ({MIN_WAYS} ways out; "
        f"tries: {MIN_WAYS} blocked)"
    )


def test_one_that_got_out_fails_and_is_named():
    leak = row(99, "got out", heard=True)
    report = make_report(Level.KERNEL, [*ROWS, leak], [view()])
    assert not report.ok
    assert "problem: way.99 (server): got out" in format_report(report)
    assert "HEARD" in format_report(report)


def test_one_that_is_unclear_fails():
    assert not make_report(Level.KERNEL, [*ROWS, row(99, "unclear")], []).ok


def test_one_that_could_not_be_tried_does_not_fail():
    assert make_report(Level.KERNEL, [*ROWS, row(99, "not tried")], []).ok


def test_too_few_ways_fail():
    report = make_report(Level.KERNEL, ROWS[1:], [])
    assert (f"only {MIN_WAYS - 1} ways out could be tried, {MIN_WAYS} are needed",) == (
        report.problems
    )


def test_a_server_that_is_not_sealed_as_it_should_be_fails():
    odd = Descriptor(9, "socket:[1]", "a socket for udp", is_expected=False)
    for changed in (
        {"seccomp": (2, 0)},
        {"no_new_privileges": False},
        {"descriptors": (odd,)},
    ):
        report = make_report(Level.KERNEL, ROWS, [view(**changed)])
        assert ("process 7 (server) is not sealed as it should be",) == report.problems
    assert "UNEXPECTED" in format_report(report)


def test_a_control_is_judged_the_other_way_round():
    out = tuple(row(number, "got out") for number in range(MIN_WAYS))
    assert make_report(Level.OFF, out, [], is_control=True).ok
    assert not make_report(Level.OFF, ROWS, [], is_control=True).ok


def test_the_json_holds_everything():
    document = json.loads(encode_report(make_report(Level.KERNEL, ROWS, [view()])))
    assert document["ok"] is True
    assert MIN_WAYS == len(document["rows"])
    assert "EACCES" == document["rows"][0]["result"]
    assert "standard input" == document["processes"][0]["descriptors"][0]["why"]
    assert document["not_covered"]
