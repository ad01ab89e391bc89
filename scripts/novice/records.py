"""JSON objects with the keys that were asked for."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from scripts.novice.rendering import Turn, answer, user
from scripts.novice.words import Words, expand

_KEYS: Final = (
    "name",
    "age",
    "city",
    "id",
    "date",
    "price",
    "size",
    "color",
    "title",
    "email",
    "country",
    "count",
    "status",
    "user",
    "year",
    "street",
    "code",
    "height",
    "width",
    "language",
    "weight",
)
DEFAULT: Final = "example"


def make(words: Words, forms: Mapping[str, Sequence[str]]) -> tuple[Turn, Turn]:
    """Ask for an object and write it on one line.

    Where the user gave no values, all are the same word.
    """
    rng = words.rng
    n = rng.choice((1, 2, 2, 3, 3, 4))
    keys: list[str] = []
    while len(keys) < n:
        key = rng.choice(_KEYS) if rng.random() < 0.35 else words.word()  # noqa: PLR2004
        if rng.random() < 0.1:  # noqa: PLR2004
            key = words.identifier()
        if key not in keys:
            keys.append(key)
    if rng.random() < 0.6:  # noqa: PLR2004
        text = expand(rng, rng.choice(forms["keys_only"])).format(
            keys=_join(words, keys)
        )
        record: dict[str, Any] = dict.fromkeys(keys, DEFAULT)
    else:
        record = {
            key: rng.randint(0, 999) if rng.random() < 0.3 else words.value()  # noqa: PLR2004
            for key in keys
        }
        link = rng.choice((" ", " = ", ": ", " is "))
        pairs = [f"{key}{link}{value}" for key, value in record.items()]
        text = expand(rng, rng.choice(forms["with_values"])).format(
            pairs=", ".join(pairs)
        )
    reply = json.dumps(record, ensure_ascii=False)
    return user(text), answer(reply, f"The keys are {', '.join(keys)}.")


def _join(words: Words, keys: list[str]) -> str:
    quote = words.rng.choice(("", "", "", '"', "'", "`"))
    quoted = [f"{quote}{key}{quote}" for key in keys]
    if len(keys) == 1:
        return quoted[0]
    last = words.rng.choice((" and ", ", ", " and ", ", and "))
    return ", ".join(quoted[:-1]) + last + quoted[-1]
