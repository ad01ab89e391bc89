"""`server.worker.prompt_size`: long texts are given up early, others left alone."""

import pytest

from server.worker.prompt_size import (
    CHARS_PER_TOKEN,
    PIECE_CHARS,
    PIECE_SLACK,
    count_excess,
)

N_CTX = 10_000


class Counter:
    """Counts words, and how many characters it has looked at."""

    def __init__(self) -> None:
        self.n_chars = 0

    def __call__(self, text: str) -> int:
        self.n_chars += len(text)
        return len(text.split())


def test_a_text_of_usual_length_is_not_looked_at():
    counter = Counter()
    text = "word " * (CHARS_PER_TOKEN * N_CTX // 5)
    assert count_excess([text], counter, N_CTX) is None
    assert 0 == counter.n_chars


@pytest.mark.parametrize("n_texts", [1, 100])
def test_a_text_that_cannot_fit_is_given_up_after_a_few_pieces(n_texts):
    counter = Counter()
    texts = ["word " * (1_000_000 // n_texts)] * n_texts
    n_tokens = count_excess(texts, counter, N_CTX)
    assert N_CTX < n_tokens <= 2 * N_CTX
    assert counter.n_chars < 5 * 2 * N_CTX + 2 * PIECE_CHARS


def test_a_text_of_long_tokens_may_fit():
    words = ("x" * 99 + " ") * (N_CTX - 1)
    assert len(words) > CHARS_PER_TOKEN * N_CTX
    assert count_excess([words], Counter(), N_CTX) is None


def test_tokens_that_come_of_cutting_alone_are_no_reason():
    """Every piece counts a few tokens too many where it was cut."""
    n_pieces = 40
    text = "x" * PIECE_CHARS * n_pieces
    n_ctx = n_pieces

    def count(piece):
        return 1 + PIECE_SLACK

    assert count_excess([text], count, n_ctx) is None
    assert count_excess([text], count, n_ctx - 1) == n_ctx
