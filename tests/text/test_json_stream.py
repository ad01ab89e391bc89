"""JSON is copied as it is written, up to its last bracket."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.json_stream import (
    copy_brackets,
    copy_embedded,
    read_string,
    skip_value,
)
from server.text.parser_cursor import Cursor, NoCall, Steps

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner)
    ),
    max_leaves=12,
)


def drive(cursor: Cursor, steps: Steps[object], text: str) -> tuple[bool, str]:
    """Feed text; return whether the grammar came to its end, and the rest."""
    try:
        next(steps)
    except StopIteration:
        return True, text
    for index, character in enumerate(text):
        if cursor.advance(steps, character):
            return True, "".join(cursor.returned) + text[index + 1 :]
    return False, ""


def copy(text: str, end: str = "") -> tuple[str, bool, str]:
    cursor, written = Cursor(), []
    cursor.character = text[0]
    steps = copy_brackets(cursor, written.append, end)
    is_over, rest = drive(cursor, steps, text[1:])
    return "".join(written), is_over, rest


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=4), VALUES), st.booleans())
def test_an_object_is_copied_and_nothing_after_it(members, ascii_only) -> None:
    text = json.dumps(members, ensure_ascii=ascii_only)
    assert (text, True, '}"x') == copy(text + '}"x')


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(st.text(max_size=4), VALUES), st.integers(0, 3))
def test_an_object_inside_a_string_is_copied_out_of_it(members, n_spaces) -> None:
    inner = " " * n_spaces + json.dumps(members, ensure_ascii=False) + "\n"
    text = json.dumps(inner)
    cursor, written = Cursor(), []
    is_over, rest = drive(cursor, copy_embedded(cursor, written.append), text[1:] + ",")
    assert (members, True, ",") == (json.loads("".join(written)), is_over, rest)


def test_control_characters_in_strings_become_escapes() -> None:
    written, _, _ = copy('{"a\n": "\t\x00\\"\\\n"}')
    assert '{"a\\n": "\\t\\u0000\\"\\\\n"}' == written


def test_an_end_mark_ends_open_brackets_but_not_inside_a_string() -> None:
    assert ('{"a": "</x>", [<', True, "</x>b") == copy('{"a": "</x>", [<</x>b', "</x>")


def test_an_empty_string_stands_for_no_members() -> None:
    cursor, written = Cursor(), []
    assert (True, "") == drive(cursor, copy_embedded(cursor, written.append), '"')
    assert ["{}"] == written


@pytest.mark.parametrize("text", ["x", "[1]", "\\u0041"])
def test_another_string_is_no_object(text: str) -> None:
    cursor = Cursor()
    with pytest.raises(NoCall):
        drive(cursor, copy_embedded(cursor, len), text)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{\\"a\\": \\"\\ud83e\\udd8a\\"}', {"a": "🦊"}),
        ('{\\"a\\": \\"\\\\n\\u00e9\\/\\"}', {"a": "\né/"}),
        ('{\\"a\\": \\"\\uZ\\"}', {"a": "\ufffdZ"}),
    ],
)
def test_escapes_of_the_outer_string_are_undone(text: str, expected: object) -> None:
    cursor, written = Cursor(), []
    drive(cursor, copy_embedded(cursor, written.append), text + '"')
    assert expected == json.loads("".join(written))


def read(text: str, **options) -> bool:
    cursor = Cursor()
    return drive(cursor, read_string(cursor, **options), text)[0]


def test_a_string_is_read_up_to_its_limit() -> None:
    assert read('abc"', limit=3)
    with pytest.raises(NoCall):
        read('abcd"', limit=3)


def test_reading_ends_at_the_first_character_that_is_not_allowed() -> None:
    allowed = frozenset({"name", "nab"})
    assert not read("na", limit=9, allowed=allowed)
    assert read('nab"', limit=9, allowed=allowed)
    with pytest.raises(NoCall):
        read("nx", limit=9, allowed=allowed)
    with pytest.raises(NoCall):
        read('na"', limit=9, allowed=allowed)


def test_a_malformed_escape_is_no_string() -> None:
    with pytest.raises(NoCall):
        read('a\\x"', limit=9)


@pytest.mark.parametrize(
    ("text", "value", "rest"),
    [
        ('{"a": [1]},', "", ","),
        ('"a\\"b",', 'a"b', ","),
        ("12.5e3}", "12.5e3", "}"),
        ("null ", "null", " "),
        ('"\\x",', "", ","),
    ],
)
def test_a_value_is_skipped(text: str, value: str, rest: str) -> None:
    cursor, found = Cursor(), []
    cursor.character = text[0]

    def steps() -> Steps[None]:
        found.append((yield from skip_value(cursor)))

    assert (True, rest) == drive(cursor, steps(), text[1:])
    assert [value] == found


def test_a_comma_is_no_value() -> None:
    cursor = Cursor()
    cursor.character = ","
    with pytest.raises(NoCall):
        next(skip_value(cursor))
