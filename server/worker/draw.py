"""The last step of sampling: one token out of the candidates.

`Lot` draws by probability. `Mirostat` and `AdaptiveP` keep a state of their own
by which they steer towards a surprise or a probability that was asked for.

The random numbers are those of llama.cpp, whose generator is the Mersenne
twister, so that a seed can be taken from one server to the other.

Source: llama.cpp, src/llama-sampler.cpp; libstdc++, bits/random.tcc,
generate_canonical and discrete_distribution.
"""

import math
import random
from typing import Final, Protocol

import numpy as np

from server.core.sampling import SamplerSettings
from server.worker.backend import Logits
from server.worker.penalties import TokenIds
from server.worker.truncation import keep_top_k, normalize, sort_down, weigh

# Source: Matsumoto and Nishimura, mt19937ar.c, init_genrand
_STATE_WORDS: Final = 624
_SPREAD: Final = 1812433253
_WORD_MASK: Final = 0xFFFFFFFF

_MIROSTAT_TOKENS: Final = 100
"""How many of the best mirostat estimates from. Source: common/sampling.cpp."""
_MAX_MU: Final = 1024.0
"""Nothing is as surprising, so a larger bound cuts nothing more off."""

# Source: llama-sampler.cpp, adaptive probability transformation constants
_DISTRIBUTION_WIDTH: Final = 0.3
_PEAK_LOGIT: Final = 5.0
_SHARPNESS: Final = 10.0


class Random:
    """Numbers from 0 to below 1, as C++'s standard library makes them.

    Args:
        seed: 0 to 2**32 - 1.
    """

    def __init__(self, seed: int) -> None:
        # Python seeds its twister in another way than C++, so its state is set.
        words = [seed]
        for index in range(1, _STATE_WORDS):
            last = words[-1]
            words.append((_SPREAD * (last ^ (last >> 30)) + index) & _WORD_MASK)
        # Chances, not secrets.
        self._twister = random.Random(0)  # noqa: S311
        self._twister.setstate((3, (*words, _STATE_WORDS), None))

    def draw(self) -> float:
        """Draw with 53 bits."""
        return min(self._twister.getrandbits(64) / 2**64, math.nextafter(1.0, 0.0))

    def draw_single(self) -> float:
        """Draw with 24 bits."""
        number = np.float32(self._twister.getrandbits(32)) / np.float32(2**32)
        return float(min(number, np.nextafter(np.float32(1), np.float32(0))))


class Draw(Protocol):
    """Takes one of the candidates."""

    def take(self, logits: Logits) -> int:
        """Return the index of one whose logit is finite."""
        ...


class Lot:
    """Draws by the probabilities as they are."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)

    def take(self, logits: Logits) -> int:
        """Draw one."""
        return _pick(weigh(logits), self._random.draw())


class Mirostat:
    """Keeps the surprise of the tokens drawn near a target.

    Version 1 estimates how the probabilities fall and from that how many of
    the best to keep; version 2 keeps those whose surprise is at most `mu`.
    After each draw `mu` is moved by the error.

    A token that was forced, or the only one allowed, moves nothing: there was
    nothing to steer. llama.cpp's version 1 turns greedy for good once the
    number of tokens to keep exceeds 31 bits, about a hundred predictable
    tokens on; here it means all.

    Source: Mirostat, arXiv 2007.14966.
    """

    def __init__(self, sampling: SamplerSettings, seed: int) -> None:
        self._version = sampling.mirostat
        self._tau = sampling.mirostat_tau
        self._eta = sampling.mirostat_eta
        self._random = Random(seed)
        self.mu = 2.0 * self._tau

    def take(self, logits: Logits) -> int:
        """Draw one of a whole vocabulary, and learn from it."""
        finite = np.flatnonzero(logits > -np.inf)
        if finite.size == 1:
            return int(finite[0])
        kept = self._keep_best(logits) if self._version == 1 else self._keep(logits)
        weights = weigh(logits[kept])
        place = _pick_discrete(weights, self._random)
        surprise = -math.log2(float(weights[place]) / float(weights.sum()))
        mu = self.mu - self._eta * (surprise - self._tau)
        self.mu = max(-_MAX_MU, min(mu, _MAX_MU))
        return int(kept[place])

    def _keep(self, logits: Logits) -> TokenIds:
        surprises = -normalize(logits) / math.log(2.0)
        kept = np.flatnonzero(surprises <= self.mu)
        return sort_down(logits, kept) if kept.size else keep_top_k(logits, 1)

    def _keep_best(self, logits: Logits) -> TokenIds:
        n = logits.size
        best = logits[keep_top_k(logits, min(n, _MIROSTAT_TOKENS))].astype(np.float64)
        ranks = np.arange(1, best.size)
        steps = np.log((ranks + 1) / ranks)
        falls = best[:-1] - best[1:]
        slope = float((steps * falls).sum() / (steps * steps).sum())
        return keep_top_k(logits, self._count(slope, n))

    def _count(self, slope: float, n_vocab: int) -> int:
        """Compute how many to keep, in logarithms, which do not overflow."""
        if slope <= 0.0:  # all are alike
            return n_vocab
        epsilon = slope - 1.0
        log_n = math.log(n_vocab)
        if abs(epsilon * log_n) < 1e-9:  # noqa: PLR2004 - the limit at 0
            log_ratio = -math.log(max(log_n, 1e-9))
        else:
            exponent = min(-epsilon * log_n, 700.0)
            log_ratio = math.log(epsilon / -math.expm1(exponent))
        log_k = (log_ratio + self.mu * math.log(2.0)) / slope
        return n_vocab if log_k >= log_n else max(int(math.exp(log_k)), 1)


class AdaptiveP:
    """Prefers tokens whose probability is near a target.

    The target of each step makes up for what the average of the last tokens
    missed. Forced tokens do not count in it.

    Source: llama.cpp, llama_sampler_adaptive_p; its pull request 17927.
    """

    def __init__(self, sampling: SamplerSettings, seed: int) -> None:
        self._target = sampling.adaptive_target
        self._decay = min(sampling.adaptive_decay, 0.99)
        self._random = Random(seed)
        self.total_weight = 1.0 / (1.0 - self._decay)
        self.weighted_sum = self._target * self.total_weight

    def take(self, logits: Logits) -> int:
        """Draw one, and learn from it."""
        probabilities = np.exp(normalize(logits))
        if self._target < 0.0:
            return _pick_discrete(probabilities.astype(np.float32), self._random)
        average = self.weighted_sum / self.total_weight
        target = min(max(2.0 * self._target - average, 0.0), 1.0)
        distance = np.abs(probabilities - target) / _DISTRIBUTION_WIDTH
        changed = _PEAK_LOGIT - _SHARPNESS * distance * distance / (1.0 + distance)
        changed[logits == -np.inf] = -np.inf
        index = _pick_discrete(weigh(changed.astype(np.float32)), self._random)
        self.weighted_sum = float(probabilities[index]) + self._decay * (
            self.weighted_sum
        )
        self.total_weight = 1.0 + self._decay * self.total_weight
        return index


def _pick(weights: Logits, share: float) -> int:
    """Find where the running sum of the weights reaches a share of all.

    Args:
        weights: `[n] float32`, not all 0.
        share: 0 to below 1.
    """
    reached = np.cumsum(weights, dtype=np.float64)
    index = int(np.searchsorted(reached, share * reached[-1]))
    if weights[index] > 0.0:
        return index
    # A share of exactly 0 reaches what must not be drawn.
    return int(np.argmax(weights > 0.0))


def _pick_discrete(weights: Logits, numbers: Random) -> int:
    """Draw by weights; one alone takes no random number, as in libstdc++."""
    return 0 if weights.size == 1 else _pick(weights, numbers.draw())
