"""Bias and penalties: they touch only the few tokens they are about.

llama.cpp's own penalty sampler looks up every candidate in a hash table, many
times slower than all the rest at 150,000 tokens.

One thing is done as OpenAI defines it and not as llama.cpp does: presence and
frequency penalties look at the answer alone, and at all of it. The repeat
penalty looks at the last tokens of prompt and answer, as llama.cpp's.

A logit of minus infinity marks a token that must not be drawn. It stays so,
and no penalty gives another token that mark.
"""

import math
from collections import Counter, deque
from typing import Final

import numpy as np
import numpy.typing as npt

from server.core.sampling import SamplerSettings
from server.worker.backend import Logits
from server.worker.tokens import Tokens

TokenIds = npt.NDArray[np.int64]

LOGIT_LIMIT: Final = 1e30
"""Penalties leave no finite logit beyond this; far above any model's, far below
the largest 32-bit float."""


def put_logits(
    logits: Logits, places: TokenIds, values: npt.NDArray[np.floating]
) -> None:
    """Write new values, but for tokens that must not be drawn."""
    kept = np.clip(values, -LOGIT_LIMIT, LOGIT_LIMIT)
    logits[places] = np.where(logits[places] == -np.inf, -np.inf, kept)


def locate(tokens: TokenIds, ids: TokenIds | None) -> tuple[TokenIds, TokenIds]:
    """Find tokens among candidates.

    Args:
        tokens: Different token ids.
        ids: The candidates' ids; None where all tokens are, in order.

    Returns:
        Places among the candidates, and for each the index into `tokens`.
    """
    if ids is None:
        return tokens, np.arange(tokens.size)
    _, places, indices = np.intersect1d(
        ids, tokens, assume_unique=True, return_indices=True
    )
    return places, indices


class Bias:
    """What is added to the logits of some tokens; minus infinity forbids one."""

    def __init__(self, sampling: SamplerSettings) -> None:
        # A token that is named twice gets the sum.
        sums: dict[int, float] = {}
        for token, bias in sampling.logit_bias:
            sums[token] = sums.get(token, 0.0) + bias
        finite = {token: bias for token, bias in sums.items() if bias > -math.inf}
        self._ids = np.array(list(finite), dtype=np.int64)
        self._values = np.array(list(finite.values()), dtype=np.float32)
        self._forbidden = np.array(list(sums.keys() - finite), dtype=np.int64)

    def apply(self, logits: Logits) -> None:
        """Change the logits of a whole vocabulary in place."""
        if self._ids.size:
            put_logits(logits, self._ids, logits[self._ids] + self._values)
        if self._forbidden.size:
            logits[self._forbidden] = -np.inf


class Penalties:
    """Repeat, presence and frequency penalties of one sequence."""

    def __init__(self, sampling: SamplerSettings, prompt: Tokens) -> None:
        self._repeat = sampling.repeat_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        last_n = sampling.repeat_last_n
        self._recent: deque[int] = deque(prompt, None if last_n < 0 else last_n)
        self._counts = Counter(self._recent)
        self._generated: Counter[int] = Counter()

    @property
    def is_active(self) -> bool:
        """Whether any logit could change, now or later."""
        return (
            bool(self._presence)
            or bool(self._frequency)
            or (self._repeat != 1.0 and self._recent.maxlen != 0)
        )

    def apply(self, logits: Logits, ids: TokenIds | None = None) -> None:
        """Change the candidates' logits in place.

        A repeated token's logit is divided by the repeat penalty where it is
        positive and multiplied where it is negative, so that the token always
        gets less likely.

        Args:
            logits: `[n_candidates] float32`.
            ids: Their tokens; None where all tokens are, in order.
        """
        if self._repeat != 1.0 and self._counts:
            tokens = np.fromiter(self._counts, np.int64, len(self._counts))
            places, _ = locate(tokens, ids)
            # In 64 bits, where no quotient overflows.
            seen = logits[places].astype(np.float64)
            changed = np.where(seen > 0, seen / self._repeat, seen * self._repeat)
            put_logits(logits, places, changed)
        if self._generated and (self._presence or self._frequency):
            n_tokens = len(self._generated)
            tokens = np.fromiter(self._generated, np.int64, n_tokens)
            counts = np.fromiter(self._generated.values(), np.float32, n_tokens)
            places, indices = locate(tokens, ids)
            less = self._presence + self._frequency * counts[indices]
            put_logits(logits, places, logits[places] - less)

    def accept(self, token: int) -> None:
        """Remember a token of the answer."""
        self._generated[token] += 1
        if self._recent.maxlen == 0:
            return
        if len(self._recent) == self._recent.maxlen:
            oldest = self._recent[0]
            self._counts[oldest] -= 1
            if not self._counts[oldest]:
                del self._counts[oldest]
        self._recent.append(token)
        self._counts[token] += 1
