"""What each keyword of JSON Schema is, and which values it may have."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

TYPES = ("null", "boolean", "integer", "number", "string", "array", "object")

FORMATS = frozenset(
    {
        "date-time",
        "time",
        "date",
        "duration",
        "email",
        "hostname",
        "ipv4",
        "ipv6",
        "uuid",
        "uri",
    }
)
"""Formats that the compiler enforces; Source: llguidance, docs/json_schema.md."""

IN_PLACE = frozenset({"$ref", "allOf", "anyOf", "oneOf", "not", "if"})
"""Keywords that bring further schemas to bear on the same value."""

OBJECT_KEYWORDS = frozenset(
    {
        "properties",
        "patternProperties",
        "additionalProperties",
        "unevaluatedProperties",
        "propertyNames",
        "required",
        "minProperties",
        "maxProperties",
        "dependentRequired",
        "dependentSchemas",
    }
)
ARRAY_KEYWORDS = frozenset(
    {
        "items",
        "prefixItems",
        "unevaluatedItems",
        "minItems",
        "maxItems",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
    }
)
STRING_KEYWORDS = frozenset({"pattern", "format", "minLength", "maxLength"})
NUMBER_KEYWORDS = frozenset(
    {"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}
)
COUNTS = frozenset(
    {
        "minLength",
        "maxLength",
        "minItems",
        "maxItems",
        "minProperties",
        "maxProperties",
        "minContains",
        "maxContains",
    }
)
CONSTRAINING = (
    frozenset({"type", "enum", "const", "then", "else"})
    | IN_PLACE
    | OBJECT_KEYWORDS
    | ARRAY_KEYWORDS
    | STRING_KEYWORDS
    | NUMBER_KEYWORDS
)
"""All that is looked at; any other keyword is an annotation or unknown."""

_TYPE_NAMES = MappingProxyType(
    {
        "str": "string",
        "text": "string",
        "int": "integer",
        "long": "integer",
        "float": "number",
        "double": "number",
        "decimal": "number",
        "bool": "boolean",
        "dict": "object",
        "map": "object",
        "list": "array",
        "none": "null",
    }
)
"""What people write by mistake, as their language calls it."""


def is_schema(value: object) -> bool:
    """Tell whether a value has the form of a schema."""
    return isinstance(value, dict | bool)


def _is_schema_list(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(map(is_schema, value))


def _is_schema_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(is_schema, value.values()))


def _is_name_list(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(name, str) for name in value)


def _is_name_map(value: object) -> bool:
    return isinstance(value, dict) and all(map(_is_name_list, value.values()))


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_type(value: object) -> bool:
    names = value if isinstance(value, list) else [value]
    return bool(names) and all(name in TYPES for name in names)


FORMS: Mapping[str, Callable[[object], bool]] = MappingProxyType(
    {
        "type": _is_type,
        "enum": lambda value: isinstance(value, list),
        "$ref": _is_text,
        "pattern": _is_text,
        "format": _is_text,
        "required": _is_name_list,
        "dependentRequired": _is_name_map,
        "uniqueItems": lambda value: isinstance(value, bool),
        "multipleOf": lambda value: _is_number(value) and value > 0,  # type: ignore[operator]
        **dict.fromkeys(
            ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"), _is_number
        ),
        **dict.fromkeys(COUNTS, _is_count),
        **dict.fromkeys(("allOf", "anyOf", "oneOf"), _is_schema_list),
        "prefixItems": lambda value: (
            isinstance(value, list) and all(map(is_schema, value))
        ),
        **dict.fromkeys(
            ("properties", "patternProperties", "dependentSchemas"), _is_schema_map
        ),
        **dict.fromkeys(
            (
                "not",
                "if",
                "then",
                "else",
                "items",
                "contains",
                "propertyNames",
                "additionalProperties",
                "unevaluatedProperties",
                "unevaluatedItems",
            ),
            is_schema,
        ),
    }
)
"""Which values a keyword may have."""


def modernise(node: dict[str, Any]) -> dict[str, Any]:
    """Write a schema object in the words of draft 2020-12, without annotations.

    Older drafts' `dependencies`, list `items` and boolean `exclusiveMinimum`
    are known, and OpenAPI's `nullable` stays for the caller.
    """
    new = {key: node[key] for key in node if key in CONSTRAINING}
    for old in ("$dynamicRef", "$recursiveRef"):
        if old in node and "$ref" not in new:
            new["$ref"] = node[old]
    for keyword in COUNTS & new.keys():
        if isinstance(new[keyword], float) and new[keyword].is_integer():
            new[keyword] = int(new[keyword])
    _modernise_bounds(new)
    _modernise_items(node, new)
    _modernise_dependencies(node, new)
    if "type" in new:
        new["type"] = _modernise_type(new["type"])
    if isinstance(new.get("required"), bool):
        del new["required"]
    return new


def read_node(node: dict[str, Any]) -> dict[str, Any]:
    """Modernise a schema object and leave out what has no valid form."""
    new = modernise(node)
    return {key: part for key, part in new.items() if has_form(key, part)}


def has_form(keyword: str, value: object) -> bool:
    """Tell whether a keyword may have a value."""
    fits = FORMS.get(keyword)
    return fits is None or fits(value)


def _modernise_bounds(new: dict[str, Any]) -> None:
    for bound, exclusive in (
        ("minimum", "exclusiveMinimum"),
        ("maximum", "exclusiveMaximum"),
    ):
        flag = new.get(exclusive)
        if isinstance(flag, bool):
            del new[exclusive]
            if flag and bound in new:
                new[exclusive] = new.pop(bound)


def _modernise_items(node: dict[str, Any], new: dict[str, Any]) -> None:
    if isinstance(new.get("items"), list):
        new["prefixItems"] = new.pop("items")
        if "additionalItems" in node:
            new["items"] = node["additionalItems"]


def _modernise_dependencies(node: dict[str, Any], new: dict[str, Any]) -> None:
    dependencies = node.get("dependencies")
    if not isinstance(dependencies, dict):
        return
    for name, wanted in dependencies.items():
        wanted = [wanted] if isinstance(wanted, str) else wanted  # noqa: PLW2901
        kind = "dependentRequired" if isinstance(wanted, list) else "dependentSchemas"
        new[kind] = {**new.get(kind, {}), name: wanted}


def _modernise_type(value: object) -> object:
    if isinstance(value, list):
        names = [_modernise_type(name) for name in value]
        return names[0] if len(names) == 1 else names
    if not isinstance(value, str) or value in TYPES:
        return value
    name = value.lower()
    return name if name in TYPES else _TYPE_NAMES.get(name, value)


def list_types(node: dict[str, Any]) -> tuple[str, ...]:
    """List the types that a schema object allows by its `type` alone."""
    value = node.get("type")
    if value is None:
        return TYPES
    return tuple(value) if isinstance(value, list) else (value,)
