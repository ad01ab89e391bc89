"""Drawing tokens: llama.cpp's samplers, in its order and with its numbers.

Logit bias comes first. Then come the samplers, in the order that a request
names or in llama.cpp's: penalties, DRY, top-n-sigma, top-k, typical, top-p,
min-p, XTC, temperature. One that is not named is not used. At last a token is
drawn: by chance, or by adaptive-p where a target is set. Mirostat takes the
place of all samplers but the temperature.

A temperature of 0 takes the most probable token; then only bias, penalties and
DRY matter. All candidates' logits may hold minus infinity where a constraint
forbids a token. Such a token is never drawn.

The work is done by numpy and not by llama.cpp's own samplers: those copy the
whole vocabulary for every token, go through it where a few entries would do,
and stumble over extreme values. The outcome is the same, draw by draw.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from server.core.events import TokenLogprob, TopLogprob
from server.core.sampling import DEFAULT_ORDER, SamplerSettings
from server.worker import truncation
from server.worker.backend import Logits
from server.worker.draw import AdaptiveP, Draw, Lot, Mirostat, Random
from server.worker.penalties import Bias, Penalties, TokenIds
from server.worker.repetition import Repetition
from server.worker.tokens import Tokens

_MAX_XTC_THRESHOLD = 0.5
"""Above, no two tokens can reach it."""


class NothingAllowed(Exception):
    """Every token is forbidden, so none can be drawn."""


@dataclass(slots=True)
class _Candidates:
    """Tokens that may still be drawn; `ids` None means all, in order."""

    logits: Logits
    ids: TokenIds | None = None

    def keep(self, indices: TokenIds) -> None:
        self.logits = self.logits[indices]
        self.ids = indices if self.ids is None else self.ids[indices]


_Step = Callable[[_Candidates], None]


class ChainSampler:
    """One sequence's sampler.

    Args:
        sampling: What is asked for.
        seed: 0 to 2**32 - 1; the same one draws the same tokens.
        prompt: What was read already.
        piece: Gives the bytes of a token.
    """

    def __init__(
        self,
        sampling: SamplerSettings,
        *,
        seed: int,
        prompt: Tokens,
        piece: Callable[[int], bytes],
    ) -> None:
        self._sampling = sampling
        self._seed = seed
        self._xtc_random: Random | None = None
        order = DEFAULT_ORDER if sampling.samplers is None else sampling.samplers
        if sampling.mirostat:
            order = ("temperature",)
        self._is_greedy = sampling.temperature <= 0.0 and "temperature" in order
        self._bias = Bias(sampling)
        self._penalties: Penalties | None = None
        if "penalties" in order:
            penalties = Penalties(sampling, prompt)
            self._penalties = penalties if penalties.is_active else None
        self._repetition: Repetition | None = None
        is_dry = sampling.dry_multiplier > 0.0 and sampling.dry_penalty_last_n != 0
        if "dry" in order and is_dry:
            self._repetition = Repetition(sampling, prompt, piece)
        self._steps = self._plan(order)
        self._draw: Draw = self._make_draw()

    def sample(self, logits: Logits) -> int:
        """Draw the next token; the logits are changed by bias and penalties.

        Raises:
            NothingAllowed: All logits are minus infinity.
        """
        self._bias.apply(logits)
        candidates = _Candidates(logits)
        # Without this, a step would have to divide by nothing.
        if not logits.max() > -np.inf:
            msg = "no token is allowed here"
            raise NothingAllowed(msg)
        for step in self._steps:
            step(candidates)
        if self._is_greedy:
            index = int(np.argmax(candidates.logits))
        else:
            index = self._draw.take(candidates.logits)
        token = index if candidates.ids is None else int(candidates.ids[index])
        self.accept(token)
        return token

    def accept(self, token: int) -> None:
        """Remember a token that was not drawn here but is part of the answer."""
        if self._penalties is not None:
            self._penalties.accept(token)
        if self._repetition is not None:
            self._repetition.accept(token)

    def close(self) -> None:
        """Do nothing: all memory is Python's."""

    def _make_draw(self) -> Draw:
        sampling, seed = self._sampling, self._seed
        if sampling.mirostat:
            return Mirostat(sampling, seed)
        is_adaptive = (
            sampling.adaptive_target >= 0.0
            if sampling.samplers is None
            else "adaptive_p" in sampling.samplers
        )
        return AdaptiveP(sampling, seed) if is_adaptive else Lot(seed)

    def _plan(self, order: tuple[str, ...]) -> tuple[_Step, ...]:
        """List the steps that do something."""
        sampling = self._sampling
        if self._is_greedy:
            order = tuple(name for name in order if name in {"penalties", "dry"})
        has_xtc = (
            sampling.xtc_probability > 0.0
            and sampling.xtc_threshold <= _MAX_XTC_THRESHOLD
        )
        steps: dict[str, tuple[bool, _Step]] = {
            "penalties": (self._penalties is not None, self._apply_penalties),
            "dry": (self._repetition is not None, self._apply_repetition),
            "top_n_sigma": (sampling.top_n_sigma > 0.0, self._cut_top_n_sigma),
            "top_k": (sampling.top_k > 0, self._cut_top_k),
            "typ_p": (sampling.typical_p < 1.0, self._cut_typical),
            "top_p": (sampling.top_p < 1.0, self._cut_top_p),
            "min_p": (sampling.min_p > 0.0, self._cut_min_p),
            "xtc": (has_xtc, self._exclude_top_choices),
            "temperature": (True, self._choose_scale()),
        }
        return tuple(
            steps[name][1] for name in order if name in steps and steps[name][0]
        )

    def _apply_penalties(self, candidates: _Candidates) -> None:
        if self._penalties is not None:
            self._penalties.apply(candidates.logits, candidates.ids)

    def _apply_repetition(self, candidates: _Candidates) -> None:
        if self._repetition is not None:
            self._repetition.apply(candidates.logits, candidates.ids)

    def _cut_top_n_sigma(self, candidates: _Candidates) -> None:
        n = self._sampling.top_n_sigma
        candidates.keep(truncation.keep_top_n_sigma(candidates.logits, n))

    def _cut_top_k(self, candidates: _Candidates) -> None:
        k = self._sampling.top_k
        candidates.keep(truncation.keep_top_k(candidates.logits, k))

    def _cut_typical(self, candidates: _Candidates) -> None:
        p = self._sampling.typical_p
        candidates.keep(truncation.keep_typical(candidates.logits, p))

    def _cut_top_p(self, candidates: _Candidates) -> None:
        p = self._sampling.top_p
        candidates.keep(truncation.keep_top_p(candidates.logits, p))

    def _cut_min_p(self, candidates: _Candidates) -> None:
        p = self._sampling.min_p
        candidates.keep(truncation.keep_min_p(candidates.logits, p))

    def _exclude_top_choices(self, candidates: _Candidates) -> None:
        # One that stands alone takes no random number.
        if candidates.logits.size > 1:
            # A generator of its own, as llama.cpp's has.
            if self._xtc_random is None:
                self._xtc_random = Random(self._seed)
            sampling = self._sampling
            chance = self._xtc_random.draw_single()
            if chance <= np.float32(sampling.xtc_probability):
                threshold = sampling.xtc_threshold
                candidates.keep(
                    truncation.exclude_top_choices(candidates.logits, threshold)
                )

    def _choose_scale(self) -> _Step:
        """Choose between a fixed temperature and a dynamic one."""
        sampling = self._sampling
        middle, spread = sampling.temperature, sampling.dynatemp_range

        def scale(candidates: _Candidates) -> None:
            candidates.logits = truncation.scale(candidates.logits, middle)

        def scale_by_entropy(candidates: _Candidates) -> None:
            candidates.keep(
                truncation.sort_down(
                    candidates.logits, np.flatnonzero(candidates.logits > -np.inf)
                )
            )
            temperature = truncation.find_dynamic_temperature(
                candidates.logits, middle, spread, sampling.dynatemp_exponent
            )
            if temperature is not None:
                candidates.logits = truncation.scale(candidates.logits, temperature)

        is_dynamic = spread > 0.0 and not sampling.mirostat
        return scale_by_entropy if is_dynamic else scale


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
