"""Arrays of a JSON Schema."""

from typing import TYPE_CHECKING, Any

from server.text.schema_keywords import ARRAY_KEYWORDS, IN_PLACE, list_types

if TYPE_CHECKING:
    from server.text.schema_rewrite import Rewriter

MAX_ITEMS = 1_000
"""The largest `minItems` or `maxItems` that is counted: each is written out."""

MAX_CONTAINS = 16
"""The largest `minContains`."""


def write_array(
    rewriter: "Rewriter",
    node: dict[str, Any],
    out: dict[str, Any],
    path: str,
    *,
    closed: bool,
) -> None:
    """Write the keywords of arrays into `out`."""
    if "array" not in list_types(node) or not ARRAY_KEYWORDS & node.keys():
        return
    inner = closed and not IN_PLACE & node.keys()
    prefix = node.get("prefixItems", [])
    if prefix:
        out["prefixItems"] = [
            rewriter.write(item, f"{path}/prefixItems/{number}", closed=inner)
            for number, item in enumerate(prefix)
        ]
    if "items" in node:
        out["items"] = rewriter.write(node["items"], f"{path}/items", closed=inner)
    elif "unevaluatedItems" in node:
        _write_unevaluated(rewriter, node, out, path)
    for keyword in ("minItems", "maxItems"):
        if keyword not in node:
            continue
        if node[keyword] > MAX_ITEMS:
            rewriter.drop(path, keyword, f"{node[keyword]} is more than {MAX_ITEMS}")
        else:
            out[keyword] = node[keyword]
    if "contains" in node:
        _write_contains(rewriter, node, out, path)
    if node.get("uniqueItems") and out.get("maxItems", 2) > 1:
        rewriter.drop(path, "uniqueItems", "a grammar does not remember earlier items")


def _write_unevaluated(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    if IN_PLACE & node.keys():
        rewriter.drop(path, "unevaluatedItems", "it stands beside other schemas")
    else:
        out["items"] = rewriter.write(
            node["unevaluatedItems"], f"{path}/unevaluatedItems", closed=True
        )


def _write_contains(
    rewriter: "Rewriter", node: dict[str, Any], out: dict[str, Any], path: str
) -> None:
    """Let the first items be those that `contains` asks for.

    That is stricter than the schema, and all that a grammar can do.
    """
    wanted = node.get("minContains", 1)
    if "maxContains" in node:
        rewriter.drop(path, "maxContains", "a grammar does not count matches")
    if wanted == 0:
        return
    if "prefixItems" in out or wanted > MAX_CONTAINS:
        rewriter.drop(path, "contains", "it cannot be tied to a place")
        return
    one = rewriter.write(node["contains"], f"{path}/contains", closed=False)
    if "items" in node:
        items = rewriter.write(node["items"], f"{path}/items", closed=False)
        one = {"allOf": [items, one]}
    out["prefixItems"] = [one] * wanted
    out["minItems"] = max(out.get("minItems", 0), wanted)
