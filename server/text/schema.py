"""JSON Schema, made into what the grammar's compiler can enforce.

The compiler (llguidance) knows a part of draft 2020-12 and refuses the whole
schema where it meets anything else. So each keyword has one of these fates,
listed in SCHEMAS.md:

    enforced    passed on
    rewritten   said in other words that mean the same, or something stricter
    ignored     an annotation, by JSON Schema itself
    relaxed     dropped with a warning; with `strict` an error that names it
    refused     always an error: references to elsewhere

What is written is mostly equal to the client's schema. It may be narrower, so
that less is left to chance and more is certain without asking the model:

* an object that declares `properties` and says nothing of others has no others;
* a schema with keywords of one type alone, and no `type`, has that type;
* properties come in the order of the schema.

It is wider only where a warning says so. All of `$defs` that is used is
collected under new names, so `$ref` may point anywhere in the document.
"""

from dataclasses import dataclass
from typing import Any

from server.core.errors import InvalidRequest
from server.text.schema_finite import is_finite
from server.text.schema_limits import check_size
from server.text.schema_rewrite import Rewriter

Schema = dict[str, Any] | bool

GUIDANCE = {
    "whitespace_flexible": False,
    "item_separator": ", ",
    "key_separator": ": ",
    # Without "u" no key can be written in two ways, and texts stay readable.
    "json_allowed_escapes": 'nrbtf\\"',
}
"""How JSON is written where the server decides: as Python's json.dumps does."""

LOOSE_GUIDANCE = {
    "whitespace_pattern": "[ \\n\\r\\t]{1,32}",
    "item_separator": ",",
    "key_separator": ":",
    "json_allowed_escapes": 'nrbtf\\"u',
}
"""How JSON is read where the model began it by itself: with white space."""

ANY_OBJECT: dict[str, Any] = {"type": "object"}


@dataclass(frozen=True, slots=True)
class Relaxed:
    """A schema that the compiler understands.

    `warnings` say what it no longer enforces; none means nothing.
    """

    schema: Schema
    warnings: tuple[str, ...] = ()


def relax(schema: Schema, *, strict: bool, param: str) -> Relaxed:
    """Rewrite a schema for the compiler; see the head of the file.

    Args:
        schema: As the client sent it; not changed.
        strict: A keyword that cannot be enforced is an error.
        param: The request's field that errors name.

    Raises:
        InvalidRequest: The schema is too large, refers to elsewhere, allows
            nothing, or with `strict` has a keyword that cannot be enforced.
    """
    check_size(schema, param=param)
    rewriter = Rewriter(schema, strict=strict, param=param)
    written = rewriter.rewrite()
    if written is False:
        raise InvalidRequest(
            "The schema allows no value at all. Correct it.", param=param
        )
    if not is_finite(written):
        raise InvalidRequest(
            "The schema requires itself inside of itself, so no value ends. Make a "
            "property optional, or allow null.",
            param=param,
        )
    check_size(written, param=param)
    return Relaxed(written, tuple(rewriter.warnings))


def relax_arguments(schema: Schema | None, *, strict: bool, param: str) -> Relaxed:
    """Rewrite the schema of a tool's arguments, which are an object.

    None means that there are none.

    Raises:
        InvalidRequest: As `relax`, or the schema excludes objects.
    """
    if schema is None or schema == {}:
        empty = {"type": "object", "properties": {}, "additionalProperties": False}
        return Relaxed(empty)
    if schema is True:
        return Relaxed(ANY_OBJECT)
    if isinstance(schema, dict) and "type" not in schema:
        schema = {"type": "object", **schema}
    relaxed = relax(schema, strict=strict, param=param)
    types = relaxed.schema.get("type") if isinstance(relaxed.schema, dict) else None
    if types is None or types == "object":
        return relaxed
    if isinstance(types, list) and "object" in types:
        only = {**relaxed.schema, "type": "object"}  # type: ignore[dict-item]
        return Relaxed(only, relaxed.warnings)
    raise InvalidRequest(
        f"A tool's parameters describe an object, but this schema's type is {types}. "
        'Use "type": "object".',
        param=param,
    )
