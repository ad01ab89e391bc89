"""Progress on a terminal and in a log."""

import io

import pytest

from server.cli.progress import Bar, format_duration

MIB = 2**20


class Clock:
    def __init__(self):
        self.now_s = 100.0

    def __call__(self):
        return self.now_s


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_log_gets_a_line_now_and_then_and_one_at_the_end():
    stream, clock = io.StringIO(), Clock()
    with Bar("m.gguf", 40 * MIB, stream=stream, clock=clock) as bar:
        for _ in range(4):
            clock.now_s += 2
            bar.advance(10 * MIB)
    assert [
        "m.gguf:  75%, 30.0 MiB of 40.0 MiB, 5.0 MiB/s, 2 s left",
        "m.gguf: 100%, 40.0 MiB of 40.0 MiB, 5.0 MiB/s, in 8 s",
    ] == stream.getvalue().splitlines()


def test_a_terminal_gets_one_line_that_is_redrawn():
    stream, clock = Terminal(), Clock()
    with Bar("m", 4 * MIB, stream=stream, clock=clock) as bar:
        clock.now_s += 1
        bar.advance(MIB)
    drawn = stream.getvalue()
    assert (
        "\rm: [#####...............],  25%, 1.0 MiB of 4.0 MiB, 1.0 MiB/s, 3 s left"
        in drawn
    )
    assert (3, 1) == (drawn.count("\r"), drawn.count("\n"))
    assert drawn.endswith("\n")


def test_a_line_is_cut_to_the_terminal(monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    stream = Terminal()
    with Bar("m" * 50, 1, stream=stream):
        pass
    assert f"\r{'m' * 19}\x1b[K" in stream.getvalue()


def test_without_a_total_there_is_no_share():
    stream, clock = io.StringIO(), Clock()
    with Bar("m", None, stream=stream, clock=clock) as bar:
        clock.now_s += 4
        bar.advance(8 * MIB)
    assert "m: 8.0 MiB, 2.0 MiB/s, in 4 s\n" == stream.getvalue()


def test_nothing_to_do_is_all_done():
    stream, clock = io.StringIO(), Clock()
    with Bar("m", 0, stream=stream, clock=clock):
        pass
    assert "m: 100%, 0 bytes of 0 bytes, 0 bytes/s, in 0 s\n" == stream.getvalue()


def test_quiet_is_quiet_and_a_failure_claims_no_end():
    for stream in (Terminal(), io.StringIO()):
        with Bar("m", 5, quiet=True, stream=stream) as bar:
            bar.advance(5)
        assert "" == stream.getvalue()
    stream = io.StringIO()
    with pytest.raises(KeyError), Bar("m", 5, stream=stream):
        raise KeyError
    assert "" == stream.getvalue()


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [(0.4, "0 s"), (59.4, "59 s"), (60, "1 min 00 s"), (7_620, "2 h 07 min")],
)
def test_a_time_is_written_in_the_units_that_fit(seconds, expected):
    assert expected == format_duration(seconds)
