"""An answer is cut to the range that was asked for, wherever it is split."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from model_store.hub_errors import HubUnreachable, WrongBytes
from model_store.ranges import check_range, cut_out, read_retry_after


def split(content, lengths):
    pieces = []
    for length in lengths:
        pieces.append(content[:length])
        content = content[length:]
    return [*pieces, content]


@given(
    content=st.binary(min_size=1, max_size=200),
    lengths=st.lists(st.integers(0, 50), max_size=8),
    data=st.data(),
)
def test_any_split_gives_the_same_bytes(content, lengths, data):
    skip = data.draw(st.integers(0, len(content) - 1))
    n_bytes = len(content) - skip
    if skip:  # a whole file may go on behind what was asked for
        n_bytes = data.draw(st.integers(1, n_bytes))
    pieces = list(
        cut_out(split(content, lengths), subject="f", skip=skip, n_bytes=n_bytes)
    )
    assert content[skip : skip + n_bytes] == b"".join(pieces)
    assert b"" not in pieces


def test_too_few_bytes_are_an_error_after_those_that_came():
    came = []
    with pytest.raises(HubUnreachable, match="ended 2 bytes too early"):
        came.extend(cut_out([b"ab", b"c"], subject="f", skip=0, n_bytes=5))
    assert [b"ab", b"c"] == came


def test_too_many_bytes_are_an_error():
    with pytest.raises(WrongBytes, match="more than the 2 bytes"):
        list(cut_out([b"ab", b"c"], subject="f", skip=0, n_bytes=2))


def test_a_range_of_unknown_total_is_taken_and_a_whole_file_is_skipped_into():
    head = {"content-range": "bytes 5-9/*"}
    assert 0 == check_range(206, head, subject="f", start=5, size_bytes=10)
    assert 5 == check_range(200, {}, subject="f", start=5, size_bytes=10)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("120", 120.0),
        (" 0 ", 0.0),
        ("Thu, 01 Jan 1970 00:01:40 GMT", 90.0),
        ("Thu, 01 Jan 1970 00:00:05 GMT", 0.0),
        ("-5", None),
        ("soon", None),
        ("", None),
        ("9" * 40, None),
    ],
)
def test_retry_after_is_seconds_or_a_date(text, seconds):
    assert seconds == read_retry_after(text, now_s=10.0)
