"""Patterns of ECMA-262 keep their meaning."""

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.text.schema_pattern import (
    UnsupportedPattern,
    anchor_pattern,
    translate_pattern,
    translate_whole,
)

DOT = r"[^\n\r\x{2028}\x{2029}]"


def as_python(pattern):
    """Write what the engine reads as Python's re does."""
    return re.sub(r"\\x\{([0-9a-f]+)\}", lambda m: f"\\U{int(m[1], 16):08x}", pattern)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("^a.b$", (f"^a{DOT}b$",)),
        ("a-b/c", (r"a\x{2d}b\x{2f}c",)),
        ("(a)(?:b)(?<n>c)(?P<m>d)", ("(?:a)(?:b)(?:c)(?:d)",)),
        ("a*?b+?c??d{2,3}?", ("a*b+c?d{2,3}",)),
        ("[a-z_.-]", (r"[a-z\x{5f}\x{2e}\x{2d}]",)),
        (r"[\w-]", (r"[\w\x{2d}]",)),
        ("[^]", ("(?s:.)",)),
        (r"\d\u0041\x42\u{1F600}\cJ\0", (r"\dAB\x{1f600}\x{a}\x{0}",)),
        (r"\ud83d\ude00", (r"\x{1f600}",)),
        (r"[\b]", (r"[\x{8}]",)),
        ("x{a}", (r"x\x{7b}a\x{7d}",)),
        (r"\p{Lu}", (r"\p{Lu}",)),
        (r"^(?=.*\d)(?=[a-c])\w{8,}$", (rf"^(?:{DOT}*\d)", "^(?:[a-c])", r"^\w{8,}$")),
    ],
)
def test_a_pattern_is_written_anew(pattern, expected):
    assert expected == translate_pattern(pattern)


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(?!a)b", "look-around"),
        ("(?<=a)b", "look-around"),
        ("^(?=a)b|c", "look-around"),
        (r"\bx", "word boundaries"),
        (r"(a)\1", "references back"),
        (r"\k<n>", "references back"),
        (r"\Ax", "no anchor"),
        ("a{,3}", "different things"),
        ("a{20000}", "repeats more than 10000"),
        ("*a", "nothing to repeat"),
        ("a**", "nothing to repeat"),
        ("a*+", "possessive"),
        ("(a", "not closed"),
        ("a)", "not opened"),
        ("[a", "a class is not closed"),
        ("[]", "matches nothing"),
        ("[b-a]", "not in order"),
        ("a\\", "backslash stands at the end"),
        (r"\u12", "hexadecimal"),
        (r"\ud800", "surrogate"),
        ("(?>a)", "unknown group"),
        ("a" * 9000, "9000 characters, at most 8192"),
    ],
)
def test_what_no_automaton_can_follow_is_said(pattern, said):
    with pytest.raises(UnsupportedPattern, match=said):
        translate_pattern(pattern)


@pytest.mark.parametrize(
    "pattern", ["^ab?$", "^ab?", "b$", "b", "a|b", "^$", "", "^(?:a|b)$", "[$^]", r"\$"]
)
@pytest.mark.parametrize("text", ["", "a", "b", "ab", "xab", "aby", "$", "x^", "$y"])
def test_an_anchored_pattern_matches_what_the_search_finds(pattern, text):
    whole = anchor_pattern(translate_pattern(pattern)[0])
    found = re.search(pattern, text) is not None
    assert found == (re.fullmatch(as_python(whole), text) is not None)


@pytest.mark.parametrize("pattern", ["^a|b$", "a^b", "a$b"])
def test_an_anchor_inside_is_not_taken(pattern):
    with pytest.raises(UnsupportedPattern, match="anchor"):
        anchor_pattern(translate_pattern(pattern)[0])


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("ab", ("(?:ab)",)),
        ("^ab$", ("(?:ab)",)),
        ("a|b", ("(?:a|b)",)),
        ("a[$]", (r"(?:a[\x{24}])",)),
    ],
)
def test_a_whole_expression_needs_no_anchors(pattern, expected):
    assert expected == translate_whole(pattern)


@given(st.text(r"ab01(){}[]^$|?*+.,\\-:=!<>dwu/\n"))
def test_any_text_is_a_pattern_or_said_to_be_none(pattern):
    for translate in (translate_pattern, translate_whole):
        with contextlib.suppress(UnsupportedPattern):
            parts = translate(pattern)
            assert all(re.compile(as_python(part)) for part in parts)
