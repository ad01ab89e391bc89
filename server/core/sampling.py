"""How tokens are drawn: the settings, their ranges, and whose word counts.

Three may speak: the client, the model (a file of the operator's about it, then
its GGUF metadata `general.sampling.*`), and the server's defaults, which are
LM Studio's. The first that says something is heard, field by field.

Whoever speaks is checked here, by the same table, before a value gets further.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from server.core.requests import Sampling

DEFAULT_BREAKERS: Final = ("\n", ":", '"', "*")
"""Source: llama.cpp, common/common.h, dry_sequence_breakers."""

DEFAULT_ORDER: Final = (
    "penalties",
    "dry",
    "top_n_sigma",
    "top_k",
    "typ_p",
    "top_p",
    "min_p",
    "xtc",
    "temperature",
)
"""Source: llama.cpp, common/common.h, common_params_sampling.samplers."""

SAMPLER_NAMES: Final = (*DEFAULT_ORDER, "adaptive_p")
"""Source: llama.cpp, common_sampler_types_from_names, but for `infill`."""

MAX_BREAKERS: Final = 64
MAX_BREAKER_CHARS: Final = 40
"""Source: llama.cpp, llama_sampler_init_dry, MAX_CHAR_LEN; longer ones are cut
there and refused here."""
MAX_SAMPLERS: Final = 32
MAX_COUNT: Final = 2**31 - 1

_CHARS: Final = dict(zip("edskypmxta", SAMPLER_NAMES, strict=True))
"""Source: llama.cpp, common_sampler_type_to_chr."""
_ALIASES: Final = {
    "nucleus": "top_p",
    "temp": "temperature",
    "typ": "typ_p",
    "typicalp": "typ_p",
}
"""Without `_` and `-`. Source: llama.cpp, common_sampler_types_from_names; and
`typical_p`, the name of the field."""

_NUMBERS: Final[Mapping[str, tuple[float, float]]] = {
    "temperature": (0, 10),
    "top_p": (0, 1),
    "min_p": (0, 1),
    "typical_p": (0, 1),
    "top_n_sigma": (-1, 100),
    "xtc_probability": (0, 1),
    "xtc_threshold": (0, 1),
    "dynatemp_range": (0, 10),
    "dynatemp_exponent": (0, 10),
    "mirostat_tau": (0, 100),
    "mirostat_eta": (0, 1),
    "adaptive_target": (-1, 1),
    "adaptive_decay": (0, 0.99),
    "repeat_penalty": (0, 10),
    "presence_penalty": (-2, 2),
    "frequency_penalty": (-2, 2),
    "dry_multiplier": (0, 100),
    "dry_base": (1, 100),
}
_WHOLE_NUMBERS: Final[Mapping[str, tuple[int, int]]] = {
    "top_k": (-1, MAX_COUNT),
    "mirostat": (0, 2),
    "repeat_last_n": (-1, MAX_COUNT),
    "dry_allowed_length": (0, MAX_COUNT),
    "dry_penalty_last_n": (-1, MAX_COUNT),
}
_LEAST_REPEAT_PENALTY: Final = 0.01

FIELDS: Final = (*_NUMBERS, *_WHOLE_NUMBERS, "dry_sequence_breakers", "samplers")
"""What a model's defaults may say: all but `seed` and `logit_bias`."""

GGUF_FIELDS: Final[Mapping[str, str]] = {
    "sequence": "samplers",
    "top_k": "top_k",
    "top_p": "top_p",
    "min_p": "min_p",
    "xtc_probability": "xtc_probability",
    "xtc_threshold": "xtc_threshold",
    "temp": "temperature",
    "penalty_last_n": "repeat_last_n",
    "penalty_repeat": "repeat_penalty",
    "mirostat": "mirostat",
    "mirostat_tau": "mirostat_tau",
    "mirostat_eta": "mirostat_eta",
}
"""Keys below `general.sampling.` and our names.

Source: gguf, constants.py, Keys.General; llama.cpp, src/llama-arch.cpp.
"""


class SamplerSettings(Struct, frozen=True, omit_defaults=True):
    """All fields settled.

    Ranges: `temperature` 0 and more (0 is greedy); `top_k` 0 is off; `top_p`,
    `min_p`, `typical_p` 0 to 1 (1, 0 and 1 are off); `top_n_sigma` 0 and less
    is off; `xtc_probability` 0 is off, `xtc_threshold` above 0.5 is off;
    `dynatemp_range` 0 is off; `mirostat` 0 is off, 1 or 2 the version, with a
    target `mirostat_tau` and a rate `mirostat_eta`; `adaptive_target` below 0
    is off; `repeat_penalty` above 0 (1 is off), over `repeat_last_n` tokens
    (0 is off, -1 all); `presence_penalty` and `frequency_penalty` -2 to 2;
    `dry_multiplier` 0 is off, over `dry_penalty_last_n` tokens (0 is off, -1
    all). `samplers` None is `DEFAULT_ORDER`. `logit_bias` holds (token id,
    bias); minus infinity forbids a token.

    Source: llama.cpp, tools/server/README.md, for meanings and names; LM
    Studio for the values of `temperature` to `min_p` and of `repeat_penalty`,
    llama.cpp's common/common.h for the others'.
    """

    temperature: float = 0.8
    top_k: int = 40
    top_p: float = 0.95
    min_p: float = 0.05
    typical_p: float = 1.0
    top_n_sigma: float = -1.0
    xtc_probability: float = 0.0
    xtc_threshold: float = 0.1
    dynatemp_range: float = 0.0
    dynatemp_exponent: float = 1.0
    mirostat: int = 0
    mirostat_tau: float = 5.0
    mirostat_eta: float = 0.1
    adaptive_target: float = -1.0
    adaptive_decay: float = 0.9
    repeat_penalty: float = 1.1
    repeat_last_n: int = 64
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    dry_multiplier: float = 0.0
    dry_base: float = 1.75
    dry_allowed_length: int = 2
    dry_penalty_last_n: int = 64
    dry_sequence_breakers: tuple[str, ...] = DEFAULT_BREAKERS
    samplers: tuple[str, ...] | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


class UnfitSetting(ValueError):
    """A value that a field cannot have.

    Args:
        field: Where, with an index for one of several (`samplers[2]`).
        reason: A clause with the value and what is allowed, no full sentence
            at its beginning: "10.5 is outside of 0 to 10."
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}")
        self.field = field
        self.reason = reason


class WrongKind(UnfitSetting):
    """A value of another type than the field's."""


def settle_sampling(asked: Sampling, defaults: Mapping[str, Any]) -> SamplerSettings:
    """Settle every field.

    Args:
        asked: What the client sent.
        defaults: The model's own, by field name; checked before.

    Raises:
        msgspec.ValidationError: `defaults` were not checked.
    """
    said = {
        name: value
        for name in SamplerSettings.__struct_fields__
        if (value := getattr(asked, name)) is not None
    }
    # Their way through msgpack made lists of tuples.
    own = msgspec.convert(dict(defaults), SamplerSettings)
    return msgspec.structs.replace(own, **said)


def check_field(field: str, value: object) -> Any:  # noqa: ANN401 - as many types as fields
    """Bring a value to the form that `SamplerSettings` holds.

    Args:
        field: One of `FIELDS`.
        value: Anything. A whole number passes for a number, 40.0 for 40.

    Raises:
        UnfitSetting: The value is of the wrong kind or out of range.
        KeyError: There is no such field.
    """
    if field == "samplers":
        return _check_samplers(value)
    if field == "dry_sequence_breakers":
        return _check_breakers(value)
    if field in _WHOLE_NUMBERS:
        return _check_whole_number(field, value)
    return _check_number(field, value)


def check_range(field: str, value: float, low: float, high: float) -> None:
    """Refuse a number outside of `low` to `high`, both included.

    Raises:
        UnfitSetting: The number is outside, or not a number at all.
    """
    if not low <= value <= high:
        shown = value if abs(value) < 2**64 else "the number"
        raise UnfitSetting(field, f"{shown} is outside of {low} to {high}.")


def read_gguf_sampling(
    metadata: Mapping[str, object],
) -> tuple[dict[str, Any], tuple[UnfitSetting, ...]]:
    """Read what a model's file says about its sampling.

    Args:
        metadata: Values by their key without `general.sampling.`.

    Returns:
        The fields that can be used, and what was wrong with the others. Keys
        that nobody knows are passed over.
    """
    fields: dict[str, Any] = {}
    wrong: list[UnfitSetting] = []
    for key, field in GGUF_FIELDS.items():
        if key not in metadata:
            continue
        value = metadata[key]
        if key == "sequence" and isinstance(value, str):
            value = [name for name in value.split(";") if name]
        try:
            fields[field] = check_field(field, value)
        except UnfitSetting as error:
            wrong.append(UnfitSetting(f"general.sampling.{key}", error.reason))
    return fields, tuple(wrong)


def _check_number(field: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise WrongKind(field, f"expected a number, but got {_name(value)}.")
    low, high = _NUMBERS[field]
    check_range(field, value, low, high)
    if field == "repeat_penalty" and value < _LEAST_REPEAT_PENALTY:
        # The least keeps the quotient of a logit within 32 bits.
        raise UnfitSetting(
            field,
            f"it must be above 0, at least {_LEAST_REPEAT_PENALTY}; 1 turns it off.",
        )
    return float(value)


def _check_whole_number(field: str, value: object) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int):
        raise WrongKind(field, f"expected an integer, but got {_name(value)}.")
    low, high = _WHOLE_NUMBERS[field]
    check_range(field, value, low, high)
    return max(value, 0) if field == "top_k" else value


def _check_breakers(value: object) -> tuple[str, ...]:
    field = "dry_sequence_breakers"
    breakers = _check_list(field, value, MAX_BREAKERS)
    for number, breaker in enumerate(breakers):
        if not 1 <= len(breaker) <= MAX_BREAKER_CHARS:
            raise UnfitSetting(
                f"{field}[{number}]",
                f"a sequence breaker has 1 to {MAX_BREAKER_CHARS} characters, this "
                f"one has {len(breaker)}.",
            )
    return breakers


def _check_samplers(value: object) -> tuple[str, ...]:
    """Read names, or a text of one letter for each."""
    field = "samplers"
    if isinstance(value, str):
        names = tuple(_CHARS.get(char, char) for char in value[: MAX_SAMPLERS + 1])
        value = list(names)
    return tuple(
        _find_sampler(name, f"{field}[{number}]")
        for number, name in enumerate(_check_list(field, value, MAX_SAMPLERS))
    )


def _find_sampler(name: str, field: str) -> str:
    plain = name.lower().replace("-", "").replace("_", "")
    known = {each.replace("_", ""): each for each in SAMPLER_NAMES} | _ALIASES
    if plain not in known:
        raise UnfitSetting(
            field, f"no sampler has this name. Known are: {', '.join(SAMPLER_NAMES)}."
        )
    return known[plain]


def _check_list(field: str, value: object, most: int) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        raise WrongKind(field, f"expected an array of strings, but got {_name(value)}.")
    if len(value) > most:
        raise UnfitSetting(
            field, f"{len(value)} entries are more than the limit of {most}."
        )
    for number, item in enumerate(value):
        if not isinstance(item, str):
            raise WrongKind(
                f"{field}[{number}]", f"expected a string, but got {_name(item)}."
            )
    return tuple(value)


def _name(value: object) -> str:
    """Name the kind of a value, never the value: it may be long, or secret."""
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case list() | tuple():
            return "an array"
        case _:
            return "another kind of value"
