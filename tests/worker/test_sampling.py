"""The whole sampler: its order, llama.cpp's draws, and what is forbidden."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.sampling import DEFAULT_ORDER, SAMPLER_NAMES, SamplerSettings
from server.worker.sampling import NothingAllowed, describe_token
from tests.worker.native_chain import NativeChain, make_logits, make_sampler

N_VOCAB = 16
LOGITS = st.lists(st.floats(-50, 50, width=32), min_size=N_VOCAB, max_size=N_VOCAB)
OFF = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "repeat_penalty": 1.0,
}


def draw(logits, n=200, *, seed=1, prompt=(), **options):
    """Draw from one row again and again."""
    sampler = make_sampler(SamplerSettings(**OFF | options), seed=seed, prompt=prompt)
    return [sampler.sample(np.array(logits, dtype=np.float32)) for _ in range(n)]


# The same as llama.cpp, draw by draw


@pytest.mark.parametrize("n_vocab", [50, 2000])
@pytest.mark.parametrize(
    "options",
    [
        {},
        {"temperature": 1.7},
        {"temperature": 0.05},
        {"top_k": 7},
        {"top_p": 0.6},
        {"min_p": 0.2},
        {"typical_p": 0.5},
        {"top_n_sigma": 1.0},
        {"xtc_probability": 0.5, "xtc_threshold": 0.05},
        {"dynatemp_range": 0.7, "dynatemp_exponent": 1.5},
        {"adaptive_target": 0.3, "min_p": 0.02},
        {"mirostat": 2, "mirostat_tau": 3.0, "temperature": 0.7},
        {"top_k": 40, "top_p": 0.95, "min_p": 0.05, "temperature": 0.8},
        {
            "typical_p": 0.7,
            "top_k": 20,
            "xtc_probability": 0.3,
            "dynatemp_range": 0.3,
            "repeat_penalty": 1.2,
        },
        {
            "samplers": ("min_p", "temperature", "penalties", "top_k"),
            "min_p": 0.01,
            "temperature": 2.0,
            "top_k": 30,
            "repeat_penalty": 1.3,
        },
        {"samplers": ("temperature", "temperature"), "temperature": 1.5},
        {"samplers": (), "temperature": 0.1},
    ],
)
def test_the_same_seed_draws_what_llama_cpp_draws(native, options, n_vocab):
    chosen = SamplerSettings(**OFF | options)
    ours = make_sampler(chosen, seed=77)
    theirs = NativeChain(native.llama, chosen, 77, n_vocab)
    rows = [make_logits(n_vocab, index) for index in range(150)]
    drawn = [ours.sample(row.copy()) for row in rows]
    assert drawn == [theirs.sample(row.copy()) for row in rows]
    theirs.close()


def test_a_real_model_draws_what_llama_cpp_draws(drawing_engine, native):
    backend, row = drawing_engine.backend, drawing_engine.row
    chosen = SamplerSettings(temperature=2.0)
    ours = backend.make_sampler(chosen, 5, [])
    theirs = NativeChain(native.llama, chosen, 5, backend.n_vocab)
    drawn = []
    for _ in range(100):
        logits = backend.logits(row)
        logits[:] = drawing_engine.fresh
        drawn.append(ours.sample(logits))
    expected = [theirs.sample(drawing_engine.fresh) for _ in range(100)]
    assert expected == drawn
    assert len(set(drawn)) > 10
    theirs.close()


# Seeds


def test_two_samplers_with_one_seed_draw_the_same():
    logits = make_logits(300, 2)
    every = {"xtc_probability": 0.5, "dry_multiplier": 0.8, "temperature": 2.0}
    for options in (every, {"mirostat": 1}, {"adaptive_target": 0.4}):
        first = draw(logits, seed=3, **options)
        assert len(set(first)) > 5
        assert first == draw(logits, seed=3, **options)
        assert first != draw(logits, seed=4, **options)


# What each does to the probabilities


def chi_square(drawn, chances):
    """Compare with expected shares; those of 0 must not occur."""
    seen = np.bincount(drawn, minlength=len(chances)).astype(float)
    chances = np.array(chances) / np.sum(chances)
    assert not seen[chances == 0].any()
    wanted = len(drawn) * chances[chances > 0]
    return float(((seen[chances > 0] - wanted) ** 2 / wanted).sum())


CHANCES = np.array([0.4, 0.3, 0.15, 0.1, 0.05])


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, CHANCES),
        ({"temperature": 2.0}, CHANCES**0.5),
        ({"temperature": 0.5}, CHANCES**2),
        ({"top_k": 2}, [0.4, 0.3, 0, 0, 0]),
        ({"top_p": 0.8}, [0.4, 0.3, 0.15, 0, 0]),
        ({"min_p": 0.3}, [0.4, 0.3, 0.15, 0, 0]),
        # Surprises are .9 1.2 1.9 2.3 3.0, their average is 1.4.
        ({"typical_p": 0.5}, [0.4, 0.3, 0, 0, 0]),
        ({"typical_p": 0.2}, [0, 0.3, 0, 0, 0]),
        ({"top_n_sigma": 1.0}, [0.4, 0.3, 0, 0, 0]),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.14}, [0, 0, 0.15, 0.1, 0.05]),
        (
            {"xtc_probability": 0.5, "xtc_threshold": 0.14},
            CHANCES / 2 + np.array([0, 0, 0.15, 0.1, 0.05]) / 0.3 / 2,
        ),
        ({"xtc_probability": 1.0, "xtc_threshold": 0.6}, CHANCES),
        ({"presence_penalty": 2.0, "samplers": ("temperature",)}, CHANCES),
        ({"logit_bias": ((0, -100.0),)}, [0, 0.3, 0.15, 0.1, 0.05]),
        ({"logit_bias": ((4, math.log(4)),)}, [0.4, 0.3, 0.15, 0.1, 0.2]),
    ],
)
def test_frequencies_are_what_is_documented(options, expected):
    """A chi-square test; 18.5 is the 0.1 % point of 4 degrees of freedom."""
    drawn = draw(np.log(CHANCES), n=3000, seed=5, **options)
    assert chi_square(drawn, expected) < 18.5


def test_the_dynamic_temperature_is_low_where_the_model_is_sure():
    sure, unsure = [6.0, 0, 0, 0], [1.0, 0, 0, 0]
    options = {"dynatemp_range": 1.0, "temperature": 1.0}
    assert {0} == set(draw(sure, n=500, **options))
    assert {0} != set(draw(sure, n=500, seed=2))
    flat = draw(unsure, n=2000, **options).count(0)
    assert flat < draw(unsure, n=2000).count(0)


def test_dry_makes_a_repetition_end():
    """Greedy would go round for ever."""

    def walk(**options):
        chosen = SamplerSettings(**OFF | {"temperature": 0.0} | options)
        sampler = make_sampler(chosen)
        drawn = [0]
        for _ in range(60):
            logits = np.zeros(6, dtype=np.float32)
            logits[(drawn[-1] + 1) % 3] = 3.0
            logits[3] = 1.0
            drawn.append(sampler.sample(logits))
        return drawn

    assert {0, 1, 2} == set(walk())
    broken = walk(dry_multiplier=1.0, dry_base=1.75)
    assert 3 in broken
    assert {0, 1, 2} == set(walk(dry_multiplier=1.0, samplers=("temperature",)))
    assert 3 not in walk(dry_multiplier=1.0, dry_penalty_last_n=0)


def test_the_order_of_samplers_matters():
    logits = np.log(CHANCES)
    hot = {"temperature": 10.0, "top_p": 0.7}
    assert {0, 1} == set(draw(logits, n=500, **hot))
    order = ("temperature", "top_p")
    assert {0, 1, 2, 3} <= set(draw(logits, n=500, samplers=order, **hot))


def test_adaptive_p_works_by_its_target_or_by_its_name():
    logits = np.log(CHANCES)
    plain = draw(logits, n=50)
    assert plain != draw(logits, n=50, adaptive_target=0.05)
    named = ("adaptive_p",)
    by_name = draw(logits, n=50, adaptive_target=0.05, samplers=named)
    assert draw(logits, n=50, adaptive_target=0.05) == by_name
    assert plain == draw(logits, n=50, adaptive_target=0.05, samplers=("top_k",))


# Greedy


@pytest.mark.parametrize(
    "options",
    [
        {"temperature": 0.0},
        {"temperature": 0.0, "mirostat": 1},
        {"temperature": 0.0, "mirostat": 2},
        {"temperature": 0.0, "xtc_probability": 1.0},
        {"temperature": 0.0, "dynatemp_range": 1.0},
        {"temperature": 0.0, "adaptive_target": 0.1},
        {"temperature": 1e-12},
        {"temperature": 1.5, "top_k": 1},
        {"temperature": 1.5, "top_p": 0.0},
        {"temperature": 1.5, "min_p": 1.0},
    ],
)
def test_every_way_to_be_greedy_takes_the_most_probable(options):
    logits = make_logits(3000, 8)
    assert [int(np.argmax(logits))] * 20 == draw(logits, n=20, **options)


@pytest.mark.parametrize(
    "options", [{"xtc_probability": 1.0, "xtc_threshold": 0.14}, {"typical_p": 0.2}]
)
def test_greedy_takes_the_most_probable_though_others_were_preferred(options):
    assert 0 not in draw(np.log(CHANCES), n=20, **options)
    assert [0] * 20 == draw(np.log(CHANCES), n=20, temperature=0.0, **options)


def test_repeat_penalty_makes_greedy_move_on():
    logits = make_logits(100, 8)
    assert 5 == len(set(draw(logits, n=5, temperature=0.0, repeat_penalty=5.0)))


def test_a_temperature_that_is_not_named_is_not_used():
    logits = make_logits(100, 8, spread=1.0)
    assert len(set(draw(logits, temperature=0.0, samplers=("top_k",)))) > 5


# Forced tokens


def test_a_forced_token_counts_in_penalties_and_dry():
    chosen = SamplerSettings(
        **OFF | {"temperature": 0.0, "presence_penalty": 1.5, "dry_multiplier": 1.0}
    )
    sampler = make_sampler(chosen)
    sampler.accept(0)
    assert 1 == sampler.sample(np.array([2, 1, 0], dtype=np.float32))
    repeated = make_sampler(chosen)
    for token in (5, 6, 7, 0, 5, 6):
        repeated.accept(token)
    logits = np.zeros(9, dtype=np.float32)
    logits[7], logits[8] = 2.4, 0.0
    logits[0:7] = -9
    # The penalty takes 1.5, DRY as much as 1.0 more.
    assert 8 == repeated.sample(logits)


def test_a_forced_token_takes_no_random_number():
    logits = make_logits(50, 1)
    settings_ = SamplerSettings(**OFF)
    plain, forced = make_sampler(settings_), make_sampler(settings_)
    expected = [plain.sample(logits.copy()) for _ in range(20)]
    drawn = []
    for _ in range(20):
        drawn.append(forced.sample(logits.copy()))
        forced.accept(3)
    assert expected == drawn


# Whatever is asked, something allowed is drawn


ANY_SETTINGS = st.builds(
    SamplerSettings,
    temperature=st.floats(0, 10),
    top_k=st.integers(0, 20) | st.just(2**31 - 1),
    top_p=st.floats(0, 1),
    min_p=st.floats(0, 1),
    typical_p=st.floats(0, 1),
    top_n_sigma=st.floats(-1, 100),
    xtc_probability=st.floats(0, 1),
    xtc_threshold=st.floats(0, 1),
    dynatemp_range=st.floats(0, 10),
    dynatemp_exponent=st.floats(0, 10),
    mirostat=st.sampled_from([0, 0, 1, 2]),
    mirostat_tau=st.floats(0, 100),
    mirostat_eta=st.floats(0, 1),
    adaptive_target=st.just(-1.0) | st.floats(0, 1),
    adaptive_decay=st.floats(0, 0.99),
    repeat_penalty=st.floats(0.01, 10),
    repeat_last_n=st.integers(-1, 20) | st.just(2**31 - 1),
    presence_penalty=st.floats(-2, 2),
    frequency_penalty=st.floats(-2, 2),
    dry_multiplier=st.floats(0, 100),
    dry_base=st.floats(1, 100),
    dry_allowed_length=st.integers(0, 3) | st.just(2**31 - 1),
    dry_penalty_last_n=st.integers(-1, 20) | st.just(2**31 - 1),
    dry_sequence_breakers=st.lists(st.text(min_size=1, max_size=3), max_size=3).map(
        tuple
    ),
    samplers=st.none() | st.lists(st.sampled_from(SAMPLER_NAMES)).map(tuple),
    logit_bias=st.lists(
        st.tuples(st.integers(0, 7), st.floats(-100, 100)), max_size=4
    ).map(tuple),
)
ANY_LOGIT = (
    st.just(-math.inf)
    | st.floats(-(2.0**99), 2.0**99, width=32)
    | st.floats(-30, 30, width=32)
)


@settings(max_examples=400, deadline=None)
@given(
    chosen=ANY_SETTINGS,
    rows=st.lists(
        st.lists(ANY_LOGIT, min_size=8, max_size=8).filter(
            lambda row: max(row) > -math.inf
        ),
        min_size=1,
        max_size=6,
    ),
    prompt=st.lists(st.integers(0, 7), max_size=8),
    seed=st.integers(0, 2**32 - 1),
)
def test_only_allowed_tokens_are_drawn_with_any_settings(chosen, rows, prompt, seed):
    first = make_sampler(chosen, seed=seed, prompt=prompt)
    second = make_sampler(chosen, seed=seed, prompt=prompt)
    for row in rows:
        token = first.sample(np.array(row, dtype=np.float32))
        assert row[token] > -math.inf
        assert token == second.sample(np.array(row, dtype=np.float32))


@settings(max_examples=200, deadline=None)
@given(chosen=ANY_SETTINGS, only=st.integers(0, 7), value=st.floats(-90, 90, width=32))
def test_the_only_allowed_token_is_drawn_with_any_settings(chosen, only, value):
    sampler = make_sampler(chosen, prompt=[only, only, only])
    for _ in range(3):
        logits = np.full(8, -np.inf, dtype=np.float32)
        logits[only] = value
        assert only == sampler.sample(logits)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_where_nothing_is_allowed_it_says_so(temperature):
    sampler = make_sampler(SamplerSettings(temperature=temperature))
    with pytest.raises(NothingAllowed, match="no token is allowed here"):
        sampler.sample(np.full(4, -np.inf, dtype=np.float32))


def test_the_default_order_is_llama_cpps():
    assert [
        "penalties",
        "dry",
        "top_n_sigma",
        "top_k",
        "typ_p",
        "top_p",
        "min_p",
        "xtc",
        "temperature",
    ] == list(DEFAULT_ORDER)


# Log probabilities


def name(token):
    return b"<%d>" % token


@settings(deadline=None)
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
