"""Bounded reading: positions, limits and texts."""

import io
import struct
from pathlib import Path

import pytest

from model_store.cursor import CHUNK_BYTES, Cursor
from model_store.errors import BadGguf

PATH = Path("m.gguf")


def cursor(content, limit=2**30):
    return Cursor(io.BytesIO(content), path=PATH, size_bytes=len(content), limit=limit)


def test_values_follow_each_other():
    content = struct.pack("<IQ", 7, 2**40) + struct.pack("<Q", 3) + b"abc"
    reader = cursor(content)
    assert reader.u32("a") == 7
    assert reader.u64("b") == 2**40
    assert reader.string("c", limit=3) == b"abc"
    assert reader.position == len(content)


def test_a_value_longer_than_the_buffer_is_read_whole():
    content = bytes(range(256)) * (CHUNK_BYTES // 128)
    reader = cursor(content)
    reader.skip(1, "start")
    assert reader.take(len(content) - 1, "rest") == content[1:]


def test_skipping_lands_inside_and_outside_the_buffer():
    content = bytes(10) + b"x" + bytes(3 * CHUNK_BYTES) + b"y"
    reader = cursor(content)
    reader.skip(10, "near")
    assert reader.take(1, "x") == b"x"
    reader.skip(3 * CHUNK_BYTES, "far")
    assert reader.take(1, "y") == b"y"


@pytest.mark.parametrize("move", [Cursor.take, Cursor.skip])
def test_nothing_passes_the_end_or_the_limit(move):
    with pytest.raises(BadGguf) as past_end:
        move(cursor(bytes(10)), 11, "it")
    assert past_end.value.reason == (
        "it would reach to byte 11, but the file ends at byte 10"
    )
    with pytest.raises(BadGguf) as past_limit:
        move(cursor(bytes(10), limit=5), 6, "it")
    assert past_limit.value.reason == (
        "it would reach to byte 6; a header may have at most 5 bytes"
    )


def test_no_strings_need_no_bytes():
    reader = cursor(b"")
    reader.skip_strings(0, "words", limit=8)
    assert reader.position == 0


@pytest.mark.parametrize("length", [0, 1, 7, CHUNK_BYTES - 9, CHUNK_BYTES, 10**6])
def test_strings_of_any_length_are_walked(length):
    words = [b"a", b"b" * length, b"", b"c" * 5]
    content = b"".join(struct.pack("<Q", len(word)) + word for word in words) + b"!"
    reader = cursor(content)
    reader.skip_strings(len(words), "words", limit=2**20)
    assert reader.take(1, "end") == b"!"


def test_a_too_long_string_is_refused_where_it_stands():
    content = struct.pack("<Q", 1) + b"a" + struct.pack("<Q", 2**63)
    with pytest.raises(BadGguf) as caught:
        cursor(content).skip_strings(2, "words", limit=2**20)
    assert caught.value.reason == (
        "words would take 9223372036854775808 bytes at byte 17; at most 1048576 are "
        "accepted"
    )


def test_a_name_must_be_text():
    assert cursor(b"").text("ä".encode(), "key 1") == "ä"
    with pytest.raises(BadGguf, match="key 1 is not valid UTF-8"):
        cursor(b"").text(b"\xe4", "key 1")
