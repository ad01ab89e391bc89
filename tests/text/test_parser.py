"""Numbers, ids and marks: what the parts of the parser promise by themselves."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.parser import MAX_HELD_SPACE, Parser, skip_space
from server.text.parser_calls import draw_id, split_id
from server.text.parser_cursor import MAX_HELD_CHARACTERS
from server.text.parser_events import Answer, Thought, ThoughtBegan
from server.text.parser_marks import MarkScanner
from tests.text.reader_formats import FORMATS, TOOLS
from tests.text.reader_run import hear, make_reader

HERMES = FORMATS["hermes"]


def test_events_count_characters_of_the_whole_output() -> None:
    parser = Parser(HERMES, TOOLS)
    events = parser.feed("\n<think>\nab </think>\n c<think>d")
    assert [ThoughtBegan(), Thought(9, "ab")] == events[:2]
    pieces = [Answer(22, "c"), Answer(23, "<think>"), Answer(30, "d")]
    assert pieces == events[2:]
    assert [] == parser.finish()


def test_text_that_comes_back_tells_where_it_stood() -> None:
    parser = Parser(HERMES, TOOLS)
    events = parser.feed("a\n<tool_call>\nno <tool")
    events += parser.finish()
    assert "".join(event.text for event in events) == "a\n<tool_call>\nno <tool"
    place = 0
    for event in events:
        assert place == event.begin
        place += len(event.text)


def test_fresh_ids_differ_and_have_nine_letters_or_digits() -> None:
    ids = {draw_id() for _ in range(1000)}
    assert 1000 == len(ids)
    assert all(len(text) == 9 and text.isalnum() and text.isascii() for text in ids)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("functions.a.b:12", ("a.b", "functions.a.b:12")),
        ("a:0", ("a", "a:0")),
        ("functions.a", ("a", "")),
        ("a", ("a", "")),
    ],
)
def test_names_are_taken_out_of_ids(text: str, expected: tuple[str, str]) -> None:
    assert expected == split_id(text)


def test_a_call_is_not_held_for_ever() -> None:
    text = '<tool_call>{"arguments": "{' + "x" * (MAX_HELD_CHARACTERS + 100)
    reader = make_reader(HERMES)
    shown = reader.feed(text.encode(), None).parts
    assert text == shown[0].text


def test_white_space_is_not_held_for_ever() -> None:
    reader = make_reader(HERMES)
    space = b" " * (MAX_HELD_SPACE + 1)
    assert space.decode() == reader.feed(space, None).parts[0].text
    assert b"a" + space == reader.feed(b"a" + space, None).parts[0].text.encode()
    reader = make_reader(HERMES, inside_thought=True)
    assert b"a" + space == reader.feed(b"a" + space, None).parts[0].text.encode()


def test_many_calls_are_numbered() -> None:
    heard = hear(HERMES, '<tool_call>{"name": "f"}</tool_call>' * 500, 50)
    assert 500 == len({call_id for _, call_id, _ in heard.calls})


def test_space_is_skipped() -> None:
    assert [3, 3, 0] == [
        skip_space(*p) for p in ((" \r\n", 0), (" \n\ta", 1), ("a", 0))
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.text("abc", max_size=30),
    st.lists(st.text("abc", min_size=1, max_size=4), max_size=3).map(tuple),
    st.integers(1, 9),
)
def test_marks_are_found_where_they_are_complete_first(
    text: str, marks: tuple[str, ...], size: int
) -> None:
    found, left, begin = [], text, 0
    for end in range(1, len(text) + 1):
        complete = [mark for mark in marks if text[begin:end].endswith(mark)]
        if complete:
            mark = max(complete, key=len)
            found += [text[begin : end - len(mark)], mark]
            left, begin = text[end:], end
    scanner, seen, shown = MarkScanner(marks), [], ""
    for at in range(0, len(text), size):
        piece, place = text[at : at + size], 0
        while place < len(piece):
            more, mark, place = scanner.scan(piece, place)
            shown += more
            if mark:
                seen += [shown, mark]
                shown = ""
    assert (found, left) == (seen, shown + scanner.held)
