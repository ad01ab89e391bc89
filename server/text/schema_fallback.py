"""What happens where the compiler refuses a schema that was rewritten.

Some limits only the compiler knows: patterns of names that overlap, joins that
never end, automata that grow too large. Then parts are taken away step by
step, each step named in a warning, until it compiles; in the end only the type
is left. With `strict` the compiler's reason is the error.
"""

import json
from collections.abc import Callable
from typing import Any

from server.core.errors import InvalidRequest
from server.text.schema import ANY_OBJECT, GUIDANCE, Relaxed, Schema

Check = Callable[[str], str | None]
"""Tells why a grammar does not compile; None where it does."""

_STEPS: tuple[frozenset[str], ...] = (
    frozenset({"pattern", "format", "multipleOf"}),
    frozenset({"patternProperties", "minProperties", "maxProperties"}),
    frozenset({"maxItems", "minItems", "maxLength", "minLength"}),
    frozenset({"allOf"}),
)
_NAME_MAPS = frozenset({"properties", "patternProperties", "$defs"})
_DATA = frozenset({"const", "enum", "required", "type"})


def settle(
    relaxed: Relaxed, check: Check | None, *, strict: bool, param: str
) -> tuple[Schema, tuple[str, ...]]:
    """Make sure that a schema compiles; returns it with all warnings.

    Raises:
        InvalidRequest: It does not compile, and `strict` holds or nothing
            can be valid.
    """
    schema, warnings = relaxed.schema, relaxed.warnings
    reason = _ask(schema, check)
    if reason is None:
        return schema, warnings
    if "nsatisfiable" in reason:
        raise InvalidRequest(
            f"No value can be valid under the schema: {reason}. Correct it.",
            param=param,
        )
    if strict:
        raise InvalidRequest(
            f"The schema cannot be enforced: {reason}. Simplify it, or ask without "
            "strict.",
            param=param,
        )
    dropped: frozenset[str] = frozenset()
    for step in _STEPS:
        present = step & _list_keywords(schema)
        if not present:
            continue
        dropped |= present
        schema = _strip(schema, step)
        if _ask(schema, check) is None:
            names = ", ".join(sorted(dropped))
            return schema, (*warnings, f"Not enforced anywhere: {names}. {reason}.")
    types = schema.get("type") if isinstance(schema, dict) else None
    bare: Schema = {"type": types} if types else ANY_OBJECT
    return bare, (*warnings, f"Only the type is enforced. {reason}.")


def write_check(schema: Schema) -> str:
    """Write the grammar that a check of a schema compiles."""
    body = schema if isinstance(schema, dict) else {}
    return "start: %json " + json.dumps({**body, "x-guidance": GUIDANCE})


def _ask(schema: Schema, check: Check | None) -> str | None:
    return None if check is None else check(write_check(schema))


def _list_keywords(value: Any) -> frozenset[str]:  # noqa: ANN401 - any JSON value
    """List the keywords that occur anywhere in a schema."""
    if isinstance(value, list):
        return frozenset().union(*map(_list_keywords, value))
    if not isinstance(value, dict):
        return frozenset()
    found = frozenset(value)
    for key, part in value.items():
        if key in _NAME_MAPS:
            found |= _list_keywords(list(part.values()))
        elif key not in _DATA:
            found |= _list_keywords(part)
    return found


def _strip(value: Any, keywords: frozenset[str]) -> Any:  # noqa: ANN401
    """Take keywords out of a schema, at all levels."""
    if isinstance(value, list):
        return [_strip(part, keywords) for part in value]
    if not isinstance(value, dict):
        return value
    left = {}
    for key, part in value.items():
        if key in keywords:
            continue
        if key in _NAME_MAPS:
            left[key] = {name: _strip(inner, keywords) for name, inner in part.items()}
        else:
            left[key] = part if key in _DATA else _strip(part, keywords)
    if "patternProperties" in keywords & value.keys():
        left.pop("additionalProperties", None)
    return left
