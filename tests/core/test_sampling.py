"""Whose word counts, and what no field may be."""

import math

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from server.core.requests import Sampling
from server.core.sampling import (
    FIELDS,
    GGUF_FIELDS,
    SAMPLER_NAMES,
    SamplerSettings,
    UnfitSetting,
    WrongKind,
    check_field,
    read_gguf_sampling,
    settle_sampling,
)


def reason(field, value):
    with pytest.raises(UnfitSetting) as caught:
        check_field(field, value)
    return f"{caught.value.field}: {caught.value.reason}"


def test_the_client_is_heard_before_the_model_and_it_before_the_server():
    asked = Sampling(temperature=0.0, top_k=0, logit_bias=((1, 2.0),))
    own = {"temperature": 0.6, "top_p": 0.9}
    expected = SamplerSettings(
        temperature=0.0, top_k=0, top_p=0.9, logit_bias=((1, 2.0),)
    )
    assert expected == settle_sampling(asked, own)
    assert SamplerSettings() == settle_sampling(Sampling(), {})


def test_defaults_may_have_been_through_msgpack():
    own = {"samplers": ("top_k",), "dry_sequence_breakers": (), "temperature": 1}
    sent = msgspec.msgpack.decode(msgspec.msgpack.encode(own))
    expected = SamplerSettings(
        samplers=("top_k",), dry_sequence_breakers=(), temperature=1.0
    )
    assert expected == settle_sampling(Sampling(), sent)


def test_every_field_can_be_asked_for_and_has_a_rule():
    names = set(SamplerSettings.__struct_fields__)
    assert {*FIELDS, "logit_bias"} == names
    assert {*names, "seed"} == set(Sampling.__struct_fields__)
    assert set(GGUF_FIELDS.values()) <= set(FIELDS)


@pytest.mark.parametrize("field", FIELDS)
def test_every_default_is_within_its_own_rule(field):
    value = getattr(SamplerSettings(), field)
    if value is not None:
        assert value == check_field(field, value)


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("temperature", 1, 1.0),
        ("top_k", 40.0, 40),
        ("top_k", -1, 0),
        ("repeat_last_n", -1, -1),
        ("mirostat", 2, 2),
        ("dry_sequence_breakers", ["\n", "ab"], ("\n", "ab")),
        ("samplers", ["top-k", "TOP_P", "typical_p", "typ"], "top_k top_p typ_p typ_p"),
        (
            "samplers",
            ["nucleus", "temp", "minp", "top-n-sigma"],
            "top_p temperature min_p top_n_sigma",
        ),
        ("samplers", "edskypmxta", " ".join(SAMPLER_NAMES)),
        ("samplers", [], ""),
        ("samplers", "", ""),
    ],
)
def test_a_value_is_brought_to_its_form(field, value, expected):
    if field == "samplers":
        expected = tuple(expected.split())
    found = check_field(field, value)
    assert (expected, type(expected)) == (found, type(found))


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("temperature", 10.5, "temperature: 10.5 is outside of 0 to 10."),
        ("temperature", math.nan, "temperature: the number is outside of 0 to 10."),
        ("temperature", -math.inf, "temperature: the number is outside of 0 to 10."),
        ("temperature", 10**400, "temperature: the number is outside of 0 to 10."),
        ("temperature", True, "temperature: expected a number, but got a boolean."),
        ("temperature", "1", "temperature: expected a number, but got a string."),
        ("temperature", None, "temperature: expected a number, but got null."),
        ("top_n_sigma", -2, "top_n_sigma: -2 is outside of -1 to 100."),
        ("xtc_probability", 1.5, "xtc_probability: 1.5 is outside of 0 to 1."),
        ("xtc_threshold", -0.1, "xtc_threshold: -0.1 is outside of 0 to 1."),
        ("dynatemp_range", -1, "dynatemp_range: -1 is outside of 0 to 10."),
        ("dynatemp_exponent", 11, "dynatemp_exponent: 11 is outside of 0 to 10."),
        ("mirostat", 3, "mirostat: 3 is outside of 0 to 2."),
        ("mirostat", 1.5, "mirostat: expected an integer, but got a number."),
        ("mirostat_tau", 101, "mirostat_tau: 101 is outside of 0 to 100."),
        ("mirostat_eta", 2, "mirostat_eta: 2 is outside of 0 to 1."),
        ("adaptive_target", 1.1, "adaptive_target: 1.1 is outside of -1 to 1."),
        ("adaptive_decay", 1, "adaptive_decay: 1 is outside of 0 to 0.99."),
        (
            "repeat_penalty",
            0.001,
            "repeat_penalty: it must be above 0, at least 0.01; 1 turns it off.",
        ),
        (
            "repeat_last_n",
            2**31,
            "repeat_last_n: 2147483648 is outside of -1 to 2147483647.",
        ),
        ("dry_multiplier", 101, "dry_multiplier: 101 is outside of 0 to 100."),
        ("dry_base", 0.5, "dry_base: 0.5 is outside of 1 to 100."),
        (
            "dry_allowed_length",
            -1,
            "dry_allowed_length: -1 is outside of 0 to 2147483647.",
        ),
        (
            "dry_penalty_last_n",
            -2,
            "dry_penalty_last_n: -2 is outside of -1 to 2147483647.",
        ),
        (
            "dry_sequence_breakers",
            "\n",
            "dry_sequence_breakers: expected an array of strings, but got a string.",
        ),
        (
            "dry_sequence_breakers",
            ["a", 5],
            "dry_sequence_breakers[1]: expected a string, but got a number.",
        ),
        (
            "dry_sequence_breakers",
            ["a"] * 65,
            "dry_sequence_breakers: 65 entries are more than the limit of 64.",
        ),
        (
            "dry_sequence_breakers",
            ["a", ""],
            (
                "dry_sequence_breakers[1]: a sequence breaker has 1 to 40 characters, "
                "this one has 0."
            ),
        ),
        (
            "dry_sequence_breakers",
            ["a" * 41],
            (
                "dry_sequence_breakers[0]: a sequence breaker has 1 to 40 characters, "
                "this one has 41."
            ),
        ),
        (
            "samplers",
            ["top_k", "top_q"],
            (
                "samplers[1]: no sampler has this name. Known are: penalties, dry, "
                "top_n_sigma, top_k, typ_p, top_p, min_p, xtc, temperature, adaptive_p."
            ),
        ),
        (
            "samplers",
            ["top_k"] * 33,
            "samplers: 33 entries are more than the limit of 32.",
        ),
        ("samplers", "k" * 1000, "samplers: 33 entries are more than the limit of 32."),
        ("samplers", 5, "samplers: expected an array of strings, but got a number."),
        (
            "samplers",
            {},
            "samplers: expected an array of strings, but got another kind of value.",
        ),
        ("samplers", [["a"]], "samplers[0]: expected a string, but got an array."),
    ],
)
def test_an_unfit_value_is_named_with_its_bounds(field, value, expected):
    assert expected == reason(field, value)


def test_another_type_is_another_kind_of_mistake():
    with pytest.raises(WrongKind):
        check_field("temperature", "hot")
    with pytest.raises(UnfitSetting) as caught:
        check_field("temperature", 11)
    assert not isinstance(caught.value, WrongKind)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=70),
    max_leaves=100,
)


@settings(deadline=None)
@given(st.sampled_from(FIELDS), ANYTHING)
def test_whatever_passes_is_of_the_fields_type(field, value):
    try:
        checked = check_field(field, value)
    except UnfitSetting:
        return
    msgspec.convert({field: checked}, SamplerSettings, strict=True)
    if isinstance(checked, float):
        assert math.isfinite(checked)


def test_a_model_file_says_how_it_wants_to_be_sampled():
    """The keys that llama.cpp reads, in the types its converter writes."""
    metadata = {
        "sequence": "top_k;top_p;temperature",
        "top_k": 20,
        "top_p": 0.8,
        "min_p": 0.0,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.25,
        "temp": 0.7,
        "penalty_last_n": 128,
        "penalty_repeat": 1.05,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.5,
        "unheard_of": 5,
    }
    expected = {
        "samplers": ("top_k", "top_p", "temperature"),
        "top_k": 20,
        "top_p": 0.8,
        "min_p": 0.0,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.25,
        "temperature": 0.7,
        "repeat_last_n": 128,
        "repeat_penalty": 1.05,
        "mirostat": 2,
        "mirostat_tau": 4.0,
        "mirostat_eta": 0.5,
    }
    assert (expected, ()) == read_gguf_sampling(metadata)


def test_what_a_model_file_says_wrongly_is_left_out_and_told():
    fields, wrong = read_gguf_sampling(
        {"temp": 50.0, "top_k": "many", "top_p": 0.5, "sequence": "top_k;magic"}
    )
    assert {"top_p": 0.5} == fields
    assert [
        "general.sampling.sequence: no sampler has this name. Known are: "
        + ", ".join(SAMPLER_NAMES)
        + ".",
        "general.sampling.top_k: expected an integer, but got a string.",
        "general.sampling.temp: 50.0 is outside of 0 to 10.",
    ] == [str(error) for error in wrong]
