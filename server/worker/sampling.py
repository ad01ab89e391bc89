"""Drawing tokens: llama.cpp's sampler chain, with sparse penalties before it.

Order: logit bias, penalties, then llama.cpp's chain: top-k, typical, top-p,
min-p, temperature, draw. Bias and penalties touch only the few tokens they
are about, in the logits themselves; llama.cpp's own penalty sampler looks up
every token of the vocabulary in a hash table, several times slower than the
rest of the chain at 150,000 tokens.

The repeat penalty looks at the last tokens of prompt and answer. Presence
and frequency penalties look at the answer alone, as OpenAI defines them.
"""

from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from server.core.events import TokenLogprob, TopLogprob
from server.core.requests import Sampling
from server.worker.backend import Logits
from server.worker.tokens import Tokens

REPEAT_LAST_N = 64
"""How many of the last tokens the repeat penalty looks at."""

WIDE_VOCABULARY = 16_384
"""Tokens from which on several draws are worth several threads."""

MIN_KEEP = 1
"""Candidates that every truncating sampler leaves."""


class ChainSampler:
    """One sequence's sampler over llama.cpp's chain.

    Owns a `llama_sampler *`, freed by `close`. `sample` of different
    samplers may run on several threads at once, since each only reads the
    context's logits of its own row.
    """

    def __init__(
        self,
        llama: Any,  # noqa: ANN401
        context: Any,  # noqa: ANN401
        sampling: Sampling,
        *,
        seed: int,
        prompt: Tokens,
    ) -> None:
        self._llama = llama
        self._context = context
        self._is_greedy = sampling.temperature <= 0.0
        self._penalties = Penalties(sampling, prompt)
        self._chain = None if self._is_greedy else _build_chain(llama, sampling, seed)

    def sample(self, row: int, logits: Logits) -> int:
        """Draw the next token; the logits are changed by bias and penalties."""
        self._penalties.apply(logits)
        if self._chain is None:
            token = int(np.argmax(logits))
        else:
            token = int(
                self._llama.llama_sampler_sample(self._chain, self._context, row)
            )
        self._penalties.accept(token)
        return token

    def close(self) -> None:
        """Free the chain."""
        if self._chain is not None:
            self._llama.llama_sampler_free(self._chain)
            self._chain = None


class Penalties:
    """Bias and penalties of one sequence, applied to few logits in place."""

    def __init__(self, sampling: Sampling, prompt: Tokens) -> None:
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


class SamplingPool:
    """Runs samplers of one step side by side.

    Each draw spends its time inside llama.cpp with the interpreter lock
    released, so plain threads do. With a small vocabulary a draw costs less
    than handing it over, so then they run one after another.

    Args:
        n_threads: Threads that compute.
        n_vocab: Size of the model's vocabulary.
    """

    def __init__(self, n_threads: int, n_vocab: int) -> None:
        self._is_worthwhile = n_threads > 1 and n_vocab >= WIDE_VOCABULARY
        self._executor = ThreadPoolExecutor(n_threads, thread_name_prefix="sample")

    def run(self, draws: Sequence[Callable[[], int]]) -> list[int]:
        """Run all and return their tokens in order."""
        if len(draws) <= 1 or not self._is_worthwhile:
            return [draw() for draw in draws]
        return [f.result() for f in [self._executor.submit(d) for d in draws]]


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


def _build_chain(llama: Any, sampling: Sampling, seed: int) -> Any:  # noqa: ANN401
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
