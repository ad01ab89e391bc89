"""Bias and penalties, against plain references and llama.cpp's own."""

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.sampling import SamplerSettings
from server.worker.penalties import LOGIT_LIMIT, Bias, Penalties, locate
from server.worker.tokens import make_tokens
from tests.worker.native_chain import NativeChain, make_logits, make_sampler

N_VOCAB = 16
LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=N_VOCAB, max_size=N_VOCAB)
TOKENS = st.lists(st.integers(0, N_VOCAB - 1), max_size=100)


def reference(logits, sampling, prompt, generated):
    """Apply bias and penalties one token at a time, in plain Python."""
    out = list(logits)
    for token, bias in sampling.logit_bias:
        out[token] += bias
    recent = list(prompt) + list(generated)
    n = sampling.repeat_last_n
    for token in set(recent if n < 0 else recent[len(recent) - n :]):
        if out[token] > 0:
            out[token] /= sampling.repeat_penalty
        else:
            out[token] *= sampling.repeat_penalty
    for token, count in Counter(generated).items():
        out[token] -= sampling.presence_penalty + count * sampling.frequency_penalty
    return out


def penalize(sampling, prompt, generated, logits):
    penalties = Penalties(sampling, make_tokens(prompt))
    for token in generated:
        penalties.accept(token)
    changed = np.array(logits, dtype=np.float32)
    Bias(sampling).apply(changed)
    penalties.apply(changed)
    return changed.tolist()


@settings(deadline=None)
@given(
    LOGITS,
    TOKENS,
    TOKENS,
    st.builds(
        SamplerSettings,
        repeat_penalty=st.floats(0.5, 2),
        repeat_last_n=st.integers(0, 64) | st.just(-1),
        presence_penalty=st.floats(-2, 2),
        frequency_penalty=st.floats(-2, 2),
        logit_bias=st.dictionaries(
            st.integers(0, N_VOCAB - 1), st.floats(-100, 100), max_size=5
        ).map(lambda biases: tuple(biases.items())),
    ),
)
def test_bias_and_penalties_equal_a_plain_reference(
    logits, prompt, generated, sampling
):
    if sampling.repeat_last_n > len(prompt + generated):
        prompt = [0] * 64 + prompt
    expected = reference(logits, sampling, prompt, generated)
    changed = penalize(sampling, prompt, generated, logits)
    assert changed == pytest.approx(expected, rel=1e-4, abs=1e-3)


def test_the_prompt_counts_for_repeat_but_not_for_presence_and_frequency():
    sampling = SamplerSettings(
        repeat_penalty=2.0, presence_penalty=1.0, frequency_penalty=0.5
    )
    changed = penalize(sampling, [3, 3], [4, 4], [8, 8, 8, 8, 8, -8])
    assert [8, 8, 8, 4, 4 - 1 - 2 * 0.5, -8] == changed


def test_a_repeated_token_gets_less_likely_whatever_its_sign():
    changed = penalize(SamplerSettings(repeat_penalty=2.0), [0, 1], [], [4, -4, 1])
    assert [2.0, -8.0, 1.0] == changed


@pytest.mark.parametrize(
    ("last_n", "expected"),
    [(64, [4, 4, 2]), (65, [4, 2, 2]), (-1, [2, 2, 2]), (0, [4, 4, 4])],
)
def test_the_repeat_penalty_forgets_what_is_long_past(last_n, expected):
    sampling = SamplerSettings(repeat_penalty=2.0, repeat_last_n=last_n)
    assert expected == penalize(sampling, [0, 1] + [2] * 60, [2] * 4, [4, 4, 4])


def test_nothing_changes_where_everything_is_off():
    sampling = SamplerSettings(repeat_penalty=1.0)
    assert not Penalties(sampling, make_tokens([1, 2])).is_active
    assert [0, 1, 2, 3] == penalize(sampling, [1, 2], [1], [0, 1, 2, 3])


def test_a_bias_given_twice_counts_twice():
    sampling = SamplerSettings(repeat_penalty=1.0, logit_bias=((1, 2.0), (1, 3.0)))
    assert [0, 5, 0] == penalize(sampling, [], [], [0, 0, 0])


def test_a_bias_of_minus_infinity_forbids():
    sampling = SamplerSettings(
        repeat_penalty=1.0, logit_bias=((1, 100.0), (0, 1.0), (1, -np.inf))
    )
    assert [1, -np.inf, 0] == penalize(sampling, [], [], [0, 0, 0])


def test_only_forbidden_tokens_are_minus_infinity_in_the_end():
    sampling = SamplerSettings(
        repeat_penalty=0.01,
        presence_penalty=-2.0,
        frequency_penalty=-2.0,
        logit_bias=((0, 100.0), (1, -100.0)),
    )
    logits = [-np.inf, 1e30, -np.inf, -1e30, 0.0]
    changed = penalize(sampling, [0, 1, 2, 3], [0, 1, 2, 3], logits)
    assert [-np.inf, LOGIT_LIMIT, -np.inf] == pytest.approx(changed[:3])
    assert np.isfinite(changed[3])
    sampling = SamplerSettings(repeat_penalty=10.0, frequency_penalty=2.0)
    changed = penalize(sampling, [1, 3], [1, 3], logits)
    assert [-np.inf, -np.inf] == [changed[0], changed[2]]
    assert -LOGIT_LIMIT == pytest.approx(changed[3])


def test_tokens_are_found_among_some_candidates():
    """In a custom order, penalties may meet few candidates in any order."""
    ids = np.array([7, 2, 9, 4])
    places, indices = locate(np.array([4, 5, 7]), ids)
    assert {4: 3, 7: 0} == {
        int(np.array([4, 5, 7])[i]): int(p)
        for p, i in zip(places, indices, strict=True)
    }
    penalties = Penalties(SamplerSettings(repeat_penalty=2.0), make_tokens([4, 5, 7]))
    logits = np.full(4, 8, dtype=np.float32)
    penalties.apply(logits, ids)
    assert [4, 8, 8, 4] == logits.tolist()


@pytest.mark.parametrize("last_n", [5, 64])
def test_the_repeat_penalty_is_llama_cpps(native, last_n):
    settings = SamplerSettings(
        repeat_penalty=1.3, repeat_last_n=last_n, temperature=1.5
    )
    ours = make_sampler(settings, seed=9)
    theirs = NativeChain(native.llama, settings, 9, 200)
    logits = make_logits(200, 1)
    drawn = [ours.sample(logits.copy()) for _ in range(200)]
    assert drawn == [theirs.sample(logits.copy()) for _ in range(200)]
    assert len(set(drawn)) > 10
    theirs.close()


def test_all_penalties_are_llama_cpps_where_there_is_no_prompt(native):
    """Beyond the window they differ by purpose: an answer counts as a whole."""
    settings = SamplerSettings(
        repeat_penalty=1.1,
        repeat_last_n=1000,
        presence_penalty=0.5,
        frequency_penalty=0.25,
    )
    ours = make_sampler(settings, seed=9)
    theirs = NativeChain(native.llama, settings, 9, 200)
    logits = make_logits(200, 1)
    drawn = [ours.sample(logits.copy()) for _ in range(200)]
    assert drawn == [theirs.sample(logits.copy()) for _ in range(200)]
    theirs.close()
