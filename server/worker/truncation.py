"""Samplers that leave some candidates out, and those that rescale them.

Each takes the candidates' logits, `[n] float32` with one at least finite, and
gives the indices of those it keeps, or new logits. Minus infinity marks a
token that must not be drawn; nothing here keeps one.

They follow llama.cpp's samplers, down to the order in which candidates come
out, since the draw depends on it: the same logits, settings and seed give the
same token. What differs is speed and safety. llama.cpp copies and often sorts
the whole vocabulary; here a bound is found first, and only what lies above it
is sorted. And no logits, however extreme, lead to NaN: there they do, with a
probability of 0 in typical sampling or a temperature near 0.

Source: llama.cpp, src/llama-sampler.cpp.
"""

import math
from typing import Final

import numpy as np
import numpy.typing as npt

from server.worker.backend import Logits
from server.worker.penalties import TokenIds

LEAST_TEMPERATURE: Final = 1e-6
"""Takes the best token as a temperature of 0 does."""

_BLOCKS_PER_TOKEN: Final = 8
_LEAST_WIDTH: Final = 8
_TOP_P_DEPTHS: Final = (4.0, 8.0, 16.0)
"""How far below the best logit top-p looks first."""
_SAFE_LOGIT: Final = 1e20
"""Divided by the least temperature, it is still a 32-bit float."""
_FULLY_UNLIKELY: Final = 100.0
"""A logit so far below the best has a probability of 0 in 32 bits."""


def find_candidates(logits: Logits, top_k: int) -> TokenIds:
    """Find tokens that include the `top_k` most probable ones.

    The maxima of blocks give a bound without sorting anything: if `top_k`
    blocks reach a value, at least so many tokens do. So some hundred candidates
    are left of a whole vocabulary.

    Args:
        logits: `[n] float32`.
        top_k: 0 means all tokens.

    Returns:
        Indices in ascending order, none of a token that must not be drawn.
    """
    n = logits.size
    width = n // (_BLOCKS_PER_TOKEN * top_k) if top_k > 0 else 0
    bound = -np.inf
    if width >= _LEAST_WIDTH:
        n_blocks = n // width
        maxima = logits[: n_blocks * width].reshape(n_blocks, width).max(axis=1)
        bound = np.partition(maxima, n_blocks - top_k)[n_blocks - top_k]
    if bound == -np.inf:
        return np.flatnonzero(logits > bound)
    return np.flatnonzero(logits >= bound)


def drop_forbidden(logits: Logits) -> TokenIds | None:
    """Find the tokens that may be drawn; None where all may."""
    return None if logits.min() > -np.inf else np.flatnonzero(logits > -np.inf)


def sort_down(logits: Logits, indices: TokenIds) -> TokenIds:
    """Order indices by their logits, best first."""
    return indices[np.argsort(-logits[indices])]


def keep_top_k(logits: Logits, k: int) -> TokenIds:
    """Keep the `k` best, best first; `k` is at least 1."""
    return sort_down(logits, find_candidates(logits, k))[:k]


def keep_top_n_sigma(logits: Logits, n: float) -> TokenIds:
    """Keep what lies within `n` standard deviations of the best logit.

    Source: Top-nsigma, arXiv 2411.07641.
    """
    allowed = drop_forbidden(logits)
    finite = logits if allowed is None else logits[allowed]
    deviation = float(finite.std(dtype=np.float64))
    return np.flatnonzero(logits >= float(logits.max()) - n * deviation)


def keep_min_p(logits: Logits, p: float) -> TokenIds:
    """Keep what is at least `p` times as probable as the best; `p` above 0."""
    bound = np.float32(logits.max()) + np.float32(math.log(p))
    return np.flatnonzero(logits >= bound)


def keep_top_p(logits: Logits, p: float) -> TokenIds:
    """Keep the fewest that together reach a probability of `p`, best first."""
    weights = weigh(logits)
    wanted = p * float(weights.sum(dtype=np.float64))
    best = float(logits.max())
    for depth in _TOP_P_DEPTHS:
        indices = np.flatnonzero(logits >= best - depth)
        if float(weights[indices].sum(dtype=np.float64)) > wanted:
            break
    else:
        indices = np.flatnonzero(logits > -np.inf)
    ordered = sort_down(logits, indices)
    reached = np.cumsum(weights[ordered], dtype=np.float64)
    return ordered[: int(np.searchsorted(reached, wanted)) + 1]


def keep_typical(logits: Logits, p: float) -> TokenIds:
    """Keep the most typical that together exceed a probability of `p`.

    The most typical are those whose surprise is nearest to the entropy. They
    come out in that order.

    Source: Locally Typical Sampling, arXiv 2202.00666.
    """
    likely = np.flatnonzero(logits >= float(logits.max()) - _FULLY_UNLIKELY)
    log_probabilities = normalize(logits[likely])
    probabilities = np.exp(log_probabilities)
    entropy = -float((probabilities * log_probabilities).sum())
    distance = np.abs(-log_probabilities - entropy).astype(np.float32)
    typical = np.argsort(distance)
    reached = np.cumsum(probabilities[typical])
    n_kept = int(np.searchsorted(reached, p, side="right")) + 1
    return likely[typical[:n_kept]]


def exclude_top_choices(logits: Logits, threshold: float) -> TokenIds:
    """Leave out all that reach `threshold` but the least probable of them.

    Best first. Whether it is done at all is for the caller to draw.
    """
    ordered = sort_down(logits, np.flatnonzero(logits > -np.inf))
    probabilities = np.exp(normalize(logits[ordered]))
    n_above = int((probabilities >= threshold).sum())
    return ordered[max(n_above - 1, 0) :]


def scale(logits: Logits, temperature: float) -> Logits:
    """Divide by a temperature, 0 and less counting as the least there is.

    The best stays finite; others may become so improbable that they count as
    forbidden.
    """
    peak = logits.max()
    if abs(peak) > _SAFE_LOGIT:
        logits = logits - peak
    with np.errstate(over="ignore"):
        scaled: Logits = logits / np.float32(max(temperature, LEAST_TEMPERATURE))
    return scaled


def find_dynamic_temperature(
    logits: Logits, temperature: float, spread: float, exponent: float
) -> float | None:
    """Choose a temperature by how evenly spread the probabilities are.

    Args:
        logits: All finite.
        temperature: The middle.
        spread: How far below and above it may go.
        exponent: How it follows the entropy, which is 0 to 1 of what it could be.

    Returns:
        None where there is nothing to choose.

    Source: arXiv 2309.02772.
    """
    if logits.size <= 1:
        return None
    log_probabilities = normalize(logits)
    entropy = -float((np.exp(log_probabilities) * log_probabilities).sum())
    evenness = min(max(entropy / math.log(logits.size), 0.0), 1.0)
    low, high = max(0.0, temperature - spread), temperature + spread
    return low + (high - low) * float(evenness**exponent)


def weigh(logits: Logits) -> npt.NDArray[np.float32]:
    """Give each its probability but for a factor; the best has 1."""
    weights: npt.NDArray[np.float32] = np.exp(logits - logits.max())
    return weights


def normalize(logits: Logits) -> npt.NDArray[np.float64]:
    """Take the logarithm of each probability, in 64 bits."""
    lowered = logits.astype(np.float64) - float(logits.max())
    result: npt.NDArray[np.float64] = lowered - math.log(float(np.exp(lowered).sum()))
    return result
