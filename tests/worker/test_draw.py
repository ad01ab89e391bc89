"""The last step: random numbers, mirostat and adaptive-p."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.sampling import SamplerSettings
from server.worker.draw import AdaptiveP, Lot, Mirostat, Random
from tests.worker.native_chain import NativeChain, make_logits

OFF = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
}


def mirostat(version, **options):
    settings = SamplerSettings(mirostat=version, **options)
    return Mirostat(settings, 1)


def adaptive(**options):
    return AdaptiveP(SamplerSettings(**options), 1)


def surprise_of(logits, token):
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return -math.log2(weights[token] / weights.sum())


def test_the_generator_is_the_mersenne_twister_of_cpp():
    """Source: the C++ standard: the 10000th word of the default seed."""
    numbers = Random(5489)
    words = [numbers._twister.getrandbits(32) for _ in range(10_000)]
    assert 4123659995 == words[-1]
    numbers = Random(5489)
    assert numbers.draw() == (words[0] + (words[1] << 32)) / 2**64
    assert numbers.draw_single() == pytest.approx(words[2] / 2**32, rel=1e-6)


@settings(deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_a_number_is_from_0_to_below_1(seed):
    numbers = Random(seed)
    assert all(
        0 <= numbers.draw() < 1 and 0 <= numbers.draw_single() < 1 for _ in range(50)
    )


class Always(Random):
    """Draws the same number."""

    def __init__(self, number):
        self.number = number

    def draw(self):
        return self.number


@pytest.mark.parametrize("number", [0.0, 0.3, 0.999999, math.nextafter(1, 0)])
def test_no_random_number_draws_what_is_forbidden(number):
    lot = Lot(1)
    lot._random = Always(number)
    for logits in ([-np.inf, 1, 1, -np.inf], [-np.inf, 3], [-np.inf, 1e30, -1e30]):
        values = np.array(logits, dtype=np.float32)
        assert np.isfinite(values[lot.take(values)])


def test_frequencies_follow_the_probabilities():
    """A chi-square test with 4 degrees of freedom; 18.5 is the 0.1 % point."""
    chances = np.array([0.5, 0.25, 0.15, 0.06, 0.04])
    logits = np.log(chances).astype(np.float32)
    lot, n = Lot(11), 4000
    seen = np.bincount([lot.take(logits) for _ in range(n)], minlength=5)
    assert ((seen - n * chances) ** 2 / (n * chances)).sum() < 18.5


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_keeps_the_surprise_near_its_target(version):
    """As it counts it, among the tokens that it kept: a bounded mu says so."""
    means = []
    for tau in (1.5, 3.0, 5.0):
        sampler = mirostat(version, mirostat_tau=tau)
        surprises = []
        for step in range(1000):
            logits = make_logits(5000, step % 50, spread=2.5)
            surprises.append(surprise_of(logits, sampler.take(logits)))
        moved = sampler.mu - 2 * tau
        assert 0.0 == pytest.approx(moved / (0.1 * len(surprises)), abs=0.1)
        means.append(np.mean(surprises))
    assert means[0] + 0.5 < means[1] < means[2] - 0.5


@pytest.mark.parametrize("version", [1, 2])
def test_mirostat_draws_what_llama_cpps_draws(native, version):
    settings = SamplerSettings(**OFF, mirostat=version, mirostat_tau=3.0)
    ours = Mirostat(settings, 7)
    theirs = NativeChain(native.llama, settings, 7, 3000)
    drawn = [ours.take(make_logits(3000, step)) for step in range(200)]
    assert drawn == [theirs.sample(make_logits(3000, step)) for step in range(200)]
    theirs.close()


def test_mirostat_1_goes_on_drawing_after_much_predictable_text(native):
    """llama.cpp turns greedy when the number of tokens to keep overflows."""
    settings = SamplerSettings(**OFF, mirostat=1)
    ours = Mirostat(settings, 7)
    sure = np.zeros(200, dtype=np.float32)
    sure[3] = 20.0
    assert [3] * 600 == [ours.take(sure) for _ in range(600)]
    assert ours.mu > 200
    even = np.linspace(0, 1, 200).astype(np.float32)
    assert len({ours.take(even) for _ in range(50)}) > 25


def test_a_token_without_an_alternative_does_not_move_mirostat():
    sampler = mirostat(2)
    logits = np.array([-np.inf, 4.0, -np.inf], dtype=np.float32)
    assert [1] * 20 == [sampler.take(logits) for _ in range(20)]
    assert 10.0 == sampler.mu


@settings(deadline=None)
@given(
    st.sampled_from([1, 2]),
    st.floats(0, 100),
    st.floats(0, 1),
    st.lists(
        st.floats(-(2.0**99), 2.0**99, width=32) | st.just(-math.inf) | st.just(0.5),
        min_size=1,
        max_size=20,
    ),
    st.floats(-5, 5, width=32),
)
def test_mirostat_survives_extremes(version, tau, eta, values, sure):
    sampler = mirostat(version, mirostat_tau=tau, mirostat_eta=eta)
    logits = np.array([*values, sure], dtype=np.float32)
    for _ in range(5):
        assert np.isfinite(logits[sampler.take(logits)])
        assert math.isfinite(sampler.mu)


@pytest.mark.parametrize("target", [0.1, 0.3, 0.6])
def test_adaptive_p_prefers_probabilities_near_its_target(target):
    sampler = adaptive(adaptive_target=target)
    chances = np.array([0.6, 0.3, 0.1])
    logits = np.log(chances).astype(np.float32)
    drawn = [chances[sampler.take(logits)] for _ in range(500)]
    assert target == pytest.approx(np.mean(drawn), abs=0.07)
    plain = float((chances**2).sum())
    assert abs(target - np.mean(drawn)) < abs(target - plain)


def test_adaptive_p_starts_from_its_target_and_learns():
    sampler = adaptive(adaptive_target=0.5, adaptive_decay=0.9)
    assert (5.0, 10.0) == pytest.approx((sampler.weighted_sum, sampler.total_weight))
    sampler.take(np.zeros(4, dtype=np.float32))
    assert (4.75, 10.0) == pytest.approx((sampler.weighted_sum, sampler.total_weight))


@pytest.mark.parametrize("target", [-1.0, 0.0, 0.2, 1.0])
def test_adaptive_p_draws_what_llama_cpps_draws(native, target):
    settings = SamplerSettings(
        **OFF, adaptive_target=target, samplers=("min_p", "adaptive_p")
    )
    ours = AdaptiveP(settings, 7)
    theirs = NativeChain(native.llama, settings, 7, 300)
    drawn = [ours.take(make_logits(300, step)) for step in range(200)]
    if target >= 0:
        expected = [theirs.sample(make_logits(300, step)) for step in range(200)]
        assert expected == drawn
    else:
        lot = Lot(7)
        assert drawn == [lot.take(make_logits(300, step)) for step in range(200)]
    theirs.close()


def test_adaptive_p_never_draws_what_is_forbidden():
    """At a target of 0 the least probable are the most wanted."""
    sampler = adaptive(adaptive_target=0.0)
    logits = np.array([-np.inf, 9.0, -np.inf, 0.0, -np.inf], dtype=np.float32)
    assert {1, 3} >= {sampler.take(logits) for _ in range(200)}
    alone = np.array([-np.inf, -1e30], dtype=np.float32)
    assert 1 == sampler.take(alone)
