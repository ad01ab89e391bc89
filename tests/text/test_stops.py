"""Stop strings: what is shown depends on the text, never on its pieces."""

import time
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.stops import StopScanner

LETTERS = st.text("abc", max_size=30)
STOPS = st.lists(st.text("abc", min_size=1, max_size=5), max_size=4).map(tuple)


def search_once(text: str, stops: tuple[str, ...]) -> tuple[str, str | None]:
    """Find the first stop string to be complete, by brute force."""
    for end in range(1, len(text) + 1):
        complete = [stop for stop in stops if text[:end].endswith(stop)]
        if complete:
            stop = max(complete, key=len)
            return text[: end - len(stop)], stop
    return text, None


def cut(text: str, places: list[int]) -> list[str]:
    edges = [0, *sorted(place % (len(text) + 1) for place in places), len(text)]
    return [text[a:b] for a, b in pairwise(edges)]


@settings(max_examples=200, deadline=None)
@given(LETTERS, STOPS, st.lists(st.integers(0, 100), max_size=8))
def test_any_split_shows_what_one_search_shows(
    text: str, stops: tuple[str, ...], places: list[int]
) -> None:
    scanner = StopScanner(stops)
    shown, found = "", None
    for piece in cut(text, places):
        safe, stop = scanner.feed(piece)
        shown += safe
        found = found or stop
    shown += scanner.flush()
    assert search_once(text, stops) == (shown, found)


@settings(max_examples=200, deadline=None)
@given(LETTERS, STOPS)
def test_only_the_longest_possible_beginning_is_held_back(
    text: str, stops: tuple[str, ...]
) -> None:
    scanner = StopScanner(stops)
    shown = ""
    for end, letter in enumerate(text, start=1):
        safe, stop = scanner.feed(letter)
        shown += safe
        if stop is not None:
            return
        suffixes = [text[begin:end] for begin in range(end + 1)]
        held = next(s for s in suffixes if any(x.startswith(s) for x in (*stops, "")))
        assert text[: end - len(held)] == shown


@pytest.mark.parametrize(
    ("stops", "pieces", "expected"),
    [
        (("ab", "abc"), ["xabcd"], ("x", "ab")),
        (("bcd", "abcde"), ["abcde"], ("a", "bcd")),
        (("c", "abc"), ["ab", "c"], ("", "abc")),
        (("</s>",), ["a</", "s", ">b"], ("a", "</s>")),
        (("",), ["abc"], ("abc", None)),
    ],
)
def test_the_stop_complete_first_wins_and_then_the_longest(
    stops: tuple[str, ...], pieces: list[str], expected: tuple[str, str | None]
) -> None:
    scanner = StopScanner(stops)
    answers = [scanner.feed(piece) for piece in pieces]
    shown = "".join(text for text, _ in answers) + scanner.flush()
    found = next((stop for _, stop in answers if stop), None)
    assert expected == (shown, found)


def test_nothing_is_shown_after_a_match() -> None:
    scanner = StopScanner(("x",))
    assert scanner.feed("axb") == ("a", "x")
    assert scanner.feed("cx") == ("", None)
    assert scanner.flush() == ""


def test_a_hostile_stop_string_costs_linear_time() -> None:
    scanner = StopScanner(("a" * 5000 + "b",))
    begin_s = time.process_time()
    for _ in range(2000):
        scanner.feed("a" * 50)
    assert time.process_time() - begin_s < 1.0
