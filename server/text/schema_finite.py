"""Whether anything finite can be valid under a schema.

A list of which each node requires the next one has no end, so an answer would
have none either.
"""

from typing import Any

Schema = dict[str, Any] | bool
_MAX_ROUNDS = 64


def is_finite(schema: Schema) -> bool:
    """Tell whether a rewritten schema has values that end.

    A schema whose parts depend on each other in very long chains is taken to
    have some.
    """
    if isinstance(schema, bool):
        return schema
    definitions: dict[str, Any] = {
        f"#/$defs/{name}": part for name, part in schema.get("$defs", {}).items()
    }
    definitions["#"] = {key: part for key, part in schema.items() if key != "$defs"}
    finite: set[str] = set()
    for _ in range(_MAX_ROUNDS):
        found = {
            name
            for name, part in reversed(definitions.items())
            if name not in finite and _ends(part, finite)
        }
        finite |= found
        if "#" in finite:
            return True
        if not found:
            return False
    return True


def _ends(schema: Any, finite: set[str]) -> bool:  # noqa: ANN401 - any JSON value
    """Tell whether a schema has values that need only what is known to end."""
    if not isinstance(schema, dict):
        return True
    if "$ref" in schema and schema["$ref"] not in finite:
        return False
    if not all(_ends(part, finite) for part in schema.get("allOf", [])):
        return False
    if "anyOf" in schema and not any(_ends(p, finite) for p in schema["anyOf"]):
        return False
    if schema.get("type", "object") == "object":
        properties = schema.get("properties", {})
        required = schema.get("required", [])
        if not all(_ends(properties.get(name), finite) for name in required):
            return False
    return schema.get("type", "array") != "array" or _items_end(schema, finite)


def _items_end(schema: dict[str, Any], finite: set[str]) -> bool:
    least = schema.get("minItems", 0)
    first = schema.get("prefixItems", [])
    if not all(_ends(part, finite) for part in first[:least]):
        return False
    return least <= len(first) or _ends(schema.get("items"), finite)
