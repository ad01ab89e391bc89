"""Drawing tokens: llama.cpp's sampler chain, with sparse penalties before it.

Order: logit bias, penalties, then llama.cpp's chain: top-k, typical, top-p,
min-p, temperature, draw. Bias and penalties touch only the few tokens they
are about, in the logits themselves; llama.cpp's own penalty sampler looks up
every token of the vocabulary in a hash table, several times slower than the
rest of the chain at 150,000 tokens.

The repeat penalty looks at the last tokens of prompt and answer. Presence
and frequency penalties look at the answer alone, as OpenAI defines them.
"""

import ctypes
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from server.core.events import TokenLogprob, TopLogprob
from server.core.sampling import SamplerSettings
from server.worker.backend import Logits
from server.worker.tokens import Tokens

REPEAT_LAST_N = 64
"""How many of the last tokens the repeat penalty looks at."""

MIN_KEEP = 1
"""Candidates that every truncating sampler leaves."""

_BLOCKS_PER_TOKEN = 8
_LEAST_WIDTH = 8
# Source: llama.h, llama_token_data
_CANDIDATE = np.dtype([("id", "<i4"), ("logit", "<f4"), ("p", "<f4")])


class ChainSampler:
    """One sequence's sampler over llama.cpp's chain.

    Owns a `llama_sampler *`, freed by `close`.
    """

    def __init__(
        self,
        llama: Any,  # noqa: ANN401
        sampling: SamplerSettings,
        *,
        seed: int,
        prompt: Tokens,
    ) -> None:
        self._llama = llama
        self._top_k = sampling.top_k
        self._is_greedy = sampling.temperature <= 0.0
        self._penalties = Penalties(sampling, prompt)
        self._chain = None if self._is_greedy else _build_chain(llama, sampling, seed)

    def sample(self, logits: Logits) -> int:
        """Draw the next token; the logits are changed by bias and penalties."""
        self._penalties.apply(logits)
        token = int(np.argmax(logits)) if self._is_greedy else self._draw(logits)
        self._penalties.accept(token)
        return token

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            self._llama.llama_sampler_free(self._chain)
            self._chain = None

    def _draw(self, logits: Logits) -> int:
        """Run the chain over the tokens that top-k could keep.

        Source: llama.h, llama_token_data_array and llama_sampler_apply.
        """
        llama = self._llama
        ids = find_candidates(logits, self._top_k)
        candidates = np.empty(ids.size, dtype=_CANDIDATE)
        candidates["id"] = ids
        candidates["logit"] = logits[ids]
        candidates["p"] = 0.0
        array = llama.llama_token_data_array()
        array.data = ctypes.cast(candidates.ctypes.data, llama.llama_token_data_p)
        array.size = ids.size
        array.selected = -1
        array.sorted = False
        # The chain reorders the candidates in place.
        llama.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(candidates["id"][array.selected])


def find_candidates(logits: Logits, top_k: int) -> npt.NDArray[np.int64]:
    """Find tokens that include the `top_k` most probable ones.

    The maxima of blocks give a bound without sorting anything: if `top_k`
    blocks reach a value, at least so many tokens do. So llama.cpp's chain
    gets some hundred candidates instead of the whole vocabulary, which costs
    it a fifth of the time at 150,000 tokens and leaves the same ones.

    Args:
        logits: `[n_vocab] float32`.
        top_k: 0 means all tokens.

    Returns:
        Token ids in ascending order.
    """
    n_vocab = logits.size
    width = n_vocab // (_BLOCKS_PER_TOKEN * top_k) if top_k > 0 else 0
    if width < _LEAST_WIDTH:
        return np.arange(n_vocab)
    n_blocks = n_vocab // width
    maxima = logits[: n_blocks * width].reshape(n_blocks, width).max(axis=1)
    bound = np.partition(maxima, n_blocks - top_k)[n_blocks - top_k]
    return np.flatnonzero(logits >= bound)


class Penalties:
    """Bias and penalties of one sequence, applied to few logits in place."""

    def __init__(self, sampling: SamplerSettings, prompt: Tokens) -> None:
        self._bias_ids = np.array([t for t, _ in sampling.logit_bias], dtype=np.int64)
        self._bias = np.array([b for _, b in sampling.logit_bias], dtype=np.float32)
        self._repeat = sampling.repeat_penalty
        self._presence = sampling.presence_penalty
        self._frequency = sampling.frequency_penalty
        self._recent = list(prompt[-REPEAT_LAST_N:])
        self._generated: Counter[int] = Counter()

    def apply(self, logits: Logits) -> None:
        """Change the logits of the tokens concerned.

        A repeated token's logit is divided by the repeat penalty where it is
        positive and multiplied where it is negative, so that the token always
        gets less likely.
        """
        if self._bias_ids.size:
            logits[self._bias_ids] += self._bias
        if self._repeat != 1.0 and self._recent:
            ids = np.array(list(set(self._recent)), dtype=np.int64)
            seen = logits[ids]
            logits[ids] = np.where(seen > 0, seen / self._repeat, seen * self._repeat)
        if self._generated and (self._presence or self._frequency):
            ids = np.fromiter(self._generated, np.int64, len(self._generated))
            counts = np.fromiter(
                self._generated.values(), np.float32, len(self._generated)
            )
            logits[ids] -= self._presence + self._frequency * counts

    def accept(self, token: int) -> None:
        """Remember a drawn token."""
        self._recent.append(token)
        del self._recent[:-REPEAT_LAST_N]
        self._generated[token] += 1


def describe_token(
    logits: Logits, token: int, n_top: int, piece: Callable[[int], bytes]
) -> TokenLogprob:
    """Build the log-probability record of a token.

    Args:
        logits: `[n_vocab] float32`, before bias and penalties.
        token: The token that was drawn.
        n_top: How many of the most probable tokens to list.
        piece: Gives the bytes of a token.
    """
    peak = float(logits.max())
    norm = peak + float(np.log(np.exp(logits - peak).sum(dtype=np.float64)))
    n_top = min(n_top, logits.size)
    ids = np.argpartition(logits, -n_top)[-n_top:] if n_top else np.empty(0, np.int64)
    ids = ids[np.argsort(logits[ids])[::-1]]
    return TokenLogprob(
        token_id=token,
        bytes=piece(token),
        logprob=float(logits[token]) - norm,
        top=tuple(
            TopLogprob(int(i), piece(int(i)), float(logits[i]) - norm) for i in ids
        ),
    )


def _build_chain(llama: Any, sampling: SamplerSettings, seed: int) -> Any:  # noqa: ANN401
    """Build the chain; each sampler added belongs to it and is freed with it.

    Source: llama.h, llama_sampler_chain_add.
    """
    chain = llama.llama_sampler_chain_init(llama.llama_sampler_chain_default_params())
    parts = [
        (sampling.top_k > 0, llama.llama_sampler_init_top_k, (sampling.top_k,)),
        (
            sampling.typical_p < 1.0,
            llama.llama_sampler_init_typical,
            (sampling.typical_p, MIN_KEEP),
        ),
        (
            sampling.top_p < 1.0,
            llama.llama_sampler_init_top_p,
            (sampling.top_p, MIN_KEEP),
        ),
        (
            sampling.min_p > 0.0,
            llama.llama_sampler_init_min_p,
            (sampling.min_p, MIN_KEEP),
        ),
        (True, llama.llama_sampler_init_temp, (sampling.temperature,)),
        (True, llama.llama_sampler_init_dist, (seed,)),
    ]
    for wanted, build, arguments in parts:
        if wanted:
            llama.llama_sampler_chain_add(chain, build(*arguments))
    return chain
