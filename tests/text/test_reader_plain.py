"""Plain text: tokens come with the character they begin in, or not at all."""

import codecs
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.events import TokenLogprob
from server.text.reader import AnswerPart, Reader, Reading


class Emission(NamedTuple):
    text: str = ""
    logprobs: tuple[TokenLogprob, ...] = ()
    stop: str | None = None


class Transcript:
    """A reader of plain text, whose readings have one part at most."""

    def __init__(self, stops: tuple[str, ...], *, want_logprobs: bool) -> None:
        self._reader = Reader(None, stops=stops, want_logprobs=want_logprobs)

    def feed(self, piece: bytes, logprob: TokenLogprob | None) -> Emission:
        return show(self._reader.feed(piece, logprob))

    def finish(self) -> Emission:
        return show(self._reader.finish())


def show(reading: Reading) -> Emission:
    assert reading.call_text is None
    if not reading.parts:
        return Emission(stop=reading.stop)
    (part,) = reading.parts
    assert isinstance(part, AnswerPart)
    return Emission(part.text, part.logprobs, reading.stop)


PIECES = st.lists(
    st.sampled_from(
        [
            b"",
            b"a",
            b"b",
            b"ab",
            b"ba",
            b"\xe2",
            b"\x82",
            b"\xac",
            b"\xe2\x82",
            "€".encode(),
            "a€".encode(),
            b"\xaca",
            b"\xff",
            b"b\xe2",
            b"\xf0\x9f",
        ]
    ),
    max_size=14,
)
STOPS = st.lists(
    st.sampled_from(["ab", "aba", "b€", "€", "bb", "\ufffda"]), max_size=3
).map(tuple)


def make_token(index: int, piece: bytes) -> TokenLogprob:
    return TokenLogprob(index, piece, -float(index))


def run(pieces: list[bytes], stops: tuple[str, ...]) -> list[Emission]:
    transcript = Transcript(stops, want_logprobs=True)
    emissions = [
        transcript.feed(piece, make_token(index, piece))
        for index, piece in enumerate(pieces)
    ]
    return [*emissions, transcript.finish()]


def search_once(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def find_beginnings(pieces: list[bytes]) -> list[int]:
    """Index of the character each token begins in, by decoding prefixes.

    The character at an index is the one that byte belongs to in the decoding
    of the whole: the count of characters that end at or before this byte.
    A token without bytes belongs to the character that is completed next.
    """
    data = b"".join(pieces)
    ends: list[int] = []
    position = 0
    while position < len(data):
        # Longest prefix of the rest that still is one character.
        length = next(
            size
            for size in (4, 3, 2, 1)
            if len(data[position : position + size]) == size
            and len(data[position : position + size].decode("utf-8", "replace")) == 1
        )
        position += length
        ends.append(position)
    beginnings, offset = [], 0
    for piece in pieces:
        if piece:
            beginnings.append(sum(end <= offset for end in ends))
        else:
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            beginnings.append(len(decoder.decode(data[:offset])))
        offset += len(piece)
    return beginnings


@settings(max_examples=200, deadline=None)
@given(PIECES, STOPS)
def test_text_and_stop_are_those_of_the_whole(
    pieces: list[bytes], stops: tuple[str, ...]
) -> None:
    emissions = run(pieces, stops)
    text = "".join(emission.text for emission in emissions)
    found = next((e.stop for e in emissions if e.stop is not None), None)
    whole = b"".join(pieces).decode("utf-8", "replace")
    assert search_once(whole, stops) == (text, found)


@settings(max_examples=200, deadline=None)
@given(PIECES, STOPS)
def test_each_token_comes_exactly_with_the_character_it_begins_in(
    pieces: list[bytes], stops: tuple[str, ...]
) -> None:
    expected = find_beginnings(pieces)
    n_shown = 0
    arrived: dict[int, int] = {}
    for emission in run(pieces, stops):
        begin, n_shown = n_shown, n_shown + len(emission.text)
        for token in emission.logprobs:
            assert begin <= expected[token.token_id] < n_shown
            arrived[token.token_id] = n_shown
    shown = [index for index, at in enumerate(expected) if at < n_shown]
    assert shown == list(arrived)


@settings(max_examples=200, deadline=None)
@given(PIECES, STOPS)
def test_an_emission_without_text_has_no_tokens_and_bytes_cover_the_text(
    pieces: list[bytes], stops: tuple[str, ...]
) -> None:
    text, data = "", b""
    for emission in run(pieces, stops):
        assert bool(emission.text) or not emission.logprobs
        text += emission.text
        data += b"".join(token.bytes for token in emission.logprobs)
    assert data.decode("utf-8", "replace").startswith(text)


def test_the_token_in_which_a_stop_begins_is_reported_and_later_ones_are_not() -> None:
    emissions = run([b"one S", b"TO", b"P two", b"three"], ("STOP",))
    assert [e.text for e in emissions] == ["one ", "", "", "", ""]
    assert [t.bytes for e in emissions for t in e.logprobs] == [b"one S"]
    assert [e.stop for e in emissions] == [None, None, "STOP", None, None]


def test_a_trailing_token_without_text_is_dropped() -> None:
    emissions = run([b"a", b""], ())
    assert [t.bytes for e in emissions for t in e.logprobs] == [b"a"]
    assert Emission() == emissions[-1]


def test_a_stop_string_completed_by_the_flush_is_reported_by_finish() -> None:
    emissions = run([b"ab\xe2"], ("b\ufffd",))
    assert Emission("a", (make_token(0, b"ab\xe2"),)) == emissions[0]
    assert Emission("", (), "b\ufffd") == emissions[1]


def test_a_second_finish_returns_nothing() -> None:
    transcript = Transcript(("ab",), want_logprobs=False)
    assert transcript.feed(b"a", None).text == ""
    assert transcript.finish().text == "a"
    assert Emission() == transcript.finish()


@pytest.mark.parametrize("piece", [b"plain", "ümlaut".encode()])
def test_log_probabilities_are_ignored_where_not_wanted(piece: bytes) -> None:
    transcript = Transcript((), want_logprobs=False)
    assert Emission(piece.decode()) == transcript.feed(piece, make_token(1, piece))
    assert Emission() == transcript.finish()
