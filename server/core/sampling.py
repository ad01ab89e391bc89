"""How tokens are drawn: the settings, and whose word counts.

Three may speak: the client, the model (its GGUF metadata `general.sampling.*`
or a file of the operator's beside it), and the server's defaults, which are LM
Studio's. The first that says something is heard, field by field.
"""

from collections.abc import Mapping
from typing import Any, Final

import msgspec
from msgspec import Struct

from server.core.requests import Sampling

DEFAULT_BREAKERS: Final = ("\n", ":", '"', "*")
"""Source: llama.cpp, common/common.h, dry_sequence_breakers."""


class SamplerSettings(Struct, frozen=True, omit_defaults=True):
    """All fields settled.

    Ranges: `temperature` 0 and more (0 is greedy); `top_k` 0 is off; `top_p`,
    `min_p`, `typical_p` 0 to 1 (1, 0 and 1 are off); `top_n_sigma` 0 and less
    is off; `xtc_probability` 0 is off, `xtc_threshold` above 0.5 is off;
    `dynatemp_range` 0 is off; `mirostat` 0 is off, 1 or 2 the version, with a
    target `mirostat_tau` and a rate `mirostat_eta`; `adaptive_target` below 0
    is off; `repeat_penalty` above 0 (1 is off), over `repeat_last_n` tokens
    (0 is off, -1 all); `presence_penalty` and `frequency_penalty` -2 to 2;
    `dry_multiplier` 0 is off, over `dry_penalty_last_n` tokens (-1 all).
    `samplers` None keeps the order of `server.worker.sampling`.

    Source: llama.cpp, tools/server/README.md, for meanings and names; LM
    Studio for `temperature` to `repeat_penalty`, llama.cpp for the others'
    values.
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
    dry_penalty_last_n: int = -1
    dry_sequence_breakers: tuple[str, ...] = DEFAULT_BREAKERS
    samplers: tuple[str, ...] | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()


def settle_sampling(asked: Sampling, defaults: Mapping[str, Any]) -> SamplerSettings:
    """Settle every field.

    Args:
        asked: What the client sent.
        defaults: The model's own, by field name; checked before.
    """
    said = {
        name: value
        for name in SamplerSettings.__struct_fields__
        if (value := getattr(asked, name)) is not None
    }
    return msgspec.structs.replace(SamplerSettings(**defaults), **said)
