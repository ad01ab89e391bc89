"""Objects of a JSON Schema.

The hard part is which properties an object may have beside those it declares;
the head of `server.text.schema` says what is decided where it is silent.
"""

from typing import TYPE_CHECKING, Any

from server.text.schema_keywords import (
    IN_PLACE,
    OBJECT_KEYWORDS,
    list_types,
    read_node,
)
from server.text.schema_pattern import UnsupportedPattern, translate_single

if TYPE_CHECKING:
    from server.text.schema_rewrite import Rewriter

MAX_OPTIONAL = 1_000
"""Properties of one object that may be left out: each is looked at with each."""

MAX_DEPENDENCIES = 6
"""Dependent properties of one object: each doubles the forms it may have."""

_OPEN = frozenset(
    {"additionalProperties", "patternProperties", "unevaluatedProperties"}
)
_COUNTING = frozenset({"type", "required", "minProperties", "maxProperties"})
_BRANCHES = ("allOf", "anyOf", "oneOf")


def write_object(
    rewriter: "Rewriter",
    node: dict[str, Any],
    out: dict[str, Any],
    also: list[Any],
    *,
    path: str,
    closed: bool,
) -> None:
    """Write the keywords of objects into `out`, and into `also` what joins in."""
    if "object" not in list_types(node):
        return
    if not OBJECT_KEYWORDS & node.keys() and not (closed and "allOf" in node):
        return
    inner = closed and not joins(node)
    if "properties" in node:
        # A pattern speaks of declared properties as well.
        alone = inner and "patternProperties" not in node
        out["properties"] = {
            name: rewriter.write(part, f"{path}/properties/{name}", closed=alone)
            for name, part in node["properties"].items()
        }
    if "required" in node:
        out["required"] = list(dict.fromkeys(node["required"]))
    _write_patterns(rewriter, node, out, path)
    if "additionalProperties" in node:
        out["additionalProperties"] = rewriter.write(
            node["additionalProperties"], f"{path}/additionalProperties", closed=inner
        )
    elif "unevaluatedProperties" in node:
        _write_unevaluated(rewriter, node, out, path)
    elif closed:
        _close(rewriter, node, out)
    _write_names(rewriter, node, out, path)
    _write_dependencies(rewriter, node, also, path)
    _write_counts(rewriter, node, out, path)
    n_optional = len(out.get("properties", {}).keys() - set(out.get("required", [])))
    if n_optional > MAX_OPTIONAL:
        raise rewriter.refuse(
            f"The object at {path} has {n_optional} optional properties, but at most "
            f"{MAX_OPTIONAL} are allowed. Require some or split it."
        )


def joins(node: dict[str, Any]) -> bool:
    """Tell whether other schemas may speak of the same parts of a value.

    Those that only ask for properties do not.
    """
    parts = [part for key in _BRANCHES for part in node.get(key) or []]
    parts += [node[key] for key in ("if", "then", "else", "not") if key in node]
    parts += node.get("dependentSchemas", {}).values()
    return "$ref" in node or any(
        not isinstance(part, dict) or not read_node(part).keys() <= _COUNTING
        for part in parts
    )


def collect_names(
    rewriter: "Rewriter", value: object, seen: set[str] | None = None
) -> dict[str, None] | None:
    """Collect all property names that a schema declares, in order.

    Args:
        rewriter: Looks references up.
        value: The schema.
        seen: References that were followed already; grows.

    Returns:
        None where the schema itself says what other properties may be.
    """
    rewriter.count_step()
    seen = set() if seen is None else seen
    if not isinstance(value, dict):
        return {}
    node = read_node(value)
    if _OPEN & node.keys():
        return None
    names = dict.fromkeys(node.get("properties") or {})
    for name, others in (node.get("dependentRequired") or {}).items():
        names.update(dict.fromkeys([name, *others]))
    for part in _list_parts(rewriter, node, seen):
        found = collect_names(rewriter, part, seen)
        if found is None:
            return None
        names.update(found)
    return names


def _list_parts(
    rewriter: "Rewriter", node: dict[str, Any], seen: set[str]
) -> list[Any]:
    """List the schemas that speak of the same value, each reference once."""
    parts = [part for key in _BRANCHES for part in node.get(key) or []]
    parts += [node[key] for key in ("if", "then", "else") if key in node]
    parts += (node.get("dependentSchemas") or {}).values()
    reference = node.get("$ref")
    if isinstance(reference, str) and reference not in seen:
        seen.add(reference)
        pointer = rewriter.document.resolve(reference)
        if pointer is not None:
            parts.append(rewriter.document.get(pointer))
    return parts


def _close(rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any]) -> None:
    """Close an object that declares properties and says nothing of others."""
    names = collect_names(rewriter, node)
    if names is None or not (names or "properties" in node):
        return
    names.update(dict.fromkeys(node.get("required", [])))
    if node.get("minProperties", 0) > len(names) or "propertyNames" in node:
        return
    _declare(out, names)
    out["additionalProperties"] = False


def _declare(out: dict[str, Any], names: dict[str, None]) -> None:
    declared = out.get("properties", {})
    out["properties"] = {
        **declared,
        **{name: True for name in names if name not in declared},
    }


def _write_unevaluated(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    """Write `unevaluatedProperties` as `additionalProperties` of all branches."""
    rest = {key: node[key] for key in node if key != "unevaluatedProperties"}
    names = collect_names(rewriter, rest)
    if names is None and IN_PLACE & node.keys():
        rewriter.drop(path, "unevaluatedProperties", "other schemas beside it are open")
        return
    if names is not None:
        if IN_PLACE & node.keys() - {"allOf", "$ref"}:
            rewriter.note(
                f"'unevaluatedProperties' at {path} counts the properties of all "
                "alternatives."
            )
        _declare(out, names)
    out["additionalProperties"] = rewriter.write(
        node["unevaluatedProperties"], f"{path}/unevaluatedProperties", closed=True
    )


def _write_patterns(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    written: dict[str, Any] = {}
    for pattern, part in node.get("patternProperties", {}).items():
        here = f"{path}/patternProperties/{pattern}"
        try:
            first = translate_single(pattern)
        except UnsupportedPattern as error:
            rewriter.drop(path, "patternProperties", f"/{pattern}/: {error}")
        else:
            written[first] = rewriter.write(part, here, closed=False)
    if written:
        out["patternProperties"] = written


def _write_names(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    """Write `propertyNames` as the only properties that may be."""
    if "propertyNames" not in node:
        return
    rule = rewriter.look(node["propertyNames"], path)
    if rule is True:
        return
    rest = out.get("additionalProperties", True)
    if rule is False:
        out.update(properties={}, additionalProperties=False)
        return
    names = [rule["const"]] if "const" in rule else rule.get("enum")
    if names is not None:
        texts = [name for name in names if isinstance(name, str)]
        declared = out.get("properties", {})
        out["properties"] = {name: declared.get(name, rest) for name in texts}
        out["additionalProperties"] = False
        return
    pattern = _name_pattern(rule)
    if pattern is None or "properties" in out or "patternProperties" in out:
        rewriter.drop(path, "propertyNames", "names can follow one pattern alone")
        return
    out["patternProperties"] = {pattern: rest}
    out["additionalProperties"] = False


def _name_pattern(rule: dict[str, Any]) -> str | None:
    """Say in one pattern what names must be; None where that is impossible."""
    keywords = rule.keys() - {"type"}
    if rule.get("type", "string") != "string":
        return None
    if keywords == {"pattern"}:
        try:
            return translate_single(rule["pattern"])
        except UnsupportedPattern:
            return None
    if keywords <= {"minLength", "maxLength"}:
        return f"^(?s:.){{{rule.get('minLength', 0)},{rule.get('maxLength', '')}}}$"
    return None


def _write_dependencies(
    rewriter: "Rewriter", node: dict[str, Any], also: list[Any], path: str
) -> None:
    """Say of each dependent property: it is absent, or what it needs holds."""
    required = node.get("dependentRequired", {})
    schemas = node.get("dependentSchemas", {})
    for number, name in enumerate([*required, *(schemas.keys() - required.keys())]):
        keyword = "dependentRequired" if name in required else "dependentSchemas"
        if number >= MAX_DEPENDENCIES:
            rewriter.drop(path, keyword, f"more than {MAX_DEPENDENCIES} depend")
            return
        present: dict[str, Any] = {"required": [name, *required.get(name, [])]}
        if name in schemas:
            needed = rewriter.write(
                schemas[name], f"{path}/dependentSchemas/{name}", closed=False
            )
            present = {"allOf": [present, needed]}
        absent = {"properties": {name: False}}
        also.append({"anyOf": [present, absent]})


def _write_counts(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    """Write `minProperties` and `maxProperties` where the compiler counts."""
    least, most = node.get("minProperties", 0), node.get("maxProperties")
    if most == 0:
        out.update(properties={}, additionalProperties=False)
        out.pop("patternProperties", None)
    required = set(out.get("required", []))
    declared = {name for name, part in out.get("properties", {}).items() if part}
    is_fixed = (
        out.get("additionalProperties") is False and "patternProperties" not in out
    )
    if is_fixed and most is not None and most >= len(declared):
        most = None
    if least <= len(required):
        least = 0
    wanted = max(least - len(required), 0)
    if declared - required and (least or most is not None):
        left = None if most is None else most - len(required)
        if not (is_fixed and wanted <= 1 and left in (None, 1)):
            for keyword in sorted({"minProperties", "maxProperties"} & node.keys()):
                rewriter.drop(path, keyword, "optional properties are not counted")
            return
    elif wanted > 1:
        rewriter.drop(path, "minProperties", "a name may come twice and count twice")
    if least:
        out["minProperties"] = least
    if most is not None:
        out["maxProperties"] = most
