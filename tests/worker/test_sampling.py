"""Bias, penalties, log probabilities, and llama.cpp's own chain."""

import math
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.sampling import SamplerSettings
from server.worker.sampling import (
    REPEAT_LAST_N,
    Penalties,
    describe_token,
    find_candidates,
)
from server.worker.tokens import make_tokens

N_VOCAB = 16
LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=N_VOCAB, max_size=N_VOCAB)
TOKENS = st.lists(st.integers(0, N_VOCAB - 1), max_size=100)


def reference(logits, sampling, prompt, generated):
    """Apply bias and penalties one token at a time, in plain Python."""
    out = list(logits)
    for token, bias in sampling.logit_bias:
        out[token] += bias
    recent = (list(prompt) + list(generated))[-REPEAT_LAST_N:]
    for token in set(recent):
        if out[token] > 0:
            out[token] /= sampling.repeat_penalty
        else:
            out[token] *= sampling.repeat_penalty
    for token, count in Counter(generated).items():
        out[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
    return out


@given(
    LOGITS,
    TOKENS,
    TOKENS,
    st.floats(0.5, 2),
    st.floats(-2, 2),
    st.floats(-2, 2),
    st.dictionaries(st.integers(0, N_VOCAB - 1), st.floats(-100, 100), max_size=5),
)
def test_bias_and_penalties_equal_a_plain_reference(  # noqa: PLR0917
    logits, prompt, generated, repeat, presence, frequency, bias
):
    sampling = SamplerSettings(
        repeat_penalty=repeat,
        presence_penalty=presence,
        frequency_penalty=frequency,
        logit_bias=tuple(bias.items()),
    )
    penalties = Penalties(sampling, make_tokens(prompt))
    for token in generated:
        penalties.accept(token)
    changed = np.array(logits, dtype=np.float32)
    penalties.apply(changed)
    expected = reference(logits, sampling, prompt, generated)
    assert changed.tolist() == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_the_prompt_counts_for_repeat_but_not_for_presence_and_frequency():
    sampling = SamplerSettings(
        repeat_penalty=2.0, presence_penalty=1.0, frequency_penalty=0.5
    )
    penalties = Penalties(sampling, make_tokens([3, 3]))
    penalties.accept(4)
    penalties.accept(4)
    logits = np.array([8, 8, 8, 8, 8, -8], dtype=np.float32)
    penalties.apply(logits)
    assert [8, 8, 8, 4, 4 - 1 - 2 * 0.5, -8] == logits.tolist()


def test_a_repeated_token_gets_less_likely_whatever_its_sign():
    penalties = Penalties(SamplerSettings(repeat_penalty=2.0), make_tokens([0, 1]))
    logits = np.array([4.0, -4.0, 1.0], dtype=np.float32)
    penalties.apply(logits)
    assert [2.0, -8.0, 1.0] == logits.tolist()


def test_the_repeat_penalty_forgets_what_is_long_past():
    prompt = [1] + [2] * REPEAT_LAST_N
    penalties = Penalties(SamplerSettings(repeat_penalty=2.0), make_tokens(prompt))
    logits = np.full(3, 4.0, dtype=np.float32)
    penalties.apply(logits)
    assert [4.0, 4.0, 2.0] == logits.tolist()


def test_nothing_changes_where_everything_is_off():
    penalties = Penalties(SamplerSettings(repeat_penalty=1.0), make_tokens([1, 2]))
    penalties.accept(1)
    logits = np.arange(4, dtype=np.float32)
    penalties.apply(logits)
    assert [0, 1, 2, 3] == logits.tolist()


# Log probabilities


def name(token):
    return b"<%d>" % token


@given(LOGITS, st.integers(0, N_VOCAB - 1), st.integers(0, 20))
def test_a_record_is_the_log_softmax(logits, token, n_top):
    values = np.array(logits, dtype=np.float32)
    record = describe_token(values, token, n_top, name)
    total = math.log(math.fsum(math.exp(each - max(logits)) for each in logits))
    expected = [each - max(logits) - total for each in logits]
    assert (token, name(token)) == (record.token_id, record.bytes)
    assert record.logprob == pytest.approx(expected[token], abs=1e-3)
    assert min(n_top, N_VOCAB) == len(record.top)
    listed = [each.logprob for each in record.top]
    assert sorted(listed, reverse=True) == listed
    best = sorted(expected, reverse=True)[: len(listed)]
    assert listed == pytest.approx(best, abs=1e-3)
    for each in record.top:
        assert each.logprob == pytest.approx(expected[each.token_id], abs=1e-3)
        assert name(each.token_id) == each.bytes
    assert [float(each) for each in logits] == values.tolist()


@given(st.integers(1, 5000), st.integers(0, 60), st.integers(0, 2**32 - 1))
def test_candidates_hold_the_most_probable_tokens(n_vocab, top_k, seed):
    """The chain's own top-k finds the same tokens among fewer."""
    logits = np.random.default_rng(seed).normal(size=n_vocab).astype(np.float32)
    candidates = find_candidates(logits, top_k)
    wanted = np.argsort(logits)[::-1][: top_k or n_vocab]
    assert set(wanted.tolist()) <= set(candidates.tolist())
    assert sorted(set(candidates.tolist())) == candidates.tolist()


def test_a_wide_vocabulary_leaves_few_candidates():
    logits = np.random.default_rng(1).normal(size=151_936).astype(np.float32)
    assert 40 <= find_candidates(logits, 40).size < 400


# The real chain


def draw(engine, n=40, **options):
    """Draw from one fixed row of real logits again and again."""
    sampling = SamplerSettings(**{"repeat_penalty": 1.0} | options)
    backend = engine.backend
    row, fresh = engine.row, engine.fresh
    seed = sampling.seed or 0
    sampler = backend.make_sampler(sampling, seed, make_tokens())
    drawn = []
    for _ in range(n):
        logits = backend.logits(row)
        logits[:] = fresh
        drawn.append(sampler.sample(logits))
    sampler.close()
    return drawn


def test_same_seed_draws_the_same(drawing_engine):
    first = draw(drawing_engine, temperature=2.0, seed=3)
    assert len(set(first)) > 5
    assert first == draw(drawing_engine, temperature=2.0, seed=3)


def test_another_seed_draws_something_else(drawing_engine):
    first = draw(drawing_engine, temperature=1.0, seed=3)
    assert first != draw(drawing_engine, temperature=1.0, seed=4)


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 1.5, "top_k": 1},
        {"temperature": 1.5, "top_p": 1e-6, "top_k": 0},
        {"temperature": 1.5, "min_p": 1.0},
        {"temperature": 0.001},
    ],
)
def test_every_way_to_be_greedy_takes_the_most_probable(drawing_engine, options):
    best = int(np.argmax(drawing_engine.fresh))
    assert [best] * 40 == draw(drawing_engine, **options)


def test_top_k_draws_from_the_k_most_probable(drawing_engine):
    best = set(np.argsort(drawing_engine.fresh)[-5:].tolist())
    drawn = draw(
        drawing_engine,
        n=300,
        temperature=2.0,
        top_k=5,
        top_p=1.0,
        min_p=0.0,
        seed=1,
    )
    assert best == set(drawn)


def test_top_p_keeps_the_smallest_set_that_reaches_it(drawing_engine):
    fresh = drawing_engine.fresh.astype(np.float64)
    order = np.argsort(fresh)[::-1]
    weights = np.exp(fresh[order] - fresh.max())
    cumulated = np.cumsum(weights / weights.sum())
    kept = set(order[: int(np.searchsorted(cumulated, 0.5)) + 1].tolist())
    drawn = draw(
        drawing_engine,
        n=400,
        temperature=1.0,
        top_k=0,
        top_p=0.5,
        min_p=0.0,
        seed=1,
    )
    assert set(drawn) <= kept
    assert len(set(drawn)) > 1


def test_frequencies_follow_the_softmax(drawing_engine):
    """With nothing cut off, 2,000 draws agree with the probabilities."""
    fresh = drawing_engine.fresh.astype(np.float64)
    expected = np.exp(fresh - fresh.max())
    expected /= expected.sum()
    n = 2000
    drawn = draw(
        drawing_engine,
        n=n,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        min_p=0.0,
        seed=5,
    )
    seen = np.bincount(drawn, minlength=fresh.size) / n
    # Five standard deviations of a binomial share.
    assert (np.abs(seen - expected) <= 5 * np.sqrt(expected / n) + 1 / n).all()


def test_bias_forbids_and_forces(drawing_engine):
    best = int(np.argmax(drawing_engine.fresh))
    worst = int(np.argmin(drawing_engine.fresh))
    forbidden = draw(drawing_engine, temperature=0.0, logit_bias=((best, -100.0),))
    assert best not in forbidden
    forced = draw(drawing_engine, temperature=1.0, logit_bias=((worst, 100.0),))
    assert [worst] * 40 == forced


def test_repeat_penalty_makes_greedy_move_on(drawing_engine):
    drawn = draw(drawing_engine, temperature=0.0, repeat_penalty=5.0, n=5)
    assert 5 == len(set(drawn))


@settings(max_examples=15, deadline=None)
@given(
    st.floats(0.01, 5),
    st.integers(0, 1000),
    st.floats(0, 1),
    st.floats(0, 1),
    st.floats(0, 1),
    st.integers(0, 2**32 - 2),
)
def test_no_settings_in_range_upset_native_code(  # noqa: PLR0917 - all settings
    drawing_engine, temperature, top_k, top_p, min_p, typical_p, seed
):
    drawn = draw(
        drawing_engine,
        n=3,
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        min_p=min_p,
        typical_p=typical_p,
        seed=seed,
    )
    assert all(0 <= token < drawing_engine.backend.n_vocab for token in drawn)
