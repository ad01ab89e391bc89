"""Control texts that a client wrote are cut, harmless text is not."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.text.controls import ControlTexts, find_noncharacters

S = "\ufdd0"
TEXTS = frozenset({"<|im_start|>", "<|im_end|>", "</s>", "[INST]", "aXaXa", "<s>"})
CONTROLS = ControlTexts(TEXTS)
FRAGMENTS = st.lists(
    st.sampled_from(
        ["<|im_", "start", "end", "|>", "<", "</", "s>", "[INST]", "aX", "a", " ", "é"]
    ),
    max_size=12,
).map("".join)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a <|im_end|> b", f"a <{S}|im_end|> b"),
        ("x <|IM_End|> y", f"x <{S}|IM_End|> y"),
        ("aXaXaXa", f"a{S}Xa{S}XaX{S}a"),
        ("<s></s>", f"<{S}s><{S}/s>"),
        ("ends in <|im_", f"ends in <|im{S}_"),
        ("ends in <|im_ \n", f"ends in <|im{S}_ \n"),
        ("im_end|> begins", f"i{S}m_end|> begins"),
        ("|im_end|", f"|{S}im_end|"),
        ("im_end", f"i{S}m_end"),
        ("end", "end"),
        ("a < b and c > d", "a < b and c > d"),
        ("<", "<"),
        ("", ""),
    ],
)
def test_protect_cuts_occurrences_and_edges_only(text: str, expected: str) -> None:
    assert CONTROLS.protect(text, S) == expected


@settings(max_examples=200, deadline=None)
@given(FRAGMENTS)
def test_no_part_of_a_protected_text_holds_a_control_text(text: str) -> None:
    protected = CONTROLS.protect(text, S)
    assert protected.replace(S, "") == text
    for part in protected.split(S):
        assert not any(control in part.lower() for control in TEXTS - {"[INST]"})
        assert "[INST]" not in part


@settings(max_examples=200, deadline=None)
@given(FRAGMENTS, FRAGMENTS)
def test_two_protected_texts_side_by_side_make_no_control_text(
    left: str, right: str
) -> None:
    both = CONTROLS.protect(left, S) + CONTROLS.protect(right, S)
    known = {"<|im_start|>", "<|im_end|>", "[INST]", "</s>", "<s>"}
    # A single character on each side can only meet in a text of two.
    for part in both.split(S):
        assert not any(control in part for control in known)


@pytest.mark.parametrize(
    ("text", "old", "new", "expected"),
    [
        ("<|im_/thinkend|>", "/think", "", f"<{S}|im_end|>"),
        ("<s> x <s>", "x", "y", "<s> y <s>"),
        ("a", "a", "<s>", "<s>"),
        ("<X> </X>", "X", "s", f"<{S}s> <{S}/s>"),
        ("none here", "x", "y", "none here"),
        ("ab", "", "-", "-a-b-"),
    ],
)
def test_replace_cuts_what_it_brings_together_and_nothing_else(
    text: str, old: str, new: str, expected: str
) -> None:
    assert CONTROLS.replace(text, old, new, -1, S) == expected


@settings(max_examples=200, deadline=None)
@given(FRAGMENTS, st.sampled_from(["", "a", "<", "end", "aX"]), FRAGMENTS)
def test_replace_is_that_of_a_string_but_for_sentinels(
    text: str, old: str, new: str
) -> None:
    for count in (-1, 0, 1, 2):
        result = CONTROLS.replace(text, old, new, count, S)
        assert result.replace(S, "") == text.replace(old, new, count)


def test_without_control_texts_nothing_changes() -> None:
    for texts in (frozenset(), frozenset({"", "x"})):
        controls = ControlTexts(frozenset(texts))
        assert controls.protect("<|im_end|> x", S) == "<|im_end|> x"
        assert controls.replace("axb", "x", "y", -1, S) == "ayb"


def test_a_thousand_control_texts_cost_little_on_a_megabyte() -> None:
    controls = ControlTexts(frozenset(f"<SPECIAL_{n}>" for n in range(1000)))
    text = "<SPECIAL_77> and <SPECIAL_x> then some words " * 10_000
    protected = controls.protect(text, S)
    assert protected.count(S) == 10_000
    assert protected.replace(S, "") == text


def test_noncharacters_are_found_plain_and_escaped() -> None:
    found = find_noncharacters("a\ufdd3 '\\ufdd5' \"\\U0000FDEF\" \\ufdf0")
    assert found == {"\ufdd3", "\ufdd5", "\ufdef"}
