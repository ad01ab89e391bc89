"""Which candidates stay, by plain references; nothing forbidden ever does."""

import math

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from server.worker import truncation
from tests.worker.native_chain import make_logits

EXTREME = st.floats(-(2.0**99), 2.0**99, width=32) | st.floats(-50, 50, width=32)
FORBIDDEN = st.just(-math.inf)


def as_logits(values):
    return np.array(values, dtype=np.float32)


@st.composite
def any_logits(draw):
    """Give logits of which at least one is allowed."""
    values = draw(st.lists(EXTREME | FORBIDDEN, max_size=30))
    values.insert(draw(st.integers(0, len(values))), draw(EXTREME))
    return as_logits(values)


def probabilities(logits):
    weights = np.exp(logits.astype(np.float64) - logits.max())
    return weights / weights.sum()


CUTS = {
    "top_k": lambda logits, p: truncation.keep_top_k(logits, 1 + int(p * 40)),
    "top_p": truncation.keep_top_p,
    "min_p": lambda logits, p: truncation.keep_min_p(logits, max(p, 1e-12)),
    "typical": truncation.keep_typical,
    "top_n_sigma": lambda logits, p: truncation.keep_top_n_sigma(logits, 10 * p),
    "xtc": truncation.exclude_top_choices,
    "candidates": lambda logits, p: truncation.find_candidates(logits, int(40 * p)),
}


@pytest.mark.parametrize("cut", CUTS.values(), ids=CUTS)
@settings(deadline=None)
@given(logits=any_logits(), p=st.floats(0, 1))
def test_something_allowed_is_kept_and_nothing_forbidden(cut, logits, p):
    kept = cut(logits, p)
    assert kept.size
    assert np.isfinite(logits[kept]).all()
    assert len(set(kept.tolist())) == kept.size


@settings(deadline=None)
@given(st.integers(1, 5000), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_candidates_hold_the_most_probable_tokens(n_vocab, top_k, seed):
    logits = np.random.default_rng(seed).normal(size=n_vocab).astype(np.float32)
    candidates = truncation.find_candidates(logits, top_k)
    wanted = np.argsort(logits)[::-1][: top_k or n_vocab]
    assert set(wanted.tolist()) <= set(candidates.tolist())
    assert sorted(set(candidates.tolist())) == candidates.tolist()


def test_a_wide_vocabulary_leaves_few_candidates():
    logits = np.random.default_rng(1).normal(size=151_936).astype(np.float32)
    assert 40 <= truncation.find_candidates(logits, 40).size < 400


def test_few_allowed_tokens_of_a_wide_vocabulary_are_all_candidates():
    logits = np.full(151_936, -np.inf, dtype=np.float32)
    logits[[5, 70_000]] = 1.0
    assert [5, 70_000] == truncation.find_candidates(logits, 40).tolist()


def test_top_k_keeps_the_best_in_order():
    assert [2, 0] == truncation.keep_top_k(as_logits([3, 1, 4, 2]), 2).tolist()


@settings(deadline=None)
@given(st.integers(1, 3000), st.floats(0, 0.999), st.integers(0, 99))
def test_top_p_keeps_the_fewest_that_reach_it(n_vocab, p, seed):
    logits = make_logits(n_vocab, seed)
    kept = truncation.keep_top_p(logits, p)
    chances = probabilities(logits)
    assert np.argsort(-logits)[: kept.size].tolist() == kept.tolist()
    assert chances[kept].sum() >= p - 1e-6
    assert kept.size == 1 or chances[kept[:-1]].sum() < p + 1e-6


def test_min_p_is_relative_to_the_best():
    logits = np.log(as_logits([0.5, 0.24, 0.26]))
    assert [0, 2] == truncation.keep_min_p(logits, 0.5).tolist()


def test_typical_keeps_what_surprises_as_much_as_the_average():
    """The best alone is less surprising than the many behind it."""
    logits = np.log(as_logits([0.4] + [0.1] * 6))
    kept = truncation.keep_typical(logits, 0.5)
    assert 0 not in kept.tolist()
    assert 6 == kept.size


@pytest.mark.parametrize(
    ("n", "expected"), [(0.01, [3]), (1.0, [2, 3]), (9, [0, 1, 2, 3])]
)
def test_top_n_sigma_counts_in_standard_deviations(n, expected):
    logits = as_logits([0, 0, 9, 10])
    assert expected == truncation.keep_top_n_sigma(logits, n).tolist()


def test_forbidden_tokens_do_not_count_in_the_standard_deviation():
    logits = as_logits([0, 0, 9, 10, -np.inf, -np.inf])
    assert [2, 3] == truncation.keep_top_n_sigma(logits, 1.0).tolist()


@pytest.mark.parametrize(
    ("threshold", "expected"),
    [(0.5, [0, 1, 2, 3]), (0.25, [1, 2, 3]), (0.15, [2, 3]), (0.0, [3])],
)
def test_xtc_leaves_out_all_top_choices_but_the_last(threshold, expected):
    logits = np.log(as_logits([0.45, 0.3, 0.2, 0.05]))
    assert expected == truncation.exclude_top_choices(logits, threshold).tolist()


@settings(deadline=None)
@given(any_logits(), st.lists(st.floats(0, 20), min_size=1, max_size=4))
@example(as_logits([-np.inf, 1e30, 9e29]), [0.0] * 4)
@example(as_logits([-np.inf, -1e30, -9e29]), [0.0] * 4)
def test_the_best_stays_finite_and_best_at_any_temperature(logits, temperatures):
    scaled = logits
    for temperature in temperatures:
        scaled = truncation.scale(scaled, temperature)
    assert np.isfinite(scaled).any()
    assert scaled[np.argmax(logits)] == scaled.max()
    assert (scaled[np.isinf(logits)] == -np.inf).all()
    assert not np.isnan(scaled).any()


@pytest.mark.parametrize(
    ("chances", "exponent", "expected"),
    [
        ([1, 1, 1, 1], 1.0, 1.5),
        ([1, 0, 0, 0], 1.0, 0.5),
        ([1, 1, 0, 0], 1.0, 1.0),
        ([1, 1, 0, 0], 2.0, 0.75),
    ],
)
def test_the_dynamic_temperature_follows_the_entropy(chances, exponent, expected):
    logits = as_logits([0.0 if chance else -200.0 for chance in chances])
    found = truncation.find_dynamic_temperature(logits, 1.0, 0.5, exponent)
    assert expected == pytest.approx(found)


def test_a_dynamic_temperature_ends_at_0():
    logits = as_logits([0, -200])
    assert 0.0 == pytest.approx(
        truncation.find_dynamic_temperature(logits, 0.5, 2.0, 1.0)
    )
    assert truncation.find_dynamic_temperature(logits[:1], 0.5, 2.0, 1.0) is None


def test_all_allowed_needs_no_indices():
    assert truncation.drop_forbidden(as_logits([1, 2])) is None
    assert [1] == truncation.drop_forbidden(as_logits([-np.inf, 2])).tolist()
