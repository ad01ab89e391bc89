"""`server.setting_kinds`: what each kind of value takes, refuses and shows."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.setting_kinds import (
    Bytes,
    Choice,
    File,
    Folder,
    Folders,
    Seconds,
    Secret,
    Switch,
    SwitchOrWord,
    Text,
    WholeNumber,
    Words,
)

HERE = Path("/here")
SIZE = Bytes(2**10, 2**40, auto=True)
NUMBER = WholeNumber(0, 100, auto=True)
LEVEL = SwitchOrWord(off="off", on="kernel", words=("process",))


@pytest.mark.parametrize(
    ("kind", "raw", "expected"),
    [
        (Text(), " a ", "a"),
        (Choice(("info", "error")), "INFO", "info"),
        (NUMBER, "0", 0),
        (NUMBER, 100, 100),
        (NUMBER, "Auto", None),
        (Seconds(0, 100), "1.5", 1.5),
        (Seconds(0, 100), 2, 2.0),
        (SIZE, 2048, 2048),
        (SIZE, "2048", 2048),
        (SIZE, "1.5 GiB", 1_610_612_736),
        (SIZE, "128mib", 134_217_728),
        (SIZE, "auto", None),
        (Switch(default=True), "Off", False),
        (Switch(default=True), " 0 ", False),
        (Switch(default=True), False, False),
        (Switch(default=True), 0, False),
        (Switch(default=True), "no", False),
        (Switch(default=False), "yes", True),
        (Switch(default=False), True, True),
        (Switch(default=False), "TRUE", True),
        (LEVEL, "on", "kernel"),
        (LEVEL, "1", "kernel"),
        (LEVEL, True, "kernel"),
        (LEVEL, "Process", "process"),
        (LEVEL, "0", "off"),
        (LEVEL, False, "off"),
        (Folder(), "a", Path("/here/a")),
        (Folder(), "/a", Path("/a")),
        (Folders(), "a", (Path("/here/a"),)),
        (Folders(), ["a", "/b"], (Path("/here/a"), Path("/b"))),
    ],
)
def test_a_value_is_read(kind, raw, expected):
    assert expected == kind.parse(raw, HERE)


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Text(), " "),
        (Text(), 3),
        (Choice(("info",)), "inf"),
        (Choice(("info",)), 1),
        (LEVEL, "kernel"),
        (LEVEL, ""),
        (LEVEL, 2),
        (LEVEL, None),
        (Switch(default=True), "2"),
        (Switch(default=True), 2),
        (Switch(default=True), 1.0),
        (Switch(default=True), ""),
        (Switch(default=True), "maybe"),
        (NUMBER, "101"),
        (NUMBER, -1),
        (NUMBER, True),
        (NUMBER, 1.0),
        (NUMBER, "1_0"),
        (NUMBER, "٣"),
        (NUMBER, ""),
        (NUMBER, "9" * 5000),
        (WholeNumber(0, 100), "auto"),
        (Seconds(0, 100), "nan"),
        (Seconds(0, 100), float("inf")),
        (Seconds(0, 100), "-1"),
        (Seconds(0, 100), False),
        (SIZE, "1GB"),
        (SIZE, "1023"),
        (SIZE, "2TiB"),
        (SIZE, "GiB"),
        (Bytes(1, 10), "auto"),
        (Folder(), ""),
        (Folder(), "a\0b"),
        (Folder(), "~nobody-has-this-name/x"),
        (Folders(), []),
        (Folders(), [3]),
    ],
)
def test_a_value_is_refused(kind, raw):
    with pytest.raises(ValueError, match=r"^$"):
        kind.parse(raw, HERE)


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (SIZE, 134_217_728, "128MiB"),
        (SIZE, 1025, "1025"),
        (SIZE, None, "auto"),
        (NUMBER, None, "auto"),
        (Seconds(0, 10_000), 3600.0, "3600"),
        (Seconds(0, 10_000), 0.5, "0.5"),
    ],
)
def test_a_value_is_shown_as_a_user_would_write_it(kind, value, expected):
    assert expected == kind.format(value)


@given(st.integers(2**10, 2**40))
def test_a_size_survives_being_shown_and_read(size):
    assert size == SIZE.parse(SIZE.format(size), HERE)


def test_what_is_expected_of_a_size_says_both_bounds():
    assert (
        "a size from 1KiB to 1TiB such as 512MiB, 1.5GiB or plain bytes, or auto"
        == SIZE.expected
    )


@pytest.mark.parametrize("raw", ["", "a b", "a\nb", "ä", "a" * 513, 1, None, ["a"]])
def test_what_cannot_be_sent_in_a_header_is_no_secret(raw):
    with pytest.raises(ValueError, match=r"^$"):
        Secret().parse(raw, HERE)


def test_a_secret_is_read_without_blanks_around_and_never_shown():
    assert "sk-lm-a:b" == Secret().parse(" sk-lm-a:b\n", HERE)
    assert ("(secret)", "none") == (Secret().format("key"), Secret().format(None))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [("a", ("a",)), (["a", " b "], ("a", "b")), (("https://a:1",), ("https://a:1",))],
)
def test_words_are_one_or_a_list(raw, expected):
    assert expected == Words().parse(raw, HERE)


@pytest.mark.parametrize("raw", ["", "a b", ["a", ""], ["a", 1], 1, None])
def test_other_things_are_no_words(raw):
    with pytest.raises(ValueError, match=r"^$"):
        Words().parse(raw, HERE)


def test_a_file_is_a_path_that_starts_at_the_folder():
    assert Path("/here/a.pem") == File().parse("a.pem", HERE)
    assert "none" == File().format(None)


def test_a_level_is_written_as_it_is_asked_for():
    words = [LEVEL.format(value) for value in ("off", "kernel", "process")]
    assert ["off", "on", "process"] == words
    assert "[process]" == LEVEL.metavar
    assert "on, off or process" == LEVEL.expected
