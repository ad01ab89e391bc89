import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.core.errors import InvalidRequest
from server.core.requests import Sampling
from server.dialects.openai.sampling import decode_sampling, decode_stop, fold_seed
from server.dialects.openai.wire import Sampled


def sampling(**fields):
    return decode_sampling(Sampled.model_validate({"model": "m", **fields}))


def refusal(call):
    with pytest.raises(InvalidRequest) as caught:
        call()
    return caught.value.to_info()


def test_what_was_not_given_keeps_its_default():
    assert Sampling() == sampling()
    assert Sampling() == sampling(temperature=None, top_k=None, logit_bias={})


def test_every_field_is_taken():
    assert Sampling(
        temperature=10.0,
        top_k=40,
        top_p=0.0,
        min_p=1.0,
        typical_p=0.5,
        top_n_sigma=1.5,
        xtc_probability=0.5,
        xtc_threshold=0.25,
        dynatemp_range=0.5,
        dynatemp_exponent=2.0,
        mirostat=2,
        mirostat_tau=4.0,
        mirostat_eta=0.25,
        adaptive_target=0.5,
        adaptive_decay=0.75,
        repeat_penalty=1.25,
        repeat_last_n=-1,
        presence_penalty=-2.0,
        frequency_penalty=2.0,
        dry_multiplier=0.75,
        dry_base=1.5,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=("\n", "ab"),
        samplers=("dry", "top_k"),
        seed=42,
        logit_bias=((0, -100.0), (2147483647, 100.0)),
    ) == sampling(
        temperature=10,
        top_k=40,
        top_p=0,
        min_p=1,
        typical_p=0.5,
        top_n_sigma=1.5,
        xtc_probability=0.5,
        xtc_threshold=0.25,
        dynatemp_range=0.5,
        dynatemp_exponent=2,
        mirostat=2.0,
        mirostat_tau=4,
        mirostat_eta=0.25,
        adaptive_target=0.5,
        adaptive_decay=0.75,
        repeat_penalty=1.25,
        repeat_last_n=-1,
        presence_penalty=-2,
        frequency_penalty=2,
        dry_multiplier=0.75,
        dry_base=1.5,
        dry_allowed_length=3,
        dry_penalty_last_n=-1,
        dry_sequence_breakers=["\n", "ab"],
        samplers=["dry", "top-k"],
        seed=42,
        logit_bias={"0": -100, "2147483647": 100},
    )


@pytest.mark.parametrize(
    ("other", "name", "value"),
    [
        ("repetition_penalty", "repeat_penalty", 1.5),
        ("typ_p", "typical_p", 0.5),
        ("typical", "typical_p", 0.5),
        ("mirostat_mode", "mirostat", 1),
        ("penalty_last_n", "repeat_last_n", 5),
        ("repetition_range", "repeat_last_n", 5),
        ("dry_range", "dry_penalty_last_n", 5),
    ],
)
def test_some_fields_have_other_names(other, name, value):
    assert Sampling(**{name: value}) == sampling(**{other: value})


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("temperature", 10.5, "10.5 is outside of 0 to 10."),
        ("temperature", -0.1, "-0.1 is outside of 0 to 10."),
        ("temperature", 1e300, "the number is outside of 0 to 10."),
        ("temperature", float("nan"), "the number is outside of 0 to 10."),
        ("top_p", 1.01, "1.01 is outside of 0 to 1."),
        ("min_p", -1, "-1.0 is outside of 0 to 1."),
        ("typical_p", 2, "2.0 is outside of 0 to 1."),
        ("repeat_penalty", 0, "it must be above 0, at least 0.01; 1"),
        ("repeat_penalty", 11, "11.0 is outside of 0 to 10."),
        ("presence_penalty", 2.5, "2.5 is outside of -2 to 2."),
        ("frequency_penalty", -3, "-3.0 is outside of -2 to 2."),
        ("top_k", -2, "-2 is outside of -1 to 2147483647."),
        ("top_k", 2**31, "2147483648 is outside of -1 to 2147483647."),
        ("mirostat", 3, "3 is outside of 0 to 2."),
        ("repeat_last_n", -2, "-2 is outside of -1 to 2147483647."),
        ("dry_base", 0.5, "0.5 is outside of 1 to 100."),
        ("seed", 2**64, "the number is outside of -9223372036854775808 to"),
    ],
)
def test_a_number_out_of_range_is_refused_with_the_range(field, value, message):
    info = refusal(lambda: sampling(**{field: value}))
    assert field == info.param
    assert info.message.startswith(f"Invalid '{field}': {message}")


@pytest.mark.parametrize(
    ("field", "value", "code", "param", "message"),
    [
        (
            "samplers",
            ["top_k", "magic"],
            "invalid_value",
            "samplers[1]",
            "Invalid 'samplers[1]': no sampler has this name. Known are: penalties,",
        ),
        (
            "samplers",
            {"top_k": 1},
            "invalid_type",
            "samplers",
            "Invalid type for 'samplers': expected an array of strings, but got",
        ),
        (
            "dry_sequence_breakers",
            ["\n", 5],
            "invalid_type",
            "dry_sequence_breakers[1]",
            "expected a string, but got a number.",
        ),
        (
            "dry_sequence_breakers",
            ["x" * 41],
            "invalid_value",
            "dry_sequence_breakers[0]",
            "a sequence breaker has 1 to 40 characters, this one has 41.",
        ),
    ],
)
def test_a_wrong_list_is_refused(field, value, code, param, message):
    info = refusal(lambda: sampling(**{field: value}))
    assert (code, param) == (info.code, info.param)
    assert message in info.message


@pytest.mark.parametrize(
    ("biases", "param", "message"),
    [
        ({"x": 1}, "logit_bias", "each key must be a token id"),
        ({"-1": 1}, "logit_bias", "each key must be a token id"),
        ({"²": 1}, "logit_bias", "each key must be a token id"),
        ({"2147483648": 1}, "logit_bias", "each key must be a token id"),
        ({"9" * 5000: 1}, "logit_bias", "each key must be a token id"),
        ({"5": 101}, "logit_bias.5", "101.0 is outside of -100 to 100."),
        (
            {str(n): 0 for n in range(1025)},
            "logit_bias",
            "1025 entries are more than the limit of 1024.",
        ),
    ],
)
def test_a_wrong_bias_is_refused(biases, param, message):
    info = refusal(lambda: sampling(logit_bias=biases))
    assert param == info.param
    assert message in info.message


@pytest.mark.parametrize(
    ("seed", "folded"),
    [
        (0, 0),
        (2**32 - 1, 2**32 - 1),
        (2**32, 1),
        (2**64 - 1, 0),
        (-1, None),
        (-(2**63), None),
    ],
)
def test_a_seed_is_folded_to_32_bits(seed, folded):
    assert folded == fold_seed(seed)


@given(st.integers(0, 2**64 - 1))
def test_every_folded_seed_fits(seed):
    assert 0 <= fold_seed(seed) < 2**32


@pytest.mark.parametrize(
    ("value", "expected"),
    [(None, ()), ([], ()), ("a", ("a",)), (["a", "\n"], ("a", "\n"))],
)
def test_stop_is_a_string_or_a_list(value, expected):
    assert expected == decode_stop(value)


@pytest.mark.parametrize(
    ("value", "code", "param", "message"),
    [
        (5, "invalid_type", "stop", "expected a string or an array of strings"),
        (["a", 5], "invalid_type", "stop[1]", "expected a string, but got a number."),
        ("", "invalid_value", "stop", "1 to 1024 characters, this one has 0."),
        (["a", ""], "invalid_value", "stop[1]", "this one has 0."),
        ("a" * 1025, "invalid_value", "stop", "this one has 1025."),
        (["a"] * 17, "invalid_value", "stop", "17 strings are more than the limit"),
    ],
)
def test_a_wrong_stop_is_refused(value, code, param, message):
    info = refusal(lambda: decode_stop(value))
    assert (code, param) == (info.code, info.param)
    assert message in info.message
