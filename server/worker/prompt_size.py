"""Texts that are far too long, found before all of them is turned into tokens.

Turning text into tokens takes seconds for each megabyte and holds up every other
request of the model. A text that may well fit is left alone. One that has many
more characters than a context has tokens is counted in pieces until it is certain
that it does not fit: where a text is cut, a few tokens come out otherwise, hence
the slack for each piece.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence

PIECE_CHARS = 32 * 1024

CHARS_PER_TOKEN = 8
"""More than texts have on the average; only longer ones are counted in pieces."""

PIECE_SLACK = 16
"""Tokens by which a piece may count too many."""


def count_excess(
    texts: Sequence[str], count: Callable[[str], int], n_ctx: int
) -> int | None:
    """Find out whether texts surely have more tokens than a context.

    Args:
        texts: They follow each other in one prompt.
        count: Counts the tokens of a text.
        n_ctx: Tokens of the context.

    Returns:
        Tokens that there are at least; None if the texts may fit.
    """
    n_chars = sum(map(len, texts))
    if n_chars <= max(PIECE_CHARS, CHARS_PER_TOKEN * n_ctx):
        return None
    n_tokens = 0
    for piece in _cut(texts):
        n_tokens += max(0, count(piece) - PIECE_SLACK)
        if n_tokens > n_ctx:
            return n_tokens
    return None


def _cut(texts: Iterable[str]) -> Iterator[str]:
    for text in texts:
        for start in range(0, len(text), PIECE_CHARS):
            yield text[start : start + PIECE_CHARS]
