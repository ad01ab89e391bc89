"""Whether one value can fit two schemas of a `oneOf`."""

from typing import TYPE_CHECKING, Any

from server.text.schema_keywords import list_types

if TYPE_CHECKING:
    from server.text.schema_rewrite import Rewriter

Schema = dict[str, Any] | bool
_MAX_PAIRS = 20_000
_MAX_LOOKS = 8


def find_overlap(
    rewriter: "Rewriter", parts: list[Any], *, closed: bool
) -> tuple[int, int] | None:
    """Find two schemas of a list that may have a value in common.

    Args:
        rewriter: Looks references up.
        parts: The schemas as they stand.
        closed: Objects will be written without undeclared properties, so one
            that lacks what the other requires does not fit the other.

    Returns:
        Their places in the list, or None where all are certainly apart.
    """
    if len(parts) ** 2 > 2 * _MAX_PAIRS:
        return 0, 1
    nodes = [rewriter.look(part, "oneOf") for part in parts]
    for first, one in enumerate(nodes):
        for second in range(first + 1, len(nodes)):
            if not _are_apart(rewriter, one, nodes[second], closed=closed):
                return first, second
    return None


def _are_apart(
    rewriter: "Rewriter", one: Schema, other: Schema, *, closed: bool, depth: int = 0
) -> bool:
    rewriter.count_step()
    if one is False or other is False:
        return True
    if isinstance(one, bool) or isinstance(other, bool) or depth > _MAX_LOOKS:
        return False
    shared = _types(one) & _types(other)
    if not shared or _values_apart(one, other) or _ranges_apart(one, other, shared):
        return True
    if shared != {"object"}:
        return False
    if closed and _lacks(one, other) and _lacks(other, one):
        return True
    return any(
        _are_apart(
            rewriter,
            rewriter.look(one.get("properties", {}).get(name, True), "oneOf"),
            rewriter.look(other.get("properties", {}).get(name, True), "oneOf"),
            closed=closed,
            depth=depth + 1,
        )
        for name in {*one.get("required", []), *other.get("required", [])}
    )


def _types(node: dict[str, Any]) -> set[str]:
    """Collect the types of a schema's values; an integer is a number too."""
    types = set(list_types(node))
    values = [node["const"]] if "const" in node else node.get("enum")
    if "type" not in node and isinstance(values, list):
        types = {_type_of(value) for value in values}
    elif "type" not in node and {"properties", "required"} & node.keys():
        types = {"object"}
    return {"number" if name == "integer" else name for name in types}


def _type_of(value: object) -> str:
    if value is None:
        return "null"
    for kind, name in (
        (bool, "boolean"),
        (str, "string"),
        (list, "array"),
        (dict, "object"),
    ):
        if isinstance(value, kind):
            return name
    return "number"


def _values_apart(one: dict[str, Any], other: dict[str, Any]) -> bool:
    sets = []
    for node in (one, other):
        values = [node["const"]] if "const" in node else node.get("enum")
        if not isinstance(values, list):
            return False
        sets.append({_key_of(value) for value in values})
    return sets[0].isdisjoint(sets[1])


def _key_of(value: object) -> tuple[str, str]:
    """Return what two values have in common if JSON takes them for equal."""
    kind = _type_of(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    # Numbers inside of lists and objects are rare here, and may be 1 or 1.0.
    is_nested = kind in ("array", "object")
    return kind, "" if is_nested else repr(value)


def _ranges_apart(one: dict[str, Any], other: dict[str, Any], shared: set[str]) -> bool:
    if shared != {"number"}:
        return False
    for low, high in ((one, other), (other, one)):
        if "maximum" in low and "minimum" in high and low["maximum"] < high["minimum"]:
            return True
    return False


def _lacks(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Tell whether a closed `one` has no place for what `other` requires."""
    open_keys = {"additionalProperties", "patternProperties", "unevaluatedProperties"}
    joined = {"$ref", "allOf", "anyOf", "oneOf"}
    if one.get("additionalProperties") is False:
        open_keys.discard("additionalProperties")
    if (open_keys | joined) & one.keys() or "properties" not in one:
        return False
    names = {*one["properties"], *one.get("required", [])}
    return not names.issuperset(other.get("required", []))
