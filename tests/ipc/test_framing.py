"""Frames come out of the stream as they went in, however it was cut."""

import struct
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.ipc import framing
from server.ipc.framing import (
    HEADER_BYTES,
    MAX_FRAME_BYTES,
    FrameDecoder,
    FrameTooLarge,
    encode_frame,
)

PAYLOADS = st.lists(st.binary(max_size=50), max_size=10)


@given(PAYLOADS, st.lists(st.integers(0, 600), max_size=20))
def test_any_split_gives_the_same_payloads(payloads, cuts):
    stream = b"".join(map(encode_frame, payloads))
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    decoder = FrameDecoder()
    decoded = []
    for begin, end in pairwise(edges):
        decoded += decoder.feed(stream[begin:end])
    assert payloads == decoded


@given(PAYLOADS)
def test_single_bytes_give_the_same_payloads(payloads):
    decoder = FrameDecoder()
    stream = b"".join(map(encode_frame, payloads))
    fed = [decoder.feed(bytes([byte])) for byte in stream]
    assert payloads == [payload for each in fed for payload in each]


@given(PAYLOADS, st.binary(min_size=1, max_size=40), st.data())
def test_an_incomplete_frame_is_held_back(payloads, last, data):
    n_kept = data.draw(st.integers(1, HEADER_BYTES + len(last) - 1))
    frame = encode_frame(last)
    decoder = FrameDecoder()
    stream = b"".join(map(encode_frame, payloads)) + frame[:n_kept]
    assert payloads == decoder.feed(stream)
    assert [last] == decoder.feed(frame[n_kept:])


def test_the_length_is_little_endian_and_comes_first():
    assert b"\x03\x00\x00\x00abc" == encode_frame(b"abc")


def test_an_announcement_over_the_limit_is_refused_at_once():
    """Nothing of such a frame needs to arrive, and no memory is taken."""
    size = MAX_FRAME_BYTES + 1
    with pytest.raises(FrameTooLarge) as caught:
        FrameDecoder().feed(struct.pack("<I", size))
    assert size == caught.value.size_bytes
    assert "a frame of 268435457 bytes exceeds the limit of 268435456" == str(
        caught.value
    )


def test_the_largest_announcement_is_still_waited_for():
    assert [] == FrameDecoder().feed(struct.pack("<I", MAX_FRAME_BYTES))


def test_a_payload_over_the_limit_is_not_sent(monkeypatch):
    monkeypatch.setattr(framing, "MAX_FRAME_BYTES", 8)
    assert 12 == len(encode_frame(b"x" * 8))
    with pytest.raises(
        FrameTooLarge, match="a frame of 9 bytes exceeds the limit of 8"
    ):
        encode_frame(b"x" * 9)
