"""The line between training and evaluation is one, and holds."""

import random

import pytest

from scripts.novice.words import Words, expand, is_held_out_pair, is_held_out_word


@pytest.mark.parametrize("held_out", [False, True])
def test_words_are_all_from_one_side(*, held_out: bool) -> None:
    rng = random.Random(3)  # noqa: S311 no secret
    words = Words(rng, held_out=held_out)
    drawn = [words.word() for _ in range(300)]
    assert {held_out} == {is_held_out_word(word) for word in drawn}
    assert len(set(drawn)) > 250
    assert max(map(len, drawn)) <= 12


def test_one_word_in_eight_and_one_pair_in_ten_is_held_out() -> None:
    words = [f"w{i}" for i in range(4000)]
    assert 0.1 < sum(map(is_held_out_word, words)) / len(words) < 0.15
    pairs = [(a, b) for a in range(100) for b in range(a + 1)]
    share = sum(is_held_out_pair(a, b) for a, b in pairs) / len(pairs)
    assert 0.08 < share < 0.12


def test_a_pair_is_held_out_in_both_orders() -> None:
    for a in range(40):
        for b in range(40):
            assert is_held_out_pair(a, b) == is_held_out_pair(b, a)


def test_patterns_expand_to_one_of_their_alternatives() -> None:
    rng = random.Random(1)  # noqa: S311 no secret
    seen = {expand(rng, "[a|b[1|2]|] x") for _ in range(100)}
    assert {"a x", "b1 x", "b2 x", " x"} == seen
