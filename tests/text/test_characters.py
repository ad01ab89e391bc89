"""Characters come whole, and broken bytes become what `bytes.decode` makes."""

from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.characters import CharacterDecoder

BYTES = st.lists(
    st.sampled_from(
        [
            b"a",
            b"\xc3",
            b"\xa9",
            b"\xe2\x82",
            b"\xac",
            b"\xf0\x9f",
            b"\x98\x80",
            b"\xed\xa0",
            b"\xf5",
            b"\xe0",
            b"\xff",
            b"\xef\xbf\xbd",
            "€😀".encode(),
        ]
    )
    | st.binary(max_size=4),
    max_size=12,
)


@settings(max_examples=200, deadline=None)
@given(BYTES)
def test_any_split_decodes_as_the_whole_would(pieces: list[bytes]) -> None:
    decoder = CharacterDecoder()
    text = "".join(map(decoder.feed, pieces)) + decoder.flush()
    assert b"".join(pieces).decode("utf-8", "replace") == text


def test_half_a_character_waits_for_its_rest() -> None:
    decoder = CharacterDecoder()
    assert [decoder.feed(bytes([b])) for b in "😀".encode()] == ["", "", "", "😀"]
    assert decoder.flush() == ""


def test_pending_bytes_counts_what_waits() -> None:
    decoder = CharacterDecoder()
    decoder.feed(b"ab\xf0\x9f\x98")
    assert decoder.pending_bytes == 3
    assert decoder.flush() == "\ufffd"
    assert decoder.pending_bytes == 0
