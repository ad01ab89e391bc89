"""DRY: tokens that would go on with a repetition get less likely.

Theory
------
Where the end of the text, n tokens long, stands somewhere before as well, the
token that followed there would make the repetition n + 1 tokens long. It loses
`multiplier * base ** (n - allowed_length)`, for the longest such n of all
places, if n is at least `allowed_length`.

For each position i, `_lengths[i]` is how many tokens before and at i equal
those at the end. A new token t changes them all at once: it is one more than
at i - 1 where the token at i is t, and 0 elsewhere. For a prompt they are
computed by the Z algorithm over the reversed text, in linear time.

No repetition is followed across a sequence breaker, such as a line's end: only
tokens after the last breaker count. A token whose own text contains a breaker
is never made less likely.

Two things differ from llama.cpp, by purpose. Breakers are looked for in the
text, so that one may begin and end within tokens; llama.cpp searches the whole
vocabulary for tokens that overlap each breaker, for every request anew, while
every other answer waits. And a penalty ends at `MAX_PENALTY`.

Source: llama.cpp, src/llama-sampler.cpp, llama_sampler_dry_apply; for the
method p-e-w's pull request 5677 to oobabooga's text-generation-webui.
"""

import math
from collections.abc import Callable, Sequence
from typing import Final

import numpy as np
import numpy.typing as npt

from server.core.sampling import SamplerSettings
from server.worker.backend import Logits
from server.worker.penalties import TokenIds, locate, put_logits
from server.worker.tokens import Tokens

MAX_PENALTY: Final = 1e6
"""What a token loses at most; nothing that repeats is drawn long before."""

_FIRST_TAIL_TOKENS: Final = 64
_SPARE_TOKENS: Final = 256


class Repetition:
    """The DRY state of one sequence.

    Args:
        sampling: Its settings.
        prompt: What was read already.
        piece: Gives the bytes of a token.
    """

    def __init__(
        self,
        sampling: SamplerSettings,
        prompt: Tokens,
        piece: Callable[[int], bytes],
    ) -> None:
        self._multiplier = sampling.dry_multiplier
        self._base = sampling.dry_base
        self._allowed = sampling.dry_allowed_length
        self._last_n = sampling.dry_penalty_last_n
        self._breakers = tuple(
            text.encode("utf-8", "replace") for text in sampling.dry_sequence_breakers
        )
        self._piece = piece
        window = list(prompt if self._last_n < 0 else prompt[-self._last_n :])
        self._n = len(window)
        capacity = self._n + _SPARE_TOKENS
        self._tokens = np.zeros(capacity, dtype=np.int64)
        self._lengths = np.zeros(capacity, dtype=np.int64)
        self._tokens[: self._n] = window
        self._lengths[: self._n] = measure_repeats(window)
        self._tail = b""
        self._n_unbroken = 0
        self._find_last_breaker(window)

    def apply(self, logits: Logits, ids: TokenIds | None = None) -> None:
        """Change the candidates' logits in place.

        Args:
            logits: `[n_candidates] float32`.
            ids: Their tokens; None where all tokens are, in order.
        """
        tokens, lengths = self._list_continuations()
        places, indices = locate(tokens, ids)
        spared = np.array([self._is_breaker(int(t)) for t in tokens[indices]], bool)
        places, indices = places[~spared], indices[~spared]
        if places.size:
            less = self._weigh(lengths[indices])
            put_logits(logits, places, logits[places].astype(np.float64) - less)

    def accept(self, token: int) -> None:
        """Remember a token."""
        self._note_text(token)
        if self._n == self._tokens.size:
            self._make_space()
        n = self._n
        self._tokens[n] = token
        known = self._tokens[:n] == token
        # From the end, so that each length is read before it is replaced.
        longer = np.empty(n + 1, dtype=np.int64)
        longer[0] = 0
        longer[1:] = self._lengths[:n]
        self._lengths[:n] = np.where(known, longer[:n] + 1, 0)
        self._n = n + 1
        # The end equals itself at any length; no token follows it yet.
        self._lengths[n] = 0

    def _list_continuations(self) -> tuple[TokenIds, npt.NDArray[np.int64]]:
        """List tokens that followed a repeat, with the longest length of each."""
        n = self._n
        window = n if self._last_n < 0 else min(n, self._last_n)
        limit = min(self._n_unbroken, window)
        nothing = np.empty(0, np.int64)
        if window <= self._allowed or limit < self._allowed:
            return nothing, nothing
        begin = n - window
        # A repeat neither begins before the window nor crosses a breaker.
        room = np.minimum(np.arange(1, window), limit)
        lengths = np.minimum(self._lengths[begin : n - 1], room)
        places = np.flatnonzero(lengths >= self._allowed)
        followers = self._tokens[begin + 1 + places]
        order = np.lexsort((-lengths[places], followers))
        tokens, first = np.unique(followers[order], return_index=True)
        return tokens, lengths[places][order][first]

    def _weigh(self, lengths: npt.NDArray[np.int64]) -> npt.NDArray[np.float64]:
        """Compute penalties, without ever computing a number too large."""
        most = (
            math.log(MAX_PENALTY / self._multiplier) / math.log(self._base)
            if self._base > 1.0
            else 0.0
        )
        exponents = np.minimum(lengths - self._allowed, max(most, 0.0))
        return np.minimum(self._multiplier * self._base**exponents, MAX_PENALTY)

    def _is_breaker(self, token: int) -> bool:
        piece = self._piece(token)
        return any(breaker in piece for breaker in self._breakers)

    def _find_last_breaker(self, window: Sequence[int]) -> None:
        """Count the tokens after the last breaker, looking back as far as needed."""
        n_tail = _FIRST_TAIL_TOKENS
        while True:
            self._tail, self._n_unbroken, is_found = b"", 0, False
            for token in window[-n_tail:]:
                is_found |= self._note_text(token)
            if is_found or n_tail >= len(window):
                return
            n_tail *= 8

    def _note_text(self, token: int) -> bool:
        """Count a token; return whether a breaker ended in it."""
        text = self._tail + self._piece(token)
        begin = len(self._tail)
        is_found = any(
            # One that ended before this token was counted then.
            text.find(breaker, max(0, begin - len(breaker) + 1)) >= 0
            for breaker in self._breakers
        )
        self._n_unbroken = 0 if is_found else self._n_unbroken + 1
        n_kept = max(map(len, self._breakers), default=1) - 1
        self._tail = text[len(text) - n_kept :] if len(text) > n_kept else text
        return is_found

    def _make_space(self) -> None:
        """Drop what the window has left behind, or grow."""
        n = self._n
        keep = n if self._last_n < 0 else min(n, self._last_n)
        capacity = 2 * keep + _SPARE_TOKENS
        for name in ("_tokens", "_lengths"):
            old = getattr(self, name)
            new = np.zeros(capacity, dtype=np.int64)
            new[:keep] = old[n - keep : n]
            setattr(self, name, new)
        self._n = keep


def measure_repeats(tokens: Sequence[int]) -> npt.NDArray[np.int64]:
    """Tell for each position how many tokens up to it equal those at the end.

    The last position, where the end meets itself, counts 0.

    Source: Gusfield, Algorithms on Strings, Trees and Sequences, 1.3 (Z).
    """
    text = tokens[::-1]
    n = len(text)
    z = [0] * n
    left = right = 0
    for k in range(1, n):
        length = min(right - k, z[k - left]) if k < right else 0
        while k + length < n and text[length] == text[k + length]:
            length += 1
        z[k] = length
        if k + length > right:
            left, right = k, k + length
    return np.array(z[::-1], dtype=np.int64)
