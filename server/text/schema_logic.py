"""Logic of a JSON Schema: `allOf`, `anyOf`, `oneOf`, `not`, `if`.

A grammar can say "this or that", and the compiler can join schemas that hold
at once. It cannot say "not". So `oneOf` is said as `anyOf`, which is the same
where no value fits two of its schemas, and `not` and `if` are said by what is
left over, in the few forms that people write and that leave something to say.
"""

from typing import TYPE_CHECKING, Any

from server.text.schema_keywords import TYPES, list_types, read_node
from server.text.schema_overlap import find_overlap

if TYPE_CHECKING:
    from server.text.schema_rewrite import Rewriter

Schema = dict[str, Any] | bool
_ALONE = frozenset({"type"})
_SIMPLE = frozenset({"type", "properties", "required"})


def write_logic(
    rewriter: "Rewriter",
    node: dict[str, Any],
    out: dict[str, Any],
    path: str,
    *,
    closed: bool,
) -> Any:  # noqa: ANN401 - a list of schemas, or False
    """Write the logical keywords into `out`.

    Returns:
        Further schemas that must hold as well; False where nothing can hold.
    """
    also: list[Any] = []
    for keyword in ("anyOf", "oneOf"):
        if keyword in node:
            alternatives = _write_alternatives(
                rewriter, node, keyword, path, closed=closed
            )
            if not alternatives:
                return False
            if "anyOf" in out:
                also.append({"anyOf": alternatives})
            else:
                out["anyOf"] = alternatives
    if "allOf" in node:
        inner_closed = closed and _is_alone(node, "allOf") and len(node["allOf"]) == 1
        also.extend(
            rewriter.write(
                _place_condition(node, part),
                f"{path}/allOf/{number}",
                closed=inner_closed,
            )
            for number, part in enumerate(node["allOf"])
        )
    if "not" in node:
        also.append(_write_not(rewriter, node, path))
    if "if" in node and ("then" in node or "else" in node):
        also.append(_write_condition(rewriter, node, path))
    return also


def _is_alone(node: dict[str, Any], keyword: str) -> bool:
    return node.keys() <= {keyword} | _ALONE


def _write_alternatives(
    rewriter: "Rewriter",
    node: dict[str, Any],
    keyword: str,
    path: str,
    *,
    closed: bool,
) -> list[Any]:
    parts = node[keyword]
    inner_closed = closed and _is_alone(node, keyword)
    written = [
        rewriter.write(part, f"{path}/{keyword}/{number}", closed=inner_closed)
        for number, part in enumerate(parts)
    ]
    if keyword == "oneOf":
        pair = find_overlap(rewriter, parts, closed=inner_closed)
        if pair is not None:
            rewriter.drop(
                path,
                "oneOf",
                f"a value may fit schemas {pair[0]} and {pair[1]} at once, so it is "
                "taken as 'anyOf'",
            )
    return [part for part in written if part is not False]


def _write_not(rewriter: "Rewriter", node: dict[str, Any], path: str) -> Any:  # noqa: ANN401
    """Say what `not` leaves over; True where it cannot be said."""
    excluded = rewriter.look(node["not"], path)
    left = _invert(node, excluded)
    if left is None:
        rewriter.drop(path, "not", "what it leaves over cannot be said otherwise")
        return True
    return left


def _invert(node: dict[str, Any], excluded: Schema) -> Any:  # noqa: ANN401
    """Return a schema of all that `excluded` is not; None where there is none."""
    if isinstance(excluded, bool) or not excluded:
        return excluded is False
    if excluded.keys() == {"anyOf"}:
        parts = [
            _invert(node, read_node(part) if isinstance(part, dict) else part)
            for part in excluded["anyOf"]
        ]
        return None if None in parts else {"allOf": parts}
    return _invert_plain(node, excluded)


def _invert_plain(node: dict[str, Any], excluded: dict[str, Any]) -> Any:  # noqa: ANN401
    if excluded.keys() == {"type"}:
        return _invert_types(node, list_types(excluded))
    values = [excluded["const"]] if "const" in excluded else excluded.get("enum")
    if values is not None and excluded.keys() <= {"const", "enum", "type"}:
        return _invert_values(node, values)
    if excluded.keys() <= {"required", "type", "properties"}:
        return _invert_required(node, excluded)
    return None


def _invert_types(node: dict[str, Any], types: tuple[str, ...]) -> Any:  # noqa: ANN401
    allowed = set(list_types(node))
    gone = set(types)
    if "number" in gone:
        gone.add("integer")
    elif "integer" in gone and "number" in allowed:
        return None
    if "number" in allowed:
        allowed.discard("integer")
    left = [name for name in TYPES if name in allowed - gone]
    return {"type": left} if left else False


def _invert_values(node: dict[str, Any], values: list[Any]) -> Any:  # noqa: ANN401
    known = node.get("enum")
    if isinstance(known, list):
        left = [value for value in known if not _is_among(value, values)]
        return {"enum": left} if left else False
    if list_types(node) == ("boolean",):
        left = [value for value in (True, False) if not _is_among(value, values)]
        return {"enum": left} if left else False
    if values == [None]:
        return _invert_types(node, ("null",))
    return None


def _is_among(value: object, values: list[Any]) -> bool:
    """Compare as JSON does: true is not 1, but 1.0 is 1."""
    return any(
        value == other and isinstance(value, bool) == isinstance(other, bool)
        for other in values
    )


def _invert_required(node: dict[str, Any], excluded: dict[str, Any]) -> Any:  # noqa: ANN401
    """An object that has not all of some names lacks at least one of them."""
    names = excluded.get("required", [])
    if excluded.get("properties") or list_types(node) != ("object",) or not names:
        return None
    return {"anyOf": [{"properties": {name: False}} for name in names]}


def _place_condition(node: dict[str, Any], part: Any) -> Any:  # noqa: ANN401
    """Tell a condition inside of `allOf` what its neighbours say.

    It needs to know which values a property can have at all.
    """
    if not isinstance(part, dict) or "if" not in part:
        return part
    known = {key: node[key] for key in ("type", "properties") if key in node}
    return {**known, **part} if "properties" not in part else part


def _write_condition(rewriter: "Rewriter", node: dict[str, Any], path: str) -> Any:  # noqa: ANN401
    """Write `if` as two alternatives, each with its side of the condition."""
    condition = rewriter.look(node["if"], path)
    sides = _split_condition(rewriter, node, condition, path)
    if sides is None:
        rewriter.drop(path, "if", "its opposite cannot be said otherwise")
        return True
    written = []
    for side, keyword in zip(sides, ("then", "else"), strict=True):
        if side is False:
            continue
        outcome: Any = True
        if keyword in node:
            outcome = rewriter.write(node[keyword], f"{path}/{keyword}", closed=False)
        if outcome is not False:
            written.append({"allOf": [p for p in (side, outcome) if p is not True]})
    if not written:
        return False
    return {"anyOf": [part if part["allOf"] else True for part in written]}


def _split_condition(
    rewriter: "Rewriter",
    node: dict[str, Any],
    condition: Schema,
    path: str,
) -> tuple[Any, Any] | None:
    """Return schemas of what meets a condition and of what does not."""
    if isinstance(condition, bool):
        return condition, not condition
    if list_types(node) != ("object",) or not condition.keys() <= _SIMPLE:
        return None
    properties = condition.get("properties", {})
    required = condition.get("required", [])
    if not properties and len(required) == 1:
        name = required[0]
        return {"required": [name]}, {"properties": {name: False}}
    if len(properties) != 1 or not set(required) <= properties.keys():
        return None
    return _split_by_values(rewriter, node, condition, path)


def _split_by_values(
    rewriter: "Rewriter", node: dict[str, Any], condition: dict[str, Any], path: str
) -> tuple[Any, Any] | None:
    """Split by the value of one property, of which all values are known."""
    ((name, rule),) = condition["properties"].items()
    values = _list_values(rewriter.look(rule, path))
    base = node.get("properties", {}).get(name)
    known = _list_values(rewriter.look(base, path)) if base is not None else None
    if values is None or known is None:
        return None
    others = [value for value in known if not _is_among(value, values)]
    meets = {"properties": {name: {"enum": values}}, "required": [name]}
    misses: Any = {"properties": {name: {"enum": others}}} if others else False
    if condition.get("required"):
        absent_misses = misses or {"properties": {name: False}}
        return meets, absent_misses
    del meets["required"]
    return meets, {**misses, "required": [name]} if misses else False


def _list_values(rule: Schema) -> list[Any] | None:
    """List all values that a schema allows, where they are few and named."""
    if isinstance(rule, bool):
        return None
    if "const" in rule:
        return [rule["const"]]
    if isinstance(rule.get("enum"), list):
        return list(rule["enum"])
    return [True, False] if rule == {"type": "boolean"} else None
