"""The fields that say how tokens are drawn, and their ranges. Pure.

The ranges themselves are the same for everybody who may set a field:
`server.core.sampling`. Those of the penalties are OpenAI's; `temperature` goes
beyond its 2, since llama.cpp's users do.
"""

from typing import Any

from server.core import sampling as rules
from server.core.requests import Sampling
from server.dialects.json_body import InvalidField, wrong_type
from server.dialects.openai.wire import Sampled

MAX_TOKEN_ID = 2**31 - 1
MAX_BIAS = 100
MAX_BIASES = 1024
MAX_STOPS = 16
MAX_STOP_CHARS = 1024
MAX_TOKEN_DIGITS = 10


def decode_sampling(wire: Sampled) -> Sampling:
    """Check every sampling field that was given; the rest stays open.

    Raises:
        InvalidRequest: A value is out of its range.
    """
    given: dict[str, Any] = {}
    for name in rules.FIELDS:
        value = getattr(wire, name)
        if value is not None:
            try:
                given[name] = rules.check_field(name, value)
            except rules.UnfitSetting as error:
                raise _refuse(error) from None
    if wire.seed is not None:
        given["seed"] = fold_seed(wire.seed)
    if wire.logit_bias:
        given["logit_bias"] = _biases(wire.logit_bias)
    return Sampling(**given)


def fold_seed(seed: int) -> int | None:
    """Bring a seed of up to 64 bits to the 32 bits that the engine takes.

    Seeds that fit are kept as they are, so that runs can be repeated with
    other llama.cpp servers. Negative ones ask for a new seed every time.

    Raises:
        InvalidRequest: The seed has more than 64 bits.
    """
    check_range(seed, -(2**63), 2**64 - 1, "seed")
    if seed < 0:
        return None
    return (seed ^ (seed >> 32)) & 0xFFFFFFFF


def decode_stop(value: object) -> tuple[str, ...]:
    """Read `stop`: absent, one string or a list of strings.

    Raises:
        InvalidRequest: Not strings, too many, empty or too long.
    """
    if value is None:
        return ()
    stops = [value] if isinstance(value, str) else value
    if not isinstance(stops, list):
        raise wrong_type("stop", "a string or an array of strings", value)
    if len(stops) > MAX_STOPS:
        raise InvalidField(
            f"Invalid 'stop': {len(stops)} strings are more than the limit of "
            f"{MAX_STOPS}.",
            param="stop",
        )
    return tuple(
        _stop(item, "stop" if isinstance(value, str) else f"stop[{number}]")
        for number, item in enumerate(stops)
    )


def check_range(value: float, low: float, high: float, param: str) -> None:
    """Refuse a number outside of `low` to `high`, both included.

    Raises:
        InvalidRequest: The number is outside, or not a number at all.
    """
    try:
        rules.check_range(param, value, low, high)
    except rules.UnfitSetting as error:
        raise _refuse(error) from None


def _refuse(error: rules.UnfitSetting) -> InvalidField:
    is_type = isinstance(error, rules.WrongKind)
    what = "Invalid type for" if is_type else "Invalid"
    return InvalidField(
        f"{what} '{error.field}': {error.reason}",
        code="invalid_type" if is_type else "invalid_value",
        param=error.field,
    )


def _stop(item: object, param: str) -> str:
    if not isinstance(item, str):
        raise wrong_type(param, "a string", item)
    if not 1 <= len(item) <= MAX_STOP_CHARS:
        raise InvalidField(
            f"Invalid '{param}': a stop string has 1 to {MAX_STOP_CHARS} "
            f"characters, this one has {len(item)}.",
            param=param,
        )
    return item


def _biases(biases: dict[str, float]) -> tuple[tuple[int, float], ...]:
    if len(biases) > MAX_BIASES:
        raise InvalidField(
            f"Invalid 'logit_bias': {len(biases)} entries are more than the limit "
            f"of {MAX_BIASES}.",
            param="logit_bias",
        )
    for key, bias in biases.items():
        if not _is_token_id(key):
            raise InvalidField(
                "Invalid 'logit_bias': each key must be a token id, a whole number "
                f"from 0 to {MAX_TOKEN_ID} written as a string.",
                param="logit_bias",
            )
        check_range(bias, -MAX_BIAS, MAX_BIAS, f"logit_bias.{key}")
    return tuple((int(key), float(bias)) for key, bias in biases.items())


def _is_token_id(key: str) -> bool:
    return (
        key.isascii()
        and key.isdecimal()
        and len(key) <= MAX_TOKEN_DIGITS
        and int(key) <= MAX_TOKEN_ID
    )
